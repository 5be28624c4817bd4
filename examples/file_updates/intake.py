"""From the watcher to the queue: each change is announced, and then what it means for the queue.

Changes are taken in by batches, each in one transaction, so that a tree of ten thousand files costs
no ten thousand of them; and between two batches others have their turn, above all the streams.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Final

import attrs

from . import index
from .backend import Backend, Transaction
from .changes import (
    Change,
    DirectoryMoved,
    DirectoryProcessingCompleted,
    FileCreated,
    FileDeleted,
    FileFound,
    FileModified,
    FileMoved,
    WatchFailed,
    WatchRemoved,
)
from .pipeline.reading import NotAFile, look
from .store import Connection, note_scan
from .updates import update_of

BATCH: Final = 64  # changes: their updates are a fraction of what a client may fall behind


@attrs.define
class Known:
    """What the index knows that a batch of changes asks for.

    Attributes:
        unchanged: The files found that are as the index knows them.
        below: The files that it knows below the directories in question.
        indexed: How many files can be searched for.
    """

    unchanged: set[str] = attrs.field(factory=set)
    below: defaultdict[str, list[str]] = attrs.field(factory=partial(defaultdict, list))
    indexed: int = 0


class Intake:
    """Takes in what a backend's watcher says."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._found: set[str] = set()  # by the first look that is being told

    async def run(self) -> None:
        """Take in changes for as long as the watcher is open.

        Cancellation: what was received and not stored is found by the next first look.
        """
        backend = self._backend
        while True:
            received = await backend.watcher.receive_some(BATCH)
            changes = [change for change in received if not self._is_own(change)]
            await backend.commit_knowing(
                partial(_recall, changes=changes), partial(self._apply, changes=changes)
            )

    def _is_own(self, change: Change) -> bool:
        return not self._backend.own_files.isdisjoint(attrs.astuple(change))

    def _apply(self, transaction: Transaction, known: Known, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, FileFound):
                self._find(transaction, known, change.path)
            elif isinstance(change, WatchRemoved):
                self._backend.dismiss_watch(transaction, change.path, known.below[change.path])
            elif isinstance(change, WatchFailed):
                self._backend.lose_watch(transaction, change.path, change.message)
            else:
                transaction.events.append(update_of(change))
                self._follow(transaction, known, change)

    def _find(self, transaction: Transaction, known: Known, path: str) -> None:
        self._found.add(path)
        if self._backend.queue.waits_for(path):
            return  # it is an item that was stored, and goes on
        if path in known.unchanged:
            transaction.announce(
                "file_skipped",
                path=path,
                filename=os.path.basename(path),
                reason="already processed",
            )
        else:
            backend = self._backend
            steps = backend.queue.change(
                path, "index", transaction.now, cooldown=backend.scan_cooldown
            )
            transaction.follow(steps)

    def _follow(self, transaction: Transaction, known: Known, change: Change) -> None:
        queue, now = self._backend.queue, transaction.now
        match change:
            case FileCreated(path) | FileModified(path):
                transaction.follow(queue.change(path, "index", now))
            case FileDeleted(path):
                transaction.follow(queue.change(path, "delete", now))
            case FileMoved(src_path=src, dest_path=dest):
                transaction.follow(queue.change(src, "move", now, dest_path=dest))
            case DirectoryMoved(src_path=src, dest_path=dest):
                for path in sorted({*known.below[src], *queue.paths_below(src)}):
                    there = dest + path[len(src) :]
                    transaction.follow(queue.change(path, "move", now, dest_path=there))
            case DirectoryProcessingCompleted(path):
                self._complete(transaction, known, path)

    def _complete(self, transaction: Transaction, known: Known, path: str) -> None:
        """End a first look: what the index knows and nobody has found is gone."""
        backend = self._backend
        watch = next((each for each in backend.watcher.watches if each.path == path), None)
        if watch is not None:
            gone = [
                each for each in known.below[path] if watch.covers(each) and each not in self._found
            ]
            for each in gone:
                steps = backend.queue.change(
                    each, "delete", transaction.now, cooldown=backend.scan_cooldown
                )
                transaction.follow(steps)
        if path in backend.restored:
            backend.restored.remove(path)
            files = len(self._found)
            transaction.announce("info", message=f"Watch restored: {path} ({files} files)")
        self._found.clear()
        transaction.store(note_scan, path, now=transaction.now)
        counts = backend.queue.counts(transaction.now)
        transaction.announce("status_update", queue=counts, files_indexed=known.indexed)


def _recall(connection: Connection, changes: Iterable[Change]) -> Known:
    """Ask the index and the disk, in a thread."""
    known = Known()
    for change in changes:
        match change:
            case FileFound(path):
                row = index.find(connection, path)
                try:
                    if row is not None and row.holds_for(look(path)):
                        known.unchanged.add(path)
                except (NotAFile, OSError):
                    pass  # whoever processes it finds out
            case DirectoryMoved(src_path=path) | WatchRemoved(path):
                known.below[path] = index.paths_below(connection, path)
            case DirectoryProcessingCompleted(path):
                known.below[path] = index.paths_below(connection, path)
                known.indexed = index.count(connection)
    return known
