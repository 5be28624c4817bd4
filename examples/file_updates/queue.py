"""The queue: which files the index has to be made to agree with, and when.

A state machine without a clock, a task or a database. Whoever changes it is told by :class:`Step`
what to store and what to announce, in order.

- An item says that something happened at a path, and not what is there now: whoever works on it
  looks. So an item too many costs a look, items may be done in any order, and what matters is
  alone that each path at which something happened is looked at afterwards. All rules follow:
- There is one item for a path, the place where the file was. What happens there again changes the
  item and lets it cool down anew; only a deletion is not waited for, since nothing more can come
  of it. If what is overwritten was a move, its destination gets an item of its own.
- While an item is being processed, what happens at its path is kept beside it. When it is done,
  that is queued as a new item; when it has failed, that is what is tried instead.
- No two items are processed at a time that have a path in common.
- What is stored of an item being processed is what would be left to do if the process died now.
"""

from __future__ import annotations

import heapq
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

import attrs

from .watching.snapshot import is_inside

COOLDOWN: Final = 60.0  # seconds without a change before a file is processed, as documented
MAX_RETRIES: Final = 3
LONGEST_BACKOFF: Final = 8  # times the cooldown

Action: TypeAlias = Literal["index", "delete", "move"]
Status: TypeAlias = Literal["cooling_down", "ready", "processing"]
Opcode: TypeAlias = Literal[
    "queue_item_added",
    "queue_item_updated",
    "queue_item_processing",
    "queue_item_completed",
    "queue_item_failed",
    "queue_item_removed",
]


class UnknownItem(LookupError):
    """There is no such item."""


class ItemInProcess(Exception):
    """The item is being processed, and cannot be taken out."""


