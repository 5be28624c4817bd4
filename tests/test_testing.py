"""sselib.testing: an application meets in memory what it would meet on a socket.

The applications here are written by hand, so that each does exactly one thing right or wrong;
Starlette stands for those that are not (other frameworks: test_frameworks.py).
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import sselib.testing
from sselib import EventStreamDecoder, ServerSentEvent
from sselib.stream import ASGIApp, Message, Receive, Scope, Send
from sselib.testing import ApplicationFault, ReceivedStream, advance, open_stream

EVENT_STREAM = (b"content-type", b"text/event-stream")
KEEPALIVE = b": keepalive\n\n"

START: Message = {"type": "http.response.start", "status": 200, "headers": [EVENT_STREAM]}


class Boom(Exception):
    """What the applications here raise when they fail."""


def chunk(data: bytes, *, more_body: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def sending(*messages: Message) -> ASGIApp:
    """Make an application that sends these messages and returns."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def streaming(*chunks: bytes) -> ASGIApp:
    """Make an application whose event stream has these chunks, and then stays open."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(START, *map(chunk, chunks))(scope, receive, send)
        await until_disconnect(receive)

    return app


def whole(*chunks: bytes) -> ASGIApp:
    """Make an application whose event stream has these chunks, and ends."""
    return sending(START, *map(chunk, chunks), chunk(b"", more_body=False))


async def read_blocks(stream: ReceivedStream) -> list[bytes]:
    blocks = []
    try:
        while True:
            blocks.append(await stream.receive_block())
    except trio.EndOfChannel:
        return blocks


async def until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def heartbeats(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a keepalive every 15 s, until the client goes."""
    await send(START)
    await send(chunk(b""))

    async def beat() -> None:
        while True:
            await trio.sleep(15)
            await send(chunk(KEEPALIVE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await until_disconnect(receive)
        nursery.cancel_scope.cancel()


async def ignoring(scope: Scope, receive: Receive, send: Send) -> None:
    """Send an event stream and never notice that the client has gone."""
    await sending(START, chunk(b""))(scope, receive, send)
    await trio.sleep_forever()


# The request


async def test_the_scope_is_that_of_a_request() -> None:
    """What was asked for stands in the scope as a server puts it there."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await whole()(scope, receive, send)

    async with open_stream(
        app,
        "/caf%C3%A9/a%20b?x=1&y=%20",
        method="POST",
        headers={"Last-Event-ID": "é-1", "X-Token": "t", "X-Empty": ""},
        client=("10.0.0.7", 4711),
        scheme="https",
        host="example.org",
        root_path="/api",
        extensions={"sselib.test": {}},
    ):
        pass
    assert seen == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "https",
            "path": "/café/a b",
            "raw_path": b"/caf%C3%A9/a%20b",
            "query_string": b"x=1&y=%20",
            "root_path": "/api",
            "headers": [
                (b"host", b"example.org"),
                (b"accept", b"text/event-stream"),
                (b"last-event-id", "é-1".encode()),
                (b"x-token", b"t"),
                (b"x-empty", b""),
            ],
            "client": ("10.0.0.7", 4711),
            "server": ("example.org", 443),
            "state": {},
            "extensions": {"sselib.test": {}},
        }
    ]


async def test_default_headers_can_be_replaced_and_left_out() -> None:
    """A header given as None is not sent, and another value replaces the default one."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await whole()(scope, receive, send)

    async with open_stream(app, headers={"Accept": None, "Host": "other:1"}):
        pass
    assert seen[0]["headers"] == [(b"host", b"other:1")]
    assert seen[0]["server"] == ("127.0.0.1", 8000)


@pytest.mark.parametrize("path", ["", "updates", "http://host/updates", "/café"])
async def test_a_path_is_written_as_in_a_url(path: str) -> None:
    """What no client could send as a request target is refused before the application runs."""
    with pytest.raises(ValueError, match=r"path|ascii"):
        async with open_stream(whole(), path):
            pytest.fail("opened")


async def test_receive_gives_the_body_and_then_waits_for_the_disconnect() -> None:
    """The request's body comes once and whole; after it receive() waits until the client goes."""
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with assert_checkpoints():
            seen.append(await receive())
        await sending(START, chunk(b""))(scope, receive, send)
        seen.append(await receive())
        with assert_checkpoints():
            seen.append(await receive())

    async with open_stream(app, method="POST", body=b"{}") as stream:
        assert seen == [{"type": "http.request", "body": b"{}", "more_body": False}]
        stream.disconnect()
        await stream.wait_ended()
        assert seen[1:] == [{"type": "http.disconnect"}] * 2


async def test_receive_tells_a_disconnect_after_the_response() -> None:
    """As ASGI has it, receive() after a complete response gives http.disconnect."""
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await whole()(scope, receive, send)
        seen.append(await receive())

    async with open_stream(app) as stream:
        await stream.wait_ended()
    assert seen == [{"type": "http.disconnect"}]


async def test_a_cancelled_receive_of_the_application_loses_nothing() -> None:
    """An application may give up waiting in receive() and ask again."""
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with trio.CancelScope() as scope_of_receive:
            scope_of_receive.cancel()
            await receive()
        seen.append(await receive())
        await whole()(scope, receive, send)

    async with open_stream(app, body=b"x"):
        assert seen == [{"type": "http.request", "body": b"x", "more_body": False}]


# Reading


async def test_status_and_headers() -> None:
    """The head is there when the block begins; repeated headers are joined by a comma."""
    start: Message = {
        "type": "http.response.start",
        "status": 418,
        "headers": [[b"vary", b"accept"], [b"x-tea", b"gr\xfcn"], [b"vary", b"origin"]],
    }
    async with open_stream(sending(start, chunk(b"", more_body=False))) as stream:
        assert stream.status == 418
        assert stream.headers == {"vary": "accept, origin", "x-tea": "grün"}
        assert stream.raw_headers == tuple(map(tuple, start["headers"]))


async def test_receive_reads_event_by_event() -> None:
    """Comments and other blocks without data are skipped; id and retry count as they are read."""
    app = whole(
        b": hello\n\nretry: 250\nid: 7\n\ndata: o",
        b"ne\n\nid: 8\nevent: e\ndata: two\n",
        b"\n: bye\n\nid: 9\n\n",
    )
    async with open_stream(app) as stream:
        assert (stream.last_event_id, stream.reconnection_time) == ("", None)
        assert await stream.receive() == ServerSentEvent("one", event="message", id="7")
        assert (stream.last_event_id, stream.reconnection_time) == ("7", 250)
        assert await stream.receive() == ServerSentEvent("two", event="e", id="8")
        assert stream.last_event_id == "8"
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()
        assert stream.last_event_id == "9"
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()


async def test_iterating_ends_with_the_body() -> None:
    """A stream is an async iterator of its events."""
    async with open_stream(whole(b"data: 1\n\n: -\n\ndata: 2\n\n")) as stream:
        assert [event.data async for event in stream] == ["1", "2"]


async def test_a_reconnecting_client_begins_with_its_id() -> None:
    """The id sent as Last-Event-ID is the last event ID until the stream has another."""
    app = whole(b"data: 1\n\n")
    async with open_stream(app, headers={"last-event-id": "a-1"}) as stream:
        assert (await stream.receive()).id == "a-1"
        assert stream.last_event_id == "a-1"


async def test_receive_block_gives_the_very_bytes() -> None:
    """Blocks come one by one, comments included, and reading one tells its id."""
    async with open_stream(streaming(b": hi\n", b"\nid: 1\ndata: x\n\n: tail")) as stream:
        assert await stream.receive_block() == b": hi\n\n"
        await wait_all_tasks_blocked()
        assert stream.unread == b"id: 1\ndata: x\n\n: tail"
        assert await stream.receive_block() == b"id: 1\ndata: x\n\n"
        assert stream.last_event_id == "1"
        assert stream.unread == b": tail"


@given(
    st.lists(
        st.sampled_from(["\n", "\r", "\r\n", "data: 1", "data: 2", "id: x", ": c", "data: \n", "é"])
    ),
    st.lists(st.integers(0, 60)),
)
@example(["data: 1", "\r", "\r", "\n", "data: 2", "\n", "\n"], [9])
@example(["data: 1", "\r", "\r", "\n", "\n"], [9, 10])
@example(["\r", "\r\n"], [1, 2])
def test_blocks_are_the_body_cut_at_its_blank_lines(parts: list[str], cuts: list[int]) -> None:
    """Whatever the line ends and however cut: nothing is lost, and the events are the decoder's."""
    body = "".join(parts).encode()
    bounds = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[a:b] for a, b in pairwise(bounds)]

    async def read() -> tuple[list[bytes], bytes, list[ServerSentEvent]]:
        async with open_stream(whole(*chunks), window=0) as stream:  # each chunk read by itself
            blocks = await read_blocks(stream)
            tail = stream.unread
        async with open_stream(whole(*chunks)) as stream:
            return blocks, tail, [event async for event in stream]

    blocks, tail, events = trio.run(read)
    assert b"".join(blocks) + tail == body
    assert events == EventStreamDecoder().feed(body)
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    assert len(blocks) == lines.count(b"")


async def test_a_tail_is_no_block() -> None:
    """What has no blank line after it at the end of the body is left unread."""
    async with open_stream(whole(b"data: 1\n\ndata: cut\n")) as stream:
        assert (await stream.receive()).data == "1"
        with pytest.raises(trio.EndOfChannel):
            await stream.receive_block()
        assert stream.unread == b"data: cut\n"


async def test_read_body_reads_ordinary_responses() -> None:
    """A response that is no stream is read whole, longer than the window as well."""
    long = b"x" * 500_000
    start: Message = {"type": "http.response.start", "status": 400}
    async with open_stream(sending(start, chunk(long), chunk(b"end", more_body=False))) as stream:
        assert stream.status == 400
        assert await stream.read_body() == long + b"end"
        assert await stream.read_body() == b""


async def test_a_block_longer_than_the_window_is_read() -> None:
    """A client that waits for a block's end takes what there is, so that the rest can come."""
    lines = b"data: 0123456789\n" * 100
    async with open_stream(streaming(*lines.splitlines(keepends=True), b"\n"), window=10) as stream:
        assert await stream.receive_block() == lines + b"\n"


@pytest.mark.parametrize("method", ["receive", "receive_block", "read_body"])
async def test_what_is_held_is_bounded(method: str) -> None:
    """A block or a body that does not end is a fault beyond max_bytes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        with trio.CancelScope() as cancel_scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_disconnect, receive)
                while True:
                    await send(chunk(b"data: 1\n"))
                    if scope["gone"]:
                        cancel_scope.cancel()

    async def leaving(scope: Scope, receive: Receive, send: Send) -> None:
        scope["gone"] = False

        async def noticing() -> Message:
            message = await receive()
            scope["gone"] = message["type"] == "http.disconnect"
            return message

        await app(scope, noticing, send)

    async with open_stream(leaving, max_bytes=1000, window=100) as stream:
        with pytest.raises(ApplicationFault, match="1000 bytes without an end"):
            await getattr(stream, method)()


async def test_head_has_no_body() -> None:
    """The body of a response to HEAD is dropped, as a server does."""
    async with open_stream(whole(b"data: 1\n\n"), method="HEAD") as stream:
        assert stream.status == 200
        assert await stream.read_body() == b""


# The client that stops reading, and the one that goes


async def test_an_unread_stream_blocks_its_sender() -> None:
    """send() returns while the window has room, blocks beyond it, and goes on when there is."""
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for number in range(10):
            await send(chunk(b"data: %d\n\n" % number))  # 9 bytes
            sent += 1
        await send(chunk(b"", more_body=False))

    async with open_stream(app, window=30) as stream:
        assert (sent, len(stream.unread), stream.blocked) == (3, 36, True)
        assert (await stream.receive()).data == "0"
        await wait_all_tasks_blocked()
        assert (sent, len(stream.unread), stream.blocked) == (4, 36, True)
        assert [event.data async for event in stream] == list("123456789")
        assert (sent, stream.unread, stream.blocked) == (10, b"", False)


async def test_the_last_message_of_a_body_blocks_as_well() -> None:
    """The application has not ended before its client has read to within a window of the end."""
    app = sending(START, chunk(b"data: 1\n\n" * 3, more_body=False))
    async with open_stream(app, window=20) as stream:
        assert (stream.blocked, stream.ended) == (True, False)
        await stream.receive()
        await stream.wait_ended()
        assert not stream.blocked


async def test_a_window_of_nothing_waits_for_the_reader() -> None:
    """With a window of 0 every send() waits until its bytes were read."""
    async with open_stream(streaming(b"data: 1\n\n", b"data: 2\n\n"), window=0) as stream:
        assert stream.unread == b"data: 1\n\n"
        await stream.receive()
        await wait_all_tasks_blocked()
        assert stream.unread == b"data: 2\n\n"


async def test_a_disconnect_wakes_a_blocked_send() -> None:
    """The sender goes on; what arrived before stays, what is sent afterwards is dropped."""
    sent = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(chunk(b"data: 1\n\n"))
        sent.append(1)
        await send(chunk(b"data: 2\n\n"))
        sent.append(2)

    async with open_stream(app, window=0) as stream:
        assert sent == []
        stream.disconnect()
        await stream.wait_ended()
        assert sent == [1, 2]
        assert not stream.blocked
        assert [event.data async for event in stream] == ["1"]


@pytest.mark.parametrize("spec_version", ["2.4", "2.5", "3.0"])
async def test_newer_servers_raise_from_send(spec_version: str) -> None:
    """From ASGI 2.4 on send() raises an OSError after a disconnect, also one that was blocked."""
    raised: list[OSError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for _ in range(2):
            with pytest.raises(OSError, match="disconnected") as info:
                await send(chunk(b"data: 1\n\n"))
            raised.append(info.value)
        async with trio.open_nursery() as nursery:  # so that what is raised is a group
            nursery.start_soon(send, chunk(b""))
            nursery.start_soon(until_disconnect, receive)

    async with open_stream(app, window=0, spec_version=spec_version) as stream:
        assert raised == []
        stream.disconnect()
        await stream.wait_ended()
    assert len(raised) == 2


async def test_an_application_that_does_not_read_on_still_ends() -> None:
    """A blocked send() under a shield, as on Hypercorn, does not hold up leaving the block."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        with trio.CancelScope(shield=True):
            await send(chunk(bytes(100)))

    async with open_stream(app, window=10) as stream:
        assert stream.blocked
    with pytest.raises(Boom):
        async with open_stream(app, window=10):
            raise Boom
    with trio.CancelScope() as cancel_scope:
        async with open_stream(app, window=10):
            cancel_scope.cancel()
            await trio.lowlevel.checkpoint()
    assert cancel_scope.cancelled_caught


async def test_a_cancelled_send_has_sent(mock_clock: MockClock) -> None:
    """As on Hypercorn: cancelled before it began or in its wait, the bytes are on their way."""
    cancelled = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with assert_checkpoints():
            await send(START)
        for number, timeout in enumerate((0, 1)):
            with trio.move_on_after(timeout) as cancel_scope:
                await send(chunk(b"data: %d\n\n" % number))
            cancelled.append(cancel_scope.cancelled_caught)
        await until_disconnect(receive)

    async with open_stream(app, window=0) as stream:
        await advance(1)
        assert cancelled == [True, True]
        assert stream.unread == b"data: 0\n\ndata: 1\n\n"


async def test_leaving_disconnects() -> None:
    """The end of the block is the client's disconnect, and the block waits for the application."""
    events = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await streaming(b"")(scope, receive, send)
        events.append("told")
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        events.append("done")

    async with open_stream(app) as stream:
        assert not stream.ended
    assert events == ["told", "done"]
    assert stream.ended


async def test_an_application_that_goes_on_without_its_client_is_a_fault() -> None:
    """One that does not end by itself is cancelled, and the test is told."""
    cancelled = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await ignoring(scope, receive, send)
        except trio.Cancelled:
            cancelled.append(True)
            raise

    with pytest.raises(ApplicationFault, match="goes on without its client"):
        async with open_stream(app):
            pass
    assert cancelled == [True]


async def test_an_application_may_be_given_time_to_end(autojump_clock: MockClock) -> None:
    """After an explicit disconnect, wait_ended lets the application take its time."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await streaming(b"")(scope, receive, send)
        await trio.sleep(5)

    async with open_stream(app) as stream:
        stream.disconnect()
        await stream.wait_ended()
        assert trio.current_time() == 5


async def test_cancel_is_the_end_of_the_server() -> None:
    """The application is cancelled; the client finds the body at an end."""
    async with open_stream(ignoring) as stream:
        stream.cancel()
        await stream.wait_ended()
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()


async def test_streams_are_independent() -> None:
    """Several clients of one application each have a response of their own."""
    app = streaming(b"data: 1\n\n")
    async with open_stream(app) as first, open_stream(app) as second:
        first.disconnect()
        await first.wait_ended()
        assert not second.ended
        assert (await second.receive()).data == "1"


# What fails


async def test_what_is_raised_before_the_head_is_raised_by_opening() -> None:
    """The application's own exception comes out, the very object, without a group."""
    boom = Boom()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise boom

    with pytest.raises(Boom) as info:
        async with open_stream(app):
            pytest.fail("opened")
    assert info.value is boom


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    await sending(START, chunk(b"data: 1\n\ndata: 2"))(scope, receive, send)
    raise Boom


@pytest.mark.parametrize("method", ["receive", "receive_block", "read_body", "wait_ended"])
async def test_what_cuts_a_body_short_is_raised_by_reading_on(method: str) -> None:
    """The client first reads what came whole; then the exception is raised, and only once."""
    async with open_stream(failing) as stream:
        if method != "read_body":
            assert (await stream.receive()).data == "1"
        with pytest.raises(Boom):
            await getattr(stream, method)()
        assert stream.ended


async def test_what_nobody_met_is_raised_at_the_end() -> None:
    """A test cannot pass over an application that failed."""
    with pytest.raises(Boom):
        async with open_stream(failing) as stream:
            assert (await stream.receive()).data == "1"


async def test_a_failure_after_the_response_is_raised_at_the_end() -> None:
    """To the client the response is complete; the failure comes out all the same."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await whole(b"data: 1\n\n")(scope, receive, send)
        raise Boom

    with pytest.raises(Boom):
        async with open_stream(app) as stream:
            assert [event.data async for event in stream] == ["1"]


async def test_a_failure_after_the_disconnect_is_raised_at_the_end() -> None:
    """An application that stumbles over its client's leaving is found."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await streaming(b"")(scope, receive, send)
        raise Boom

    async with open_stream(app) as stream:
        stream.disconnect()
        with pytest.raises(Boom):
            await stream.wait_ended()
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()
    with pytest.raises(Boom):
        async with open_stream(app):
            pass


async def test_a_failure_beside_the_departure_is_raised() -> None:
    """The OSError of a departed client excuses nothing else that is in the same group."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await streaming(b"")(scope, receive, send)
        try:
            await send(chunk(b""))
        except OSError as error:
            group = ExceptionGroup("both", [error, Boom()])
        raise group

    with pytest.RaisesGroup(OSError, Boom):
        async with open_stream(app, spec_version="2.4"):
            pass


async def test_what_the_block_raises_comes_out_unchanged() -> None:
    """No group is made around an exception of the test itself."""
    boom = Boom()
    with pytest.raises(Boom) as info:
        async with open_stream(ignoring):
            raise boom
    assert info.value is boom
    assert boom.__context__ is None


async def test_both_failures_are_shown() -> None:
    """If the block and the application both fail, a group holds both."""
    with pytest.RaisesGroup(AssertionError, Boom):
        async with open_stream(failing):
            raise AssertionError


async def test_the_groups_of_the_application_are_its_own() -> None:
    """A group that the application raises is neither taken apart nor wrapped in another."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ExceptionGroup("its own", [Boom()])

    with pytest.RaisesGroup(pytest.RaisesExc(Boom), match="its own"):
        async with open_stream(app):
            pytest.fail("opened")


async def test_a_keyboard_interrupt_is_nobodys_fault() -> None:
    """What is no Exception goes through at once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(START, chunk(b""))(scope, receive, send)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with open_stream(app):
            await trio.sleep_forever()


# The rules of ASGI

BROKEN: dict[str, tuple[ASGIApp, str]] = {
    "nothing": (sending(), "returned without a response"),
    "body first": (sending(chunk(b"")), "start comes before the first"),
    "two heads": (sending(START, chunk(b""), START), "has one http.response.start"),
    "head after end": (sending(*[START, chunk(b"", more_body=False)] * 2), "has one"),
    "head alone": (sending(START), "returned before the last http.response.body"),
    "no last body": (sending(START, chunk(b"")), "returned before the last http.response.body"),
    "body after end": (sending(START, *[chunk(b"", more_body=False)] * 2), "no .* follows"),
    "str body": (sending(START, {**chunk(b""), "body": "data"}), "body is bytes, not str"),
    "bytearray": (sending(START, {**chunk(b""), "body": bytearray()}), "bytes, not bytearray"),
    "status 99": (sending({**START, "status": 99}), "int from 200 to 599, not 99"),
    "status 600": (sending({**START, "status": 600}), "int from 200 to 599"),
    "status 101": (sending({**START, "status": 101}), "int from 200 to 599"),
    "status str": (sending({**START, "status": "200"}), "int from 200 to 599, not '200'"),
    "status float": (sending({**START, "status": 200.0}), "int from 200 to 599"),
    "status bool": (sending({**START, "status": True}), "int from 200 to 599"),
    "upper case": (sending({**START, "headers": [(b"Vary", b"*")]}), "in lower case, not b'Vary'"),
    "pseudo header": (sending({**START, "headers": [(b":status", b"200")]}), "is a token"),
    "no name": (sending({**START, "headers": [(b"", b"")]}), "is a token"),
    "space in name": (sending({**START, "headers": [(b"vary ", b"")]}), "is a token"),
    "line end in name": (sending({**START, "headers": [(b"vary\n", b"")]}), "is a token"),
    "str name": (sending({**START, "headers": [("vary", b"*")]}), "are bytes, not 'vary'"),
    "str value": (sending({**START, "headers": [(b"vary", "*")]}), "are bytes"),
    "CR in value": (sending({**START, "headers": [(b"a", b"b\rc")]}), "no CR, LF or NUL"),
    "LF in value": (sending({**START, "headers": [(b"a", b"b\nc")]}), "no CR, LF or NUL"),
    "NUL in value": (sending({**START, "headers": [(b"a", b"\0")]}), "no CR, LF or NUL"),
    "204": (sending({**START, "status": 204}, chunk(b"x", more_body=False)), "204 has no body"),
    "304": (sending({**START, "status": 304}, chunk(b"x", more_body=False)), "304 has no body"),
    "trailers": (sending(START, {"type": "http.response.trailers"}), "no extension"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_rule_is_named(name: str) -> None:
    """Whatever breaks a rule of ASGI fails the test, and says which rule it was."""
    app, rule = BROKEN[name]
    with pytest.raises(ApplicationFault, match=f"^ASGI: .*{rule}"):
        async with open_stream(app) as stream:
            await stream.read_body()


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_rule_cannot_be_swallowed(name: str) -> None:
    """An application that catches the fault has broken the rule all the same."""
    app, rule = BROKEN[name]

    async def swallowing(scope: Scope, receive: Receive, send: Send) -> None:
        async def careless(message: Message) -> None:
            try:
                await send(message)
            except ApplicationFault:
                await until_disconnect(receive)

        await app(scope, receive, careless)

    with pytest.raises(ApplicationFault, match=f"^ASGI: .*{rule}"):
        async with open_stream(swallowing):
            pass


async def test_a_fault_is_raised_where_it_was_made() -> None:
    """send() raises the fault, so that its traceback leads to the line that is wrong."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(chunk(b"too early"))

    with pytest.raises(ApplicationFault) as info:
        async with open_stream(app):
            pytest.fail("opened")
    assert str(app.__code__.co_name) in [entry.name for entry in info.traceback]


async def test_a_broken_rule_goes_before_what_follows_from_it() -> None:
    """What an application raises because it met a fault does not hide the fault."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(chunk(b"too early"))
        except ApplicationFault as error:
            raise Boom from error

    with pytest.raises(ApplicationFault):
        async with open_stream(app):
            pytest.fail("opened")


async def test_a_body_may_be_meant_to_be_cut_off() -> None:
    """Who expects the cut where it is met finds nothing more at the end of the block."""
    async with open_stream(sending(START, chunk(b"data: 1\n\n"))) as stream:
        assert (await stream.receive()).data == "1"
        with pytest.raises(ApplicationFault, match="returned before the last"):
            await stream.receive()


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(status: int) -> None:
    """The empty body message that ASGI asks for is no body."""
    app = sending({**START, "status": status}, chunk(b"", more_body=False))
    async with open_stream(app) as stream:
        assert stream.status == status


async def test_an_event_stream_without_first_bytes_is_a_fault(autojump_clock: MockClock) -> None:
    """A head that waits for the first event is found, and the clock did not have to move."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(1)  # before the head an application may take its time
        await send(START)
        await trio.sleep(1)
        await send(chunk(b"data: late\n\n", more_body=False))

    with pytest.raises(ApplicationFault, match="head waits for a first body message"):
        async with open_stream(app):
            pytest.fail("opened")
    assert trio.current_time() == 1
    async with open_stream(app, late_head=True) as stream:
        assert trio.current_time() == 2
        assert stream.unread == b""
        assert (await stream.receive()).data == "late"


async def test_other_responses_may_begin_late(autojump_clock: MockClock) -> None:
    """Only an event stream owes its first bytes at once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await trio.sleep(1)
        await send(chunk(b"late", more_body=False))

    async with open_stream(app) as stream:
        assert await stream.read_body() == b"late"


@pytest.mark.parametrize("chunks", [1, 9])
async def test_opening_does_not_wait_for_a_busy_world(chunks: int) -> None:
    """Where something never rests, a stream still opens: all was said, or the window is full."""

    async def never_rest() -> None:
        while True:  # noqa: ASYNC110 # waiting for nothing is its task
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(never_rest)
        async with open_stream(whole(*[bytes(100)] * chunks), window=250) as stream:
            assert len(stream.unread) == min(100 * chunks, 300)
            stream.disconnect()
            await stream.wait_ended()
        nursery.cancel_scope.cancel()


# The clock


async def test_advance_meets_every_deadline_on_the_way(mock_clock: MockClock) -> None:
    """A minute with a heartbeat every 15 s is four heartbeats, each at its time."""
    async with open_stream(heartbeats) as stream:
        await advance(14.999)
        assert stream.unread == b""
        await advance(0.001)
        assert stream.unread == KEEPALIVE
        await advance(45)
        assert stream.unread == KEEPALIVE * 4
        assert trio.current_time() == 60


async def test_advance_lets_everybody_finish_first(mock_clock: MockClock) -> None:
    """What can be done now is done before time passes and again after it has."""
    log: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        await trio.sleep(seconds)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        log.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper, "b", 2)
        nursery.start_soon(sleeper, "a", 1)
        nursery.start_soon(sleeper, "c", 3.5)
        await advance(3)
        assert log == [("a", 1), ("b", 2)]
        await advance(0)
        assert (len(log), trio.current_time()) == (2, 3)
        await advance(0.5)
        assert log[2:] == [("c", 3.5)]


async def test_ten_tenths_are_a_second(mock_clock: MockClock) -> None:
    """The noise of adding floats does not keep a deadline from being met."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        for _ in range(10):
            await advance(0.1)
        assert not nursery.child_tasks


async def test_waiting_moves_an_autojump_clock(autojump_clock: MockClock) -> None:
    """With an autojump clock, whoever waits for the next block gets it at its time."""
    async with open_stream(heartbeats) as stream:
        for number in range(1, 5):
            assert await stream.receive_block() == KEEPALIVE
            assert trio.current_time() == 15 * number
        await advance(1)
        assert trio.current_time() == 61


async def test_advance_needs_a_mock_clock() -> None:
    """On the real clock it refuses, and says which fixture is missing."""
    with pytest.raises(RuntimeError, match="mock_clock"):
        await advance(1)


# Cancellation and checkpoints


@pytest.mark.parametrize("method", ["receive", "receive_block", "read_body", "wait_ended"])
async def test_cancelled_readers_lose_nothing(method: str) -> None:
    """Whatever is given up while it waits, the next reader gets everything."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(START, chunk(b"da"), chunk(b"ta: "))(scope, receive, send)
        await more.wait()
        await send(chunk(b"1\n\n", more_body=False))

    more = trio.Event()
    async with open_stream(app) as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(getattr(stream, method))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert stream.unread == b"data: "
        more.set()
        await stream.wait_ended()
        with trio.CancelScope() as scope:
            scope.cancel()
            await getattr(stream, method)()
        assert scope.cancelled_caught
        assert [event.data async for event in stream] == ["1"]


async def test_reading_always_checkpoints() -> None:
    """Also where nothing has to be waited for, and where there is an error."""
    async with open_stream(whole(b"data: 1\n\ndata: 2\n\n")) as stream:
        with assert_checkpoints():
            await stream.receive()
        with assert_checkpoints():
            await stream.receive_block()
        with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
            await stream.receive()
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(stream)
        with assert_checkpoints():
            await stream.read_body()
        with assert_checkpoints():
            await stream.wait_ended()


async def test_advance_checkpoints_and_can_be_cancelled(mock_clock: MockClock) -> None:
    """A cancelled advance has not moved the clock."""
    with assert_checkpoints():
        await advance(0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await advance(5)
    assert scope.cancelled_caught
    assert trio.current_time() == 0


@pytest.mark.parametrize("where", ["opening", "inside", "leaving"])
async def test_cancelling_the_test_cancels_the_application(where: str) -> None:
    """Wherever the test is cancelled, the application goes with it and nothing else is raised."""
    ended = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if where == "opening":
                await trio.sleep_forever()
            await ignoring(scope, receive, send)
        finally:
            ended.set()

    async def client() -> None:
        async with open_stream(app):
            if where == "leaving":
                nursery.cancel_scope.cancel()
            else:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert ended.is_set()


# Frameworks


class Ticks:
    """A comment, and then an event every second: no generator, which Starlette leaves open."""

    def __init__(self) -> None:
        self.number = -1

    def __aiter__(self) -> Ticks:
        return self

    async def __anext__(self) -> str:
        self.number += 1
        if self.number == 0:
            return ": hi\n\n"
        await trio.sleep(1)
        return f"data: {self.number}\n\n"


async def starlette_ticks(request: Request) -> StreamingResponse:
    return StreamingResponse(Ticks(), media_type="text/event-stream")


async def starlette_failure(request: Request) -> None:
    raise Boom


STARLETTE = [
    Route("/ticks", starlette_ticks),
    Route("/json", lambda request: JSONResponse({"error": "no"}, 400)),
    Route("/boom", starlette_failure),
]


@pytest.mark.parametrize("spec_version", ["2.1", "2.4"])
async def test_starlette(autojump_clock: MockClock, spec_version: str) -> None:
    """A stream of Starlette is read, and left, as it is on old servers and on new ones."""
    async with open_stream(
        Starlette(routes=STARLETTE), "/ticks", spec_version=spec_version
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert await stream.receive_block() == b": hi\n\n"
        assert [(await stream.receive()).data for _ in range(100)] == [*map(str, range(1, 101))]
        await wait_all_tasks_blocked()  # in the next sleep, not still in send()
        stream.disconnect()
        await stream.wait_ended()
    assert trio.current_time() == pytest.approx(100 if spec_version == "2.1" else 101)


async def test_starlette_leaks_on_newer_servers() -> None:
    """Where send() raises, Starlette only notices a departure by writing: shown as a fault."""
    with pytest.raises(ApplicationFault, match="goes on without its client"):
        async with open_stream(Starlette(routes=STARLETTE), "/ticks", spec_version="2.4"):
            pass


async def test_starlette_behind_middleware(autojump_clock: MockClock) -> None:
    """Middleware between the application and the client changes nothing for the test."""
    app = Starlette(routes=STARLETTE, middleware=[Middleware(GZipMiddleware)])
    async with open_stream(app, "/ticks", headers={"accept-encoding": "gzip"}) as stream:
        assert [(await stream.receive()).data for _ in range(3)] == ["1", "2", "3"]


async def test_starlette_ordinary_responses() -> None:
    """A response that is no stream is read with read_body, and an error page is one."""
    app = Starlette(routes=STARLETTE)
    async with open_stream(app, "/json") as stream:
        assert (stream.status, json.loads(await stream.read_body())) == (400, {"error": "no"})
    async with open_stream(app, "/nowhere") as stream:
        assert stream.status == 404
    async with open_stream(app, "/boom") as stream:
        assert stream.status == 500
        assert await stream.read_body() == b"Internal Server Error"
        with pytest.raises(Boom):
            await stream.wait_ended()


async def test_starlette_with_its_lifespan() -> None:
    """The lifespan is opened around the stream, as the documentation says."""
    ready = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        ready.append(True)
        yield
        ready.append(False)

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(ready))

    app = Starlette(routes=[Route("/", home)], lifespan=lifespan)
    async with app.router.lifespan_context(app), open_stream(app) as stream:
        assert await stream.read_body() == b"[True]"
    assert ready == [True, False]


# The documentation


def documented_tests() -> dict[str, Callable[..., Any]]:
    assert sselib.testing.__doc__ is not None
    _, _, rest = sselib.testing.__doc__.partition("::\n\n")
    example = textwrap.dedent(rest[: rest.index("\nWith ``mock_clock``")])
    namespace: dict[str, Any] = {}
    exec(compile(example, "sselib.testing.__doc__", "exec"), namespace)
    return {name: value for name, value in namespace.items() if name.startswith("test_")}


@pytest.mark.parametrize(
    "name",
    [
        "test_fifteen_seconds_of_silence_give_one_keepalive",
        "test_a_client_comes_back_after_300_seconds",
        "test_time_flies_while_everybody_waits",
    ],
)
def test_the_documented_example_runs(name: str) -> None:
    """Each test in the module's documentation passes, with the clock that it asks for."""
    tests = documented_tests()
    assert len(tests) == 3
    (clock,) = inspect.signature(tests[name]).parameters
    thresholds = {"autojump_clock": 0.0, "mock_clock": float("inf")}
    mock_clock = MockClock(autojump_threshold=thresholds[clock])
    trio.run(tests[name], mock_clock, clock=mock_clock)


def test_importing_it_needs_no_test_tools() -> None:
    """The module works with any test runner, and with none: None in sys.modules is "absent"."""
    program = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['pytest', 'hypothesis', 'starlette', 'hypercorn'])\n"
        "import sselib.testing"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
