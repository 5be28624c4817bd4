"""What a log is: ordered entries per topic, from which superseded ones may go.

A topic stores four things, and everything above is a way of reading them:

* the **state**: the latest entry of each live key;
* the **history**: the entries that somebody may still be owed and that are not in the state,
  bounded by a :class:`Retention`;
* the **floor**: the newest owed entry that nobody can have any more. Who has seen everything up
  to the floor or to any later entry can be given all that it is owed;
* the **end** entry, after which nothing can be appended.

An entry is *owed* to everybody who has not seen it, with one exception: an entry with
``coalesce=True`` that another entry of its key has superseded is owed to nobody, and goes.

**Ids.** An entry's id is ``<tag>-<ms>-<seq>``. ``<ms>-<seq>`` is a hybrid logical clock: the wall
clock in milliseconds, held at the last entry's when that is later, and a count within one
millisecond. The log makes it inside its own write, so that the order of ids is the order in which
entries become visible, over processes and over a clock that is set back. ``<tag>`` is a short
random token made with the topic. It keeps an id of another topic, of one that was deleted and made
anew, or of a process that is gone from being taken for an id of this one. Clients treat ids as
opaque. They are no secret and grant nothing.

The protocols here know nothing of HTTP, and nothing above them knows which log lies beneath.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

import attrs

from ..codec import encode
from ..events import ServerSentEvent

# A browser that comes back after seconds finds what it missed; Redis Streams users and
# better-sse's buffer keep about as many.
DEFAULT_HISTORY_ENTRIES: Final = 1000
DEFAULT_HISTORY_BYTES: Final = 8 * 1024 * 1024
DEFAULT_MAX_KEYS: Final = 10_000

# Repeated appends are known by as many tokens per topic. A publisher repeats within seconds.
RECENT_TOKENS: Final = 1000

# One page of a read: enough that the cost of asking vanishes, little enough to hold per reader.
PAGE_ENTRIES: Final = 256
PAGE_BYTES: Final = 64 * 1024

_TAG_BYTES: Final = 4  # Of two topics that a client could confuse, one in four billion pairs agree.

# Fifteen digits of milliseconds last for 30,000 years, and no digit string may cost time to read.
_ID: Final = re.compile(r"([0-9a-zA-Z]{1,32})-(0|[1-9][0-9]{0,14})-(0|[1-9][0-9]{0,14})", re.ASCII)

GapReason = Literal["trimmed", "ahead", "rewritten", "foreign", "unreadable"]


class EntryId(NamedTuple):
    """An entry's id. Ids of one topic compare in the order of its entries.

    Attributes:
        ms: Milliseconds since the epoch.
        seq: The count within that millisecond.
        tag: The token of the topic.
    """

    ms: int
    seq: int
    tag: str

    def __str__(self) -> str:
        return f"{self.tag}-{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> EntryId | None:
        """Return the id that ``text`` is the one form of, or ``None`` if it is none."""
        found = _ID.fullmatch(text)
        if found is None:
            return None
        tag, ms, seq = found.groups()
        return cls(int(ms), int(seq), tag)

    def is_foreign_to(self, other: EntryId) -> bool:
        """Return whether the two belong to different topics. ``ORIGIN`` belongs to every one."""
        return bool(self.tag) and self.tag != other.tag

    def following(self, now_ms: int) -> EntryId:
        """Return the id of the entry after this one, made at ``now_ms``."""
        if now_ms > self.ms:
            return EntryId(now_ms, 0, self.tag)
        return EntryId(self.ms, self.seq + 1, self.tag)


ORIGIN: Final = EntryId(0, 0, "")
"""Before every entry of every topic."""


@attrs.frozen
class NewEntry:
    """What is appended: a block and what it says about keys.

    Args:
        block: The event's encoded lines with the blank line, without ``id``.
        key: The entry supersedes the earlier entry of this key and becomes part of the state.
        coalesce: Once superseded, it is owed to nobody: for progress, not for transitions.
        remove: The key ends with this entry, which is itself owed but not part of the state.
        end: The last entry of the topic.
        clear: Every key ends with it, so that who joins later is given this entry alone.

    Raises:
        ValueError: A combination that says nothing: ``coalesce`` or ``remove`` without a key,
            both of them, ``end`` with a key, ``clear`` without ``end``.
    """

    block: bytes
    key: str | None = attrs.field(default=None, kw_only=True)
    coalesce: bool = attrs.field(default=False, kw_only=True)
    remove: bool = attrs.field(default=False, kw_only=True)
    end: bool = attrs.field(default=False, kw_only=True)
    clear: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.block, bytes):
            raise TypeError(f"block must be bytes, not {type(self.block).__name__}")
        if self.key is not None:
            if not isinstance(self.key, str):
                raise TypeError(f"key must be a str or None: {self.key!r}")
            if self.end:
                raise ValueError(f"an end entry may not have a key: {self.key!r}")
            if self.coalesce and self.remove:
                raise ValueError(f"an entry that removes its key may not coalesce: {self.key!r}")
        elif self.coalesce or self.remove:
            raise ValueError("coalesce and remove need a key")
        if self.clear and not self.end:
            raise ValueError("clear needs end")

    @classmethod
    def of(
        cls,
        event: ServerSentEvent,
        *,
        key: str | None = None,
        coalesce: bool = False,
        remove: bool = False,
        end: bool = False,
        clear: bool = False,
    ) -> NewEntry:
        """Encode an event into an entry.

        Raises:
            TypeError: It is not a :class:`sselib.ServerSentEvent`.
            ValueError: It has an ``id``, which the log gives, or a ``retry``, which belongs to
                the policy of a stream; or what the class refuses.
        """
        if not isinstance(event, ServerSentEvent):
            raise TypeError(f"only a ServerSentEvent can be published: {event!r}")
        if event.id is not None:
            raise ValueError(f"an event to publish may not have an id: {event.id!r}")
        if event.retry is not None:
            raise ValueError(f"an event to publish may not have a retry: {event.retry}")
        return cls(encode(event), key=key, coalesce=coalesce, remove=remove, end=end, clear=clear)


class Entry(NamedTuple):
    """An entry as a log has it."""

    id: EntryId
    content: NewEntry


@attrs.frozen
class Head:
    """Where a topic stands.

    Attributes:
        floor: The newest owed entry that nobody can have any more; ``ORIGIN`` if there is none.
        last: The newest entry, of any kind.
        end: The end entry, if there is one: then it is ``last``.
    """

    floor: EntryId
    last: EntryId
    end: EntryId | None


@attrs.frozen
class Page:
    """What a read found, in one atomic step.

    Attributes:
        entries: Owed entries after the one asked for, in order, the oldest first.
        upto: Nothing else is owed up to this id: the last entry of a page that was cut, the
            topic's last otherwise.
        head: Where the topic stood; ``None`` if there was no such topic.
    """

    entries: Sequence[Entry]
    upto: EntryId
    head: Head | None


@attrs.frozen
class Snapshot:
    """The state of a topic, in one atomic step.

    Attributes:
        entries: The latest entry of each live key, in order.
        end: The end entry, if there is one.
        head: Where the topic stood; ``None`` if there was no such topic.
    """

    entries: Sequence[Entry]
    end: Entry | None
    head: Head | None


@attrs.frozen(kw_only=True)
class Retention:
    """How much history a topic keeps. The oldest goes first; ``None`` lifts a bound.

    One append may be no larger than these bounds.

    Args:
        entries: The most entries.
        size: The most bytes of their blocks.
        age: Seconds after which an entry goes.

    Raises:
        ValueError: A bound that is not positive.
    """

    entries: int | None = DEFAULT_HISTORY_ENTRIES
    size: int | None = DEFAULT_HISTORY_BYTES
    age: float | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("entries", "size", "age"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, or None for no bound: {value!r}")


def check_append(entries: Sequence[NewEntry], retention: Retention) -> None:
    """Check what can be said of an append without looking at its topic.

    Raises:
        ValueError: As :meth:`EventLog.append`.
    """
    if not entries:
        raise ValueError("append takes at least one entry")
    if any(content.end for content in entries[:-1]):
        raise ValueError("an end entry must be the last of its append")
    if retention.entries is not None and len(entries) > retention.entries:
        raise ValueError(
            f"append of {len(entries)} entries: the history holds at most {retention.entries}"
        )
    size = sum(len(content.block) for content in entries)
    if retention.size is not None and size > retention.size:
        raise ValueError(f"append of {size} bytes: the history holds at most {retention.size}")


def wall_clock_ms() -> int:
    """Return the milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def random_tag() -> str:
    """Return a tag for a new topic."""
    return secrets.token_hex(_TAG_BYTES)


