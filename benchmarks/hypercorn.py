"""What our response costs on Hypercorn, beside the least that any application costs there.

One publisher, many streams, every stream gets every event. Two servers, described in
:mod:`benchmarks.hypercorn_servers`: an `EventStream` of a channel on `sselib.hypercorn.serve`, and
a bare ASGI application on `hypercorn.trio.serve`. What is measured is the CPU time of the server:

- per connection: from the first request of a burst of streams to the first bytes of the body of
  the last of them, divided by the burst. One burst goes before, so that everything is loaded.
- per delivered event: from the first event of a slice of publishing to the last one read, divided
  by all that were read. One slice goes before.

The server has a core of its own, and so has the client that reads (:mod:`benchmarks.load`). CPU
time is read from /proc/PID/schedstat, in nanoseconds, of the server's main thread, in which all of
it happens. Events are published slowly enough for the server to be idle in between: one that fell
behind would write several events at once, and look cheap.

What else a machine does changes what a process gets done in its CPU time, by a third and from one
minute to the next. So both servers run side by side and take turns, burst by burst and slice by
slice, while the other one has nothing to do. The medians of all turns are quoted, and their ratio.
A run of less than 100,000 deliveries by each shows that the benchmark works, and no more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Final

import attrs

from . import hypercorn_servers, measuring
from .load import LoadClient
from .measuring import ROOT, Report, Row

STREAMS: Final = 200
BURST: Final = 20  # streams that are opened in one turn
RATE: Final = 20.0  # events per second; ten times as many keep Hypercorn from ever being idle
SECONDS: Final = 27.0  # of publishing by each: with the numbers above more than 100,000 deliveries
SLICE: Final = 1.0  # seconds of publishing in one turn
RUNS: Final = 2  # times that both servers are started anew
ENOUGH_DELIVERIES: Final = 100_000
TARGET: Final = "ratio <= 1.1"

CONNECTION: Final = "per connection"
EVENT: Final = "per delivered event"
TITLES: Final = {"ours": "EventStream", "bare": "bare ASGI app"}


@attrs.define(eq=False)
class Server:
    """A server in its process, and a client that has streams open to it.

    Its methods return CPU microseconds of the server.
    """

    process: subprocess.Popen[str]
    client: LoadClient
    streams: int = 0
    busiest: float = 0.0  # the largest share of its core that it used in a turn

    def open(self, streams: int) -> float:
        """Open so many more streams; return what each took."""
        before = measuring.cpu_seconds(self.process.pid)
        self.client.open(streams)
        self.streams += streams
        return (measuring.cpu_seconds(self.process.pid) - before) / streams * 1e6

    def deliver(self, events: int, rate: float) -> float:
        """Publish so many events and read them on all streams; return what each delivery took."""
        assert self.process.stdin is not None
        before = measuring.cpu_seconds(self.process.pid)
        start = time.perf_counter()
        print(events, rate, file=self.process.stdin, flush=True)
        self.client.read(events * self.streams)
        used = measuring.cpu_seconds(self.process.pid) - before
        self.busiest = max(self.busiest, used / (time.perf_counter() - start))
        return used / (events * self.streams) * 1e6


@contextmanager
def started(name: str, core: int) -> Iterator[Server]:
    """Start a server on a core, and stop it at the end."""
    command = [sys.executable, "-m", "benchmarks.hypercorn_servers", name]
    with subprocess.Popen(  # it is our own
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            os.sched_setaffinity(process.pid, {core})
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with LoadClient(port, mark=hypercorn_servers.MARK) as client:
                yield Server(process, client)
        finally:
            process.kill()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of publishing by each")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--rate", type=float, default=RATE, help="events per second")
    parser.add_argument("--runs", type=int, default=RUNS, help="starts of both servers")


def run(options: argparse.Namespace) -> Report:
    """Measure both servers in turns."""
    measuring.require_linux()
    server_core, client_core = measuring.cores()
    os.sched_setaffinity(0, {client_core})
    bursts = max(1, options.streams // BURST)
    burst = options.streams // bursts
    events = max(1, round(options.rate * SLICE))
    slices = max(1, round(options.seconds / options.runs / SLICE))
    turns: dict[str, dict[str, list[float]]] = {
        what: {title: [] for title in TITLES.values()} for what in (CONNECTION, EVENT)
    }
    busiest = 0.0
    for _ in range(options.runs):
        with ExitStack() as stack:
            servers = {
                title: stack.enter_context(started(name, server_core))
                for name, title in TITLES.items()
            }
            for turn in range(bursts + 1):
                for title, server in servers.items():
                    used = server.open(burst)
                    if turn:
                        turns[CONNECTION][title].append(used)
            for turn in range(slices + 1):
                for title, server in servers.items():
                    used = server.deliver(events, options.rate)
                    if turn:
                        turns[EVENT][title].append(used)
            busiest = max(busiest, *(server.busiest for server in servers.values()))
            deliveries = options.runs * slices * events * server.streams
    rows = []
    for what, each in turns.items():
        figures = {title: median(values) for title, values in each.items()}
        figures["ratio"] = figures[TITLES["ours"]] / figures[TITLES["bare"]]
        rows.append(Row(what=what, unit="us of CPU", target=TARGET, figures=figures, runs=each))
    notes = [f"{deliveries:,} deliveries by each; the busiest used {busiest:.0%} of its core."]
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
