"""How fast a log in a SQLite file takes entries, gives them back, and tells of them.

`bare SQLite` is what the engine itself does on the same disk: a row inserted and committed for each
append, fifty rows in one transaction for fifty publishers, pages selected by their key; without
threads, ids, keys, retention and tokens. Both wait for the disk in each commit (`full`), or leave
it to the kernel (`normal`). How long the disk takes is what `full` is about: compare columns of one
run only. Deliveries from another process wait for the next look at the file, half of the time
between two looks on average.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

import trio

from sselib import open_sqlite_log
from sselib.log.sqlite.file import Synchronous

from .logs import (
    ENTRY,
    PUBLISHERS,
    follow_stamped,
    page_rate,
    publish_stamped,
    rate,
    read_all,
)
from .measuring import ROOT, Report, Row

OURS: Final = "SQLiteLog"
BARE: Final = "bare SQLite"
LEVELS: Final[tuple[Synchronous, ...]] = ("full", "normal")
PAGE: Final = 256
ONE: Final = "one publisher"
MANY: Final = f"{PUBLISHERS} publishers"
READ: Final = "read in pages"


async def publish(path: str, synchronous: Synchronous, count: int) -> None:
    """Be the other process."""
    async with open_sqlite_log(path, synchronous=synchronous) as log:
        await publish_stamped(log, count)


async def measure_ours(path: Path, synchronous: Synchronous, seconds: float) -> dict[str, float]:
    """Measure a log in that file."""
    count = max(100, int(seconds * 100))
    async with open_sqlite_log(path, synchronous=synchronous) as log:

        async def append() -> None:
            await log.append("t", [ENTRY])

        found = {ONE: await rate(append, 1, seconds), MANY: await rate(append, PUBLISHERS, seconds)}
        found[READ] = await page_rate(lambda: read_all(log, "t"), seconds)
        here = await follow_stamped(log, lambda: publish_stamped(log, count), count)
        command = [sys.executable, "-m", __spec__.name, str(path), synchronous, str(count)]
        there = await follow_stamped(log, partial(trio.run_process, command, cwd=ROOT), count)
    for place, name in enumerate(("median", "99 of 100")):
        found[f"delivery, made here, {name}"] = here[place]
        found[f"delivery, made by another process, {name}"] = there[place]
    return found


def measure_bare(path: Path, synchronous: Synchronous, seconds: float) -> dict[str, float]:
    """Measure the engine."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("CREATE TABLE entry (number INTEGER PRIMARY KEY, block BLOB)")

        def commit(rows: int) -> int:
            db.execute("BEGIN IMMEDIATE")
            for _ in range(rows):
                db.execute("INSERT INTO entry (block) VALUES (?)", (ENTRY.block,))
            db.execute("COMMIT")
            return rows

        found = {ONE: per_second(lambda: commit(1), seconds)}
        found[MANY] = per_second(lambda: commit(PUBLISHERS), seconds)
        last = 0

        def read() -> int:
            nonlocal last
            rows = db.execute(
                "SELECT number, block FROM entry WHERE number > ? ORDER BY number LIMIT ?",
                (last, PAGE),
            ).fetchall()
            last = rows[-1][0] if len(rows) == PAGE else 0
            return len(rows)

        found[READ] = per_second(read, seconds)
    return found


def per_second(work: Callable[[], int], seconds: float) -> float:
    """Return how much per second is done."""
    done = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += work()
    return done / (time.perf_counter() - began)


def add_options(options: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    options.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    options.add_argument("--directory", type=Path, help="on the disk to measure")


def run(chosen: argparse.Namespace) -> Report:
    """Measure."""
    columns: dict[str, dict[str, float]] = {}
    with TemporaryDirectory(dir=chosen.directory) as directory:
        for level in LEVELS:
            ours, bare = Path(directory, f"ours-{level}"), Path(directory, f"bare-{level}")
            columns[f"{OURS}, {level}"] = trio.run(measure_ours, ours, level, chosen.seconds)
            columns[f"{BARE}, {level}"] = measure_bare(bare, level, chosen.seconds)
    units = {ONE: "appends/s", MANY: "appends/s", READ: "entries/s"}
    return Report(
        benchmark="sqlite",
        columns=list(columns),
        rows=[
            Row(
                what=what,
                unit=units.get(what, "ms"),
                figures={name: found[what] for name, found in columns.items() if what in found},
            )
            for what in columns[f"{OURS}, {LEVELS[0]}"]
        ],
        settings={"seconds": chosen.seconds},
    )


if __name__ == "__main__":
    _, file, level, count = sys.argv
    trio.run(publish, file, cast(Synchronous, level), int(count))
