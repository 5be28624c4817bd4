"""The newest entries of one topic, framed for the wire once for all subscribers of a process.

A frame is made when its entry comes in and is shared from then on. An entry that coalesces and is
superseded while it is still in the window becomes nothing, so that a subscriber who is behind is
not sent progress that is already outdated.

What is framed is the entry's own block, or what a channel's ``render`` makes of its event: some
events, or none. It is called where the frame is made, so once for each entry that comes in, and
its events share the entry's id and fate.

The window never differs from the log: it is fed pages of the log in order, and knows the id
before its first entry (``base``) and the id up to which it has asked (``last``). Everything owed
between the two is in it.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol, TypeAlias, get_args

import attrs
import trio

from .codec import EventStreamDecoder, encode
from .events import Comment, ServerSentEvent
from .http1 import encode_chunk
from .log import ORIGIN, Entry, EntryId, Head, Page

Ids: TypeAlias = Literal["none", "end", "all"]
"""Which entries say their id on the wire: none, the end entry alone, all."""

IDS: Final[tuple[str, ...]] = get_args(Ids)

Render: TypeAlias = Callable[[ServerSentEvent], Iterable[ServerSentEvent]]
"""Returns the events that subscribers are given for one that was published: some, or none.

It is pure: the same events for the same one, and no error. One that is raised all the same is in
the log ``sselib``, and its entry is rendered to nothing: publishers have no part in what readers
make of their events.
"""

_logger: Final = logging.getLogger("sselib")

_ALL: Final = IDS.index("all")


class Frame:
    """An entry as bytes for the wire.

    Attributes:
        id: The entry's id; ``None`` for a notice that no log holds.
        is_end: Whether it is the end entry.
        wire: The bytes, one for each of :data:`IDS` in their order. They are empty if the entry
            was rendered to nothing, and once it is owed to nobody.
    """

    __slots__ = ("_events", "id", "is_end", "key", "wire")

    def __init__(self, entry: Entry, *, says: EntryId | None, render: Render | None = None) -> None:
        """Frame an entry that says ``says`` as its id: its own, the head's in a snapshot, none.

        Of several events that it is rendered to, the last one says it.
        """
        before, block = b"", entry.content.block
        if render is not None:
            *others, block = [b"", *_rendered(render, block)]
            before = b"".join(others)
        bare = before + block
        framed = bare
        if says is not None and block:
            framed = before + f"id: {says}\n".encode() + block
        self.id: EntryId | None = entry.id
        self.key = entry.content.key
        self.is_end = entry.content.end
        self.wire = (bare, framed if self.is_end else bare, framed)
        self._events: tuple[ServerSentEvent, ...] | None = None

    @classmethod
    def of_notice(cls, item: ServerSentEvent | Comment) -> Frame:
        """Frame what is said to one subscriber alone; an event makes clients forget their id."""
        frame = cls.__new__(cls)
        bare = encode(item)
        forgetting = (
            encode(attrs.evolve(item, id="")) if isinstance(item, ServerSentEvent) else bare
        )
        frame.id = None
        frame.key = None
        frame.is_end = False
        frame.wire = (bare, bare, forgetting)
        frame._events = None  # noqa: SLF001 # it is a constructor
        return frame

    def read(self) -> tuple[ServerSentEvent, ...]:
        """Return the events that a client reads from this frame, ids and all."""
        if self._events is None:
            decoder = EventStreamDecoder(max_event_bytes=None)
            self._events = tuple(decoder.feed(self.wire[_ALL]))
        return self._events

    def vanish(self) -> None:
        """Become nothing, for everybody who has not been given it yet."""
        self.wire = (b"", b"", b"")
        self._events = None


class Listener(Protocol):
    """What waits for more without a task."""

    def tell(self) -> None:
        """Take notice that there may be more. It is not told again unless it asks again."""
        ...


class Batch:
    """Some frames as they are written, all together.

    Attributes:
        place: The number of the first of them, the mode and the limit that they were asked for by.
        data: Their bytes.
        number: The number behind the last of them.
        after: The id up to which who is given them has been given everything.
        given: How many of them are owed to somebody.
        is_end: The last of them is the topic's end.
    """

    __slots__ = ("_chunk", "after", "data", "given", "is_end", "number", "place")

    def __init__(
        self,
        data: bytes,
        *,
        place: tuple[int, int, int] | None = None,
        number: int = 0,
        after: EntryId = ORIGIN,
        given: int = 0,
        is_end: bool = False,
    ) -> None:
        self.data = data
        self.place = place
        self.number = number
        self.after = after
        self.given = given
        self.is_end = is_end
        self._chunk: bytes | None = None

    def chunk(self) -> bytes:
        """Return the bytes as one chunk of a chunked body, made once."""
        if self._chunk is None:
            self._chunk = encode_chunk(self.data)
        return self._chunk


_NO_BATCH: Final = Batch(b"")


class Window:
    """A bounded run of frames, numbered from the first that was ever in it.

    Args:
        max_entries: The most frames. ``None`` lifts the bound.
        max_bytes: The most bytes of frames. ``None`` lifts the bound.
        render: What to frame instead of the entries' own events.

    Attributes:
        base: The id before the first frame; ``None`` until :meth:`start`.
        last: The id up to which the log has been read.
        first: The number of the first frame.
        frames: The frames.
        size: Their bytes.
        waiting: Who waits for more, and the task that does. (A parking lot cannot wake one alone.)
        listening: Who waits for more, and the listener that is told.
        batch_made: The last batch that was made of all there was, as long as that is all there is:
            most subscribers are at the same place as the one before them.
    """

    def __init__(
        self, *, max_entries: int | None, max_bytes: int | None, render: Render | None = None
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._render = render
        self.base: EntryId | None = None
        self.last = ORIGIN
        self.first = 0
        self.frames: list[Frame] = []
        self.size = 0
        self.waiting: dict[object, trio.lowlevel.Task] = {}
        self.listening: dict[object, Listener] = {}
        self.batch_made = _NO_BATCH
        self._ids: list[EntryId] = []
        self._coalescing: dict[str, Frame] = {}

    def start(self, last: EntryId) -> None:
        """Begin after ``last``, empty."""
        self.base = self.last = last

    def wake(self) -> None:
        """Have everybody look who waits for more."""
        for task in self.waiting.values():
            trio.lowlevel.reschedule(task)
        self.waiting.clear()
        listening, self.listening = self.listening, {}
        for listener in listening.values():
            listener.tell()

    def batch(self, start: int, stop: int, mode: int, limit: int) -> Batch:
        """Return the frames from one number on to before another, as many as fit, at least one.

        Args:
            start: The number of the first.
            stop: The number before which to stop.
            mode: The place in :data:`IDS` of which of them say their id.
            limit: The most bytes, if it is more than one frame.
        """
        pieces: list[bytes] = []
        size = 0
        number = start
        for frame in self.frames[start - self.first : stop - self.first]:
            piece = frame.wire[mode]
            size += len(piece)
            if size > limit and pieces:
                break
            if piece:
                pieces.append(piece)
            number += 1
        end = self.first + len(self.frames)
        batch = Batch(
            pieces[0] if len(pieces) == 1 else b"".join(pieces),
            place=(start, mode, limit),
            number=number,
            after=self.last if number == end else self.id_at(number - 1),
            given=len(pieces),
            is_end=self.frames[number - 1 - self.first].is_end,
        )
        if stop == end and pieces:
            self.batch_made = batch
        return batch

    def frame(self, entry: Entry, *, says: EntryId | None) -> Frame:
        """Frame an entry as those in the window are."""
        return Frame(entry, says=says, render=self._render)

    def number_after(self, id: EntryId) -> int | None:
        """Return the number of the first frame after ``id``.

        ``None`` if the window cannot say: ``id`` is older than it, or it has not come that far,
        or they are of different topics.
        """
        if self.base is None or not self.base <= id <= self.last or self.is_foreign(id):
            return None
        return self.first + bisect_right(self._ids, id)

    def is_foreign(self, id: EntryId) -> bool:
        """Return whether ``id`` is of another topic than what is in here, or once was."""
        return self.last > ORIGIN and id.is_foreign_to(self.last)

    def id_at(self, number: int) -> EntryId:
        """Return the id of the frame with that number."""
        return self._ids[number - self.first]

    def feed(self, page: Page, head: Head) -> None:
        """Take the page that the log gave for what comes after ``last``."""
        self.batch_made = _NO_BATCH
        if head.floor > self.last:
            # Entries have gone that were never seen here. Whoever is owed them finds out from
            # the log, since its cursor is now older than the window.
            self._drop(len(self.frames))
            self.first += 1  # for what is missing: nobody's next frame is the first after it
            self.base = self.last = head.floor
        for entry in page.entries:
            if entry.id > self.last:
                self._add(entry)
        self.last = max(self.last, page.upto)

    def _add(self, entry: Entry) -> None:
        content = entry.content
        frame = self.frame(entry, says=entry.id)
        if content.clear:
            for superseded in self._coalescing.values():
                self._vanish(superseded)
            self._coalescing.clear()
        elif content.key is not None:
            previous = self._coalescing.pop(content.key, None)
            if previous is not None:
                self._vanish(previous)
            if content.coalesce:
                self._coalescing[content.key] = frame
        self.frames.append(frame)
        self._ids.append(entry.id)
        self.size += len(frame.wire[_ALL])

        excess = 0
        size = self.size
        if self._max_entries is not None and len(self.frames) > self._max_entries:
            size -= len(self.frames[0].wire[_ALL])
            excess = 1
        if self._max_bytes is not None:
            while size > self._max_bytes:
                size -= len(self.frames[excess].wire[_ALL])
                excess += 1
        if excess:
            self._drop(excess)

    def _vanish(self, frame: Frame) -> None:
        self.size -= len(frame.wire[_ALL])
        frame.vanish()

    def _drop(self, count: int) -> None:
        for frame in self.frames[:count]:
            self.size -= len(frame.wire[_ALL])
            if frame.key is not None and self._coalescing.get(frame.key) is frame:
                del self._coalescing[frame.key]
            self.base = frame.id
        self.first += count
        del self.frames[:count]
        del self._ids[:count]


def _rendered(render: Render, block: bytes) -> list[bytes]:
    """Return the blocks of the events that an entry is rendered to."""
    (event,) = EventStreamDecoder(max_event_bytes=None).feed(block)
    try:
        return [_encode_bare(each) for each in render(event)]
    except Exception:
        _logger.exception("an event of the type %r could not be rendered", event.event)
        return []


def _encode_bare(event: ServerSentEvent) -> bytes:
    if event.id is not None or event.retry is not None:
        raise ValueError(f"render may give events no id and no retry: {event!r}")
    return encode(event)
