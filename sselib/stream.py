"""An event source as an HTTP response, on any ASGI server that runs on Trio.

One response is two tasks in one nursery. The *attendant* waits in ``receive()``, the only place
where a server tells that the client has left, and looks at the clock: it tells the writer when a
heartbeat is due or the stream is too old. The *writer* takes whatever is ready from its source as
one body message, whole blocks and at most ``batch_bytes`` of them, and waits for the source when
there is nothing. It alone calls ``send()``, so nothing is interleaved, and what a client that does
not read can hold is the one message it has not taken. It sets no timer: a timer for each wait is
half of what an event costs.

A source is a channel, of which each response is a subscriber, or a function of the user's that is
given a ``send`` of its own and runs as a third task.

An :class:`EventStream` holds nothing of a request, so one object may serve many. What belongs to a
running response is an :class:`OpenStream`. It is what a server's registry knows of it and can end
it by; this module knows a registry only as the :class:`StreamHost` that it may find in the scope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol, TypeAlias, get_args

import attrs
import trio

from .channel import EventChannel
from .codec import encode
from .errors import SubscriptionLagged
from .events import Comment, ServerSentEvent
from .policy import Schedule, StreamPolicy
from .subscription import Replay, Subscription

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

SendEvent: TypeAlias = Callable[[ServerSentEvent | Comment], Awaitable[None]]
"""Sends one event or comment; returns when the client's connection has room for the next."""

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

REGISTRY: Final = "sselib.registry"
"""The name of the :class:`StreamHost` in ``scope["extensions"]``."""

FAST_LANE: Final = "sselib.pump"
"""The name of the :class:`FastLane` in ``scope["extensions"]``."""

# What send() raises, where it says that the client has left; Hypercorn's says nothing.
_GONE: Final = (OSError, trio.BrokenResourceError)

# Something is sent at once: proxies and clients hold a head back until the first byte of a body.
_OPENING: Final = encode(Comment("connected"))

_OWN_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    # no-transform keeps proxies from compressing, which would hold events back.
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx
)
_FIXED_HEADERS: Final = frozenset((b"content-type", b"content-length", b"transfer-encoding"))


@attrs.frozen(kw_only=True)
class Refusal:
    """What a registry has a request answered with instead of a stream.

    Attributes:
        status: The HTTP status.
        headers: Header names, in lower case, and values.
        body: The body, whole.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class OpenStream:
    """A response that is running, as a registry sees it.

    Attributes:
        scope: The ASGI scope of its request.
        opened_at: When it was opened, on Trio's clock, in seconds.
        events: Entries written so far.
        bytes_written: Bytes of its body given to the server so far.
        reason: Why it is to end, once it is.
        is_cancelled: It is to end now.
        farewell: What is written last.
        subscription: To its channel, if it has one.
        life: Around what runs of it; while a lane carries it nothing does.
        written_at: When something was written last, on Trio's clock, in seconds.
        beat: A heartbeat is due.
        wake: Has the writer look at all this, if it waits.
    """

    __slots__ = (
        "beat",
        "bytes_written",
        "events",
        "farewell",
        "is_cancelled",
        "life",
        "opened_at",
        "reason",
        "scope",
        "subscription",
        "wake",
        "written_at",
    )

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.opened_at: float = trio.current_time()
        self.events: int = 0
        self.bytes_written: int = 0
        self.reason: str | None = None
        self.is_cancelled = False
        self.farewell = b""
        self.subscription: Subscription | None = None
        self.life = trio.CancelScope()
        self.written_at = self.opened_at
        self.beat = False
        self.wake: Callable[[], None] = _nobody_waits

    def finish(self, reason: str, *, farewell: bytes = b"") -> None:
        """End the stream well: what is ready now is written, then ``farewell``, then its end.

        The first reason given counts. It cannot hurry a client that does not read.
        """
        if self.reason is None:
            self.reason = reason
            self.farewell = farewell
            self.wake()

    def cancel(self, reason: str) -> None:
        """End the stream now, wherever it is. Its body is cut off."""
        if self.reason is None:
            self.reason = reason
        self.is_cancelled = True
        self.life.cancel()
        self.wake()


def _nobody_waits() -> None:
    """Do nothing."""


class StreamHost(Protocol):
    """What a server's registry does for streams; found in the scope as :data:`REGISTRY`."""

    def admit(self, stream: OpenStream) -> Refusal | None:
        """Enter the stream, or say what to answer instead."""
        ...

    def discard(self, stream: OpenStream, reason: str) -> None:
        """Strike off a stream that was admitted: it is over. Called once for each."""
        ...


