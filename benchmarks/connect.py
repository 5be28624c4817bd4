"""What a new stream costs: CPU time from the request to the first bytes, and how long many take.

One hundred streams go before, so that everything is loaded. Then so many more are opened, fifty at
once: the client connects them all, sends each its request and reads until the first bytes of the
body of each are there. Memory is what the process has grown by, per stream, all of them idle. See
:mod:`benchmarks.streams` for the rest of the method.
"""

from __future__ import annotations

import argparse
from typing import Final

from .measuring import Report, require_linux
from .streams import chosen, measured, report

STREAMS: Final = 4000
WARM_UP: Final = 100

CPU: Final = "CPU per connection"
ALL: Final = "until all are connected"
MEMORY: Final = "memory per idle stream"
ROWS: Final = (
    (CPU, "us", "sselib <= 250"),
    (ALL, "s", ""),
    (MEMORY, "KiB", "sselib <= 6"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("servers", nargs="*", help="all by default")
    parser.add_argument("--streams", type=int, default=STREAMS)


def run(options: argparse.Namespace) -> Report:
    """Measure each server."""
    require_linux()
    found: dict[str, dict[str, float] | None] = {}
    for kind in chosen(options.servers):
        with measured(kind) as server:
            if server is None:
                found[kind.title] = None
                continue
            server.open(WARM_UP)
            cpu, memory = server.cpu(), server.memory()
            seconds = server.open(options.streams)
            found[kind.title] = {
                CPU: (server.cpu() - cpu) / options.streams * 1e6,
                ALL: seconds,
                MEMORY: (server.memory() - memory) / options.streams,
            }
    return report("connect", found, ROWS, settings={"streams": options.streams})
