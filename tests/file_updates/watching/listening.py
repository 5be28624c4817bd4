"""Listening to a watcher, with a deadline."""

from __future__ import annotations

from pathlib import Path

import trio

from examples.file_updates.changes import (
    Change,
    DirectoryProcessingCompleted,
    FileCreated,
    FileDeleted,
)
from examples.file_updates.watching import Watcher

SECONDS = 20  # far more than anything here takes


async def receive(watcher: Watcher, count: int) -> list[Change]:
    """Receive so many changes."""
    changes: list[Change] = []
    with trio.fail_after(SECONDS):
        while True:
            changes.append(await watcher.receive())
            if len(changes) == count:
                return changes


async def receive_until(watcher: Watcher, last: Change) -> list[Change]:
    """Receive changes up to this one."""
    changes: list[Change] = []
    with trio.fail_after(SECONDS):
        while True:
            changes.append(await watcher.receive())
            if changes[-1] == last:
                return changes


async def watch(watcher: Watcher, directory: Path, *, recursive: bool = True) -> list[Change]:
    """Add a directory and receive all that is said up to the end of the first look."""
    path = (await watcher.add(directory, recursive=recursive)).path
    return await receive_until(watcher, DirectoryProcessingCompleted(path))


async def hears(watcher: Watcher, *expected: Change) -> None:
    """See that exactly this is said, and nothing after it."""
    assert await receive(watcher, len(expected)) == list(expected)
    await hears_nothing(watcher)


async def hears_nothing(watcher: Watcher) -> None:
    """See that there is nothing to be said, by doing something and hearing of that alone."""
    marker = Path(watcher.watches[0].path, "marker")
    marker.touch()
    assert await receive(watcher, 1) == [FileCreated(str(marker))]
    marker.unlink()
    assert await receive(watcher, 1) == [FileDeleted(str(marker))]
