"""What an event costs that goes to many streams, and how late it is there.

One publisher, and every stream gets every event. CPU time is what the server uses from the first
event of a slice of publishing to the last delivery, divided by the deliveries; a slice of two
seconds goes before. Events are published slowly enough for every server to be idle in between (ten
a second): one that fell behind would write several at once, and look cheap. A delay is from the
moment of publishing to the client's read; with so many streams, most of it is the queue of those
that are written to first. See :mod:`benchmarks.streams` for the rest of the method.
"""

from __future__ import annotations

import argparse
from typing import Final

from .measuring import Report, require_linux
from .streams import chosen, measured, report

STREAMS: Final = 500
RATE: Final = 10.0  # events per second
DELIVERIES: Final = 120_000  # by each server
FEWEST_EVENTS: Final = 30

CPU: Final = "CPU per delivered event"
P50: Final = "delay, p50"
P99: Final = "delay, p99"
MEMORY: Final = "memory per stream"
BUSY: Final = "the server's core in use"
ROWS: Final = (
    (CPU, "us", "sselib <= 1.6 C"),
    (P50, "ms", ""),
    (P99, "ms", "sselib <= Go"),
    (MEMORY, "KiB", ""),
    (BUSY, "%", ""),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("servers", nargs="*", help="all by default")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--rate", type=float, default=RATE, help="events per second")
    parser.add_argument("--deliveries", type=int, default=DELIVERIES, help="by each server")


def run(options: argparse.Namespace) -> Report:
    """Measure each server."""
    require_linux()
    events = max(FEWEST_EVENTS, options.deliveries // options.streams)
    found: dict[str, dict[str, float] | None] = {}
    busiest = 0.0
    for kind in chosen(options.servers):
        with measured(kind) as server:
            if server is None:
                found[kind.title] = None
                continue
            memory = server.memory()
            server.open(options.streams)
            server.deliver(int(2 * options.rate), options.rate)
            cpu = server.cpu()
            seconds, median, p99, _ = server.deliver(events, options.rate)
            used = server.cpu() - cpu
            found[kind.title] = {
                CPU: used / (events * options.streams) * 1e6,
                P50: median,
                P99: p99,
                MEMORY: (server.memory() - memory) / options.streams,
                BUSY: used / seconds * 100,
            }
            busiest = max(busiest, server.busiest)
    return report(
        "fanout",
        found,
        ROWS,
        notes=[
            f"{events * options.streams:,} deliveries by each.",
            "A core in use for more than 90 % means that the server could not keep up.",
            f"The client used {busiest:.0%} of its core at most.",
        ],
        settings={
            "streams": options.streams,
            "rate": options.rate,
            "deliveries": events * options.streams,
        },
    )
