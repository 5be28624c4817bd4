r"""Test event streams that never end, of any ASGI application, without sockets and without waiting.

:func:`open_stream` runs the application under Trio beside the test and hands the test the client's
end of one response. What a socket does is done in memory: the client reads when the test reads,
and an application that writes on while it does not is blocked in ``send()`` like behind a full
socket; so *not* reading is how a test stalls. :func:`advance` moves a
:class:`trio.testing.MockClock` (of pytest-trio: the fixtures ``mock_clock`` and
``autojump_clock``), so that 300 s of a stream take no time::

    import trio
    from sselib import EventChannel, EventStream, ServerSentEvent, StreamPolicy
    from sselib.testing import advance, open_stream

    KEEPALIVE = b": keepalive\n\n"
    channel = EventChannel()
    app = EventStream(channel, policy=StreamPolicy(max_age=300, max_age_jitter=0))

    async def test_fifteen_seconds_of_silence_give_one_keepalive(mock_clock):
        async with open_stream(app, "/updates") as stream:
            await stream.receive_block()  # the comment that opens every stream
            await advance(14.9)
            assert stream.unread == b""
            await advance(0.1)
            assert stream.unread == KEEPALIVE

    async def test_a_client_comes_back_after_300_seconds(mock_clock):
        async with open_stream(app, "/updates") as stream:
            await channel.publish(ServerSentEvent("one"))
            assert (await stream.receive()).data == "one"
            await advance(300)
            assert [event async for event in stream] == []
        await channel.publish(ServerSentEvent("two"))
        resume = {"last-event-id": stream.last_event_id}
        async with open_stream(app, "/updates", headers=resume) as stream:
            assert (await stream.receive()).data == "two"

    async def test_time_flies_while_everybody_waits(autojump_clock):
        async with open_stream(app, "/updates") as stream:
            await stream.receive_block()
            assert await stream.receive_block() == KEEPALIVE
            assert trio.current_time() == 15

With ``mock_clock`` time moves in :func:`advance` alone: for tests of what does *not* happen. With
``autojump_clock`` it also jumps to the next deadline whenever every task waits, and so while the
test waits for the next block. Both are for what happens in memory: over real sockets and threads
they run ahead of the world.

Every test is a test of three more things: the application keeps the rules of ASGI, what it raises
reaches the test, and it ends when its client goes. The lifespan protocol is not spoken: open what
the application needs around :func:`open_stream` (for Starlette,
``async with app.router.lifespan_context(app)``).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import trio
import trio.testing

from ..codec import EventStreamDecoder
from ..events import ServerSentEvent
from ..stream import ASGIApp
from ._exchange import ApplicationFault as ApplicationFault
from ._exchange import ClientGone as ClientGone
from ._exchange import Exchange

# What asyncio's transports and HTTP/2 streams (RFC 9113 6.9.2) hold by default before they push
# back. The kernel's buffers on a loopback connection hold more, but no two of them the same.
DEFAULT_WINDOW: Final = 64 * 1024
# One block, or a body that is read whole: far more than a test writes out by hand.
DEFAULT_MAX_BYTES: Final = 16 * 1024 * 1024
# What Hypercorn says, which is the server that runs ASGI on Trio.
DEFAULT_SPEC_VERSION: Final = "2.1"

# Clocks are floats: ten times 0.1 s has to meet the deadline at 1 s.
_CLOCK_NOISE: Final = 1e-6

# Two line ends in a row. A CR LF is never taken for two, and a final CR is a line end at once.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n?|\n)(?:\r\n?|\n)")
_LINE_END: Final = re.compile(rb"\r\n?|\n")
_CONTEXT: Final = 2  # bytes before new ones that may belong to the match: CR LF


class ReceivedStream:
    """The client's end of one response; made by :func:`open_stream`.

    Reading goes block by block, whichever method does it, and takes no byte beyond the block.
    Cancellation: nothing is lost by cancelling any of the methods; what a cancelled one waited
    for is read by the next.

    Attributes:
        status: The status code.
        headers: The response's headers by their names, which are in lower case; the values of one
            that is repeated are joined by ``", "``.
        raw_headers: The response's headers as they were sent.
    """

    def __init__(self, exchange: Exchange, *, last_event_id: str, max_bytes: int) -> None:
        assert exchange.status is not None
        self.status = exchange.status
        self.raw_headers = exchange.headers
        self.headers: dict[str, str] = {}
        for name, value in ((n.decode(), v.decode("latin-1")) for n, v in exchange.headers):
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self._exchange = exchange
        self._decoder = EventStreamDecoder(last_event_id=last_event_id, max_event_bytes=None)
        self._max_bytes = max_bytes
        self._partial = bytearray()  # the beginning of a block, taken out of the window
        self._after_cr = False  # the last block ended in a CR: a LF would belong to it

    @property
    def unread(self) -> bytes:
        """What has arrived and has not been read. Nothing else arrived if this is empty."""
        return bytes(self._partial + self._exchange.sent)

    @property
    def last_event_id(self) -> str:
        """The last event ID after the blocks that were read: what a client reconnects with."""
        return self._decoder.last_event_id

    @property
    def reconnection_time(self) -> int | None:
        """The last ``retry`` among the blocks that were read, in milliseconds."""
        return self._decoder.reconnection_time

    @property
    def blocked(self) -> bool:
        """Whether the application is held up in ``send()``, more than the window being unread."""
        return self._exchange.full and not (self._exchange.disconnected or self._exchange.ended)

    @property
    def ended(self) -> bool:
        """Whether the application has returned, raised or been cancelled."""
        return self._exchange.ended

    async def receive(self) -> ServerSentEvent:
        """Read up to the next event and return it; comments are skipped.

        Raises: as :meth:`receive_block`.
        """
        while True:
            events = self._decoder.feed(await self._next_block())
            if events:
                return events[0]

    async def receive_block(self) -> bytes:
        """Read the next block, comments included, with the blank line that ends it.

        Raises:
            trio.EndOfChannel: The body is at its end, or the client has disconnected. A tail
                without a blank line is no block and stays in :attr:`unread`.
            ApplicationFault: The application broke a rule, or the block exceeds ``max_bytes``.
            Exception: What the application raised, if that cut the body short.
        """
        block = await self._next_block()
        self._decoder.feed(block)
        return block

    def __aiter__(self) -> ReceivedStream:
        return self

    async def __anext__(self) -> ServerSentEvent:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def read_body(self) -> bytes:
        """Read on to the end of the body and return it: for responses that are no stream.

        Raises:
            ApplicationFault: The application broke a rule, or the body exceeds ``max_bytes``.
            Exception: What the application raised, if that cut the body short.
        """
        while await self._read_on():
            pass
        body = self.unread
        self._partial.clear()
        return body

    async def wait_ended(self) -> None:
        """Wait until the application has ended. This reads nothing.

        Raises:
            ApplicationFault: The application broke a rule.
            Exception: What the application raised.
        """
        await self._exchange.until(lambda: self.ended)
        self._exchange.show_fault()

    def disconnect(self) -> None:
        """Be the client that goes away: the application's ``receive()`` tells it.

        A ``send()`` that was blocked goes on, and what is sent from now on is dropped: without a
        word, or with an ``OSError`` if ``spec_version`` is 2.4 or higher.
        """
        self._exchange.disconnect()

    def cancel(self) -> None:
        """Be the server that shuts down for good: cancel the application."""
        self._exchange.cancel()

    async def _next_block(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while (size := self._rest_of_block()) is None:
            if not await self._read_on():
                raise trio.EndOfChannel
        block = bytes(self._partial) + bytes(self._exchange.sent[:size])
        self._partial.clear()
        del self._exchange.sent[:size]
        self._exchange.notify()
        self._after_cr = block.endswith(b"\r")
        return block

    def _rest_of_block(self) -> int | None:
        """How many of the bytes in the socket complete the block; ``None``: not all are there."""
        context = bytes(self._partial[-_CONTEXT:])
        text = context + self._exchange.sent
        match = None
        if not self._partial:
            match = _LINE_END.match(text, int(self._after_cr and text.startswith(b"\n")))
        match = match or _BLANK_LINE.search(text)
        return None if match is None else match.end() - len(context)

    async def _read_on(self) -> bool:
        """Take what is in the socket and wait for more; ``False``: the body is at its end."""
        exchange = self._exchange
        self._partial += exchange.sent
        exchange.sent.clear()
        exchange.notify()
        if len(self._partial) > self._max_bytes:
            raise ApplicationFault(f"{self._max_bytes} bytes without an end (max_bytes)")
        await exchange.until(lambda: bool(exchange.sent) or exchange.over)
        if exchange.sent:
            return True
        if not exchange.complete and not exchange.disconnected:
            exchange.show_fault()
        return False


@asynccontextmanager
async def open_stream(
    app: ASGIApp,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str | None] | None = None,
    body: bytes = b"",
    client: tuple[str, int] = ("127.0.0.1", 50000),
    scheme: str = "http",
    host: str = "127.0.0.1:8000",
    root_path: str = "",
    extensions: Mapping[str, Any] | None = None,
    spec_version: str = DEFAULT_SPEC_VERSION,
    window: int = DEFAULT_WINDOW,
    max_bytes: int = DEFAULT_MAX_BYTES,
    late_head: bool = False,
) -> AsyncIterator[ReceivedStream]:
    """Send one request to ``app`` and give the block the client's end of the response.

    The block begins when the head has come and all tasks wait, so that ``stream.unread`` holds
    all that the application sends at once (or more than ``window`` of it). An event stream that
    sends its head and then waits is a fault: a server may hold the head back until the first
    body, and its clients wait for their ``open`` event. Send an empty body, or a comment, at once.

    Leaving the block disconnects, and the application has to end by what it can do without time
    passing. If it cannot, it is cancelled, and that is a fault: on a server it would leak a task
    for each client that left. Let it take its time by ``stream.disconnect()`` and
    ``await stream.wait_ended()``. An application that shields itself from being cancelled holds
    up the test, as it would hold up the server; its blocked ``send()`` does not, shielded or not.

    What the application raises is raised unchanged, by whichever comes first: the opening, a
    method of the stream that cannot go on without it, or else the end of the block. The same goes
    for a body that it cuts off by returning too early; where that is meant, expect the fault from
    reading on. What the block raises comes out unchanged too. A group means that both failed.

    Args:
        app: The application.
        path: The request target: the path as it is in a URL, percent-encoded, and the query.
        method: The request's method. The body of a response to HEAD is dropped.
        headers: Request headers; values are sent as UTF-8. ``accept: text/event-stream`` and
            ``host`` are there by default, and ``None`` leaves one out.
        body: The request's body.
        client: The client's address and port, as the application sees them.
        scheme: ``"http"`` or ``"https"``.
        host: The server's name, and port if it has one.
        root_path: As in the ASGI scope.
        extensions: The extensions in the ASGI scope.
        spec_version: The version of ASGI's HTTP specification that the server claims.
        window: How many bytes may lie unread before ``send()`` blocks.
        max_bytes: How long a block, or a body that is read whole, may be.
        late_head: ``True`` lets an event stream wait between its head and its first body.

    Raises:
        ValueError: ``path`` is not the beginning of a path, or not ASCII.
        ApplicationFault: The application broke a rule of ASGI, or went on without its client.
        Exception: What the application raised.

    Cancellation: the application is cancelled as well.
    """
    if not path.startswith("/"):
        raise ValueError(f"path begins with a slash: {path!r}")
    url = urlsplit(f"//{host}")
    raw_path, _, query = path.encode("ascii").partition(b"?")
    fields: dict[str, str | None] = {"host": host, "accept": "text/event-stream"}
    fields |= {name.lower(): value for name, value in (headers or {}).items()}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": root_path,
        "headers": [(k.encode("ascii"), v.encode()) for k, v in fields.items() if v is not None],
        "client": client,
        "server": (url.hostname, url.port or (443 if scheme == "https" else 80)),
        "state": {},
        "extensions": dict(extensions or {}),
    }
    exchange = Exchange(scope=scope, body=body, window=window)
    errors: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.run, app)
            try:
                await exchange.open(late_head=late_head)
                yield ReceivedStream(
                    exchange, last_event_id=fields.get("last-event-id") or "", max_bytes=max_bytes
                )
                await exchange.leave()
            finally:
                exchange.disconnect()  # so that no send() is blocked, however this ends
    except BaseExceptionGroup as group:
        errors += group.exceptions
    if exchange.fault is not None and not exchange.fault_shown:
        errors.append(exchange.fault)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("the block and the application both failed", errors)


async def advance(seconds: float) -> None:
    """Move the mock clock on, and let everybody do what there was to do in that time.

    Deadlines on the way are met one after the other, each at its time: a minute with a heartbeat
    every 15 s is four heartbeats. Returns when every task waits for something that is later.
    ``advance(0)`` is "let them finish what they can do now".

    Args:
        seconds: How far, in seconds.

    Raises:
        RuntimeError: This run has no :class:`trio.testing.MockClock`.

    Cancellation: the time that has passed has passed.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        raise RuntimeError(  # noqa: TRY004 # no argument has a wrong type
            "advance moves a trio.testing.MockClock: give the test pytest-trio's fixture "
            "mock_clock or autojump_clock"
        )
    end = trio.current_time() + seconds
    while True:
        await trio.testing.wait_all_tasks_blocked()
        left = end - trio.current_time()
        step = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if step > left + _CLOCK_NOISE:
            clock.jump(max(left, 0))
            return
        clock.jump(step)
