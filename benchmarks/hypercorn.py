"""What our response costs on Hypercorn, beside the least that any application costs there.

One publisher, many streams, every stream gets every event. Two servers, described in
:mod:`benchmarks.hypercorn_servers`: an `EventStream` of a channel on `sselib.hypercorn.serve`, and
a bare ASGI application on `hypercorn.trio.serve`. What is measured is the CPU time of the server:

- per connection: from the request of the first stream to the first bytes of the body of the last,
  divided by the streams. A tenth as many streams are opened before, so that everything is loaded.
- per delivered event: from the first event published to the last one read, divided by all that
  were read. Ten events go before.

The server has a core of its own, and so has the client that reads (:mod:`benchmarks.load`). CPU
time is read from /proc/PID/schedstat, in nanoseconds, of the server's main thread, in which all of
it happens. Events are published slowly enough for the server to be idle in between: one that fell
behind would write several events at once, and look cheap. Each run has a new server, the two
servers take turns, and the medians are quoted. A run of less than 100,000 deliveries shows that
the benchmark works, and no more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median
from typing import Final

from . import hypercorn_servers, measuring
from .load import LoadClient
from .measuring import ROOT, Report, Row

STREAMS: Final = 200
RATE: Final = 20.0  # events per second; ten times as many keep Hypercorn from ever being idle
SECONDS: Final = 26.0  # of publishing in each run: with the numbers above 104,000 deliveries
RUNS: Final = 3  # of each server
ENOUGH_DELIVERIES: Final = 100_000
WARMING_EVENTS: Final = 10
TARGET: Final = "ratio <= 1.1"

CONNECTION: Final = "per connection"
EVENT: Final = "per delivered event"
BUSY: Final = "busy"
TITLES: Final = {"ours": "EventStream", "bare": "bare ASGI app"}


def measure(server: str, *, streams: int, rate: float, seconds: float) -> dict[str, float]:
    """Start a server, measure it once and stop it.

    Returns:
        CPU microseconds per connection and per delivered event, and the share of its core that
        the server used while events were delivered.

    Raises:
        RuntimeError: The server did not deliver what was due.
    """
    server_core, _ = measuring.cores()
    command = [sys.executable, "-m", "benchmarks.hypercorn_servers", server]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            os.sched_setaffinity(process.pid, {server_core})
            port = int(process.stdout.readline())
            with LoadClient(port, mark=hypercorn_servers.MARK) as client:
                found = {}
                warming = max(1, streams // 10)
                client.open(warming)
                before = measuring.cpu_seconds(process.pid)
                client.open(streams)
                used = measuring.cpu_seconds(process.pid) - before
                found[CONNECTION] = used / streams * 1e6

                streams += warming
                events = max(1, round(seconds * rate))
                print(WARMING_EVENTS, rate, file=process.stdin, flush=True)
                client.read(WARMING_EVENTS * streams)
                before = measuring.cpu_seconds(process.pid)
                start = time.perf_counter()
                print(events, rate, file=process.stdin, flush=True)
                client.read(events * streams)
                used = measuring.cpu_seconds(process.pid) - before
                found[EVENT] = used / (events * streams) * 1e6
                found[BUSY] = used / (time.perf_counter() - start)
                return found
        finally:
            process.kill()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of publishing in each run")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--rate", type=float, default=RATE, help="events per second")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each server")


def run(options: argparse.Namespace) -> Report:
    """Measure both servers in turns."""
    measuring.require_linux()
    server_core, client_core = measuring.cores()
    os.sched_setaffinity(0, {client_core})
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in TITLES}
    for _ in range(options.runs):
        for name, found in runs.items():
            found.append(
                measure(name, streams=options.streams, rate=options.rate, seconds=options.seconds)
            )
    rows = []
    for what in (CONNECTION, EVENT):
        each = {TITLES[name]: [run[what] for run in found] for name, found in runs.items()}
        figures = {title: median(values) for title, values in each.items()}
        figures["ratio"] = figures[TITLES["ours"]] / figures[TITLES["bare"]]
        rows.append(Row(what=what, unit="us of CPU", target=TARGET, figures=figures, runs=each))
    busiest = max(run[BUSY] for found in runs.values() for run in found)
    deliveries = round(options.seconds * options.rate) * options.streams
    notes = [f"{deliveries:,} deliveries in each run; the busiest used {busiest:.0%} of its core."]
    if deliveries < ENOUGH_DELIVERIES:
        notes.append(f"Less than {ENOUGH_DELIVERIES:,}: it works, but do not quote it.")
    if server_core == client_core:
        notes.append("There is one core for the server and its client: do not quote it.")
    return Report(
        benchmark="hypercorn",
        columns=[*TITLES.values(), "ratio"],
        rows=rows,
        notes=notes,
        settings={name: getattr(options, name) for name in ("seconds", "streams", "rate", "runs")},
    )
