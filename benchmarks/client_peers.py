"""Measure one client, in the environment where it is installed, and print it as JSON.

`python -m benchmarks.client_peers NAME PORT SECONDS`. Each is used as its README says and reads
whole events over HTTP from :mod:`benchmarks.client_server`, in this process alone. A client that is
not installed ends the process with the code ABSENT.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

from . import codec_load
from .client_server import EVENTS, FULL, SINGLE

ABSENT: Final = 69  # the shell's EX_UNAVAILABLE


def sselib(url: str) -> int:
    """Read with our own event source, on Trio."""
    trio: Any = importlib.import_module("trio")
    open_event_source: Any = importlib.import_module("sselib").open_event_source

    async def read() -> int:
        count = 0
        async with open_event_source(url) as source:
            async for _ in source:
                count += 1
                if count == EVENTS:
                    break
        return count

    found: int = trio.run(read)
    return found


def httpx_sse(url: str) -> int:
    """Read with httpx-sse on httpx, without an event loop, which is faster than with one."""
    httpx: Any = importlib.import_module("httpx")
    connect_sse: Any = importlib.import_module("httpx_sse").connect_sse
    with httpx.Client() as client, connect_sse(client, "GET", url) as source:
        return sum(1 for _ in source.iter_sse())


def httpx2(url: str) -> int:
    """Read with httpx2, which has a reader of its own, without an event loop."""
    client_class: Any = importlib.import_module("httpx2").Client
    with client_class() as client, client.sse(url) as source:
        return sum(1 for _ in source)


# By the name under which the package is installed.
CLIENTS: Final[dict[str, Callable[[str], int]]] = {
    "sselib": sselib,
    "httpx-sse": httpx_sse,
    "httpx2": httpx2,
}
PEERS: Final = ("httpx-sse", "httpx2")
NEEDED: Final = ("httpx",)  # what they do not bring along


def measure(name: str, port: int, seconds: float) -> dict[str, float]:
    """Return events per second of CPU time, by path.

    Raises:
        RuntimeError: It did not find the events that are there.
    """
    figures = {}
    for path in (SINGLE, FULL):
        url = f"http://127.0.0.1:{port}{path}"

        def work(url: str = url) -> None:
            if CLIENTS[name](url) != EVENTS:
                raise RuntimeError(f"{name} read another number of events than {EVENTS}")

        work()  # what is imported at first use
        figures[path] = EVENTS / codec_load.fastest(work, seconds)
    return figures


if __name__ == "__main__":
    try:
        found = measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(ABSENT)
    print(json.dumps({"version": version(sys.argv[1]), "figures": found}))
