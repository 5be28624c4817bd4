"""What is special about our server: HTTP/1.1 to the letter, and clients that mean harm.

That it serves as every server does, test_servers shows; that streams are the same on all ways,
test_lanes; here are requests that are no streams, and what a client can do to it.
"""

from __future__ import annotations

import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import h11
import pytest
import trio
import trustme
from hypothesis import example, given
from hypothesis import strategies as st

import sselib.server
from sselib import EventChannel, EventStream, ServerSentEvent
from sselib.connection import Connection, Service
from sselib.registry import StreamRegistry
from sselib.requests import PIPELINED_BYTES, Limits
from sselib.server import Server
from sselib.stream import ASGIApp, Receive, Scope, Send
from sselib.transport import ClientGone

from .servers import SOON, Served, connected, serving, until

CONNECTED = b": connected\n\n"


async def body_of(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def answer(send: Send, *bodies: bytes, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    for body in bodies[:-1]:
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": bodies[-1]})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request itself."""
    assert scope["type"] == "http"
    body = await body_of(receive)
    line = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} ".encode()
    await answer(send, line, body)


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without reading."""
    await answer(send, b"silent")


@asynccontextmanager
async def talking(app: ASGIApp, **options: Any) -> AsyncIterator[Talk]:
    """Serve, and give a client that says what it is told."""
    async with serving(sselib.server, app, **options) as served:
        async with connected(served.address) as client:
            yield Talk(client.stream, served)
        await served.cancel()


class Talk:
    """A client that sends bytes, and reads responses."""

    def __init__(self, stream: trio.abc.Stream, served: Served | None = None) -> None:
        self.stream = stream
        self.served = served
        self._data = b""
        self._is_over = False

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def hear(self, *, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
        """Read one response: status, headers, body."""
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        http.send(h11.EndOfMessage())
        if self._data:
            http.receive_data(self._data)
        status, headers, body = 0, {}, b""
        while True:  # noqa: ASYNC913 # h11 needs data, or is at the end
            event = http.next_event()
            if event is h11.NEED_DATA:
                with trio.fail_after(SOON):
                    http.receive_data(bytes(await self.stream.receive_some(65_536)))
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._data = http.trailing_data[0]
                return status, headers, body

    async def hear_raw(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._data) < size:
            with trio.fail_after(SOON):
                data = await self.stream.receive_some(65_536)
            assert data, f"it ended after {self._data!r}"
            self._data += data
        data, self._data = self._data[:size], self._data[size:]
        return data

    async def end(self) -> bytes:
        """Read to the end of the connection, which has to come without a reset."""
        while True:
            with trio.fail_after(SOON):
                data = await self.stream.receive_some(65_536)
            if not data:
                return self._data
            self._data += data

    async def cut(self) -> bytes:
        """Read to where the connection breaks."""
        with suppress(trio.BrokenResourceError), trio.fail_after(SOON):
            while data := await self.stream.receive_some(65_536):
                self._data += data
        return self._data


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


# ---- requests and responses ----------------------------------------------------------------------


async def test_a_connection_serves_one_request_after_the_other() -> None:
    """It stays open, whatever kinds of bodies went over it."""
    async with talking(echo) as talk:
        for _ in range(3):
            await talk.say(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc")
            assert (await talk.hear())[::2] == (200, b"POST /a  abc")
            await talk.say(GET)
            assert (await talk.hear())[::2] == (200, b"GET /  ")


async def test_requests_that_come_all_at_once_are_answered_in_order() -> None:
    """Pipelined, cut anywhere, with and without bodies."""
    chunked = b"POST /3 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    asked = (
        b"GET /1 HTTP/1.1\r\nhost: x\r\n\r\n"
        b"POST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"
        + chunked
        + b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\ntrailer: 1\r\n\r\n"
        + b"GET /4 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    async with talking(echo) as talk:
        for start in range(0, len(asked), 7):
            await talk.say(asked[start : start + 7])
            await trio.lowlevel.checkpoint()
        heard = [(await talk.hear())[2] for _ in range(4)]
        assert heard == [b"GET /1  ", b"POST /2  hi", b"POST /3  abc", b"GET /4  "]
        assert await talk.end() == b""


async def test_large_bodies_both_ways() -> None:
    """Four megabytes there and back, without the server holding up either end."""
    body = bytes(range(256)) * 16_384
    async with talking(echo) as talk, trio.open_nursery() as nursery:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        nursery.start_soon(talk.say, head + body)
        assert (await talk.hear())[2] == b"POST /  " + body


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked() -> None:
    """Expect: 100-continue is answered when the application reads, and not before."""
    async with talking(echo) as talk:
        await talk.say(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
        asking = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await talk.hear_raw(len(asking)) == asking
        await talk.say(b"hi")
        assert (await talk.hear())[2] == b"POST /  hi"
        await talk.say(GET)  # the connection is as good as before
        assert (await talk.hear())[0] == 200


async def test_a_body_that_nobody_asks_for_is_not_sent() -> None:
    """An application that does not read answers at once, and the connection ends."""
    async with talking(silent) as talk:
        await talk.say(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
        assert (await talk.hear())[::2] == (200, b"silent")
        assert await talk.end() == b""


async def test_a_body_that_nobody_reads_does_not_cost_the_response() -> None:
    """The client can send all of it and still read its response: no reset overtakes that."""
    async with talking(silent) as talk:
        await talk.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n")
        with suppress(trio.BrokenResourceError):
            for _ in range(50):
                await talk.say(b"x" * 10_000)
                await trio.lowlevel.checkpoint()
        assert (await talk.hear())[::2] == (200, b"silent")


@pytest.mark.parametrize(
    ("head", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)], ids=["head", "204", "304"]
)
async def test_responses_that_have_no_body(head: bytes, status: int) -> None:
    """What the application sends as one is dropped, and the next response is found."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"5")] if scope["method"] == "HEAD" else []
        await answer(send, b"hello", status=status, headers=headers)

    async with talking(app) as talk:
        for _ in range(2):
            await talk.say(head + b" / HTTP/1.1\r\nhost: x\r\n\r\n")
            heard, headers, body = await talk.hear(method=head.decode())
            assert (heard, body) == (status, b"")
            assert headers.get(b"content-length") == (b"5" if head == b"HEAD" else None)
            assert b"transfer-encoding" not in headers


async def test_http_1_0_ends_a_body_with_the_connection() -> None:
    """A client of HTTP/1.0 is sent no chunks."""
    async with talking(echo) as talk:
        await talk.say(b"GET /old HTTP/1.0\r\n\r\n")
        head, _, body = (await talk.end()).partition(b"\r\n\r\n")
        assert body == b"GET /old  "
        assert b"connection: close" in head
        assert b"transfer-encoding" not in head


async def test_a_body_of_one_piece_says_its_length() -> None:
    """So no chunks are needed; a date is there, the application's own if it has one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given = [(b"Date", b"today"), (b"X-A", b"1"), (b"X-A", b"2")]
        await answer(send, b"hello", headers=given if scope["path"] == "/own" else [])

    async with talking(app) as talk:
        await talk.say(GET)
        _, headers, _ = await talk.hear()
        assert headers[b"content-length"] == b"5"
        assert headers[b"date"].endswith(b" GMT")
        await talk.say(b"GET /own HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await talk.hear())[1][b"date"] == b"today"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%20b/%C3%A4?x=%20", "/a b/ä", b"x=%20"),
        (b"http://else.where/p?q", "/p", b"q"),
        (b"http://else.where", "/", b""),
        (b"*", "*", b""),
        (b"/%FF", "/\ufffd", b""),
    ],
)
async def test_targets_become_paths(target: bytes, path: str, query: bytes) -> None:
    """Decoded, without the query, also from the form that proxies are sent."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        seen.append(scope)
        await answer(send, b"")

    async with talking(app) as talk:
        await talk.say(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\nX-Y: z\r\n\r\n")
        assert (await talk.hear())[0] == 200
        [scope] = seen
        assert (scope["path"], scope["query_string"]) == (path, query)
        assert scope["headers"] == [(b"host", b"x"), (b"x-y", b"z")]
        assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
        assert scope["scheme"] == "http"


async def test_what_the_lifespan_leaves_is_in_every_request() -> None:
    """Its state is copied into each, so that one request cannot change another's."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["count"] = 1
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        scope["state"]["count"] += 1
        await answer(send, b"%d" % scope["state"]["count"])

    async with talking(app) as talk:
        for _ in range(2):
            await talk.say(GET)
            assert (await talk.hear())[2] == b"2"


async def test_a_client_that_has_sent_all_may_close_its_half() -> None:
    """It is answered all the same."""
    async with talking(echo) as talk:
        await talk.say(GET)
        assert isinstance(talk.stream, trio.SocketStream)
        await talk.stream.send_eof()
        assert (await talk.hear())[0] == 200
        assert await talk.end() == b""


async def test_processes_share_a_port() -> None:
    """With reuse_port, two servers listen on one port."""
    async with serving(sselib.server, echo, reuse_port=True, port=0) as one:
        port = one.addresses[0][1]
        async with serving(sselib.server, silent, reuse_port=True, port=port) as other:
            assert one.addresses == other.addresses
            heard: set[bytes] = set()
            while len(heard) < 2:
                async with connected(one.address) as client:
                    await Talk(client.stream).say(GET)
                    heard.add((await Talk(client.stream).hear())[2])
            await other.cancel()
        await one.cancel()


async def test_statistics_say_what_the_server_does() -> None:
    """Connections, streams in the fast lane, and what was written."""
    channel = EventChannel()
    server = Server(EventStream(channel), port=0)
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(server.serve)
        async with connected(address) as client, connected(address):
            await client.get("/")
            await client.read_until(CONNECTED)
            channel.publish_nowait(ServerSentEvent("one"))
            await client.read_until(b"data: one\n\n")
            await trio.testing.wait_all_tasks_blocked()
            now = server.statistics()
            assert (now.connections, now.lanes, now.streams.streams) == (2, 1, 1)
            assert now.streams.events == 1
            assert now.streams.bytes_written > len(CONNECTED + b"data: one\n\n")
            assert channel.statistics().lag == 0
        await until(lambda: not server.statistics().connections)
        assert server.statistics().streams.ended == {"disconnected": 1}
        assert server.statistics().streams.events == 1
        nursery.cancel_scope.cancel()


# ---- applications that fail ----------------------------------------------------------------------


async def raise_at_once(send: Send) -> None:
    raise LookupError("no such thing")


async def return_at_once(send: Send) -> None:
    pass


async def inject(send: Send) -> None:
    await answer(send, b"", headers=[(b"x", b"a\r\nset-cookie: b")])


async def promise_nonsense(send: Send) -> None:
    await answer(send, b"", headers=[(b"content-length", b"-1")])


async def begin_with_the_body(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"hello"})


async def say_continue(send: Send) -> None:
    await answer(send, b"", status=100)


@pytest.mark.parametrize(
    "fail",
    [
        raise_at_once,
        return_at_once,
        inject,
        promise_nonsense,
        begin_with_the_body,
        say_continue,
    ],
)
async def test_an_application_that_fails_before_its_response(
    fail: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets a 500 without details, the log gets them, and the server goes on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await fail(send)

    async with talking(app) as talk:
        await talk.say(GET)
        status, headers, body = await talk.hear()
        assert (status, body) == (500, b"500 Internal Server Error\n")
        assert headers[b"connection"] == b"close"
        assert await talk.end() == b""
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert bool(errors) is (fail is not return_at_once)
        caplog.clear()


async def raise_later(send: Send) -> None:
    raise LookupError("no such thing")


async def return_early(send: Send) -> None:
    pass


async def promise_too_much(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def promise_too_little(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})


@pytest.mark.parametrize("fail", [raise_later, return_early, promise_too_much, promise_too_little])
@pytest.mark.parametrize("length", [b"100", None])
async def test_an_application_that_fails_in_its_response(
    fail: Any, length: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection is cut, so that no client takes the response for whole."""
    if length is None and fail in (promise_too_much, promise_too_little):
        return  # without a promise they are right

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        headers = [] if length is None else [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        await fail(send)

    async with talking(app) as talk:
        await talk.say(GET)
        heard = await talk.cut()
        assert not heard.endswith(b"0\r\n\r\n")
        assert len(heard.partition(b"\r\n\r\n")[2]) < 100
        caplog.clear()


async def test_a_failure_while_the_server_stops_is_told_and_does_not_hold_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An application whose cleaning up fails when it is cancelled does not fail the server."""
    hanging = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

        async def fail() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError("while cleaning up")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)
            hanging.set()

    async with serving(sselib.server, app) as served, connected(served.address) as client:
        await client.ask("/")
        await hanging.wait()
        await served.cancel()
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "the application failed at '/'"
    ]


# ---- clients that mean harm ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbad name: 1\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        (
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nTransfer-Encoding:chunked\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000001\r\n\r\n", 413),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000, 431),
    ],
)
async def test_requests_that_are_none(request_bytes: bytes, status: int) -> None:
    """Each is refused with a status that says why, and the application is not asked."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(scope)

    limits = Limits(max_head_bytes=10_000, max_body_bytes=1_000_000)
    async with talking(app, limits=limits) as talk:
        with suppress(trio.BrokenResourceError):
            await talk.say(request_bytes)
        assert (await talk.hear())[0] == status
        assert await talk.cut() == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"5\r\nhello\r\nnonsense\r\n", 400),
        (b"5\r\nhello, world\r\n", 400),
        (b"fffff\r\n" + b"x" * 200_000, 413),
    ],
)
async def test_bodies_that_are_none(sent: bytes, status: int) -> None:
    """The application hears of a disconnect, and the client why."""
    heard: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        heard.append(await body_of(receive))
        with pytest.raises(OSError, match="left"):
            await answer(send, b"")

    async with talking(app, limits=Limits(max_body_bytes=100_000)) as talk:
        await talk.say(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + sent)
        assert (await talk.hear())[0] == status
        [body] = heard
        assert len(body) <= 100_000