class EventLog(Protocol):
    """Entries per topic, kept somewhere. This is the contract that an implementer has to meet.

    Every method is one atomic step: what it returns was true at one moment, and what it refuses
    has changed nothing. Reading never creates a topic. Topic names are any strings.
    """

    async def append(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        """Append entries, all of them or none, and return their ids once they are stored.

        The first append makes the topic. With a token that a recent append to this topic had,
        nothing is appended and the ids of that one are returned, even if the topic has ended.

        Raises:
            ValueError: No entries, an end that is not the last of them, or more than the
                topic's history may hold.
            ChannelEnded: The topic has an end.
            TopicFull: There would be more live keys than a topic may have.
            LogUnavailable: It could not be stored.

        Cancellation: appended or not; a log that acknowledges from afar cannot say which. Repeat
        it with the same token to be sure.
        """
        ...

    async def read(
        self,
        topic: str,
        after: EntryId,
        *,
        limit: int = PAGE_ENTRIES,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        """Return what is owed after an id, at most ``limit`` entries and ``max_bytes`` of blocks.

        There is always at least one entry if there is any. Whether the topic still has the tag
        of ``after``, and all that is owed after it, stands in the page's head.
        """
        ...

    async def snapshot(self, topic: str) -> Snapshot:
        """Return the state."""
        ...

    async def head(self, topic: str) -> Head | None:
        """Return where the topic stands; ``None`` if there is no such topic."""
        ...

    async def has(self, topic: str, id: EntryId) -> bool:
        """Return whether this log gave that id, and has not lost anything since.

        It is asked only for ids of the topic's tag between its floor and its last. A log that
        never loses its tail can say yes to all of these.
        """
        ...

    async def trim(self, topic: str, retention: Retention) -> None:
        """Cut the history down to ``retention``, once. The state and the end stay."""
        ...

    async def delete(self, topic: str) -> None:
        """Forget the topic, if there is one. A later append makes a new one with another tag."""
        ...

    async def topics(self, prefix: str = "") -> list[str]:
        """Return the names of the topics that begin with ``prefix``, sorted."""
        ...

    def watch(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` whenever the topic may have changed, until the returned function is called.

        After an append that is visible to ``read``, or a ``delete``, ``wake`` is called at least
        once, in the Trio thread. It carries nothing, may come too often, and is called once more
        whenever a watch that was interrupted stands again. So a watcher that reads after each
        call misses nothing. ``wake`` returns at once and never raises.
        """
        ...


@runtime_checkable
class LocalEventLog(EventLog, Protocol):
    """A log of this process, which never has to wait: each method also comes in a sync form."""

    def append_nowait(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        """As :meth:`EventLog.append`."""
        ...

    def read_nowait(
        self,
        topic: str,
        after: EntryId,
        *,
        limit: int = PAGE_ENTRIES,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        """As :meth:`EventLog.read`."""
        ...


@attrs.frozen
class Resumption:
    """What becomes of a subscriber who brings a last event ID.

    Attributes:
        outcome: ``fresh``: it brought none. ``resumed``: it is given what it is owed.
            ``gap``: that cannot be told any more, and it is treated as a joiner.
        reason: Of a gap. ``trimmed``: entries it is owed are gone. ``ahead``: the log has not
            come that far. ``rewritten``: the log lost that entry. ``foreign``: an id of another
            topic, or of one that is gone. ``unreadable``: no id at all.
        after: Where a resumed subscriber stands.
        last: Where its topic stood then.
        at_end: It has seen the end entry: there is nothing to come, ever.
    """

    outcome: Literal["fresh", "resumed", "gap"]
    reason: GapReason | None = None
    after: EntryId | None = None
    last: EntryId | None = None
    at_end: bool = False


FRESH: Final = Resumption("fresh")


async def resume(log: EventLog, topic: str, last_event_id: str) -> Resumption:
    """Ask a log what becomes of a subscriber who brings this last event ID.

    ``""``, which is what a client holds that was never given an id, is fresh.

    Cancellation: it only reads.

    Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#the-last-event-id-header
    """
    head = await log.head(topic)
    if not last_event_id:
        return FRESH
    after = EntryId.parse(last_event_id)
    if after is None:
        return Resumption("gap", "unreadable")
    if head is None or after.tag != head.last.tag:
        return Resumption("gap", "foreign")
    if after < head.floor:
        return Resumption("gap", "trimmed")
    if after > head.last:
        return Resumption("gap", "ahead")
    if not await log.has(topic, after):
        return Resumption("gap", "rewritten")
    return Resumption("resumed", after=after, last=head.last, at_end=after == head.end)
