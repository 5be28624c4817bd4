"""What a transaction on the file of a SQLite log can do, without threads and without waiting.

Every stored entry stands in one table in the order of its topic, and says in which of three
places it is: history, state or end. So a read is one range of that table, a superseded entry
changes its place and not its row, and what can no longer be had is simply not there.

Texts that users choose (names of topics, keys, tokens) are stored as bytes, since not every string
of Python has a UTF-8 form. Their order is that of the strings.
"""

# ruff: noqa: S608 # statements are put together from constants, and values are bound

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from ...errors import ChannelEnded, TopicFull
from .. import (
    ORIGIN,
    RECENT_TOKENS,
    Entry,
    EntryId,
    Head,
    NewEntry,
    Page,
    Retention,
    Snapshot,
    check_append,
)
from .file import END, HISTORY, STATE

# What an entry says about keys, in bits.
_COALESCE: Final = 1
_REMOVE: Final = 2
_CLEAR: Final = 4

_COLUMNS: Final = "ms, seq, place, key, says, block"
_TOPIC: Final = (
    "number, tag, last_ms, last_seq, floor_ms, floor_seq, ended, entries, size, keys, tokens"
)


@attrs.define(eq=False)
class _Topic:
    number: int
    last: EntryId
    floor: EntryId
    ended: bool
    entries: int  # of the history
    size: int
    keys: int
    tokens: int

    @classmethod
    def find(cls, db: sqlite3.Connection, name: str) -> _Topic | None:
        row = db.execute(f"SELECT {_TOPIC} FROM topic WHERE name = ?", (_bytes(name),)).fetchone()
        if row is None:
            return None
        number, tag, last_ms, last_seq, floor_ms, floor_seq, ended, *counts = row
        floor = EntryId(floor_ms, floor_seq, tag) if floor_ms else ORIGIN
        return cls(number, EntryId(last_ms, last_seq, tag), floor, bool(ended), *counts)

    def head(self) -> Head:
        return Head(self.floor, self.last, self.last if self.ended else None)


class Reading:
    """What a reading transaction can do.

    Args:
        db: The connection, in a transaction.
        oldest_ms: What of a history is older counts as gone. ``None``: nothing does.
    """

    def __init__(self, db: sqlite3.Connection, oldest_ms: float | None = None) -> None:
        self._db = db
        self._oldest_ms = oldest_ms

    def read(self, name: str, after: EntryId, limit: int, max_bytes: int) -> Page:
        """Return what is owed after an id, as :meth:`sselib.log.EventLog.read` says."""
        topic = self._find(name)
        if topic is None:
            return Page((), ORIGIN, None)
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM entry WHERE topic = ? AND (ms, seq) > (?, ?)"
            f" AND (place != {HISTORY} OR (ms, seq) > (?, ?)) ORDER BY ms, seq LIMIT ?",
            # Ids of another topic compare by time alone.
            (topic.number, *after[:2], *topic.floor[:2], limit + 1),
        )
        entries: list[Entry] = []
        size = 0
        for row in rows:
            entry = _entry(topic, row)
            size += len(entry.content.block)
            if len(entries) == limit or (entries and size > max_bytes):
                rows.close()
                return Page(entries, entries[-1].id, topic.head())
            entries.append(entry)
        return Page(entries, topic.last, topic.head())

    def snapshot(self, name: str) -> Snapshot:
        """Return the state, as :meth:`sselib.log.EventLog.snapshot` says."""
        topic = self._find(name)
        if topic is None:
            return Snapshot((), None, None)
        state = self._db.execute(
            f"SELECT {_COLUMNS} FROM entry INDEXED BY entry_key"
            f" WHERE topic = ? AND place = {STATE} ORDER BY ms, seq",
            (topic.number,),
        )
        entries = [_entry(topic, row) for row in state]
        end = None
        if topic.ended:
            last = self._db.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE topic = ? AND ms = ? AND seq = ?",
                (topic.number, *topic.last[:2]),
            )
            end = _entry(topic, last.fetchone())
        return Snapshot(tuple(entries), end, topic.head())

    def head(self, name: str) -> Head | None:
        """Return where a topic stands, as :meth:`sselib.log.EventLog.head` says."""
        topic = self._find(name)
        return None if topic is None else topic.head()

    def names(self, prefix: str) -> list[str]:
        """Return the names of topics, as :meth:`sselib.log.EventLog.topics` says."""
        start = _bytes(prefix)
        rows = self._db.execute(
            # No byte of UTF-8 is as large as 255.
            "SELECT name FROM topic WHERE name >= ? AND name < ? ORDER BY name",
            (start, start + b"\xff"),
        )
        return [_text(name) for (name,) in rows]

    def changes(self, since: int | None) -> tuple[int, dict[str, int] | None]:
        """Return the number of the last change, and that of each topic changed after ``since``.

        ``None`` says that it cannot be told which: a deleted topic has no number.
        """
        number, deleted = self._db.execute("SELECT changes, deleted FROM log").fetchone()
        if since is None or deleted > since:
            return number, None
        if number == since:
            return number, {}
        rows = self._db.execute("SELECT name, changed FROM topic WHERE changed > ?", (since,))
        return number, {_text(name): changed for name, changed in rows}

    def _find(self, name: str) -> _Topic | None:
        topic = _Topic.find(self._db, name)
        if topic is not None and self._oldest_ms is not None:
            gone = self._db.execute(
                f"SELECT ms, seq FROM entry INDEXED BY entry_history WHERE topic = ?"
                f" AND place = {HISTORY} AND ms < ? ORDER BY ms DESC, seq DESC LIMIT 1",
                (topic.number, self._oldest_ms),
            ).fetchone()
            if gone is not None:
                ms, seq = gone
                topic.floor = EntryId(ms, seq, topic.last.tag)
        return topic


