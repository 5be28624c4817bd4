"""How fast a client reads an event stream, from the socket to the event.

A server that has made everything before sends a stream over TCP as fast as it is taken. An event
has a type, an id of the length that ids have, and 75 bytes of JSON. First every event is in a chunk
of its own, as servers send what happens now and then; then chunks are of 64 KiB, so that hardly
anything is left but decoding.

Figures are CPU time of the client's process in the fastest round, out of some seconds of rounds; a
round is a connection and 20,000 events. Each client is a process of its own, on the same bytes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from . import client_peers
from .client_server import FULL, SINGLE
from .measuring import ABSENT, ROOT, Report, Row, peers_python

OURS: Final = "sselib"
SECONDS: Final = 3.0  # for each figure

# What is measured, by the path that it asks for, and its target.
ROWS: Final = {
    SINGLE: ("one event per chunk", ">= 150,000"),
    FULL: ("64 KiB chunks", ""),
}


@contextmanager
def server() -> Iterator[int]:
    """Run the server, and give its port."""
    command = [sys.executable, "-m", "benchmarks.client_server"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield int(process.stdout.readline())
        process.stdin.close()


def measure(
    python: Path | str, name: str, port: int, seconds: float
) -> tuple[str, dict[str, float] | dict[str, str]]:
    """Measure a client with the Python that has it; return its name there and its figures.

    Raises:
        subprocess.CalledProcessError: It is there and cannot be measured.
    """
    command = [str(python), "-m", "benchmarks.client_peers", name, str(port), str(seconds)]
    done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode == client_peers.ABSENT:
        return name, dict.fromkeys(ROWS, ABSENT)
    done.check_returncode()
    found = json.loads(done.stdout)
    return f"{name} {found['version']}", found["figures"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each figure")
    parser.add_argument("--no-peers", action="store_true", help="install and measure no peers")


def run(options: argparse.Namespace) -> Report:
    """Measure everything."""
    columns: dict[str, Mapping[str, float | str]] = {}
    with server() as port:
        _, columns[OURS] = measure(sys.executable, OURS, port, options.seconds)
        if not options.no_peers:
            python = peers_python([*client_peers.PEERS, *client_peers.NEEDED])
            for peer in client_peers.PEERS:
                title, figures = measure(python, peer, port, options.seconds)
                columns[title] = figures
    return Report(
        benchmark="client",
        columns=list(columns),
        rows=[
            Row(
                what=what,
                unit="events/s",
                target=target,
                figures={name: found[path] for name, found in columns.items()},
            )
            for path, (what, target) in ROWS.items()
        ],
        settings={"seconds": options.seconds},
    )