@attrs.frozen(kw_only=True)
class Item:
    """Something to be done about a file.

    Attributes:
        id: Its name in the API.
        file_path: Where something happened; for a move, where the file was.
        action: What happened there.
        dest_path: For a move, where the file went.
        enqueued_at: When it was made, in seconds since the epoch.
        cooldown_expires_at: When it may be processed.
        retry_count: How often it was tried in vain.
    """

    id: str
    file_path: str
    action: Action
    dest_path: str | None = None
    enqueued_at: float
    cooldown_expires_at: float
    retry_count: int = 0

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths at which there may be something to be done."""
        return (self.file_path,) if self.dest_path is None else (self.file_path, self.dest_path)

    def status(self, now: float) -> Status:
        """Whether it may be processed, if it is not."""
        return "ready" if self.cooldown_expires_at <= now else "cooling_down"


@attrs.frozen(kw_only=True)
class Step:
    """What became of one item.

    Attributes:
        item: The item after it.
        opcode: As what it is announced; None if it is not.
        status: The item's status in the announcement.
        is_kept: Whether the item is to be stored; if not, it is to be forgotten. ``None``: what is
            stored of it holds.
        error: Why it failed.
    """

    item: Item
    opcode: Opcode | None
    status: str
    is_kept: bool | None
    error: str | None = None


@attrs.define
class _Work:
    """An item being processed, and what happened meanwhile."""

    item: Item
    next: Item | None = None


def _new_id() -> str:
    return str(uuid.uuid4())


class Queue:
    """Items by path, and the order in which they are due. All times are on the caller's clock.

    Args:
        cooldown: Seconds without a change before an item is processed.
        max_retries: How often a failed item is tried again.
        new_id: Makes the id of an item.
    """

    def __init__(
        self,
        *,
        cooldown: float = COOLDOWN,
        max_retries: int = MAX_RETRIES,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self._cooldown = cooldown
        self._max_retries = max_retries
        self._new_id = new_id
        self._waiting: dict[str, Item] = {}
        self._working: dict[str, _Work] = {}
        # When to look at which path again. An entry of an item that was changed since is passed
        # over; the path of one that has to wait for an item in process is put aside.
        self._due: list[tuple[float, str]] = []
        self._blocked: set[str] = set()

    def restore(self, items: Iterable[Item], now: float) -> None:
        """Take in what was stored. A clock set back since then delays nothing for ever."""
        latest = now + self._cooldown * LONGEST_BACKOFF
        for item in items:
            expires = min(item.cooldown_expires_at, latest)
            self._wait(attrs.evolve(item, cooldown_expires_at=expires))

    def change(
        self,
        path: str,
        action: Action,
        now: float,
        *,
        dest_path: str | None = None,
        cooldown: float | None = None,
    ) -> list[Step]:
        """Note that something happened at a path.

        Args:
            path: Where; for a move, where the file was.
            action: What is to be done about it.
            now: The time.
            dest_path: For a move, where the file is.
            cooldown: Seconds, if not the queue's own.
        """
        after = now + (self._cooldown if cooldown is None else cooldown)
        new = self._new(path, action, dest_path, now, after)
        work, old = self._working.get(path), self._waiting.get(path)
        if work is not None:
            old = work.next or work.item
            work.next = new
            left = attrs.evolve(new, id=work.item.id, enqueued_at=work.item.enqueued_at)
            steps = [Step(item=left, opcode=None, status="processing", is_kept=True)]
        elif old is None:
            steps = [self._add(new, now)]
        else:
            expires = now if action == "delete" else after
            new = attrs.evolve(
                new, id=old.id, enqueued_at=old.enqueued_at, cooldown_expires_at=expires
            )
            steps = [self._update(new, now)]
        if old is not None and old.dest_path is not None and old.dest_path != dest_path:
            steps += self.change(old.dest_path, "index", now, cooldown=cooldown)
        return steps

    def waits_for(self, path: str) -> bool:
        """Whether what is at a path is going to be looked at anyway."""
        return path in self._waiting

    def take(self, now: float) -> Step | None:
        """Begin to process the item that is due first, if one is."""
        busy = {path for work in self._working.values() for path in work.item.paths}
        while self._due and self._due[0][0] <= now:
            entry = heapq.heappop(self._due)
            item = self._waiting.get(entry[1])
            if item is None or item.cooldown_expires_at != entry[0]:
                continue
            if not busy.isdisjoint(item.paths):
                self._blocked.add(item.file_path)
                continue
            del self._waiting[item.file_path]
            self._working[item.file_path] = _Work(item)
            return Step(
                item=item, opcode="queue_item_processing", status="processing", is_kept=None
            )
        return None

    @property
    def processing(self) -> int:
        """How many items are being processed."""
        return len(self._working)

    def next_due(self) -> float | None:
        """When :meth:`take` may have something to give that it has not got now."""
        return self._due[0][0] if self._due else None

    def complete(self, item: Item, now: float) -> list[Step]:
        """End the processing of an item that has succeeded."""
        after = self._end_work(item)
        done = Step(item=item, opcode="queue_item_completed", status="completed", is_kept=False)
        return [done] if after is None else [done, self._add(after, now)]

    def fail(self, item: Item, error: str, now: float) -> Step:
        """End the processing of an item that has failed: it is tried again, later each time.

        Returns:
            What becomes of it. If it is not kept, it has failed for good.
        """
        after = self._end_work(item)
        if after is not None:
            again = attrs.evolve(after, id=item.id, enqueued_at=item.enqueued_at)
        elif item.retry_count < self._max_retries:
            backoff = self._cooldown * min(2**item.retry_count, LONGEST_BACKOFF)
            again = attrs.evolve(
                item, retry_count=item.retry_count + 1, cooldown_expires_at=now + backoff
            )
        else:
            return Step(
                item=item, opcode="queue_item_failed", status="failed", is_kept=False, error=error
            )
        return self._update(again, now)

    def remove(self, id: str, now: float) -> Step:
        """Take out an item that waits.

        Raises:
            UnknownItem: There is none of that id.
            ItemInProcess: It does not wait.
        """
        for item in self._waiting.values():
            if item.id == id:
                return self._remove(item, now)
        if any(work.item.id == id for work in self._working.values()):
            raise ItemInProcess(id)
        raise UnknownItem(id)

    def forget(self, is_gone: Callable[[str], bool], now: float) -> list[Step]:
        """Take out what is about paths that nobody watches any more.

        An item being processed is finished by whoever does that. A file that was moved from there
        to where it is watched is looked at there.
        """
        steps: list[Step] = []
        for item in [item for path, item in self._waiting.items() if is_gone(path)]:
            steps.append(self._remove(item, now))
            if item.dest_path is not None and not is_gone(item.dest_path):
                steps += self.change(item.dest_path, "index", now)
        for path in [path for path in self._working if is_gone(path)]:
            self._working[path].next = None
        return steps

    def paths_below(self, directory: str) -> set[str]:
        """The paths below a directory at which there is something to be done."""
        working = list(self._working.values())
        items = [*self._waiting.values(), *(work.item for work in working)]
        items += [work.next for work in working if work.next is not None]
        return {path for item in items for path in item.paths if is_inside(path, directory)}

    def items(self, now: float, most: int | None = None) -> list[tuple[Item, Status]]:
        """Items with their statuses, in the order in which they were or will be processed.

        Args:
            now: The time.
            most: How many of them to give at most; None for all.
        """
        working: list[tuple[Item, Status]] = [
            (w.item, "processing") for w in self._working.values()
        ]
        first = heapq.nsmallest(
            len(self) if most is None else most,
            self._waiting.values(),
            key=lambda item: item.cooldown_expires_at,
        )
        return [*working, *((item, item.status(now)) for item in first)][:most]

    def counts(self, now: float) -> dict[str, int]:
        """How many items there are, in all and of each status."""
        found = Counter(item.status(now) for item in self._waiting.values())
        return {
            "total_items": len(self),
            "cooling_down": found["cooling_down"],
            "ready": found["ready"],
            "processing": len(self._working),
        }

    def __len__(self) -> int:
        return len(self._waiting) + len(self._working)

    def _new(
        self, path: str, action: Action, dest_path: str | None, now: float, after: float
    ) -> Item:
        return Item(
            id=self._new_id(),
            file_path=path,
            action=action,
            dest_path=dest_path,
            enqueued_at=now,
            cooldown_expires_at=after,
        )

    def _wait(self, item: Item) -> None:
        self._waiting[item.file_path] = item
        self._look_again(item)

    def _look_again(self, item: Item) -> None:
        heapq.heappush(self._due, (item.cooldown_expires_at, item.file_path))
        if len(self._due) > 2 * len(self._waiting):
            # Most of it is to be passed over, and while nothing is taken nobody does.
            self._due = [(each.cooldown_expires_at, path) for path, each in self._waiting.items()]
            heapq.heapify(self._due)

    def _add(self, item: Item, now: float) -> Step:
        self._wait(item)
        return Step(item=item, opcode="queue_item_added", status=item.status(now), is_kept=True)

    def _update(self, item: Item, now: float) -> Step:
        self._wait(item)
        return Step(item=item, opcode="queue_item_updated", status=item.status(now), is_kept=True)

    def _remove(self, item: Item, now: float) -> Step:
        del self._waiting[item.file_path]
        return Step(item=item, opcode="queue_item_removed", status=item.status(now), is_kept=False)

    def _end_work(self, item: Item) -> Item | None:
        """Return what happened while the item was processed."""
        for path in self._blocked & self._waiting.keys():
            self._look_again(self._waiting[path])
        self._blocked.clear()
        return self._working.pop(item.file_path).next
