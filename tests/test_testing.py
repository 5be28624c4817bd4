"""sselib.testing: an application meets in memory what it would meet on a socket.

The applications here are written by hand, so that each does exactly one thing right or wrong;
Starlette stands for those that are not (other frameworks: test_frameworks.py).
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import sselib.testing
from sselib import EventStreamDecoder, ServerSentEvent
from sselib.stream import Message, Receive, Scope, Send
from sselib.testing import ApplicationFault, advance, open_stream

from .applications import (
    START,
    Boom,
    chunk,
    ignoring,
    read_blocks,
    sending,
    streaming,
    until_disconnect,
    whole,
)

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
