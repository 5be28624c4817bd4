"""The event source: one stream of events, over as many connections as it takes.

Who does what: :meth:`EventSource.receive` does everything, in the task that calls it. It connects,
reads, decodes, waits and connects again, and returns with the next event. There is no background
task: nothing is read while nobody waits for an event, so a slow reader slows its server down.

What it waits for is always one of three: a connection (:meth:`EventSource._dial`), the head of a
response, or bytes of its body. Between two waits everything stands in the attributes, and each
wait begins from them. So a cancelled ``receive()`` loses nothing: what had come is kept, and the
next call goes on from there. Only a connection that is being made is dropped and made anew.

How long the peer may let us wait is counted in the time that we do wait: who comes back to his
stream after an hour finds it as it is, and not timed out.

Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model
"""

from __future__ import annotations

import math
import random
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Literal, NoReturn

import attrs
import trio

from ..codec import EventStreamDecoder
from ..errors import EventSourceFailed, EventTooLarge, FailureReason, ProxyRefused
from ..events import Comment, ServerSentEvent
from .connection import Connect, Connection, Head, Lost, check_proxy, open_connection
from .policy import RetryPolicy, retry_after
from .reports import EventSourceStatistics, Interruption
from .request import REDIRECTS, Headers, Request, encoded_headers, encoded_id

State = Literal["connecting", "open", "closed"]
EndReason = Literal["until", "no content"]

_FOREVER: Final = math.inf


@attrs.define(eq=False, kw_only=True)
class Options:
    """What :func:`open_event_source` was given, checked."""

    request: Request
    fresh_headers: Callable[[], Awaitable[Headers]] | None
    policy: RetryPolicy
    until: Callable[[ServerSentEvent], bool] | None
    on_comment: Callable[[Comment], object] | None
    on_interruption: Callable[[Interruption], object] | None
    max_event_bytes: int | None
    max_head_bytes: int
    ssl_context: ssl.SSLContext | None
    connect: Connect | None