async def test_time_to_send_a_request_is_limited() -> None:
    """A head that does not come to its end is answered 408, however alive the client is."""
    async with talking(echo, limits=Limits(request_timeout=0.3)) as talk:
        await talk.say(GET[:10])

        async def dawdle() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await talk.say(b"a")
                    await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dawdle)
            assert (await talk.hear())[0] == 408
            nursery.cancel_scope.cancel()


async def test_silence_in_a_body_is_limited() -> None:
    """A body that stops coming is a disconnect for the application, 408 for the client."""
    async with talking(echo, limits=Limits(request_timeout=0.3)) as talk:
        await talk.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf of it")
        assert (await talk.hear())[0] == 408


@pytest.mark.parametrize("first", [b"", GET])
async def test_idle_connections_are_closed(first: bytes) -> None:
    """One that sends nothing, at first or after a response, is closed after a while."""
    async with talking(echo, limits=Limits(idle_timeout=0.2)) as talk:
        if first:
            await talk.say(first)
            await talk.hear()
        assert await talk.end() == b""


async def test_many_idle_connections_cost_others_nothing() -> None:
    """Hundreds that send nothing leave the server as it is for those that do."""
    async with talking(echo) as talk, AsyncExitStack() as stack:
        assert talk.served is not None
        for _ in range(300):
            await stack.enter_async_context(connected(talk.served.address))
        await talk.say(GET)
        assert (await talk.hear())[0] == 200


