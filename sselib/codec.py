"""Events to bytes and bytes to events, without I/O.

Writing is one function, since a value has been checked when it was made. Reading is a class that
is fed whatever chunks arrive and gives back the events that are complete.

The decoder works on bytes and not on text: only CR and LF end a line, no UTF-8 sequence contains
either, and a sequence that a line end cuts short is replaced the same way whether one decodes the
line or the stream. So lines are split first, and only the three values of an event are decoded. A
chunk is looked at once. What of it does not end in a line end is appended to one buffer and not
looked at again before its line end arrives: time is linear in the input, however it is cut.

Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from .errors import EventTooLarge
from .events import Comment, ServerSentEvent, event_from_wire

# One event of a remote peer. Browsers have no bound and a JSON document of a megabyte is already
# rare; Kafka and NATS bound a message at the same size by default.
DEFAULT_MAX_EVENT_BYTES: Final = 1_048_576

_BOM: Final = b"\xef\xbb\xbf"


def encode(item: ServerSentEvent | Comment) -> bytes:
    r"""Return the block of an event or a comment, with the blank line that ends it.

    ``encode(ServerSentEvent("1\n2", event="tick"))`` is
    ``b"event: tick\ndata: 1\ndata: 2\n\n"``, from which a reader gets the event type ``tick``
    and the data ``1\n2``. ``encode(Comment("keepalive"))`` is ``b": keepalive\n\n"``.

    Whatever an event holds, a fresh decoder gets exactly one event from its block: the same data
    with LF for every line break, ``event or "message"`` and ``id or ""``.

    Raises:
        TypeError: ``item`` is neither.
    """
    if isinstance(item, ServerSentEvent):
        data, event, id, retry = item.data, item.event, item.id, item.retry
        if "\r" in data:
            data = data.replace("\r\n", "\n").replace("\r", "\n")
        if "\n" in data:
            data = data.replace("\n", "\ndata: ")
        # Concatenated and not formatted: an enum of strings or ints formats as its name.
        text = "data: " + data + "\n\n"
        if event is not None:
            text = "event: " + event + "\n" + text
        if id is not None:
            text = "id: " + id + "\n" + text
        if retry is not None:
            text = "retry: " + int.__repr__(retry) + "\n" + text
        return text.encode()
    if isinstance(item, Comment):
        lines = item.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return "".join([": " + line + "\n" for line in lines] + ["\n"]).encode()
    raise TypeError(f"encode takes a ServerSentEvent or a Comment, not {type(item).__name__}")


class EventStreamDecoder:
    """Cut the bytes of an event stream into events, exactly as the standard says.

    It is fed chunks as they arrive, cut anywhere. It holds what is not yet complete and drops
    that when it is dropped itself: the standard discards an event whose blank line never came.

    Args:
        last_event_id: The last event ID string to begin with, for a stream that is continued.
        max_event_bytes: The most bytes that the ``data``, ``event`` and ``id`` lines of one event
            may take on the wire, together with the line of any kind that comes next. Line ends
            and lines of other kinds that are complete do not count. ``None`` lifts the bound.
        on_comment: Called with each comment line, while :meth:`feed` comes to it.

    Attributes:
        last_event_id: The last event ID string of the stream: what to send as ``Last-Event-ID``
            when reconnecting now. It changes with the blank line after an ``id`` field, and is
            kept until another one comes.
        reconnection_time: The last valid ``retry`` of the stream in milliseconds; ``None``
            before there was one.

    Raises:
        TypeError: ``last_event_id`` is not a string.
        ValueError: ``last_event_id`` could not stand in a stream, or ``max_event_bytes`` < 1.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_event",
        "_failed",
        "_id",
        "_max_event_bytes",
        "_on_comment",
        "_partial",
        "_size",
        "last_event_id",
        "reconnection_time",
    )

    def __init__(
        self,
        *,
        last_event_id: str = "",
        max_event_bytes: int | None = DEFAULT_MAX_EVENT_BYTES,
        on_comment: Callable[[Comment], object] | None = None,
    ) -> None:
        ServerSentEvent("", id=last_event_id)  # The rules for an id have one place.
        if last_event_id is None:
            raise TypeError("last_event_id must be a str, not None")
        if max_event_bytes is not None and max_event_bytes < 1:
            raise ValueError(f"max_event_bytes must be at least 1 or None: {max_event_bytes}")
        self.last_event_id: str = last_event_id
        self.reconnection_time: int | None = None
        self._max_event_bytes = max_event_bytes
        self._on_comment = on_comment
        # The buffers of the standard. Data is one buffer and not a list of lines: lines of two
        # bytes each, as objects, would take eight times the bound.
        self._id = last_event_id
        self._event = b""
        self._data = bytearray()
        self._size = 0  # bytes of the lines that are in the buffers
        self._partial = bytearray()  # a line whose end has not come
        self._at_start = True  # a byte order mark may come
        self._after_cr = False  # a LF would belong to the CR before it
        self._failed = False

    def feed(self, chunk: bytes | bytearray | memoryview) -> list[ServerSentEvent]:
        """Take the next bytes of the stream and return the events that they complete.

        An event is complete with its blank line, a CR at the end of ``chunk`` included: it is
        not held back in case a LF follows. Every event has its ``event`` (``"message"`` by
        default) and its ``id`` (the last event ID string at that point) and no ``retry``.

        Raises:
            EventTooLarge: The stream broke the bound. Events that were complete before that are
                returned first, and the next call raises. So does every later one: what was
                read of the event is dropped, and the stream cannot be taken up again.
            TypeError: ``chunk`` is none of the bytes types; nothing has changed.
        """
        if self._failed:
            raise self._too_large()
        if not isinstance(chunk, bytes):
            if not isinstance(chunk, bytearray | memoryview):
                raise TypeError(f"feed takes bytes, not {type(chunk).__name__}")
            chunk = bytes(chunk)
        if self._at_start:
            chunk = bytes(self._partial) + chunk
            self._partial.clear()
            if _BOM.startswith(chunk):
                self._partial += chunk
                return []
            self._at_start = False
            chunk = chunk.removeprefix(_BOM)
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

        partial = self._partial
        end = chunk.rfind(b"\n")
        events: list[ServerSentEvent] = []
        if end < 0:
            partial += chunk
        else:
            if partial:
                partial += chunk[:end]
                lines = bytes(partial).split(b"\n")
            else:
                lines = chunk[:end].split(b"\n")
            self._partial = partial = bytearray(chunk[end + 1 :])
            self._take_lines(lines, events)
        limit = self._max_event_bytes
        if limit is not None and self._size + len(partial) > limit:
            self._failed = True
        if self._failed:
            self._data.clear()
            self._partial.clear()
            if not events:
                raise self._too_large()
        return events

    def _take_lines(self, lines: list[bytes], events: list[ServerSentEvent]) -> None:
        limit = self._max_event_bytes
        data = self._data
        for line in lines:
            if not line:
                self.last_event_id = self._id
                if data:
                    events.append(
                        event_from_wire(
                            data[:-1].decode("utf-8", "replace"),
                            self._event.decode("utf-8", "replace") or "message",
                            self._id,
                        )
                    )
                    data.clear()
                self._event = b""
                self._size = 0
                continue
            if limit is not None and self._size + len(line) > limit:
                self._failed = True
                return
            name, _, value = line.partition(b":")
            if value.startswith(b" "):
                value = value[1:]
            if name == b"data":
                data += value
                data += b"\n"
            elif name == b"event":
                self._event = value
            elif name == b"id":
                if b"\0" not in value:
                    self._id = value.decode("utf-8", "replace")
            elif name == b"retry":
                self._take_retry(value)
                continue
            else:
                if not name and self._on_comment is not None:
                    self._on_comment(Comment(value.decode("utf-8", "replace")))
                continue
            self._size += len(line)

    def _take_retry(self, value: bytes) -> None:
        if value.isdigit():  # of bytes: ASCII digits and nothing else
            # More digits than Python reads are no time that anybody could wait.
            with contextlib.suppress(ValueError):
                self.reconnection_time = int(value.lstrip(b"0") or b"0")

    def _too_large(self) -> EventTooLarge:
        assert self._max_event_bytes is not None
        return EventTooLarge(self._max_event_bytes)