class Writing:
    """What a writing transaction can do. What it refuses, it has not begun.

    Args:
        db: The connection, in a transaction.
        retention: How much history a topic keeps.
        max_keys: The most live keys of a topic.
        clock: Returns milliseconds since the epoch.
        make_tag: Returns the tag of a new topic.

    Attributes:
        number: What this change counts as, if anything changes.
        changed: The topics that were changed or deleted.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        retention: Retention,
        max_keys: int | None,
        clock: Callable[[], int],
        make_tag: Callable[[], str],
    ) -> None:
        self._db = db
        self._retention = retention
        self._max_keys = max_keys
        self._clock = clock
        self._make_tag = make_tag
        (changes,) = db.execute("SELECT changes FROM log").fetchone()
        self.number: int = changes + 1
        self.changed: set[str] = set()

    def append(self, name: str, entries: Sequence[NewEntry], token: str | None) -> list[EntryId]:
        """Append entries, as :meth:`sselib.log.EventLog.append` says."""
        topic = _Topic.find(self._db, name)
        if topic is not None and token is not None:
            known = self._db.execute(
                "SELECT ms, seq, count FROM token WHERE topic = ? AND token = ?",
                (topic.number, _bytes(token)),
            ).fetchone()
            if known is not None:
                ms, seq, count = known
                return [EntryId(ms, seq + more, topic.last.tag) for more in range(count)]
        if topic is not None and topic.ended:
            raise ChannelEnded(name, str(topic.last))
        check_append(entries, self._retention)
        keys = self._keys_after(topic, entries)
        if self._max_keys is not None and keys > self._max_keys:
            raise TopicFull(name, self._max_keys)

        now_ms = max(1, self._clock())
        if topic is None:
            topic = self._make(name)
        # One append is of one millisecond, and its entries are numbered without a hole.
        ids = []
        for content in entries:
            topic.last = topic.last.following(now_ms)
            self._apply(topic, content)
            ids.append(topic.last)
        topic.keys = keys
        self._trim(topic, self._retention, now_ms)
        if token is not None:
            self._remember(topic, token, ids)
        self._update(name, topic)
        return ids

    def trim(self, name: str, retention: Retention) -> None:
        """Cut the history of a topic down, as :meth:`sselib.log.EventLog.trim` says."""
        topic = _Topic.find(self._db, name)
        if topic is not None:
            self._trim(topic, retention, self._clock())
            self._update(name, topic)

    def delete(self, name: str) -> None:
        """Forget a topic, as :meth:`sselib.log.EventLog.delete` says."""
        topic = _Topic.find(self._db, name)
        if topic is None:
            return
        for table in ("entry", "token"):
            self._db.execute(f"DELETE FROM {table} WHERE topic = ?", (topic.number,))
        self._db.execute("DELETE FROM topic WHERE number = ?", (topic.number,))
        self._db.execute("UPDATE log SET deleted = ?", (self.number,))
        self.changed.add(name)

    def finish(self) -> None:
        """Count the change, so that other processes see it."""
        if self.changed:
            self._db.execute("UPDATE log SET changes = ?", (self.number,))

    def _make(self, name: str) -> _Topic:
        tag = self._make_tag()
        made = self._db.execute(
            "INSERT INTO topic VALUES (NULL, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
            (_bytes(name), tag),
        )
        assert made.lastrowid is not None
        return _Topic(made.lastrowid, EntryId(0, 0, tag), ORIGIN, False, 0, 0, 0, 0)  # noqa: FBT003 # a row, in the order of its columns

    def _update(self, name: str, topic: _Topic) -> None:
        self._db.execute(
            "UPDATE topic SET last_ms = ?, last_seq = ?, floor_ms = ?, floor_seq = ?, ended = ?,"
            " entries = ?, size = ?, keys = ?, tokens = ?, changed = ? WHERE number = ?",
            (
                *(*topic.last[:2], *topic.floor[:2], topic.ended, topic.entries, topic.size),
                *(topic.keys, topic.tokens, self.number, topic.number),
            ),
        )
        self.changed.add(name)

    def _keys_after(self, topic: _Topic | None, entries: Sequence[NewEntry]) -> int:
        count = 0 if topic is None else topic.keys
        live: dict[str, bool] = {}
        for content in entries:
            if content.clear:
                count = 0
            elif content.key is not None:
                key = content.key
                was_live = live.get(key)
                if was_live is None:
                    was_live = topic is not None and self._state(topic, key) is not None
                live[key] = not content.remove
                count += live[key] - was_live
        return count

    def _state(self, topic: _Topic, key: str) -> tuple[int, int, int, int] | None:
        row: tuple[int, int, int, int] | None = self._db.execute(
            "SELECT ms, seq, says, length(block) FROM entry INDEXED BY entry_key"
            f" WHERE topic = ? AND place = {STATE} AND key = ?",
            (topic.number, _bytes(key)),
        ).fetchone()
        return row

    def _apply(self, topic: _Topic, content: NewEntry) -> None:
        place = HISTORY
        key = None
        if content.end:
            place = END
            topic.ended = True
            if content.clear:
                self._clear(topic)
        elif content.key is not None:
            key = _bytes(content.key)
            old = self._state(topic, content.key)
            if old is not None:
                self._supersede(topic, *old)
            if not content.remove:
                place = STATE
        if place == HISTORY:
            topic.entries += 1
            topic.size += len(content.block)
        says = _COALESCE * content.coalesce | _REMOVE * content.remove | _CLEAR * content.clear
        self._db.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)",
            (topic.number, *topic.last[:2], place, key, says, content.block),
        )

    def _supersede(self, topic: _Topic, ms: int, seq: int, says: int, size: int) -> None:
        # Before the floor nobody who can resume is owed it, and a gap is told anyway.
        if says & _COALESCE or (ms, seq) <= topic.floor[:2]:
            change = "DELETE FROM entry"
        else:
            change = f"UPDATE entry SET place = {HISTORY}"
            topic.entries += 1
            topic.size += size
        self._db.execute(
            f"{change} WHERE topic = ? AND ms = ? AND seq = ?", (topic.number, ms, seq)
        )

    def _clear(self, topic: _Topic) -> None:
        state = self._db.execute(
            "SELECT ms, seq, says, length(block) FROM entry INDEXED BY entry_key"
            f" WHERE topic = ? AND place = {STATE}",
            (topic.number,),
        ).fetchall()
        for old in state:
            self._supersede(topic, *old)

    def _trim(self, topic: _Topic, retention: Retention, now_ms: int) -> None:
        oldest_ms = None if retention.age is None else now_ms - retention.age * 1000
        oldest = self._db.execute(
            "SELECT ms, seq, length(block) FROM entry INDEXED BY entry_history"
            f" WHERE topic = ? AND place = {HISTORY} ORDER BY ms, seq",
            (topic.number,),
        )
        last_gone = None
        for ms, seq, size in oldest:
            too_many = retention.entries is not None and topic.entries > retention.entries
            too_large = retention.size is not None and topic.size > retention.size
            too_old = oldest_ms is not None and ms < oldest_ms
            if not (too_many or too_large or too_old):
                break
            topic.entries -= 1
            topic.size -= size
            last_gone = EntryId(ms, seq, topic.last.tag)
        oldest.close()
        if last_gone is not None:
            topic.floor = last_gone
            self._db.execute(
                "DELETE FROM entry INDEXED BY entry_history"
                f" WHERE topic = ? AND place = {HISTORY} AND (ms, seq) <= (?, ?)",
                (topic.number, *last_gone[:2]),
            )

    def _remember(self, topic: _Topic, token: str, ids: Sequence[EntryId]) -> None:
        topic.tokens += 1
        self._db.execute(
            "INSERT INTO token VALUES (?, ?, ?, ?, ?, ?)",
            (topic.number, _bytes(token), topic.tokens, *ids[0][:2], len(ids)),
        )
        self._db.execute(
            "DELETE FROM token WHERE topic = ? AND number <= ?",
            (topic.number, topic.tokens - RECENT_TOKENS),
        )


def _entry(topic: _Topic, row: tuple[int, int, int, bytes | None, int, bytes]) -> Entry:
    ms, seq, place, key, says, block = row
    content = NewEntry(
        block,
        key=None if key is None else _text(key),
        coalesce=bool(says & _COALESCE),
        remove=bool(says & _REMOVE),
        end=place == END,
        clear=bool(says & _CLEAR),
    )
    return Entry(EntryId(ms, seq, topic.last.tag), content)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogatepass")