@pytest.mark.parametrize("limits", [{"max_head_bytes": 0}, {"idle_timeout": -1}])
def test_limits_without_sense_are_refused(limits: dict[str, Any]) -> None:
    """Each is an error that names it."""
    with pytest.raises(ValueError, match=next(iter(limits))):
        Limits(**limits)


# ---- clients of streams that mean harm -----------------------------------------------------------


async def test_what_is_sent_during_a_stream_waits_for_its_end() -> None:
    """A whole request and a part of one disturb nothing, and are answered afterwards."""
    channel = EventChannel()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await (EventStream(channel) if scope["path"] == "/events" else echo)(scope, receive, send)

    async with talking(app) as talk:
        await talk.say(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\nGET /next HTTP/1.1\r\n")
        for number in range(20):
            channel.publish_nowait(ServerSentEvent(f"{number}"), key=f"{number}")
            await talk.say(b"x-%d: y\r\n" % number)
            await trio.lowlevel.checkpoint()
        await talk.say(b"host: x\r\n\r\n")
        channel.publish_nowait(ServerSentEvent("over"), end=True)
        body = (await talk.hear())[2]
        assert [line for line in body.splitlines() if line.startswith(b"data: ")] == [
            b"data: %d" % number for number in range(20)
        ] + [b"data: over"]
        assert (await talk.hear())[2] == b"GET /next  "


async def test_too_much_sent_during_a_stream_is_the_end_of_it() -> None:
    """What a client can have the server keep is bounded."""
    registry = StreamRegistry()
    async with talking(EventStream(EventChannel()), registry=registry) as talk:
        await talk.say(GET)
        with suppress(trio.BrokenResourceError):
            for _ in range(0, 20 * PIPELINED_BYTES, 10_000):
                await talk.say(b"x" * 10_000)
        assert (await talk.cut()).count(CONNECTED) == 1
        assert registry.statistics().ended == {"disconnected": 1}


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("event", [False, True])
async def test_a_client_that_leaves_its_stream_is_noticed(how: str, *, event: bool) -> None:
    """Closed, reset or half closed, with something to be written just then or not."""
    channel = EventChannel()
    registry = StreamRegistry()
    async with serving(sselib.server, EventStream(channel), registry=registry) as served:
        sock = socket.create_connection(served.address)  # type: ignore[arg-type] # it listens on a port
        sock.sendall(GET)
        await until(lambda: channel.statistics().subscribers == 1)
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            sock.shutdown(socket.SHUT_WR)
        else:
            sock.close()
        if event:
            channel.publish_nowait(ServerSentEvent("one"))
        await until(lambda: not registry.statistics().streams)
        assert registry.statistics().ended == {"disconnected": 1}
        sock.close()
        await served.cancel()


async def test_a_publisher_faster_than_every_client_cuts_those_that_lag() -> None:
    """Without any wait it publishes more than the log keeps: memory stays, streams end."""
    channel = EventChannel()
    registry = StreamRegistry(drain_window=0.1)
    async with (
        serving(sselib.server, EventStream(channel), registry=registry) as served,
        connected(served.address) as client,
    ):
        await client.get("/")
        await client.read_until(CONNECTED)
        for number in range(5000):
            channel.publish_nowait(ServerSentEvent(f"{number} " + "x" * 1000))
        assert channel.statistics().window_bytes < 2_000_000
        assert b"data: 0 " not in await client.read_all()  # its body ends properly, with nothing
        await until(lambda: not registry.statistics().streams)
        assert registry.statistics().ended == {"lagged": 1}


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def secured() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    return ours, theirs


async def test_tls(secured: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Requests over TLS, and beside them clients that do not get that far."""
    ours, theirs = secured
    limits = Limits(request_timeout=0.3)
    async with serving(sselib.server, echo, ssl_context=ours, limits=limits) as served:
        async with (
            connected(served.address) as nonsense,
            connected(served.address) as silence,
            connected(served.address, tls=theirs) as client,
        ):
            await nonsense.stream.send_all(GET)
            await Talk(nonsense.stream).cut()
            await Talk(silence.stream).cut()  # after the time for a request
            talk = Talk(client.stream)
            for _ in range(2):
                await talk.say(GET)
                assert (await talk.hear())[0] == 200
        await served.cancel()


async def test_a_client_over_tls_that_does_not_read_is_let_go(
    secured: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """The write timeout counts there too."""
    ours, theirs = secured
    over = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        with pytest.raises(ClientGone):
            await answer(send, b"x" * 50_000_000, b"")
        over.set()

    async with (
        serving(sselib.server, app, ssl_context=ours, write_timeout=0.5) as served,
        connected(served.address, buffer=4096, tls=theirs) as client,
    ):
        await client.stream.send_all(GET)
        with trio.fail_after(SOON):
            await over.wait()
        await served.cancel()


# ---- any bytes at all ----------------------------------------------------------------------------


class Wire:
    """A transport in memory: gives what it was made with in pieces, and then the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces[::-1]
        self.sent = b""
        self.closed = ""

    def receive_nowait(self) -> bytes | None:
        return self._pieces.pop() if self._pieces else b""

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.receive_nowait() or b""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data

    def send_end(self) -> None:
        pass

    def close(self) -> None:
        self.closed = "closed"

    def abort(self) -> None:
        self.closed = "aborted"


HEADS = st.sampled_from(
    [
        GET,
        b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
        b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\na",
    ]
)


@st.composite
def almost_requests(draw: st.DrawFn) -> list[bytes]:
    """Requests behind one another, some bytes of which are others, cut anywhere."""
    data = bytearray(b"".join(draw(st.lists(HEADS, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data))), max_size=4)))
    pieces = [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


def responses_in(sent: bytes, methods: list[str]) -> int:
    """Return how many responses to such requests these are; h11 has to be able to read each."""
    count = 0
    while sent:
        http = h11.Connection(h11.CLIENT)
        method = methods[count] if count < len(methods) else "GET"
        http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        http.send(h11.EndOfMessage())
        http.receive_data(sent)
        http.receive_data(b"")
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            assert event not in (h11.NEED_DATA, h11.PAUSED)
            assert not isinstance(event, h11.ConnectionClosed)
        sent = http.trailing_data[0]
        count += 1
    return count


@given(almost_requests() | st.lists(st.binary(min_size=1), max_size=3))
@example([b"\r\n\r\n"])
@example([b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n"])
def test_any_bytes_are_answered_or_the_connection_is_closed(pieces: list[bytes]) -> None:
    """Nothing comes out but responses, and nothing is raised but by the application."""
    answered: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        # Chunked for some, with a length for others; never without an end that can be seen.
        bodies = (body, b"!") if len(body) % 2 and scope["http_version"] == "1.1" else (b"?",)
        if scope["method"] == "HEAD":
            bodies = (b"",)
        with suppress(OSError):
            await answer(send, *bodies)
            answered.append(scope["method"])

    async def main() -> None:
        wire = Wire(pieces)
        service = Service(app, StreamRegistry(), Limits(max_body_bytes=1000))
        with trio.fail_after(SOON):
            await Connection(service, wire, "http", None, ("x", None)).run()
        assert wire.closed
        assert service.connections == 0
        sent = wire.sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        heads = responses_in(sent, answered)
        assert len(answered) <= heads <= len(answered) + 1  # the last may be the server's own

    trio.run(main)
