"""The same application gives the same head and the same body, whichever way its bytes take.

A lane is such a way: Hypercorn, our server with the pump, and everything that keeps a stream away
from the pump. The reference is the application without any server, in memory.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, Protocol
from unittest import mock

import attrs
import h11
import pytest
import trio
import trustme
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

import sselib.hypercorn
import sselib.pump
from sselib import Comment, EventChannel, EventStream, MemoryLog, ServerSentEvent, StreamPolicy
from sselib.log import Retention
from sselib.server import Server
from sselib.stream import ASGIApp, Message, Receive, Scope, Send, SendEvent
from sselib.testing import open_stream

from .servers import Client, connected, serving, until

# A generator of Starlette's own, which its BaseHTTPMiddleware left open in the first versions that
# we admit.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <async_generator object Request.stream"
    ":pytest.PytestUnraisableExceptionWarning"
)

CONNECTED = b": connected\n\n"
# What belongs to the connection, or to the moment, and not to the application.
NOT_THE_APPLICATIONS = {b"date", b"server", b"connection", b"transfer-encoding", b"content-length"}


class Response(Protocol):
    """A client's end of a response."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...

    async def until(self, mark: bytes) -> None:
        """Read up to this mark."""
        ...

    async def all(self) -> bytes:
        """Read the rest, and return the whole body."""
        ...


Ask = Callable[..., AbstractAsyncContextManager[Response]]


@attrs.define
class InMemory:
    stream: Any
    body: bytearray = attrs.Factory(bytearray)

    @property
    def status(self) -> int:
        return int(self.stream.status)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.encode(), value.encode()) for name, value in self.stream.headers.items()]

    async def until(self, mark: bytes) -> None:
        start = 0
        while mark not in self.body[start:]:
            start = max(0, len(self.body) - len(mark))
            self.body += await self.stream.receive_block()

    async def all(self) -> bytes:
        self.body += await self.stream.read_body()
        return bytes(self.body)


@attrs.define
class OnTheWire:
    client: Client
    head: h11.Response
    decode: Callable[[bytes], bytes] = bytes
    body: bytearray = attrs.Factory(bytearray)

    @property
    def status(self) -> int:
        return self.head.status_code

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.head.headers)

    async def until(self, mark: bytes) -> None:
        start = 0
        while mark not in self.body[start:]:
            start = max(0, len(self.body) - len(mark))
            self.body += self.decode(await self.client.read_some())

    async def all(self) -> bytes:
        self.body += self.decode(await self.client.read_all())
        return bytes(self.body)


