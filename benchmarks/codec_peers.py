"""Measure one peer's codec, in the environment where it is installed, and print it as JSON.

`python -m benchmarks.codec_peers NAME SECONDS`. Each is used as its README says, on the bytes that
our own codec gets, and gives the rows of what it does. A peer that is not installed ends the
process with the code ABSENT.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

from . import codec_load as load

ABSENT: Final = 69  # the shell's EX_UNAVAILABLE


def httpx_sse(seconds: float) -> dict[str, float]:
    """httpx-sse decodes the body of a response of httpx."""
    httpx: Any = importlib.import_module("httpx")
    source: Any = importlib.import_module("httpx_sse").EventSource

    def decode(chunks: list[bytes]) -> int:
        headers = {"content-type": "text/event-stream"}
        response = httpx.Response(200, headers=headers, content=iter(chunks))
        return sum(1 for _ in source(response).iter_sse())

    return load.decoding(decode, seconds)


def sseclient_py(seconds: float) -> dict[str, float]:
    """sseclient-py decodes any iterable of bytes."""
    client: Any = importlib.import_module("sseclient").SSEClient

    def decode(chunks: list[bytes]) -> int:
        return sum(1 for _ in client(iter(chunks)).events())

    return load.decoding(decode, seconds)


def sse_starlette(seconds: float) -> dict[str, float]:
    """sse-starlette encodes events of a class of its own."""
    event: Any = importlib.import_module("sse_starlette").ServerSentEvent

    def make(number: int) -> Any:
        return event(load.PAYLOAD, event=load.EVENT_TYPE, id=load.event_id(number))

    ids = range(load.EVENTS)
    events = [make(number) for number in ids]
    return {
        load.MADE: load.EVENTS / load.fastest(lambda: [make(i).encode() for i in ids], seconds),
        load.ENCODED: load.EVENTS / load.fastest(lambda: [e.encode() for e in events], seconds),
    }


# By the name under which the package is installed.
PEERS: Final[dict[str, Callable[[float], dict[str, float]]]] = {
    "sse-starlette": sse_starlette,
    "httpx-sse": httpx_sse,
    "sseclient-py": sseclient_py,
}

NEEDED: Final = ("httpx",)  # what they do not bring along

if __name__ == "__main__":
    try:
        found = PEERS[sys.argv[1]](float(sys.argv[2]))
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(ABSENT)
    print(json.dumps({"version": version(sys.argv[1]), "figures": found}))
