"""A log in the memory of one process.

The state is a dict in the order of its entries: a key that is superseded is taken out and put in
again at the end. The history is a list in the order of ids. Most entries go to its end; one that
leaves the state because it was superseded goes to where its id belongs. A read merges the two,
and costs what it returns when it asks for what is new.

Nothing here waits, so nothing can be half done: each public method is a check, then a change that
cannot fail. The log belongs to the Trio thread; other threads publish through
:func:`trio.from_thread.run`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

import attrs
import trio

from ..errors import ChannelEnded, TopicFull
from . import (
    DEFAULT_MAX_KEYS,
    ORIGIN,
    PAGE_BYTES,
    PAGE_ENTRIES,
    RECENT_TOKENS,
    Entry,
    EntryId,
    Head,
    NewEntry,
    Page,
    Retention,
    Snapshot,
    check_append,
    random_tag,
    wall_clock_ms,
)

_entry_id: Final = attrgetter("id")


@attrs.define(eq=False)
class _Topic:
    last: EntryId
    floor: EntryId = ORIGIN
    end: Entry | None = None
    state: dict[str, Entry] = attrs.Factory(dict)
    history: list[Entry] = attrs.Factory(list)
    history_size: int = 0
    tokens: dict[str, tuple[EntryId, ...]] = attrs.Factory(dict)
    snapshot: Snapshot | None = None  # until the next change

    def head(self) -> Head:
        return Head(self.floor, self.last, None if self.end is None else self.end.id)

    def apply(self, entry: Entry) -> None:
        content = entry.content
        self.last = entry.id
        if content.end:
            if content.clear:
                for old in self.state.values():
                    self._supersede(old)
                self.state.clear()
            self.end = entry
        elif content.key is None:
            self._keep(entry)
        else:
            old_entry = self.state.pop(content.key, None)
            if old_entry is not None:
                self._supersede(old_entry)
            if content.remove:
                self._keep(entry)
            else:
                self.state[content.key] = entry

    def _supersede(self, entry: Entry) -> None:
        # Before the floor nobody who can resume is owed it, and a gap is told anyway. Who joined
        # with the history, and has not come so far, is given what has superseded it.
        if not entry.content.coalesce and entry.id > self.floor:
            self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        insort(self.history, entry, key=_entry_id)
        self.history_size += len(entry.content.block)

    def trim(self, retention: Retention, now_ms: int) -> None:
        history = self.history
        excess = 0
        if retention.entries is not None:
            excess = max(0, len(history) - retention.entries)
        size = self.history_size - sum(len(entry.content.block) for entry in history[:excess])
        if retention.size is not None:
            while size > retention.size:
                size -= len(history[excess].content.block)
                excess += 1
        if retention.age is not None:
            oldest_ms = now_ms - retention.age * 1000
            while excess < len(history) and history[excess].id.ms < oldest_ms:
                size -= len(history[excess].content.block)
                excess += 1
        if excess:
            self.floor = history[excess - 1].id
            del history[:excess]
            self.history_size = size
            self.snapshot = None


class MemoryLog:
    """A log in the memory of this process, gone with it. It is both kinds of log protocol.

    Args:
        retention: How much history each topic keeps.
        max_keys: The most live keys of a topic. ``None`` lifts the bound.
        clock: Returns milliseconds since the epoch.
        make_tag: Returns the tag of a new topic: 1 to 32 ASCII letters and digits.

    Raises:
        ValueError: ``max_keys`` < 1.
    """

    def __init__(
        self,
        *,
        retention: Retention = Retention(),  # noqa: B008 # frozen
        max_keys: int | None = DEFAULT_MAX_KEYS,
        clock: Callable[[], int] = wall_clock_ms,
        make_tag: Callable[[], str] = random_tag,
    ) -> None:
        if max_keys is not None and max_keys < 1:
            raise ValueError(f"max_keys must be at least 1 or None: {max_keys}")
        self._retention = retention
        self._max_keys = max_keys
        self._clock = clock
        self._make_tag = make_tag
        self._topics: dict[str, _Topic] = {}
        self._watchers: dict[str, dict[object, Callable[[], None]]] = {}

    def append_nowait(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        """Append entries, as :meth:`sselib.log.EventLog.append` says, without waiting."""
        found = self._topics.get(topic)
        if found is not None and token is not None and token in found.tokens:
            return list(found.tokens[token])
        self._check(topic, found, entries)

        now_ms = max(1, self._clock())
        if found is None:
            before_first = EntryId(0, 0, self._make_tag())
            found = self._topics[topic] = _Topic(last=before_first)
        ids = []
        for content in entries:
            entry = Entry(found.last.following(now_ms), content)
            found.apply(entry)
            ids.append(entry.id)
        found.snapshot = None
        found.trim(self._retention, now_ms)
        if token is not None:
            found.tokens[token] = tuple(ids)
            if len(found.tokens) > RECENT_TOKENS:
                del found.tokens[next(iter(found.tokens))]
        self._wake(topic)
        return ids

    def read_nowait(
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
        found = self._current(topic)
        if found is None:
            return Page((), ORIGIN, None)
        head = found.head()
        position = after[:2]  # Ids of another topic compare by time alone.
        entries: list[Entry] = []
        for entry in reversed(found.state.values()):
            if entry.id[:2] <= position:
                break
            entries.append(entry)
        start = bisect_right(found.history, position, key=_position)
        if entries:
            entries += found.history[start : start + limit + 1]
            entries.sort(key=_entry_id)
        else:
            entries = found.history[start : start + limit + 1]
        if found.end is not None and found.end.id[:2] > position:
            entries.append(found.end)
        taken = _cut(entries, limit, max_bytes)
        if taken == len(entries):
            return Page(entries, found.last, head)
        return Page(entries[:taken], entries[taken - 1].id, head)

    def snapshot_nowait(self, topic: str) -> Snapshot:
        """Return the state, as :meth:`sselib.log.EventLog.snapshot` says."""
        found = self._current(topic)
        if found is None:
            return Snapshot((), None, None)
        if found.snapshot is None:
            found.snapshot = Snapshot(tuple(found.state.values()), found.end, found.head())
        return found.snapshot

    async def append(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        """Append entries, as :meth:`sselib.log.EventLog.append` says.

        Cancellation: it waits first, so cancelled means not appended.
        """
        await trio.lowlevel.checkpoint()
        return self.append_nowait(topic, entries, token=token)

    async def read(
        self,
        topic: str,
        after: EntryId,
        *,
        limit: int = PAGE_ENTRIES,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        """Return what is owed after an id, as :meth:`sselib.log.EventLog.read` says."""
        await trio.lowlevel.checkpoint()
        return self.read_nowait(topic, after, limit=limit, max_bytes=max_bytes)

    async def snapshot(self, topic: str) -> Snapshot:
        """Return the state, as :meth:`sselib.log.EventLog.snapshot` says."""
        await trio.lowlevel.checkpoint()
        return self.snapshot_nowait(topic)

    async def head(self, topic: str) -> Head | None:
        """Return where the topic stands, as :meth:`sselib.log.EventLog.head` says."""
        await trio.lowlevel.checkpoint()
        found = self._current(topic)
        return None if found is None else found.head()

    async def has(self, topic: str, id: EntryId) -> bool:
        """Return whether this log gave that id, as :meth:`sselib.log.EventLog.has` says."""
        await trio.lowlevel.checkpoint()
        found = self._current(topic)
        return found is not None and id.tag == found.last.tag and found.floor <= id <= found.last

    async def trim(self, topic: str, retention: Retention) -> None:
        """Cut the history down, as :meth:`sselib.log.EventLog.trim` says."""
        await trio.lowlevel.checkpoint()
        found = self._topics.get(topic)
        if found is not None:
            found.trim(retention, self._clock())

    async def delete(self, topic: str) -> None:
        """Forget the topic, as :meth:`sselib.log.EventLog.delete` says."""
        await trio.lowlevel.checkpoint()
        if self._topics.pop(topic, None) is not None:
            self._wake(topic)

    async def topics(self, prefix: str = "") -> list[str]:
        """Return the names of the topics that begin with ``prefix``, sorted."""
        await trio.lowlevel.checkpoint()
        return sorted(name for name in self._topics if name.startswith(prefix))

    def watch(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` after every append and the deletion, before they return."""
        key = object()
        self._watchers.setdefault(topic, {})[key] = wake

        def unwatch() -> None:
            watchers = self._watchers.get(topic, {})
            watchers.pop(key, None)
            if not watchers:
                self._watchers.pop(topic, None)

        return unwatch

    def _wake(self, topic: str) -> None:
        for wake in tuple(self._watchers.get(topic, {}).values()):
            wake()

    def _current(self, topic: str) -> _Topic | None:
        found = self._topics.get(topic)
        if found is not None and self._retention.age is not None:
            found.trim(self._retention, self._clock())
        return found

    def _check(self, topic: str, found: _Topic | None, entries: Sequence[NewEntry]) -> None:
        if found is not None and found.end is not None:
            raise ChannelEnded(topic, str(found.end.id))
        check_append(entries, self._retention)
        state: dict[str, Entry] = {} if found is None else found.state
        if self._max_keys is not None and len(state) + len(entries) > self._max_keys:
            keys = set(state)
            for content in entries:
                if content.clear:
                    keys.clear()
                elif content.remove:
                    keys.discard(content.key or "")
                elif content.key is not None:
                    keys.add(content.key)
            if len(keys) > self._max_keys:
                raise TopicFull(topic, self._max_keys)


def _position(entry: Entry) -> tuple[int, int]:
    return entry.id[:2]


def _cut(entries: Sequence[Entry], limit: int, max_bytes: int) -> int:
    """Return how many of the entries fit, and at least one."""
    size = 0
    for taken, entry in enumerate(entries[:limit]):
        size += len(entry.content.block)
        if size > max_bytes and taken:
            return taken
    return min(limit, len(entries))