class FastLane(Protocol):
    """A server's offer to write a stream without a task for each write: :data:`FAST_LANE`.

    What a middleware does with a body must not be passed by. So the stream sends its first bytes
    like any others, and takes the lane only if they came out as they went in.
    """

    def probe(self, data: bytes) -> None:
        """Look out for these bytes: whether this very object is sent next, by this very task."""
        ...

    def is_clear(self) -> bool:
        """Return whether it was."""
        ...

    def open_lane(self, stream: OpenStream, source: Subscription, schedule: Schedule) -> Lane:
        """Take it, if it is clear."""
        ...


class Lane(Protocol):
    """What writes a stream while there is nothing else to be done for it."""

    source: Subscription
    schedule: Schedule

    async def carry(self) -> None:
        """Write what the source gives, and heartbeats, until more than that is to be done.

        What that is, the source and the stream say. While it is carried, the stream's ``wake`` is
        the lane's.
        """
        ...

    async def settle(self) -> None:
        """Do what :meth:`carry` left to be waited for. Raises :exc:`OSError` if that is in vain."""
        ...


class _Source(Protocol):
    """What a writer needs of a source; a :class:`Subscription` is one."""

    delivered: int
    finished: bool
    ended: bool

    def take(self, limit: int) -> bytes: ...

    async def wait(self) -> None: ...

    def wake(self) -> None: ...

    def finish(self) -> None: ...


