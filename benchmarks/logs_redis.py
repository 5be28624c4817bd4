"""How fast a log on a Redis server takes entries, gives them back, and tells of them.

The server is one of our own, on a Unix socket, and keeps nothing on disk. `bare Redis` is what the
same server does over the same connection without a log: `XADD *` for each append, `XRANGE` for each
page, `PUBLISH` for each hint; so the difference is what ids, keys, retention, tokens and ends cost.

A delivery is measured from before the append until a subscriber has the event, on the clock of this
machine; the entry is made by this process or by another one. Entries have 100 bytes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio

from sselib.log.redis import open_redis_log
from sselib.log.redis._connection import Connection
from sselib.log.redis._server import Server

from .logs import (
    ENTRY,
    PUBLISHERS,
    follow_stamped,
    page_rate,
    publish_stamped,
    rate,
    read_all,
    spread,
)
from .measuring import ROOT, Report, Row

OURS: Final = "RedisLog"
BARE: Final = "bare Redis"

Measured = dict[str, float | str]


@contextmanager
def server() -> Iterator[str]:
    """Run a server, and give its URL."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SystemExit("redis-server or valkey-server is needed")
    with TemporaryDirectory() as directory:
        path = Path(directory) / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory]
        process = subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "eady to accept connections" in line:
                    break
            yield f"unix://{path}"
        finally:
            process.kill()
            process.wait()


async def read_all_bare(connection: Connection, key: bytes) -> int:
    """Read a stream from its beginning, and return how many entries it has."""
    after, read = b"0-0", 0
    while True:
        entries = await connection.call(b"XRANGE", key, b"(" + after, b"+", b"COUNT", 256)
        read += len(entries)
        if not entries:
            return read
        after = entries[-1][0]


async def publish(url: str, count: int) -> None:
    """Be the other process."""
    async with open_redis_log(url) as log:
        await publish_stamped(log, count)


async def deliveries(url: str, count: int, *, elsewhere: bool) -> tuple[float, float]:
    """Return how long entries take from a publisher to a subscriber."""
    async with open_redis_log(url) as log:
        if elsewhere:
            command = [sys.executable, "-m", __spec__.name, url, str(count)]
            return await follow_stamped(log, partial(trio.run_process, command, cwd=ROOT), count)
        return await follow_stamped(log, partial(publish, url, count), count)


async def hints(url: str, count: int) -> tuple[float, float]:
    """Return how long a bare message takes from one connection to another."""
    place = Server.of(url)
    one, other = (Connection(place.connect, place=url) for _ in range(2))
    found = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(other.run)
        told = trio.Event()
        other.watch(b"hints", lambda: told.set())  # noqa: PLW0108 # it is replaced
        await told.wait()
        for _ in range(count):
            told = trio.Event()
            began = time.perf_counter()
            await one.call(b"PUBLISH", b"hints", b"")
            await told.wait()
            found.append(time.perf_counter() - began)
            await trio.sleep(0.002)
        nursery.cancel_scope.cancel()
    return spread(found)


async def measure(url: str, seconds: float) -> list[Row]:
    """Measure it all."""
    place = Server.of(url)
    connection = Connection(place.connect, place=url)
    async with open_redis_log(url) as log, trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)

        async def append() -> None:
            await log.append("t", [ENTRY])

        async def add() -> None:
            await connection.call(b"XADD", b"bare", b"*", b"b", ENTRY.block)

        rows = [
            Row(
                what=what,
                unit="appends/s",
                figures={
                    OURS: await rate(append, tasks, seconds),
                    BARE: await rate(add, tasks, seconds),
                },
            )
            for what, tasks in (("one publisher", 1), (f"{PUBLISHERS} publishers", PUBLISHERS))
        ]
        figures: Measured = {
            OURS: await page_rate(lambda: read_all(log, "t"), seconds),
            BARE: await page_rate(lambda: read_all_bare(connection, b"bare"), seconds),
        }
        rows.append(Row(what="read in pages", unit="entries/s", figures=figures))
        nursery.cancel_scope.cancel()

    count = max(100, int(seconds * 200))
    here = await deliveries(url, count, elsewhere=False)
    there = await deliveries(url, count, elsewhere=True)
    bare = await hints(url, count)
    for place_of_figure, name in enumerate(("median", "99 of 100")):
        for what, found in (("made here", here), ("made by another process", there)):
            rows.append(
                Row(
                    what=f"delivery, {what}, {name}",
                    unit="ms",
                    figures={OURS: found[place_of_figure], BARE: bare[place_of_figure]},
                )
            )
    return rows


def add_options(options: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    options.add_argument("--seconds", type=float, default=2.0, help="for each figure")


def run(chosen: argparse.Namespace) -> Report:
    """Measure."""
    with server() as url:
        rows = trio.run(measure, url, chosen.seconds)
    return Report(
        benchmark="redis", columns=[OURS, BARE], rows=rows, settings={"seconds": chosen.seconds}
    )


if __name__ == "__main__":
    trio.run(publish, sys.argv[1], int(sys.argv[2]))
