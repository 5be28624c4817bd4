"""A program that publishes to a SQLite log: `python -m tests.sqlite_publisher PATH TOPIC NAME`.

It appends batches of two entries without end, from several tasks, so that they are committed in
groups, and prints a line for each batch that is acknowledged.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path

import trio

from sselib import NewEntry, Retention, ServerSentEvent, open_sqlite_log

TASKS = 5
EVERYTHING = Retention(entries=None, size=None)


@asynccontextmanager
async def publisher(path: Path, topic: str, name: str) -> AsyncIterator[trio.Process]:
    """Run this module, and kill it at the latest at the end; `returncode` is there then."""
    command = [sys.executable, "-m", "tests.sqlite_publisher", str(path), topic, name]
    root = Path(__file__).parent.parent
    start = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False, cwd=root)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(start)
        try:
            yield process
        finally:
            process.kill()


async def publish(path: str, topic: str, name: str) -> None:
    async with open_sqlite_log(path, retention=EVERYTHING) as log, trio.open_nursery() as nursery:

        async def publish_as(task: int) -> None:
            for number in count():
                texts = [f"{name}.{task} {2 * number + part}" for part in range(2)]
                await log.append(topic, [NewEntry.of(ServerSentEvent(text)) for text in texts])
                print(texts[-1], flush=True)

        for task in range(TASKS):
            nursery.start_soon(publish_as, task)


if __name__ == "__main__":
    _, path, topic, name = sys.argv
    trio.run(publish, path, topic, name)
