"""What is special about our server: HTTP/1.1 to the letter, applications that fail, TLS.

That it serves as every server does, test_servers shows; that streams are the same on all ways,
test_lanes; what a client can do to it, test_server_hostile. Here are requests that are no streams.
"""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from typing import Any

import pytest
import trio
import trustme

import sselib.server
from sselib import EventChannel, EventStream, ServerSentEvent
from sselib.requests import Limits
from sselib.server import Server
from sselib.stream import Receive, Scope, Send
from sselib.transport import ClientGone

from .servers import SOON, connected, serving, until
from .talking import CONNECTED, GET, Talk, answer, echo, silent, talking

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