class EventStream:
    """A response whose body is an event stream; an ASGI application of its own.

    Return it from a Starlette or Litestar handler, or mount it as a route. FastAPI wants
    :class:`sselib.starlette.EventStreamResponse` instead.

    It answers every method, HEAD with the head alone. A client whose ``Last-Event-ID`` is that of
    the topic's end is answered 204, which makes a browser's EventSource stop for good.

    Args:
        source: A channel, to which each response subscribes. Or, for a stream of one client's
            own, an async function: it is given an async ``send(event_or_comment)`` that waits
            while the client does not keep up, and when it returns, the stream ends. A stream
            of that kind cannot be resumed; events say the ids that the function gave them.
        policy: Heartbeat, age, ids and what else a stream obeys.
        replay: For a channel: what a client begins with that does not resume, as in
            :meth:`EventChannel.subscribe`.
        headers: Further response headers. One of the same name replaces ours.
        status: The status of the response.
        last_event_id: Taken instead of the request's ``Last-Event-ID``, for clients that send
            it in the query. ``None``: the header counts.
        gap_event: For a channel: sent when a client cannot be given what it missed, so that a
            browser can see it too.

    Raises:
        TypeError: ``source`` is neither.
        ValueError: A header that has no place in a response, or CR, LF or NUL in one.

    Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model
    """

    def __init__(
        self,
        source: EventChannel | Callable[[SendEvent], Awaitable[None]],
        *,
        policy: StreamPolicy = StreamPolicy(),  # noqa: B008 # frozen
        replay: Replay = "current",
        headers: Headers = (),
        status: int = 200,
        last_event_id: str | None = None,
        gap_event: ServerSentEvent | None = None,
    ) -> None:
        if not isinstance(source, EventChannel) and not callable(source):
            raise TypeError(f"source must be an EventChannel or an async function: {source!r}")
        if replay not in get_args(Replay):
            raise ValueError(f"replay must be one of {', '.join(get_args(Replay))}: {replay!r}")
        if gap_event is not None and gap_event.id is not None:
            raise ValueError(f"a gap_event may not have an id: {gap_event.id!r}")
        self._source = source
        self._policy = policy
        self._replay: Replay = replay
        self._headers = _merged(headers)
        self._status = status
        self._last_event_id = last_event_id
        self._gap_event = gap_event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            RuntimeError: The server does not run on Trio, or the request is not an HTTP one.

        Cancellation: the body is cut off and the subscription ends.
        """
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError(
                "EventStream needs a server that runs on Trio, and this one does not"
            )
        if scope["type"] != "http":
            raise RuntimeError(f"EventStream answers HTTP requests, not {scope['type']!r}")
        stream = OpenStream(scope)
        host: StreamHost | None = (scope.get("extensions") or {}).get(REGISTRY)
        if scope["method"] == "HEAD":
            host = None
        if host is not None:
            refusal = host.admit(stream)
            if refusal is not None:
                await _send_whole(send, refusal.status, refusal.headers, refusal.body)
                return
        reason = "cancelled"
        try:
            outcome: str | Lane = reason
            with stream.life:
                outcome = await self._answer(stream, receive, send)
            while not isinstance(outcome, str):
                # Nothing more than this is around the wait: it is what an idle stream costs.
                lane, outcome = outcome, "cancelled"
                await lane.carry()
                if not stream.is_cancelled:
                    with trio.CancelScope() as stream.life:
                        outcome = await _deliver(stream, lane.source, lane.schedule, send, lane)
            reason = stream.reason or outcome
        except Exception:  # what is cancelled is none, alone or in a group
            reason = "failed"
            raise
        finally:
            if stream.subscription is not None and isinstance(self._source, EventChannel):
                self._source.end_subscription(stream.subscription)
            if host is not None:
                host.discard(stream, reason)

    async def _answer(self, stream: OpenStream, receive: Receive, send: Send) -> str | Lane:
        """Answer until the stream ends, and return why it did, or the lane that is to carry it."""
        if not isinstance(self._source, EventChannel):
            own = _OwnSource()
            return await self._respond(stream, own, receive, send, own_task=self._source)
        last_event_id = self._last_event_id
        if last_event_id is None:
            last_event_id = _header(stream.scope, b"last-event-id")
        stream.subscription = subscription = await self._source.open_subscription(
            last_event_id=last_event_id,
            replay=self._replay,
            lag=self._policy.lag,
            ids=self._policy.ids,
            gap_event=self._gap_event,
        )
        if subscription.outcome.at_end:
            headers = [header for header in self._headers if header[0] != b"content-type"]
            await _send_whole(send, 204, headers, b"")
            return "ended"
        fast_lane = _fast_lane(stream.scope)
        if fast_lane is None or stream.scope["method"] == "HEAD":
            return await self._respond(stream, subscription, receive, send)
        opening = self._opening()
        fast_lane.probe(opening)
        if not await self._open(stream, send, opening):
            return "disconnected"  # noqa: ASYNC910 # it has sent
        if not fast_lane.is_clear():
            return await self._respond(stream, subscription, receive, send, is_open=True)
        schedule = Schedule(self._policy, stream.opened_at)
        lane = fast_lane.open_lane(stream, subscription, schedule)
        stream.wake = subscription.wake
        return await _deliver(stream, subscription, schedule, send, lane)

    async def _respond(
        self,
        stream: OpenStream,
        source: _OwnSource | Subscription,
        receive: Receive,
        send: Send,
        *,
        is_open: bool = False,
        own_task: Callable[[SendEvent], Awaitable[None]] | None = None,
    ) -> str:
        """Send what is left, with a second task that looks after the client and the clock."""
        if stream.scope["method"] == "HEAD":
            await _send_whole(send, self._status, self._headers, b"")
            return "head"
        stream.wake = source.wake
        schedule = Schedule(self._policy, stream.opened_at)
        reason = "cancelled"

        async def deliver() -> None:  # noqa: ASYNC910 # send() is the server's checkpoint
            nonlocal reason
            if is_open or await self._open(stream, send, self._opening()):
                delivered = await _deliver(stream, source, schedule, send)
                assert isinstance(delivered, str)  # there was no lane
                reason = delivered
            else:
                reason = "disconnected"
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver)
            if own_task is not None and isinstance(source, _OwnSource):
                nursery.start_soon(source.run, own_task)
            await _attend(stream, receive, schedule)
        return reason

    async def _open(  # noqa: ASYNC910 # send() is the server's checkpoint
        self, stream: OpenStream, send: Send, opening: bytes
    ) -> bool:
        """Send the head and the first bytes, and return whether the client is still there."""
        start = {
            "type": "http.response.start",
            "status": self._status,
            "headers": list(self._headers),
        }
        try:
            await send(start)
            await _send_body(stream, send, opening)
        except _GONE:
            return False  # noqa: ASYNC910 # as above
        return True

    def _opening(self) -> bytes:
        if self._policy.retry is None:
            return _OPENING
        return _OPENING + retry_block(self._policy.retry)


class _OwnSource:
    """What one user's function sends: a block at a time, handed over when the writer comes."""

    def __init__(self) -> None:
        self.delivered = 0
        self.finished = False
        self.ended = False
        self._send, self._receive = trio.open_memory_channel[bytes](0)
        self._held = b""
        self._pause = trio.CancelScope()  # around the present wait, or the last

    async def run(self, function: Callable[[SendEvent], Awaitable[None]]) -> None:
        with self._send:
            await function(self._send_item)

    async def _send_item(self, item: ServerSentEvent | Comment) -> None:
        await self._send.send(encode(item))

    def take(self, limit: int) -> bytes:  # noqa: ARG002 # a block at a time, whatever its size
        data, self._held = self._held, b""
        self.delivered += bool(data)
        return data

    async def wait(self) -> None:  # noqa: ASYNC910 # receive() is a checkpoint either way
        with trio.CancelScope() as self._pause:  # noqa: ASYNC912 # as above
            try:
                self._held = await self._receive.receive()
            except trio.EndOfChannel:
                self.finished = self.ended = True

    def wake(self) -> None:
        self._pause.cancel()

    def finish(self) -> None:
        self.finished = True