class Deflating:
    """A middleware that compresses every body, each piece at once."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        press = zlib.compressobj()

        async def pressed(message: Message) -> None:
            if message["type"] == "http.response.body" and scope["method"] != "HEAD":
                more = message.get("more_body", False)
                data = press.compress(message.get("body", b""))
                data += press.flush(zlib.Z_SYNC_FLUSH if more else zlib.Z_FINISH)
                message = {**message, "body": data}
            await send(message)

        await self.app(scope, receive, pressed)


class CountedBytes(BaseHTTPMiddleware):
    """A middleware that hands a body over to another task."""

    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


# ---- the lanes -----------------------------------------------------------------------------------


@asynccontextmanager
async def in_memory(app: ASGIApp) -> AsyncIterator[Ask]:
    @asynccontextmanager
    async def ask(
        method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncIterator[Response]:
        async with open_stream(app, "/", method=method, headers=headers, body=body) as stream:
            yield InMemory(stream)

    yield ask


def on(
    make: Callable[..., Any],
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    *,
    is_pressed: bool = False,
    version: bytes = b"1.1",
    has_tls: bool = False,
) -> Callable[[ASGIApp], AbstractAsyncContextManager[Ask]]:
    """Return a lane on a server.

    Args:
        make: Makes the server of the application.
        wrap: What stands in front of it.
        is_pressed: Whether that compresses.
        version: The version of HTTP that the client speaks.
        has_tls: Whether it speaks TLS.
    """

    @asynccontextmanager
    async def lane(app: ASGIApp) -> AsyncIterator[Ask]:
        options: dict[str, Any] = {}
        tls = None
        if has_tls:
            authority = trustme.CA()
            options["ssl_context"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost").configure_cert(options["ssl_context"])
            tls = ssl.create_default_context()
            authority.configure_trust(tls)
        server = make(wrap(app), options)

        @asynccontextmanager
        async def ask(
            method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
        ) -> AsyncIterator[Response]:
            async with connected(served.address, tls=tls) as client:
                head = await client.send(method, "/", headers or {}, body, version)
                decode = zlib.decompressobj().decompress if is_pressed else bytes
                yield OnTheWire(client, head, decode)

        async with serving(server, app) as served:
            yield ask
            await served.cancel()

    return lane


class Hypercorn:
    """Hypercorn, as a server of one application."""

    def __init__(self, app: ASGIApp, _: object) -> None:
        self._app = app

    async def serve(self, _: ASGIApp, **options: Any) -> None:
        await sselib.hypercorn.serve(self._app, **options)


class Ours:
    """Our server, as a server of one application."""

    made: ClassVar[list[Server]] = []

    def __init__(self, app: ASGIApp, options: Any) -> None:
        self._app = app
        self._options = options

    async def serve(self, _: ASGIApp, *, port: int, **options: Any) -> None:
        server = Server(self._app, port=port, **self._options)
        self.made.append(server)
        await server.serve(**options)


class OursElsewhere(Ours):
    """Our server on a system that has nothing a pump could use."""

    async def serve(self, _: ASGIApp, **options: Any) -> None:
        with mock.patch.object(sselib.pump, "select", object()):
            await super().serve(_, **options)


LANES: dict[str, Callable[[ASGIApp], AbstractAsyncContextManager[Ask]]] = {
    "memory": in_memory,
    "hypercorn": on(Hypercorn),
    "pump": on(Ours),
    "pump-1.0": on(Ours, version=b"1.0"),
    "no-pump": on(OursElsewhere),
    "tls": on(Ours, has_tls=True),
    "gzip": on(Ours, GZipMiddleware),
    "deflate": on(Ours, Deflating, is_pressed=True),
    "base-http": on(Ours, CountedBytes),
}


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest) -> Callable[[ASGIApp], AbstractAsyncContextManager[Ask]]:
    return LANES[request.param]


# ---- what is asked for on all of them ------------------------------------------------------------


def new_channel(**options: Any) -> EventChannel:
    """A channel whose ids are the same each time."""
    retention = Retention(entries=5000, size=64 * 1024 * 1024)
    log = MemoryLog(clock=lambda: 1_700_000_000_000, make_tag=lambda: "tag", retention=retention)
    return EventChannel(log, **options)


def an_id(number: int) -> str:
    return f"tag-1700000000000-{number}"


def block(number: int, text: str, event: str = "") -> bytes:
    kind = f"event: {event}\n" if event else ""
    return f"id: {an_id(number)}\n{kind}data: {text}\n\n".encode()


def of_application(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return sorted((n, v) for n, v in headers if n not in NOT_THE_APPLICATIONS)


OWN_HEADERS = [
    (b"cache-control", b"no-cache, no-transform"),
    (b"content-type", b"text/event-stream"),
    (b"x-accel-buffering", b"no"),
]


async def test_what_is_published_while_a_client_is_there(lane: Any) -> None:
    """Head, first bytes, events one by one and several at once, the end."""
    channel = new_channel()
    app = EventStream(channel, headers={"x-own": "1"})
    async with lane(app) as ask, ask() as response:
        assert response.status == 200
        assert of_application(response.headers) == [*OWN_HEADERS, (b"x-own", b"1")]
        await response.until(CONNECTED)
        expected = CONNECTED
        for number in range(5):
            channel.publish_nowait(ServerSentEvent(f"{number}", event="one"))
            expected += block(number, f"{number}", "one")
            await response.until(expected)
        for number in range(5, 300):
            channel.publish_nowait(ServerSentEvent(f"{number}"))
            expected += block(number, f"{number}")
        channel.publish_nowait(ServerSentEvent("over"), end=True)
        assert await response.all() == expected + block(300, "over")


async def test_a_joiner_is_told_of_its_gap_and_given_the_state(lane: Any) -> None:
    """Comment, gap event and snapshot come as one, then what is new."""
    channel = new_channel()
    for key in ("a", "b", "a"):
        channel.publish_nowait(ServerSentEvent(f"of {key}"), key=key)
    app = EventStream(
        channel, gap_event=ServerSentEvent("", event="gap"), policy=StreamPolicy(retry=1234)
    )
    async with lane(app) as ask, ask(headers={"last-event-id": "nonsense"}) as response:
        await response.until(b"id: " + an_id(2).encode())
        channel.publish_nowait(ServerSentEvent("over"), end=True)
        assert await response.all() == (
            CONNECTED
            + b"retry: 1234\n\n: gap: unreadable\n\nid: \nevent: gap\ndata: \n\n"
            + b"data: of b\n\n"
            + block(2, "of a")
            + block(3, "over")
        )


async def test_who_comes_back_is_given_what_it_missed(lane: Any) -> None:
    """Everything after its last event ID, once, also what is older than the window."""
    channel = new_channel(window_entries=3)
    async with channel.subscribe(), lane(EventStream(channel)) as ask:  # so there is a window
        for number in range(1200):
            channel.publish_nowait(ServerSentEvent(f"{number}"))
        async with ask(headers={"last-event-id": an_id(9)}) as response:
            await response.until(block(1199, "1199"))
            channel.publish_nowait(ServerSentEvent("live"))
            await response.until(block(1200, "live"))
            channel.publish_nowait(ServerSentEvent("over"), end=True)
            missed = b"".join(block(number, f"{number}") for number in range(10, 1200))
            expected = CONNECTED + missed + block(1200, "live") + block(1201, "over")
            assert await response.all() == expected
        async with ask(headers={"last-event-id": an_id(1201)}) as response:
            assert response.status == 204
            assert await response.all() == b""


async def test_a_client_that_read_nothing_for_long_is_given_everything(lane: Any) -> None:
    """More than any socket holds and than the window holds: the log has it, in order, once."""
    channel = new_channel(window_entries=20)
    padding = "x" * 10_000
    async with lane(EventStream(channel)) as ask, ask() as response:
        await response.until(CONNECTED)
        for number in range(900):  # 9 MB
            channel.publish_nowait(ServerSentEvent(f"{number} {padding}"))
            if number % 10 == 0:
                await trio.lowlevel.checkpoint()  # for the server to write what it can
        await response.until(b"data: 899 " + padding.encode() + b"\n\n")
        channel.publish_nowait(ServerSentEvent("live"))
        await response.until(block(900, "live"))
        channel.close()
        everything = b"".join(block(number, f"{number} {padding}") for number in range(900))
        assert await response.all() == CONNECTED + everything + block(900, "live")


async def test_one_large_event(lane: Any) -> None:
    """An event larger than a batch, a window and a socket's buffer arrives whole."""
    channel = new_channel()
    text = "y" * 8_000_000
    async with lane(EventStream(channel)) as ask, ask() as response:
        await response.until(CONNECTED)
        channel.publish_nowait(ServerSentEvent(text))
        channel.publish_nowait(ServerSentEvent("small"), end=True)
        assert await response.all() == CONNECTED + block(0, text) + block(1, "small")


