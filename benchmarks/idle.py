"""What connections cost that do nothing, and what a request costs beside ten thousand of them.

They are of two kinds, each measured on a server that was started anew: some have sent nothing yet,
others had the answer to one request and are kept alive. Memory is what the server's processes have
grown by, per connection. An ordinary request is for six bytes, on a connection of its own, as curl
makes it: connect, ask, read, close. They are made one after the other, first beside nothing and
then beside the idle ones. The time is the client's, which is Python here and the same for all.

The servers are told to keep idle connections for longer than this takes, where that is not their
default. What nginx has for its connections it has from the start, which the figures do not show.
See :mod:`benchmarks.streams` for the rest of the method.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Mapping
from typing import Final

from .measuring import Report, require_linux
from .streams import LOAD, Measured, chosen, measured, report

CONNECTIONS: Final = 10_000
REQUESTS: Final = 500
WARM_UP: Final = 100
SPARE_FILES: Final = 100  # what processes have open beside connections

SERVERS: Final = ("sselib", "sselib-hypercorn", "go", "nchan", "node", "starlette")
CLOSED: Final = "closed"  # instead of a figure: the server has closed some meanwhile

ALONE: Final = "alone"
SILENT: Final = "beside silent ones"
KEPT: Final = "beside ones kept alive"
CPU: Final = "CPU per request, "
P50: Final = "time of a request, p50, "
P99: Final = "time of a request, p99, "
MEMORY: Final = {
    SILENT: "memory per silent connection",
    KEPT: "memory per connection kept alive",
}
ROWS: Final = (
    *((what, "KiB", "") for what in MEMORY.values()),
    *(
        (what + where, unit, "")
        for what, unit in ((CPU, "us"), (P50, "ms"), (P99, "ms"))
        for where in (ALONE, SILENT, KEPT)
    ),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("servers", nargs="*", help=f"all by default: {', '.join(SERVERS)}")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of each kind")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="beside each kind")


def run(options: argparse.Namespace) -> Report:
    """Measure each server."""
    require_linux()
    connections = min(options.connections, _possible())
    notes = [f"{connections:,} connections, {options.requests:,} requests."]
    if connections < options.connections:
        notes.append(f"The hard limit on open files is too low for {options.connections:,}.")
    found: dict[str, Mapping[str, float | str] | None] = {}
    for kind in chosen(options.servers, SERVERS):
        figures: dict[str, float | str] = {}
        for where in (SILENT, KEPT):
            with measured(kind, LOAD, HELLO="1") as server:
                if server is not None:
                    figures |= _figures(server, where, connections, options.requests)
        found[kind.title] = figures or None
    return report(
        "idle",
        found,
        ROWS,
        notes=notes,
        settings={"connections": connections, "requests": options.requests},
    )


def _possible() -> int:
    """Return how many connections the hard limit on a process's open files allows."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else files - SPARE_FILES


def _figures(
    server: Measured, where: str, connections: int, requests: int
) -> dict[str, float | str]:
    server.ask(WARM_UP)
    figures = _request(server, ALONE, requests) if where == SILENT else {}
    server.hold(WARM_UP, silent=where == SILENT)
    memory = server.memory()
    server.hold(connections - WARM_UP, silent=where == SILENT)
    figures[MEMORY[where]] = (server.memory() - memory) / (connections - WARM_UP)
    figures |= _request(server, where, requests)
    if server.closed():
        figures |= dict.fromkeys((each for each in figures if ALONE not in each), CLOSED)
    return figures


def _request(server: Measured, where: str, requests: int) -> dict[str, float | str]:
    cpu = server.cpu()
    p50, p99 = server.ask(requests)
    used = (server.cpu() - cpu) / requests * 1e6
    return {CPU + where: used, P50 + where: p50, P99 + where: p99}
