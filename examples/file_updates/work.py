"""From the queue to the index: the items that are due are processed, a few at a time.

To process an item is to make the index agree with the disk at its paths, whatever its action says:
a file that is gone is forgotten, one that was moved is known under its new path, one that is new or
has changed goes through the pipeline, each stage announced. Only the last step changes the index
and the queue, both in one transaction.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import trio

from . import index
from .backend import Backend, Transaction
from .index import Row
from .pipeline.embedding import embed
from .pipeline.extract import Unreadable, extension, extract, is_supported
from .pipeline.reading import MAX_FILE_BYTES, NotAFile, Stamp, look, read
from .pipeline.summary import summarize
from .queue import Item
from .store import Connection
from .text import printable

WORKERS: Final = 2  # one reads while another computes; the interpreter lets one compute at a time

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def work(backend: Backend) -> None:
    """Process what is due and not paused, for ever.

    Cancellation: a stage under way is finished, in its thread; its item stays in the queue.
    """
    limiter = trio.CapacityLimiter(WORKERS)
    async with trio.open_nursery() as nursery:
        while True:  # noqa: ASYNC913 # it waits in each round
            changed = backend.changed
            item = await backend.commit(partial(_take, backend))
            if item is not None:
                nursery.start_soon(_Processing(backend, item, limiter).run)
                continue
            due = backend.queue.next_due()
            wait_for_time = due is not None and not backend.is_paused and not _is_full(backend)
            with trio.CancelScope() as scope:
                if due is not None and wait_for_time:
                    scope.deadline = backend.deadline(due)
                await changed.wait()


def _is_full(backend: Backend) -> bool:
    return backend.queue.processing >= WORKERS


def _take(backend: Backend, transaction: Transaction) -> Item | None:
    if backend.is_paused or _is_full(backend):
        return None
    step = backend.queue.take(transaction.now)
    if step is None:
        return None
    transaction.follow([step])
    return step.item


@attrs.frozen
class _Skip(Exception):
    """There is no need to go on; the reason is announced."""

    reason: str
    write: Callable[[Connection], object] | None = None


class _Processing:
    """The processing of one item."""

    def __init__(self, backend: Backend, item: Item, limiter: trio.CapacityLimiter) -> None:
        self._backend = backend
        self._item = item
        self._limiter = limiter
        self._path = item.paths[-1]
        self._filename = printable(os.path.basename(self._path))
        self._stamp: Stamp | None = None
        self._absent: list[str] = []

    async def run(self) -> None:
        """Process it, whatever comes of it.

        Cancellation: it stays in the queue.
        """
        try:
            write = await self._index()
        except _Skip as skip:
            await self._backend.commit(partial(self._end, write=skip.write, reason=skip.reason))
        except sqlite3.Error:
            raise  # it is not the file's fault
        except Exception as error:  # a file can be anything, and so can what it causes
            if not isinstance(error, Unreadable | OSError):
                logger.exception("cannot process %r", self._path)
            message = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._say("file_failed", error=message)
            await self._backend.commit(partial(self._fail, error=message))
        else:
            await self._backend.commit(partial(self._end, write=write))

    async def _index(self) -> Callable[[Connection], object]:
        """Go through the stages, and return what is to be written at the end."""
        path, item = self._path, self._item
        await self._in_thread(self._look)
        if self._stamp is None:
            raise _Skip("no longer there")
        row = await self._backend.store.transact(partial(_recognise, item, self._stamp))
        if row is not None and row.holds_for(self._stamp):
            raise _Skip("already processed")
        if not is_supported(path):
            self._skip(f"unsupported type: {extension(path) or 'no extension'}")
        if self._stamp.size > MAX_FILE_BYTES:
            self._skip(f"too large: {self._stamp.size} bytes, of at most {MAX_FILE_BYTES}")

        self._say("file_parsing")
        try:
            text, digest, self._stamp = await self._in_thread(partial(_parse, path))
        except NotAFile:
            self._absent.append(path)
            raise _Skip("no longer there") from None
        self._say("file_parsed")
        if row is not None and row.outcome == "complete" and row.digest == digest:
            assert self._stamp is not None
            again = partial(index.restamp, path=path, stamp=self._stamp)
            raise _Skip("content not changed", again)
        self._say("file_summarizing")
        summary = await self._in_thread(partial(summarize, text))
        self._say("file_summarized")
        self._say("file_embedding")
        embedding = await self._in_thread(lambda: embed(f"{self._filename}\n{text}").tobytes())
        self._say("file_embedded")

        new = self._row("complete", digest=digest, summary=summary)
        return partial(index.put, row=new, body=text, embedding=embedding)

    def _look(self) -> None:
        """See what is at the paths, in a thread."""
        for path in self._item.paths:
            try:
                self._stamp = look(path)
            except NotAFile:
                self._stamp = None
                self._absent.append(path)

    def _skip(self, reason: str) -> None:
        raise _Skip(reason, partial(index.put, row=self._row("skipped", reason=reason)))

    def _row(self, outcome: index.Outcome, **options: Any) -> Row:
        assert self._stamp is not None
        return Row(
            path=self._path,
            outcome=outcome,
            stamp=self._stamp,
            indexed_at=self._backend.now(),
            **options,
        )

    def _end(
        self,
        transaction: Transaction,
        *,
        write: Callable[[Connection], object] | None,
        reason: str | None = None,
    ) -> None:
        """Store what came of it, and end it."""
        backend, path = self._backend, self._path
        watched = backend.covers(path)
        self._forget_absent(transaction)
        if watched and write is not None:
            transaction.writes.append(write)
        names = {"path": path, "filename": self._filename}
        if not watched:
            transaction.announce("file_skipped", **names, reason="no longer watched")
        elif reason is None:
            transaction.announce("file_complete", **names)
        elif not (self._item.action == "delete" and path in self._absent):
            transaction.announce("file_skipped", **names, reason=reason)
        transaction.follow(backend.queue.complete(self._item, transaction.now))

    def _fail(self, transaction: Transaction, *, error: str) -> None:
        """Have it tried again, or note that this content cannot be indexed."""
        backend = self._backend
        self._forget_absent(transaction)
        step = backend.queue.fail(self._item, error, transaction.now)
        if not step.is_kept and self._stamp is not None and backend.covers(self._path):
            transaction.store(index.put, self._row("failed", reason=error))
        transaction.follow([step])

    def _forget_absent(self, transaction: Transaction) -> None:
        for path in filter(self._backend.covers, self._absent):
            transaction.store(index.delete, path)

    def _say(self, opcode: str, **data: str) -> None:
        self._backend.announce(opcode, path=self._path, filename=self._filename, **data)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(function, limiter=self._limiter)


def _parse(path: str) -> tuple[str, bytes, Stamp]:
    content, stamp = read(path)
    return extract(path, content), hashlib.sha256(content).digest(), stamp


def _recognise(item: Item, stamp: Stamp, connection: Connection) -> Row | None:
    """Return what the index knows of the file, perhaps under the path it was moved from."""
    path = item.paths[-1]
    known = index.find(connection, path)
    if item.dest_path is None or (known is not None and known.stamp.place == stamp.place):
        return known
    moved = index.find(connection, item.file_path)
    if (
        moved is None
        or moved.stamp.place != stamp.place
        or extension(item.file_path) != extension(path)
    ):
        return known
    index.move(connection, item.file_path, path)
    return index.find(connection, path)
