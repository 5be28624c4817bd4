"""How many deliveries a core manages when the publisher never waits.

The publisher publishes so many events, one after the other, and only lets others come to their
turn in between. Then the streams have caught up before it begins anew. What piles up leaves a good
server in one write, so this costs far less per event than :mod:`benchmarks.fanout`. Throughput is
deliveries by the server's CPU time. On our server the kernel keeps no more than 16 KiB per stream
that is not on its way yet; others keep what the system's defaults allow. Go's publisher waits for a
stream that is 64 events behind, as a channel has it, and what nchan is sent piles up before it. See
:mod:`benchmarks.streams` for the rest of the method.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Final

from .measuring import Report, require_linux
from .streams import chosen, measured, report

STREAMS: Final = 500
EVENTS: Final = 800  # less than what a channel keeps by default, so nobody lags
ROUNDS: Final = 5

RATE: Final = "deliveries per second and core"
CPU: Final = "CPU per delivered event"
ROWS: Final = (
    (RATE, "1/s", "sselib >= 700,000"),
    (CPU, "us", ""),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("servers", nargs="*", help="all by default")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--events", type=int, default=EVENTS, help="in a row")
    parser.add_argument("--rounds", type=int, default=ROUNDS)


def run(options: argparse.Namespace) -> Report:
    """Measure each server."""
    require_linux()
    deliveries = options.events * options.streams
    found: dict[str, dict[str, float] | None] = {}
    for kind in chosen(options.servers):
        with measured(kind) as server:
            if server is None:
                found[kind.title] = None
                continue
            server.open(options.streams)
            server.deliver(10, 10)
            used = []
            for _ in range(options.rounds):
                cpu = server.cpu()
                server.deliver(options.events, 0)
                used.append((server.cpu() - cpu) / deliveries)
            found[kind.title] = {RATE: 1 / median(used), CPU: median(used) * 1e6}
    return report(
        "burst",
        found,
        ROWS,
        notes=[f"Medians of {options.rounds} rounds of {deliveries:,} deliveries."],
        settings={"streams": options.streams, "events": options.events, "rounds": options.rounds},
    )