async def _deliver(  # noqa: ASYNC910 # send() and wait() are checkpoints
    stream: OpenStream,
    source: _Source,
    schedule: Schedule,
    send: Send,
    lane: Lane | None = None,
) -> str | Lane:
    """Write what the source gives, and heartbeats, and the end; return why that came.

    With a lane, return that as soon as there is nothing left that it cannot do.
    """
    is_idle_mode = schedule.is_idle_mode
    limit = schedule.batch_bytes
    reason: str | None = None
    try:
        if lane is not None:
            await lane.settle()
        while reason is None:  # send() or wait() in each round
            if stream.reason is not None:
                if stream.is_cancelled:
                    await trio.lowlevel.checkpoint()  # which ends it: life is cancelled
                source.finish()
            data = source.take(limit)
            if stream.beat:
                stream.beat = False
                if not (data and is_idle_mode):
                    data += schedule.comment
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                stream.bytes_written += len(data)
                stream.events = source.delivered
                if is_idle_mode:
                    stream.written_at = trio.current_time()
                    stream.beat = False  # it fell due while the client did not read
            elif source.finished:
                reason = "ended" if source.ended else "closed"
            elif lane is not None and isinstance(source, Subscription) and source.is_caught_up():
                return lane  # noqa: ASYNC910 # where there was nothing to wait for, it waits
            else:
                try:
                    await source.wait()
                except SubscriptionLagged:
                    reason = "lagged"
        # A server may call the end of the body a disconnect: it is no reason any more.
        stream.reason = stream.reason or reason
        await _send_body(stream, send, stream.farewell, more_body=False)
    except _GONE:
        return "disconnected"  # noqa: ASYNC910 # as above
    return reason


async def _send_body(
    stream: OpenStream, send: Send, data: bytes, *, more_body: bool = True
) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more_body})
    stream.bytes_written += len(data)


async def _attend(stream: OpenStream, receive: Receive, schedule: Schedule) -> None:
    """Tell the writer what falls due; end the stream and return when its client leaves.

    A request body is read and ignored. A ``receive()`` that is cancelled because something is due
    loses nothing that matters: what it waits for, a server says again.
    """
    while True:
        with trio.CancelScope(deadline=schedule.next()):
            while (await receive())["type"] != "http.disconnect":
                pass
            stream.cancel("disconnected")
            return
        due = schedule.falls_due(trio.current_time(), stream.written_at)
        if due == "age":
            stream.finish("max age")
        elif due == "beat":
            stream.beat = True
            stream.wake()


def retry_block(milliseconds: int) -> bytes:
    """Return a block that only tells a reconnection time."""
    return b"retry: %d\n\n" % milliseconds


async def _send_whole(
    send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _fast_lane(scope: Scope) -> FastLane | None:
    lane: FastLane | None = (scope.get("extensions") or {}).get(FAST_LANE)
    return lane


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key.lower() == name:
            return bytes(value).decode("utf-8", "replace")
    return None


def _merged(headers: Headers) -> list[tuple[bytes, bytes]]:
    given: list[tuple[bytes, bytes]] = []
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        for text in (name, value):
            if not isinstance(text, str) or any(c in text for c in "\r\n\0"):
                raise ValueError(f"a header must be text without CR, LF and NUL: {text!r}")
        key = name.lower().encode("latin-1")
        if key in _FIXED_HEADERS:
            raise ValueError(f"an event stream sets its own header {name!r}")
        given.append((key, value.encode("latin-1")))
    names = {name for name, _ in given}
    return [header for header in _OWN_HEADERS if header[0] not in names] + given
