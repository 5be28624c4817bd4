"""A log in a SQLite file, for all processes of one machine.

Three threads, each with a connection of its own, opened and closed by it:

* the **writer** commits in one transaction whatever was asked for while it committed the last, so
  that fifty publishers share the price of one;
* the **reader** answers reads, which see what is committed and wait for no writer;
* the **follower** looks a hundred times a second whether the file has changed, by this process or
  another, as long as somebody watches. A change by this process is told at once.

An append returns when it is committed. Then no end of any process can undo it; with
``synchronous="full"``, no end of the machine either. The id is made inside the transaction, and
processes take turns (:mod:`.file`), so that the order of ids is that of commits.

Who reads the file with other tools may do so at any time; to write to it, stop every process that
has it open.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final, get_args

import attrs
import trio

from ...errors import LocalError
from .. import (
    DEFAULT_MAX_KEYS,
    PAGE_BYTES,
    PAGE_ENTRIES,
    EntryId,
    Head,
    NewEntry,
    Page,
    Retention,
    Snapshot,
    random_tag,
    wall_clock_ms,
)
from . import file
from .file import Synchronous
from .transactions import Reading, Writing
from .worker import Call, Worker

# Seconds. Another process's entry waits for half of it on average; each look takes 0.1 ms.
DEFAULT_POLL: Final = 0.01


@attrs.define(eq=False)
class _Watched:
    """Who watches a topic, and the last change of it that they were told of."""

    wakes: dict[object, Callable[[], None]] = attrs.Factory(dict)
    told: int = 0


class SQLiteLog:
    """A log in a file. :func:`open_sqlite_log` opens it.

    Every method raises :exc:`sselib.LogUnavailable` if the file cannot be read or written,
    :exc:`sselib.InvalidLog` if it is found to be damaged, and :exc:`trio.ClosedResourceError`
    after the end of its ``async with``.

    Attributes:
        path: The file.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention: Retention,
        max_keys: int | None,
        synchronous: Synchronous,
        poll: float,
        clock: Callable[[], int],
        make_tag: Callable[[], str],
    ) -> None:
        self.path = path
        self._retention = retention
        self._max_keys = max_keys
        self._synchronous = synchronous
        self._poll = poll
        self._clock = clock
        self._latest_ms = 0  # by the clock, for what is too old to be read: it stays gone
        self._make_tag = make_tag
        self._writer: Worker[Writing] = Worker(self._write)
        self._reader: Worker[Reading] = Worker(self._read)
        self._watched: dict[str, _Watched] = {}
        self._is_watched = threading.Event()
        self._is_over = threading.Event()

    async def append(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        """Append entries, as :meth:`sselib.log.EventLog.append` says.

        After :exc:`sselib.LogUnavailable` nothing of it is stored.

        Cancellation: appended or not. Repeat it with the same token to be sure.
        """
        return await self._writer.do(lambda writing: writing.append(topic, entries, token))

    async def read(
        self,
        topic: str,
        after: EntryId,
        *,
        limit: int = PAGE_ENTRIES,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        """Return what is owed after an id, as :meth:`sselib.log.EventLog.read` says."""
        if limit < 1 or max_bytes < 1:
            raise ValueError(f"limit and max_bytes must be at least 1: {limit}, {max_bytes}")
        return await self._reader.do(lambda reading: reading.read(topic, after, limit, max_bytes))

    async def snapshot(self, topic: str) -> Snapshot:
        """Return the state, as :meth:`sselib.log.EventLog.snapshot` says."""
        return await self._reader.do(lambda reading: reading.snapshot(topic))

    async def head(self, topic: str) -> Head | None:
        """Return where the topic stands, as :meth:`sselib.log.EventLog.head` says."""
        return await self._reader.do(lambda reading: reading.head(topic))

    async def has(self, topic: str, id: EntryId) -> bool:
        """Return whether this log gave that id, as :meth:`sselib.log.EventLog.has` says.

        A tail that may be lost takes the tag with it, so what has the tag is known.
        """
        head = await self.head(topic)
        return head is not None and id.tag == head.last.tag and head.floor <= id <= head.last

    async def trim(self, topic: str, retention: Retention) -> None:
        """Cut the history down, as :meth:`sselib.log.EventLog.trim` says.

        Cancellation: cut down or not.
        """
        await self._writer.do(lambda writing: writing.trim(topic, retention))

    async def delete(self, topic: str) -> None:
        """Forget the topic, as :meth:`sselib.log.EventLog.delete` says.

        Cancellation: forgotten or not.
        """
        await self._writer.do(lambda writing: writing.delete(topic))

    async def topics(self, prefix: str = "") -> list[str]:
        """Return the names of the topics that begin with ``prefix``, sorted."""
        return await self._reader.do(lambda reading: reading.names(prefix))

    def watch(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` after every change, by whichever process.

        For one of this process that is before the method returns that made it.
        """
        key = object()
        watched = self._watched.setdefault(topic, _Watched())
        watched.wakes[key] = wake
        self._is_watched.set()

        def unwatch() -> None:
            watched.wakes.pop(key, None)
            if not watched.wakes and self._watched.get(topic) is watched:
                del self._watched[topic]
                if not self._watched and not self._is_over.is_set():
                    self._is_watched.clear()

        return unwatch

    async def run(self) -> None:
        """Run the threads, until :meth:`close`; called by :func:`open_sqlite_log`, once.

        Cancellation: waits for them.
        """
        async with trio.open_nursery() as writing:
            writing.start_soon(self._run_thread, self._writer.run)
            try:
                async with trio.open_nursery() as reading:
                    reading.start_soon(self._run_thread, self._reader.run)
                    reading.start_soon(self._run_thread, self._run_follower)
            finally:
                # Whoever closes the file last copies the write-ahead log, if it may write.
                self._writer.close()

    def close(self) -> None:
        """Have the threads stop when they have done what they were asked."""
        self._is_over.set()
        self._is_watched.set()
        self._reader.close()

    async def _run_thread(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        finally:
            self.close()  # If one breaks, the others stop too.

    async def _run_follower(self) -> None:
        token = trio.lowlevel.current_trio_token()
        await trio.to_thread.run_sync(self._follow, token, limiter=trio.CapacityLimiter(1))

    def _wake(self, topic: str, change: int) -> None:
        watched = self._watched.get(topic)
        if watched is not None and watched.told < change:
            watched.told = change
            for wake in tuple(watched.wakes.values()):
                wake()

    # The threads.

    def _write(self, worker: Worker[Writing]) -> None:
        with closing(file.connect(self.path, "rw")) as db:
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
            while (batch := worker.next_batch()) is not None:
                self._write_batch(worker, db, batch)

    def _write_batch(
        self, worker: Worker[Writing], db: sqlite3.Connection, batch: list[Call[Writing]]
    ) -> None:
        writing: Writing | None = None  # once it is committed
        try:
            with file.turn(self.path):
                writing = self._commit(db, batch)
                file.shorten_wal(self.path, db)
        except (*file.FAILURES, LocalError) as error:
            if writing is None:
                for call in batch:
                    call.error = file.explained(self.path, error)

        def wake() -> None:
            if writing is not None:
                for topic in writing.changed:
                    self._wake(topic, writing.number)

        worker.answer(batch, wake)

    def _commit(self, db: sqlite3.Connection, batch: list[Call[Writing]]) -> Writing:
        with file.transaction(db, "IMMEDIATE"):
            file.check(self.path, db)
            writing = Writing(
                db,
                retention=self._retention,
                max_keys=self._max_keys,
                clock=self._clock,
                make_tag=self._make_tag,
            )
            for call in batch:
                try:
                    with file.savepoint(db):
                        call.result = call.work(writing)
                except Exception as error:
                    if not db.in_transaction:  # SQLite has rolled it all back.
                        raise
                    call.error = file.explained(self.path, error)
            writing.finish()
        return writing

    def _read(self, worker: Worker[Reading]) -> None:
        with closing(file.connect(self.path, "ro")) as db:
            while (batch := worker.next_batch()) is not None:
                try:
                    with file.transaction(db, "DEFERRED"):
                        file.check(self.path, db)
                        reading = Reading(db, self._oldest_ms())
                        for call in batch:
                            try:
                                call.result = call.work(reading)
                            except Exception as error:  # noqa: BLE001 # it is the caller's
                                call.error = file.explained(self.path, error)
                except (*file.FAILURES, LocalError) as error:
                    for call in batch:
                        call.error = file.explained(self.path, error)
                worker.answer(batch)

    def _oldest_ms(self) -> float | None:
        age = self._retention.age
        if age is None:
            return None
        self._latest_ms = max(self._latest_ms, self._clock())
        return self._latest_ms - age * 1000

    def _follow(self, token: trio.lowlevel.TrioToken) -> None:
        with closing(file.connect(self.path, "ro")) as db:
            seen: int | None = None
            while not self._is_over.wait(self._poll):
                if not self._is_watched.is_set():
                    seen = None
                    self._is_watched.wait()
                    continue
                try:
                    with file.transaction(db, "DEFERRED"):
                        seen, changes = Reading(db).changes(seen)
                except file.FAILURES as error:
                    raise file.explained(self.path, error) from error
                if changes != {}:
                    token.run_sync_soon(self._heard, seen, changes)

    def _heard(self, change: int, changes: dict[str, int] | None) -> None:
        if changes is None:
            changes = dict.fromkeys(self._watched, change)
        for topic, number in changes.items():
            self._wake(topic, number)


@asynccontextmanager
async def open_sqlite_log(
    path: str | os.PathLike[str],
    *,
    retention: Retention = Retention(),  # noqa: B008 # frozen
    max_keys: int | None = DEFAULT_MAX_KEYS,
    synchronous: Synchronous = "full",
    poll: float = DEFAULT_POLL,
    clock: Callable[[], int] = wall_clock_ms,
    make_tag: Callable[[], str] = random_tag,
) -> AsyncIterator[SQLiteLog]:
    """Open a log in a file, for as long as the ``async with`` lasts.

    Several processes of one machine may have the same file open. It must be on a disk of that
    machine, not of the network. Three more files stand beside it: those with ``-wal`` and
    ``-shm`` are part of it while it is open, ``-lock`` is always empty.

    Leaving it waits until what was asked of the log is stored.

    Args:
        path: The file. It is made if it is not there.
        retention: How much history each topic keeps. What is too old is not seen any more from
            that moment on, and leaves the file with the topic's next append.
        max_keys: The most live keys of a topic. ``None`` lifts the bound.
        synchronous: ``"full"``: an append is on the disk before it returns. ``"normal"`` is twice
            as fast, and the last appends may be lost when the machine goes down, but not when a
            process does. After that every topic has a new tag, so that clients that come back are
            told of a gap.
        poll: Seconds between two looks at what other processes have changed.
        clock: Returns milliseconds since the epoch. Called in a thread of the log's.
        make_tag: Returns the tag of a new topic: 1 to 32 ASCII letters and digits. Likewise.

    Raises:
        ValueError: ``max_keys`` < 1, ``poll`` <= 0, an unknown ``synchronous``, or a ``path``
            that means no file to SQLite.
        InvalidLog: The file is no log, was written by a newer version, or is damaged.
        LogUnavailable: It cannot be opened.

    Cancellation: of entering: nothing remains but an empty log. Of the body: what was handed to
    the log before is stored.
    """
    if max_keys is not None and max_keys < 1:
        raise ValueError(f"max_keys must be at least 1 or None: {max_keys}")
    if synchronous not in get_args(Synchronous):
        raise ValueError(f"synchronous must be normal or full: {synchronous!r}")
    if not poll > 0:
        raise ValueError(f"poll must be positive: {poll!r}")
    if os.fspath(path) in ("", ":memory:"):
        raise ValueError(f"path must name a file, and MemoryLog needs none: {path!r}")
    absolute = Path(path).absolute()
    await trio.to_thread.run_sync(file.prepare, absolute, synchronous, make_tag)
    log = SQLiteLog(
        absolute,
        retention=retention,
        max_keys=max_keys,
        synchronous=synchronous,
        poll=poll,
        clock=clock,
        make_tag=make_tag,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        try:
            yield log
        finally:
            log.close()