class EventSource(trio.abc.ReceiveChannel[ServerSentEvent]):
    """The client's end of an event stream; made by :func:`open_event_source`.

    Iterate it, or call :meth:`receive`. One task at a time may wait in it.

    Attributes:
        state: ``"connecting"`` while there is no response, ``"open"`` from the head of a good one
            to its end, ``"closed"`` when nothing more will come.
        interruption: The last one, if there was any.
        ended_by: ``"until"``: the event that ``until`` names has come. ``"no content"``: the
            server said 204. ``None``: it has not ended, or not well.
    """

    def __init__(self, options: Options, last_event_id: str) -> None:
        self.state: State = "connecting"
        self.interruption: Interruption | None = None
        self.ended_by: EndReason | None = None
        self._options = options
        self._failure: EventSourceFailed | EventTooLarge | ProxyRefused | None = None
        self._aclosed = False
        self._busy = False
        # Of the stream, over all its connections.
        self._events: deque[ServerSentEvent] = deque()
        self._comments: deque[Comment] = deque()
        self._returned_id = last_event_id
        self._reconnection_time: int | None = None
        self._decoder = self._new_decoder(last_event_id)
        self._failures = 0
        self._attempts = self._opened = self._returned = self._body_bytes = 0
        # Of the present attempt.
        self._attempt_at = -_FOREVER
        self._request: Request | None = None
        self._redirects = 0
        self._connection: Connection | None = None
        self._opened_at = _FOREVER
        self._had_event = False
        # Seconds that may still be waited for the head, for bytes, and for an event.
        self._head_patience = self._byte_patience = self._event_patience = _FOREVER

    @property
    def last_event_id(self) -> str:
        """The last event ID of what was returned: to continue from here, in another run."""
        return self._returned_id if self._events else self._decoder.last_event_id

    @property
    def reconnection_time(self) -> int | None:
        """The last ``retry`` of the stream, in milliseconds; ``None`` before there was one."""
        if self._decoder.reconnection_time is None:
            return self._reconnection_time
        return self._decoder.reconnection_time

    def statistics(self) -> EventSourceStatistics:
        """Return what it has done so far."""
        return EventSourceStatistics(
            attempts=self._attempts,
            opened=self._opened,
            failures=self._failures,
            events=self._returned,
            events_waiting=len(self._events),
            body_bytes=self._body_bytes,
        )

    async def receive(self) -> ServerSentEvent:
        """Return the next event, over as many connections as it takes.

        Raises:
            trio.EndOfChannel: The stream has ended well; ``ended_by`` says how.
            EventSourceFailed: It has ended for good without that.
            EventTooLarge: An event exceeds ``max_event_bytes``; that is for good as well.
            ProxyRefused: A redirect leads past a proxy that the environment names.
            ValueError, TypeError: What the ``headers`` function returned is none.
            trio.BusyResourceError: Another task waits in here.
            trio.ClosedResourceError: It was closed by this program.
            Exception: What a function of the caller's raised. The next call goes on.

        Cancellation: loses no event. A connection that is being made is dropped, and made anew by
        the next call.
        """
        # Once for each read the socket gives way to other tasks; in between, for speed, only
        # cancelling is looked for.
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._events:  # noqa: ASYNC913 # _advance waits in each round
            await self._advance()
        event = self._events[0]
        until = self._options.until
        is_last = until is not None and until(event)
        self._events.popleft()
        self._returned += 1
        self._returned_id = event.id or ""
        if is_last:
            self._end("until")
        return event

    async def wait_open(self) -> None:
        """Return when a stream is open: whatever the server sends from now on will be read.

        Raises: as :meth:`receive`.

        Cancellation: as :meth:`receive`.
        """
        await trio.lowlevel.checkpoint()
        while self.state != "open" and not self._events:  # noqa: ASYNC913 # as in receive
            await self._advance()

    async def __anext__(self) -> ServerSentEvent:
        """Return the next event; stop where the stream has ended well."""
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Close it and its connection, without a word to the server.

        Leaving ``open_event_source`` does this.

        Cancellation: it waits for nothing, and is not cancelled.
        """
        self._aclosed = True
        self.state = "closed"
        self._events.clear()
        await self._hang_up()

    async def _advance(self) -> None:
        """Come one wait nearer to an event, or raise what ends the stream."""
        if self._aclosed:
            raise trio.ClosedResourceError
        if self._busy:
            raise trio.BusyResourceError("another task waits for an event")
        self._busy = True
        try:
            if self.state == "closed":
                await self._hang_up()
                await trio.lowlevel.checkpoint()
                raise trio.EndOfChannel if self._failure is None else self._failure
            if self._connection is None:
                await self._dial()
            elif self.state == "connecting":
                await self._take_head(self._connection)
            else:
                await self._take_body(self._connection)
        except Lost as lost:
            await self._hang_up()
            self._lose(lost)
        except (EventSourceFailed, EventTooLarge, ProxyRefused) as error:
            self._failure = error
            self.state = "closed"
            raise
        finally:
            self._busy = False

    async def _dial(self) -> None:
        options = self._options
        await trio.sleep_until(self._attempt_at)
        if self._request is None:
            request = options.request
            if options.fresh_headers is not None:
                fresh = encoded_headers(await options.fresh_headers())
                request = attrs.evolve(request, headers=request.headers + fresh)
            self._request = request
            self._redirects = 0
            self._attempts += 1
            self._head_patience = _seconds(options.policy.open_timeout)
        target = self._request.target
        if options.connect is None:
            check_proxy(target)
        if target.scheme == "https" and options.ssl_context is None:
            options.ssl_context = ssl.create_default_context()
        with self._patience_for_head():
            self._connection = await open_connection(
                self._request,
                last_event_id=self._sendable_id(),
                connect=options.connect or trio.open_tcp_stream,
                ssl_context=options.ssl_context if target.scheme == "https" else None,
                max_head_bytes=options.max_head_bytes,
            )
        if self._aclosed:  # by another task, meanwhile
            await self._hang_up()
            raise trio.ClosedResourceError

    async def _take_head(self, connection: Connection) -> None:
        with self._patience_for_head():
            head = await connection.read_head()
        if head.status in REDIRECTS:
            self._follow(head)
            await self._hang_up()
        elif head.status == 204:
            self._end("no content")
        else:
            self._check(head)
            self._open()

    def _follow(self, head: Head) -> None:
        request = self._present_request()
        location = head.get(b"location")
        self._redirects += 1
        if location is None:
            self._fail("redirect", f"status {head.status} without a Location", head.status)
        if self._redirects > self._options.policy.max_redirects:
            self._fail("redirect", f"more than {self._redirects - 1} redirects", head.status)
        try:
            # What is no ASCII in there is UTF-8, if it is anything.
            location = location.encode("latin-1").decode("utf-8", "replace")
            self._request = request.redirected(head.status, location)
        except ValueError as error:
            self._fail("redirect", f"a redirect cannot be followed: {error}", head.status)

    def _check(self, head: Head) -> None:
        """Take the response for an event stream, or raise what it is instead."""
        policy = self._options.policy
        if head.status in policy.retry_statuses:
            after = head.get(b"retry-after")
            now, date = datetime.now(UTC), head.get(b"date")
            asked = None if after is None else retry_after(after, date=date, now=now)
            raise Lost("status", f"the server answered {head.status}", head.status, asked)
        if head.status != 200:
            self._fail("status", f"the server answered {head.status}", head.status)
        content_type = head.get(b"content-type") or ""
        if content_type.partition(";")[0].strip().lower() != "text/event-stream":
            self._fail("content type", f"the response is {content_type!r}", head.status)
        encoding = (head.get(b"content-encoding") or "identity").lower()
        if encoding != "identity":
            self._fail("content encoding", f"the response is compressed: {encoding!r}", head.status)

    def _open(self) -> None:
        policy = self._options.policy
        self._reconnection_time = self.reconnection_time
        self._decoder = self._new_decoder(self._decoder.last_event_id)
        self._opened += 1
        self._opened_at = trio.current_time()
        self._had_event = False
        self._byte_patience = _seconds(policy.idle_timeout)
        self._event_patience = _seconds(policy.event_timeout)
        self.state = "open"

    async def _take_body(self, connection: Connection) -> None:
        self._take_events(b"")  # raises if an event is too large that came behind good ones
        began = trio.current_time()
        data = None
        try:
            with trio.move_on_after(max(0, min(self._byte_patience, self._event_patience))):
                data = await connection.read_body()
        finally:
            waited = trio.current_time() - began
            self._byte_patience -= waited
            self._event_patience -= waited
        if data is None:
            policy = self._options.policy
            if self._byte_patience <= self._event_patience:
                raise Lost("idle timeout", f"nothing came for {policy.idle_timeout:g} s")
            raise Lost("event timeout", f"no event came for {policy.event_timeout:g} s")
        self._byte_patience = _seconds(self._options.policy.idle_timeout)
        self._body_bytes += len(data)
        self._take_events(data)

    def _take_events(self, data: bytes) -> None:
        """Take bytes of the body, when all events before them were returned."""
        self._returned_id = self._decoder.last_event_id
        events = self._decoder.feed(data)
        if events:
            self._events += events
            self._had_event = True
            self._event_patience = _seconds(self._options.policy.event_timeout)
        while self._comments:
            assert self._options.on_comment is not None
            self._options.on_comment(self._comments.popleft())

    def _lose(self, lost: Lost) -> None:
        """Be without a connection, and settle when the next attempt is."""
        policy = self._options.policy
        now = trio.current_time()
        if self.state == "open" and (
            now - self._opened_at >= policy.healthy_after
            or (lost.reason == "ended" and self._had_event)
        ):
            self._failures = 0
        self._failures += 1
        given_up = policy.max_failures is not None and self._failures > policy.max_failures
        wait = None
        if not given_up:
            wait = policy.wait(
                failures=self._failures,
                asked=lost.asked,
                retry=self.reconnection_time,
                random=random.uniform,
            )
            self._attempt_at = now + wait
        self.interruption = Interruption(
            reason=lost.reason,
            message=lost.message,
            status=lost.status,
            failures=self._failures,
            wait=wait,
        )
        if given_up:
            self._fail("gave up", lost.message, lost.status)
        self.state = "connecting"
        self._request = None
        if self._options.on_interruption is not None:
            self._options.on_interruption(self.interruption)

    def _end(self, reason: EndReason) -> None:
        self.ended_by = reason
        self.state = "closed"
        self._events.clear()

    def _fail(self, reason: FailureReason, message: str, status: int | None) -> NoReturn:
        self._failure = EventSourceFailed(
            reason, self._present_request().target.url, message, status=status
        )
        self.state = "closed"
        raise self._failure

    async def _hang_up(self) -> None:  # noqa: ASYNC910 # it waits for nothing
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _present_request(self) -> Request:
        assert self._request is not None
        return self._request

    def _sendable_id(self) -> bytes:
        try:
            return encoded_id(self._decoder.last_event_id)
        except ValueError as error:
            self._fail("last event id", str(error), None)

    def _new_decoder(self, last_event_id: str) -> EventStreamDecoder:
        return EventStreamDecoder(
            last_event_id=last_event_id,
            max_event_bytes=self._options.max_event_bytes,
            on_comment=None if self._options.on_comment is None else self._comments.append,
        )

    @contextmanager
    def _patience_for_head(self) -> Iterator[None]:
        """Take what is waited inside from what may still be waited, and no more than that."""
        began = trio.current_time()
        try:
            with trio.move_on_after(max(0, self._head_patience)) as scope:
                yield
        finally:
            self._head_patience -= trio.current_time() - began
        if scope.cancelled_caught:
            timeout = self._options.policy.open_timeout
            raise Lost("open timeout", f"there was no response within {timeout:g} s")


def _seconds(timeout: float | None) -> float:
    return _FOREVER if timeout is None else timeout