@pytest.mark.parametrize(("ids", "says"), [("none", False), ("end", True)])
async def test_streams_with_few_ids(lane: Any, ids: Any, says: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """Bare blocks, and with "end" one id, on the last."""
    channel = new_channel()
    policy = StreamPolicy(ids=ids)
    async with lane(EventStream(channel, policy=policy)) as ask, ask() as response:
        await response.until(CONNECTED)
        channel.publish_nowait(ServerSentEvent("one"))
        await response.until(b"data: one\n\n")
        channel.publish_nowait(ServerSentEvent("two"), end=True)
        last = block(1, "two") if says else b"data: two\n\n"
        assert await response.all() == CONNECTED + b"data: one\n\n" + last


async def test_superseded_progress_is_left_out_for_who_is_behind(lane: Any) -> None:
    """Published in one step, only the last of a coalescing key is sent."""
    channel = new_channel()
    async with lane(EventStream(channel)) as ask, ask() as response:
        await response.until(CONNECTED)
        for number in range(100):
            channel.publish_nowait(ServerSentEvent(f"{number} %"), key="k", coalesce=True)
        channel.publish_nowait(ServerSentEvent("done"), end=True)
        expected = CONNECTED + block(99, "99 %") + block(100, "done")
        assert await response.all() == expected


@pytest.mark.parametrize("mode", ["idle", "interval"])
async def test_heartbeats_and_the_maximum_age(lane: Any, mode: Any) -> None:
    """A stream that says nothing says its comment, and ends when it is too old."""
    channel = new_channel()
    policy = StreamPolicy(
        heartbeat=0.05,
        heartbeat_mode=mode,
        heartbeat_comment="hey",
        max_age=0.5,
        max_age_jitter=0,
    )
    async with lane(EventStream(channel, policy=policy)) as ask, ask() as response:
        await response.until(CONNECTED)
        channel.publish_nowait(ServerSentEvent("one"))
        await response.until(b": hey\n\n: hey\n\n")
        channel.publish_nowait(ServerSentEvent("two"))
        body = await response.all()
        assert body.replace(b": hey\n\n", b"") == CONNECTED + block(0, "one") + block(1, "two")
        assert 2 <= body.count(b": hey\n\n") <= 10


async def test_a_closed_channel_is_the_end_of_the_body(lane: Any) -> None:
    """What was published before is there, and the body ends properly."""
    channel = new_channel()
    async with lane(EventStream(channel)) as ask, ask() as response:
        await response.until(CONNECTED)
        channel.publish_nowait(ServerSentEvent("last"))
        channel.close()
        assert await response.all() == CONNECTED + block(0, "last")


async def test_a_deleted_topic_is_the_end_of_the_body(lane: Any) -> None:
    """Who is subscribed to it is given what was published before."""
    channel = new_channel()
    async with lane(EventStream(channel)) as ask, ask() as response:
        await response.until(CONNECTED)
        channel.publish_nowait(ServerSentEvent("last"))
        await response.until(block(0, "last"))
        await channel.log.delete("")
        assert await response.all() == CONNECTED + block(0, "last")


async def test_head_and_post(lane: Any) -> None:
    """HEAD is answered with the head alone; a POST with a body is a stream like any other."""
    channel = new_channel()
    async with lane(EventStream(channel)) as ask:
        async with ask("HEAD") as response:
            assert response.status == 200
            assert of_application(response.headers) == OWN_HEADERS
            assert await response.all() == b""
        async with ask("POST", body=b"a body that nobody reads") as response:
            await response.until(CONNECTED)
            channel.publish_nowait(ServerSentEvent("over"), end=True)
            assert await response.all() == CONNECTED + block(0, "over")


async def test_a_stream_of_ones_own(lane: Any) -> None:
    """What a function sends goes the same ways."""

    async def count(send: SendEvent) -> None:
        for number in range(3):
            await send(ServerSentEvent(f"{number}", id=f"{number}"))
        await send(Comment("that was it"))

    async with lane(EventStream(count)) as ask, ask() as response:
        assert await response.all() == CONNECTED + b"".join(
            b"id: %d\ndata: %d\n\n" % (number, number) for number in range(3)
        ) + (b": that was it\n\n")


async def test_a_client_that_fell_behind_the_log(lane: Any) -> None:
    """With lag="restart" it is told, and goes on as if it had just joined."""
    retention = Retention(entries=10)
    log = MemoryLog(clock=lambda: 1_700_000_000_000, make_tag=lambda: "tag", retention=retention)
    channel = EventChannel(log, window_entries=5)
    policy = StreamPolicy(lag="restart")
    async with lane(EventStream(channel, policy=policy)) as ask, ask() as response:
        await response.until(CONNECTED)
        for number in range(100):  # at one moment: nobody can have been given the first of them
            channel.publish_nowait(ServerSentEvent(f"{number}"), key="k")
        await response.until(b": gap: trimmed\n\n" + block(99, "99"))
        channel.publish_nowait(ServerSentEvent("over"), end=True)
        expected = CONNECTED + b": gap: trimmed\n\n" + block(99, "99") + block(100, "over")
        assert await response.all() == expected


# ---- that the lanes are what they are called -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lanes"),
    [
        *(("pump", 1), ("pump-1.0", 1), ("gzip", 1)),
        *(("no-pump", 0), ("tls", 0), ("deflate", 0), ("base-http", 0)),
    ],
)
async def test_which_lane_a_stream_takes(name: str, lanes: int) -> None:
    """The fast one where nothing touches the bytes, and no other."""
    channel = new_channel()
    async with LANES[name](EventStream(channel)) as ask, ask() as response:
        server = Ours.made[-1]
        await response.until(CONNECTED)
        channel.publish_nowait(ServerSentEvent("one"))
        await response.until(b"data: one\n\n")
        await until(lambda: server.statistics().lanes == lanes)
        if not lanes:
            await trio.testing.wait_all_tasks_blocked()
            assert server.statistics().lanes == 0
