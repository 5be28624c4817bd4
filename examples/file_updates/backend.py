"""The backend: the one owner of the watcher, the queue and the store, and the one that speaks.

Changes flow in one direction, each part a task of its own: the watcher's changes are taken in
(``intake``) and change the queue; what is due in the queue is worked on (``work``) and changes the
index; the scheduler and the API's requests say when.

- All that is published goes through :meth:`Backend.announce`.
- All that changes the queue, the watches or the settings goes through :meth:`Backend.commit`: one
  change at a time is made in memory, stored, and only then announced. So what was announced
  survives a kill, and what a search finds was announced.
- If something cannot be stored, what is in memory is ahead of what would be there tomorrow. So this
  ends the backend, and with it the process; the next one begins with what was stored.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from sselib import EventChannel, ServerSentEvent

from . import index
from .queue import Item, Queue, Step
from .scheduler import Conditions, Schedule, as_json, observe, schedule_of
from .store import (
    Connection,
    Store,
    StoredWatch,
    Write,
    delete_watch,
    end_watch,
    load_queue,
    load_setting,
    load_watches,
    save_setting,
    save_step,
    save_watch,
)
from .updates import update
from .watching import AlreadyWatched, NotWatched, Watch, Watcher, WatchError

K = TypeVar("K")
T = TypeVar("T")


@attrs.define(eq=False)
class Transaction:
    """A change under way: what is to be stored, and what is to be announced then, in order.

    Attributes:
        now: When it happens, in seconds since the epoch.
    """

    now: float
    writes: list[Write] = attrs.field(factory=list)
    events: list[ServerSentEvent] = attrs.field(factory=list)

    def store(self, function: Callable[..., object], *args: Any, **options: Any) -> None:
        """Have a function called with the connection and these arguments."""
        self.writes.append(lambda connection: function(connection, *args, **options))

    def announce(self, opcode: str, /, **data: Any) -> None:
        """Have this announced."""
        self.events.append(update(opcode, **data))

    def follow(self, steps: Iterable[Step]) -> None:
        """Have stored and announced what became of items."""
        for step in steps:
            item = step.item
            if step.is_kept is not None:
                self.store(save_step, step)
            rest = {"status": step.status} if step.error is None else {"error": step.error}
            if step.opcode is not None:
                self.announce(
                    step.opcode, id=item.id, file_path=item.file_path, action=item.action, **rest
                )


class Backend:
    """What the tasks and the API share.

    Args:
        store: The database.
        watcher: The list of watches.
        channel: Where updates are published.
        queue: The queue, still empty.
        scan_cooldown: Seconds before a file is processed that the first look has found.
        own_files: Paths of which nothing is said: those that the backend writes itself.
        conditions: Gives what the scheduler's rules are compared with, for a size of the queue.
    """

    def __init__(
        self,
        *,
        store: Store,
        watcher: Watcher,
        channel: EventChannel,
        queue: Queue,
        scan_cooldown: float,
        own_files: frozenset[str] = frozenset(),
        conditions: Callable[[int], Conditions] = observe,
    ) -> None:
        self.store = store
        self.watcher = watcher
        self.queue = queue
        self.scan_cooldown = scan_cooldown
        self.own_files = own_files
        self.restored: set[str] = set()  # watches whose first look since then is not over
        self.manually_paused = False
        self.scheduler_paused = False
        self.schedule = Schedule()
        self.changed = trio.Event()  # set by the next change; another one takes its place
        self._channel = channel
        self._conditions = conditions
        self._turn = trio.Lock()
        self._says_nothing_more = False
        self._failure: sqlite3.Error | None = None
        self._failed = trio.Event()
        self._rescheduled = trio.Event()
        # Between Trio's clock and that of the wall, once: cooldowns neither stretch nor shrink when
        # the wall clock is set.
        self._epoch = time.time() - trio.current_time()

    # ---- time, words, changes ----------------------------------------------------------------

    def now(self) -> float:
        """The time, in seconds since the epoch."""
        return trio.current_time() + self._epoch

    def deadline(self, when: float) -> float:
        """A time since the epoch, on Trio's clock."""
        return when - self._epoch

    def announce(self, opcode: str, /, **data: Any) -> None:
        """Publish an update."""
        self._publish(update(opcode, **data))

    def say_goodbye(self) -> None:
        """Publish that the backend shuts down; it is the last that is said."""
        self.announce("shutting_down")
        self._says_nothing_more = True

    async def commit(self, change: Callable[[Transaction], T]) -> T:  # noqa: ASYNC910 # the lock is a checkpoint
        """Make a change, store it, and announce it.

        Args:
            change: Changes what is in memory, and notes in the transaction what follows. If it
                raises, it has changed nothing.

        Raises:
            sqlite3.Error: It cannot be stored. The backend ends.

        Cancellation: before it is made, or not at all.
        """
        async with self._turn:
            return await self._commit(change)

    async def commit_knowing(  # noqa: ASYNC910 # the lock is a checkpoint
        self, recall: Callable[[Connection], K], change: Callable[[Transaction, K], T]
    ) -> T:
        """Do as :meth:`commit`, with something from the database that holds until the end of it."""
        async with self._turn:
            known = await self.store.transact(recall)
            return await self._commit(lambda transaction: change(transaction, known))

    async def run_until_failed(self) -> None:
        """Raise the error of a change that could not be stored."""
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    async def _commit(self, change: Callable[[Transaction], T]) -> T:
        transaction = Transaction(self.now())
        result = change(transaction)
        if transaction.writes:
            # What is changed in memory has to be stored, whoever waits for it or does not.
            with trio.CancelScope(shield=True):
                await self._write(transaction.writes)
        for event in transaction.events:
            self._publish(event)
        if transaction.writes or transaction.events:
            self.changed.set()
            self.changed = trio.Event()
        return result  # noqa: ASYNC910 # who calls it has waited for the lock

    async def _write(self, writes: list[Write]) -> None:
        def write(connection: Connection) -> None:
            for each in writes:
                each(connection)

        try:
            await self.store.transact(write)
        except sqlite3.Error as error:
            self.announce("error", message=f"The index cannot be written: {error}")
            self._failure = error
            self._failed.set()
            raise

    def _publish(self, event: ServerSentEvent) -> None:
        if not self._says_nothing_more:
            self._channel.publish_nowait(event)

    # ---- watches -----------------------------------------------------------------------------

    async def restore(self) -> None:
        """Begin with what was stored, before there are any tasks."""

        def load(connection: Connection) -> tuple[list[StoredWatch], list[Item], bool, Any]:
            return (
                load_watches(connection),
                load_queue(connection),
                load_setting(connection, "paused", default=False),
                load_setting(connection, "schedule", default={}),
            )

        watches, items, self.manually_paused, schedule = await self.store.transact(load)
        self.schedule = schedule_of(schedule)
        self.queue.restore(items, self.now())
        for stored in watches:
            try:
                await self.add_watch(stored.path, recursive=stored.recursive)
                self.restored.add(stored.path)
            except WatchError as error:
                await self.commit(partial(self.lose_watch, path=stored.path, message=str(error)))
        # Of what is not watched any more, nothing is to be done.
        await self.commit(
            lambda t: t.follow(self.queue.forget(lambda path: not self.covers(path), t.now))
        )
        await self.check_schedule()

    async def add_watch(self, directory: str, *, recursive: bool = True) -> Watch:
        """Watch a directory from now on, also after a restart.

        Raises:
            WatchError: It cannot be watched, or is watched already.

        Cancellation: it is not watched.
        """
        watch = await self.watcher.add(directory, recursive=recursive)
        try:
            await self.commit(lambda t: t.store(save_watch, watch, id=str(uuid.uuid4()), now=t.now))
        except BaseException:
            self.watcher.remove(watch.path)
            raise
        return watch

    async def want_watch(self, directory: str) -> None:  # noqa: ASYNC910 # add_watch waits
        """Watch a directory, unless it is watched already."""
        try:
            await self.add_watch(directory)
        except AlreadyWatched as error:
            if not any(watch.covers(error.path) for watch in self.watcher.watches):
                raise

    async def remove_watch(self, id: str) -> bool:
        """Watch a directory no longer, and forget its files. Return whether there was such a watch.

        Cancellation: it may be watched no longer.
        """
        watches = {each.id: each.path for each in await self.store.query(load_watches)}
        path = watches.get(id)
        if path is None:
            return False
        try:
            self.watcher.remove(path)  # and the intake is told so
        except NotWatched:  # it has failed before
            await self.commit_knowing(
                partial(index.paths_below, directory=path),
                lambda t, known: self.dismiss_watch(t, path, known),
            )
        else:
            await self.commit(lambda t: t.store(delete_watch, path))
        return True

    def dismiss_watch(self, transaction: Transaction, path: str, known: Iterable[str]) -> None:
        """Forget what a watch that was removed has brought."""
        gone = [each for each in known if not self.covers(each)]
        transaction.store(delete_watch, path)
        transaction.store(index.delete_all, gone)
        transaction.announce("watch_removed", path=path)
        self._forget_items(transaction)

    def lose_watch(self, transaction: Transaction, path: str, message: str) -> None:
        """Note that a watch has ended against its will. Its files may be there again tomorrow."""
        transaction.store(end_watch, path, now=transaction.now)
        transaction.announce("error", message=message)
        self._forget_items(transaction)

    def covers(self, path: str) -> bool:
        """Whether a path is watched."""
        return any(watch.covers(path) for watch in self.watcher.watches)

    def _forget_items(self, transaction: Transaction) -> None:
        steps = self.queue.forget(lambda path: not self.covers(path), transaction.now)
        transaction.follow(steps)

    # ---- the queue ---------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether nothing new is begun: somebody said so, or the scheduler does."""
        return self.manually_paused or self.scheduler_paused

    async def pause(self, *, paused: bool) -> None:
        """Pause the queue by hand, or resume it. What is being processed is finished.

        Cancellation: it is as it was.
        """

        def change(transaction: Transaction) -> None:
            if self.manually_paused != paused:
                self.manually_paused = paused
                transaction.store(save_setting, "paused", paused)
                opcode = "queue_paused" if paused else "queue_resumed"
                transaction.announce(opcode, source="manual")

        await self.commit(change)

    async def remove_item(self, id: str) -> None:
        """Take an item that waits out of the queue.

        Raises:
            UnknownItem, ItemInProcess: As the queue does.

        Cancellation: it is not taken out.
        """
        await self.commit(lambda t: t.follow([self.queue.remove(id, t.now)]))

    # ---- the scheduler -----------------------------------------------------------------------

    async def set_schedule(self, schedule: Schedule) -> None:
        """Have the scheduler obey other rules, and look at them at once.

        Cancellation: the rules may be others, and are looked at when the interval is over.
        """

        def change(transaction: Transaction) -> None:
            self.schedule = schedule
            transaction.store(save_setting, "schedule", as_json(schedule))
            transaction.announce("info", message="The rules of the scheduler were changed")

        await self.commit(change)
        await self.check_schedule()
        self._rescheduled.set()

    async def check_schedule(self) -> None:
        """Compare the rules with the conditions, and pause or resume the queue if need be.

        Cancellation: the queue is as it was.
        """

        def change(transaction: Transaction) -> None:
            paused = not self.conditions_met()
            if self.scheduler_paused != paused:
                self.scheduler_paused = paused
                transaction.announce("scheduler_paused" if paused else "scheduler_resumed")

        await self.commit(change)

    def conditions_met(self) -> bool:
        """Whether the scheduler's rules allow to work on the queue now."""
        return self.schedule.allows(self._conditions(len(self.queue)))

    async def run_scheduler(self) -> None:
        """Look at the rules every so often."""
        while True:
            self._rescheduled = trio.Event()
            with trio.move_on_after(self.schedule.check_interval_seconds):
                await self._rescheduled.wait()
            await self.check_schedule()
