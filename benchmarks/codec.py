"""How fast events become bytes and bytes become events.

An event has a type, an id of the length that ids have, and 75 bytes of JSON. `made and encoded` is
what a publisher does for each event, `encoded` what is left if it was made before. Decoding is fed
64 KiB at a time, as much as one read of a socket gives, and then one event at a time, as events
arrive that are not in a hurry. The big event shows that time is linear in the input: twice of it
takes twice as long, whether it is one line or very many.

Figures are CPU time of the fastest round, out of some seconds of rounds. Each peer is measured in
a process of its own, on the same bytes, with the same clock; see :mod:`benchmarks.codec_peers`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sselib import EventStreamDecoder, ServerSentEvent, encode

from . import codec_load as load
from . import codec_peers
from .measuring import ABSENT, ROOT, Report, Row, peers_python

OURS: Final = "sselib"
SECONDS: Final = 1.0  # for each figure

_EVENTS: Final = "events/s"
# What is measured, its unit and its target.
ROWS: Final = (
    (load.MADE, _EVENTS, ">= 300,000"),
    (load.ENCODED, _EVENTS, ">= 1,000,000"),
    (load.DECODED, _EVENTS, ">= 250,000"),
    (load.DECODED_SINGLY, _EVENTS, ""),
    (load.DECODED_DATA, _EVENTS, ">= 400,000"),
    (load.BIG_LINE, "s", "< 1"),
    (load.BIG_LINE_RATIO, "times", "about 2"),
    (load.BIG_LINES, "s", "< 1"),
    (load.BIG_LINES_RATIO, "times", "about 2"),
)


def measure_ours(seconds: float) -> dict[str, float]:
    """Measure our codec, that many seconds for each figure."""

    def make(number: int) -> ServerSentEvent:
        return ServerSentEvent(load.PAYLOAD, event=load.EVENT_TYPE, id=load.event_id(number))

    def decode(chunks: list[bytes]) -> int:
        decoder = EventStreamDecoder(max_event_bytes=None)
        return sum(len(decoder.feed(chunk)) for chunk in chunks)

    ids = range(load.EVENTS)
    events = [make(number) for number in ids]
    return {
        load.MADE: load.EVENTS / load.fastest(lambda: [encode(make(i)) for i in ids], seconds),
        load.ENCODED: load.EVENTS / load.fastest(lambda: [encode(e) for e in events], seconds),
        **load.decoding(decode, seconds),
    }


def measure_peer(
    python: Path, name: str, seconds: float
) -> tuple[str, dict[str, float] | dict[str, str]]:
    """Measure a peer with the Python of its environment; return its name there and its figures.

    Raises:
        subprocess.CalledProcessError: It is there and cannot be measured.
    """
    command = [str(python), "-m", "benchmarks.codec_peers", name, str(seconds)]
    done = subprocess.run(  # it is our own
        command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode == codec_peers.ABSENT:
        return name, dict.fromkeys((what for what, _, _ in ROWS), ABSENT)
    done.check_returncode()
    found = json.loads(done.stdout)
    return f"{name} {found['version']}", found["figures"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each figure")
    parser.add_argument("--no-peers", action="store_true", help="install and measure no peers")


def run(options: argparse.Namespace) -> Report:
    """Measure everything."""
    columns: dict[str, Mapping[str, float | str]] = {OURS: measure_ours(options.seconds)}
    if not options.no_peers:
        python = peers_python([*codec_peers.PEERS, *codec_peers.NEEDED])
        for peer in codec_peers.PEERS:
            title, figures = measure_peer(python, peer, options.seconds)
            columns[title] = figures
    return Report(
        benchmark="codec",
        columns=list(columns),
        rows=[
            Row(
                what=what,
                unit=unit,
                target=target,
                figures={name: found[what] for name, found in columns.items() if what in found},
            )
            for what, unit, target in ROWS
        ],
        settings={"seconds": options.seconds},
    )
