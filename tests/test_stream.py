"""EventStream in memory: what a client gets, when, and what ends it."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import MutableMapping
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sselib import (
    Comment,
    EventChannel,
    EventStream,
    MemoryLog,
    Retention,
    ServerSentEvent,
    StreamPolicy,
)
from sselib.log import ORIGIN
from sselib.stream import REGISTRY, OpenStream, Refusal, SendEvent
from sselib.testing import ApplicationFault, advance, open_stream

CONNECTED = b": connected\n\n"
BARE = StreamPolicy(ids="none")


@pytest.fixture
def channel() -> EventChannel:
    return EventChannel()


@attrs.define(eq=False)
class Host:
    """A registry that takes notes, and may refuse."""

    refusal: Refusal | None = None
    open: list[OpenStream] = attrs.Factory(list)
    over: list[tuple[OpenStream, str]] = attrs.Factory(list)

    def admit(self, stream: OpenStream) -> Refusal | None:
        if self.refusal is None:
            self.open.append(stream)
        return self.refusal

    def discard(self, stream: OpenStream, reason: str) -> None:
        self.open.remove(stream)
        self.over.append((stream, reason))

    @property
    def extensions(self) -> dict[str, Any]:
        return {REGISTRY: self}

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.over]


# ---- the head ------------------------------------------------------------------------------------


async def test_head_and_first_bytes_leave_at_once(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """200, three headers, and a comment."""
    async with open_stream(EventStream(channel)) as stream:
        assert stream.status == 200
        assert list(stream.raw_headers) == [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),
        ]
        assert stream.unread == CONNECTED


async def test_headers_of_the_user_are_added_or_replace_ours(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """A name that we use too is the user's; the status is given too."""
    app = EventStream(channel, headers=[("X-A", "1"), ("Cache-Control", "private")], status=201)
    async with open_stream(app) as stream:
        assert stream.status == 201
        assert stream.headers == {
            "content-type": "text/event-stream",
            "x-accel-buffering": "no",
            "x-a": "1",
            "cache-control": "private",
        }


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"Content-Length": "3"},
        {"transfer-encoding": "chunked"},
        {"a": "b\r\nc: d"},
        {"a\n": "b"},
        {"a": "\0"},
    ],
)
def test_a_header_that_has_no_place_in_a_stream_is_refused(
    channel: EventChannel, headers: dict[str, str]
) -> None:
    """Those that the format or the server sets, and those that would break out of their line."""
    with pytest.raises(ValueError, match="header"):
        EventStream(channel, headers=headers)


async def test_head_is_answered_with_the_head_alone(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """HEAD gets status and headers, no body, and is no stream for the registry."""
    host = Host(refusal=Refusal(status=503))
    async with open_stream(
        EventStream(channel), method="HEAD", extensions=host.extensions
    ) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert await stream.read_body() == b""


async def test_post_is_answered_and_its_body_ignored(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """Clients that stream by fetch may POST."""
    async with open_stream(EventStream(channel), method="POST", body=b"x" * 100_000) as stream:
        assert stream.status == 200
        await channel.publish(ServerSentEvent("hello"))
        assert (await stream.receive()).data == "hello"


async def test_a_websocket_is_an_error(channel: EventChannel) -> None:
    """Only HTTP requests are answered."""

    async def never(*_: object) -> MutableMapping[str, Any]:
        raise AssertionError

    with pytest.raises(RuntimeError, match="not 'websocket'"):
        await EventStream(channel)({"type": "websocket", "headers": []}, never, never)  # type: ignore[arg-type] # one fake for both


def test_a_server_on_asyncio_is_one_clear_error(channel: EventChannel) -> None:
    """It says that Trio is needed."""

    async def never(*_: object) -> MutableMapping[str, Any]:
        raise AssertionError

    async def main() -> None:
        await EventStream(channel)({"type": "http"}, never, never)  # type: ignore[arg-type] # as above

    with pytest.raises(RuntimeError, match="runs on Trio"):
        asyncio.run(main())


@pytest.mark.parametrize("source", [None, "text", 3])
def test_a_source_is_a_channel_or_a_function(source: object) -> None:
    """Anything else is a TypeError that shows it."""
    with pytest.raises(TypeError, match="source"):
        EventStream(source)  # type: ignore[arg-type] # what is tested


def test_wrong_arguments_are_refused_when_it_is_made(channel: EventChannel) -> None:
    """An unknown replay, and a gap event with an id."""
    with pytest.raises(ValueError, match="replay"):
        EventStream(channel, replay="all")  # type: ignore[arg-type] # what is tested
    with pytest.raises(ValueError, match="gap_event"):
        EventStream(channel, gap_event=ServerSentEvent("", id="1"))


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["last-event-id", "Last-Event-ID"])
async def test_a_client_gets_what_it_missed(
    channel: EventChannel, mock_clock: MockClock, header: str
) -> None:
    """Everything after the id it brings, and nothing before."""
    ids = [await channel.publish(ServerSentEvent(str(number))) for number in range(3)]
    async with open_stream(EventStream(channel), headers={header: ids[0]}) as stream:
        assert (await stream.receive_block(), await stream.receive_block()) == (
            CONNECTED,
            f"id: {ids[1]}\ndata: 1\n\n".encode(),
        )
        assert (await stream.receive()).id == ids[2]


async def test_an_argument_overrides_the_header(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """For polyfills, which send the id in the query."""
    ids = [await channel.publish(ServerSentEvent(str(number))) for number in range(3)]
    app = EventStream(channel, last_event_id=ids[1])
    async with open_stream(app, headers={"last-event-id": ids[0]}) as stream:
        assert (await stream.receive()).data == "2"


async def test_a_gap_is_told_in_a_comment_and_an_event(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """The event's block makes the client forget its id; the state follows."""
    id = await channel.publish(ServerSentEvent("state"), key="k")
    app = EventStream(channel, gap_event=ServerSentEvent("lost", event="gap"))
    async with open_stream(app, headers={"last-event-id": "\ufffd" * 9}) as stream:
        assert stream.unread == (
            CONNECTED
            + b": gap: unreadable\n\nid: \nevent: gap\ndata: lost\n\n"
            + f"id: {id}\ndata: state\n\n".encode()
        )


@pytest.mark.parametrize(("ids", "status"), [("all", 204), ("end", 204), ("none", 200)])
async def test_who_has_seen_the_end_is_told_to_stop(
    channel: EventChannel, mock_clock: MockClock, ids: Any, status: int
) -> None:
    """204 without a body or a type; unless the stream has no ids."""
    host = Host()
    end = await channel.publish(ServerSentEvent("done"), end=True)
    app = EventStream(channel, policy=StreamPolicy(ids=ids), headers={"x-a": "1"})
    async with open_stream(
        app, headers={"last-event-id": end}, extensions=host.extensions
    ) as stream:
        assert stream.status == status
        assert stream.headers["x-a"] == "1"
        if status == 204:
            assert "content-type" not in stream.headers
            assert await stream.read_body() == b""
    assert host.reasons == ["ended"]


@pytest.mark.parametrize(
    ("ids", "body"),
    [
        ("none", b"data: a\n\ndata: z\n\n"),
        ("end", b"data: a\n\nid: T-5-1\ndata: z\n\n"),
        ("all", b"id: T-5-0\ndata: a\n\nid: T-5-1\ndata: z\n\n"),
    ],
)
async def test_ids_are_written_as_the_policy_says(
    mock_clock: MockClock, ids: Any, body: bytes
) -> None:
    """On no event, on the end alone, on all."""
    channel = EventChannel(MemoryLog(clock=lambda: 5, make_tag=lambda: "T"))
    async with open_stream(EventStream(channel, policy=StreamPolicy(ids=ids))) as stream:
        await channel.publish(ServerSentEvent("a"))
        await channel.publish(ServerSentEvent("z"), end=True)
        assert await stream.read_body() == CONNECTED + body


async def test_one_object_serves_two_requests_at_once(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """Each is a subscriber of its own."""
    app = EventStream(channel)
    async with open_stream(app) as one, open_stream(app) as two:
        assert channel.statistics().subscribers == 2
        await channel.publish(ServerSentEvent("x"))
        assert (await one.receive()).data == (await two.receive()).data == "x"


# ---- time ----------------------------------------------------------------------------------------


async def test_an_idle_heartbeat_follows_silence(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """Whatever is written begins its time anew."""
    policy = StreamPolicy(heartbeat=10, heartbeat_comment="beat", ids="none")
    async with open_stream(EventStream(channel, policy=policy)) as stream:
        assert await stream.receive_block() == CONNECTED
        await advance(9)
        await channel.publish(ServerSentEvent("x"))
        assert await stream.receive_block() == b"data: x\n\n"
        await advance(9.9)
        assert stream.unread == b""
        await advance(0.1)
        assert await stream.receive_block() == b": beat\n\n"
        await advance(10)
        assert await stream.receive_block() == b": beat\n\n"


async def test_a_client_that_reads_on_gets_no_heartbeat_late(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """What fell due while a message was held up is not owed once that was written."""
    policy = StreamPolicy(heartbeat=10, ids="none")
    async with open_stream(EventStream(channel, policy=policy), window=20) as stream:
        await channel.publish(ServerSentEvent("x" * 30))
        await advance(25)
        assert stream.blocked
        assert await stream.receive_block() == CONNECTED
        assert await stream.receive_block() == b"data: %b\n\n" % (b"x" * 30)
        await advance(9.9)
        assert stream.unread == b""
        await advance(0.1)
        assert await stream.receive_block() == b": keepalive\n\n"


async def test_an_interval_heartbeat_comes_whatever_else_does(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """At fixed times under constant traffic, within the message that is written then."""
    policy = StreamPolicy(heartbeat=10, heartbeat_mode="interval", ids="none")
    beats = []
    async with open_stream(EventStream(channel, policy=policy)) as stream:
        for second in range(1, 41):
            await advance(1)
            await channel.publish(ServerSentEvent("x"))
            await wait_all_tasks_blocked()
            if b"keepalive" in stream.unread:
                beats.append(second)
            while stream.unread:
                await stream.receive_block()
    assert beats == [10, 20, 30, 40]


@pytest.mark.parametrize("window", [0, 1000], ids=["a client that does not read", "one that does"])
async def test_the_end_wins_over_a_heartbeat_that_is_due_with_it(
    channel: EventChannel, mock_clock: MockClock, window: int
) -> None:
    """A stream that is too old says nothing any more but its end, however late that is taken."""
    policy = StreamPolicy(
        heartbeat=10, heartbeat_mode="interval", max_age=10, max_age_jitter=0, ids="none"
    )
    async with open_stream(EventStream(channel, policy=policy), window=window) as stream:
        await advance(25)
        assert await stream.read_body() == CONNECTED


async def test_a_stream_ends_at_its_maximum_age(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """With what was published until then, and a proper end."""
    host = Host()
    policy = StreamPolicy(heartbeat=None, max_age=300, max_age_jitter=0, ids="none")
    async with open_stream(
        EventStream(channel, policy=policy), extensions=host.extensions
    ) as stream:
        await advance(299.9)
        channel.publish_nowait(ServerSentEvent("late"))
        await advance(0.1)
        assert await stream.read_body() == CONNECTED + b"data: late\n\n"
    assert host.reasons == ["max age"]


async def test_age_is_spread_by_its_jitter(
    channel: EventChannel, autojump_clock: MockClock
) -> None:
    """A stream ends between half of the age and the whole of it, and not always at once."""
    policy = StreamPolicy(heartbeat=None, max_age=100, max_age_jitter=0.5)
    ages = set()
    for _ in range(20):
        opened = trio.current_time()
        async with open_stream(EventStream(channel, policy=policy)) as stream:
            await stream.read_body()
        ages.add(trio.current_time() - opened)
    assert len(ages) > 1
    assert all(49 < age <= 100.001 for age in ages)


async def test_the_reconnection_time_is_told_first(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """In a block of its own after the opening comment."""
    async with open_stream(EventStream(channel, policy=StreamPolicy(retry=1500))) as stream:
        assert stream.unread == CONNECTED + b"retry: 1500\n\n"


@pytest.mark.parametrize(
    "arguments",
    [
        {"heartbeat": None},
        {"heartbeat": 0},
        {"heartbeat": -1},
        {"heartbeat": math.nan},
        {"heartbeat": math.inf},
        {"max_age": 0},
        {"max_age": math.inf},
        {"max_age_jitter": -0.1},
        {"max_age_jitter": 1.1},
        {"max_age_jitter": math.nan},
        {"retry": -1},
        {"retry": True},
        {"ids": "some"},
        {"lag": "wait"},
        {"heartbeat_mode": "often"},
        {"heartbeat_comment": "\ud800"},
        {"batch_bytes": 0},
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_is_refused(arguments: dict[str, Any]) -> None:
    """With the name of what is wrong, where it is not a type."""
    with pytest.raises((ValueError, TypeError)):
        StreamPolicy(**arguments)


# ---- slow clients --------------------------------------------------------------------------------


async def test_what_is_ready_goes_out_as_one_message_of_whole_blocks(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """At most ``batch_bytes``, and a larger event alone."""
    sent: list[bytes] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))
        if sent[-1] == CONNECTED:  # while this is being written, the rest piles up
            for text in ("a", "b", "c", "d" * 30, "e"):
                channel.publish_nowait(ServerSentEvent(text))
        await trio.lowlevel.checkpoint()

    gone = trio.Event()

    async def receive() -> MutableMapping[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "headers": []}
    app = EventStream(channel, policy=StreamPolicy(ids="none", batch_bytes=20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, scope, receive, send)
        await wait_all_tasks_blocked()
        gone.set()
    d = b"data: " + b"d" * 30 + b"\n\n"
    assert sent[2:] == [b"data: a\n\ndata: b\n\n", b"data: c\n\n", d, b"data: e\n\n"]


async def test_a_client_that_does_not_read_holds_up_nobody(mock_clock: MockClock) -> None:
    """It holds one batch; when it falls behind what is kept, its stream ends."""
    channel = EventChannel(MemoryLog(retention=Retention(entries=100)), window_entries=10)
    host = Host()
    app = EventStream(channel, policy=StreamPolicy(ids="none", batch_bytes=100))
    async with (
        open_stream(app, window=100, extensions=host.extensions) as silent,
        open_stream(app) as reading,
    ):
        for number in range(1000):
            channel.publish_nowait(ServerSentEvent(f"{number:06}"))
            assert (await reading.receive()).data == f"{number:06}"
        got = [event.data async for event in silent]
        assert got == [f"{number:06}" for number in range(len(got))]
        assert len(got) < 50
    assert host.reasons == ["lagged"]


async def test_a_client_that_lagged_may_be_restarted(mock_clock: MockClock) -> None:
    """It is told of the gap and goes on with the state."""
    channel = EventChannel(MemoryLog(retention=Retention(entries=10)), window_entries=5)
    policy = StreamPolicy(ids="none", batch_bytes=10, lag="restart")
    app = EventStream(channel, policy=policy, gap_event=ServerSentEvent("", event="gap"))
    async with open_stream(app, window=20) as stream:
        channel.publish_nowait(ServerSentEvent("the state"), key="k")
        for number in range(100):
            channel.publish_nowait(ServerSentEvent(str(number)))
        while (block := await stream.receive_block()) != b": gap: trimmed\n\n":
            pass
        assert block == b": gap: trimmed\n\n"
        assert await stream.receive_block() == b"event: gap\ndata: \n\n"
        assert await stream.receive_block() == b"data: the state\n\n"


# ---- ends ----------------------------------------------------------------------------------------


async def test_the_end_of_the_topic_is_the_end_of_the_stream(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """The end event is the last that is sent."""
    host = Host()
    async with open_stream(EventStream(channel, policy=BARE), extensions=host.extensions) as stream:
        await channel.publish(ServerSentEvent("z"), end=True)
        assert await stream.read_body() == CONNECTED + b"data: z\n\n"
    assert host.reasons == ["ended"]
    assert host.over[0][0].events == 1
    assert host.over[0][0].bytes_written == len(CONNECTED + b"data: z\n\n")


async def test_a_closed_channel_ends_the_body_and_not_the_topic(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """What was published before is sent; a new request gets an empty stream."""
    host = Host()
    app = EventStream(channel, policy=BARE)
    async with open_stream(app, extensions=host.extensions) as stream:
        channel.publish_nowait(ServerSentEvent("x"))
        channel.close()
        assert await stream.read_body() == CONNECTED + b"data: x\n\n"
    async with open_stream(app) as stream:
        assert await stream.read_body() == CONNECTED
    assert host.reasons == ["closed"]


async def test_a_client_that_leaves_ends_everything(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """Idle, or with a send that waits: no subscription is left."""
    host = Host()
    app = EventStream(channel)
    async with open_stream(app, extensions=host.extensions) as stream:
        stream.disconnect()
        await stream.wait_ended()
    assert channel.statistics().subscribers == 0
    async with open_stream(app, window=10, extensions=host.extensions) as stream:
        for _ in range(100):
            channel.publish_nowait(ServerSentEvent("x" * 100))
        await wait_all_tasks_blocked()
        stream.disconnect()
        await stream.wait_ended()
    assert channel.statistics().subscribers == 0
    assert host.reasons == ["disconnected", "disconnected"]


@pytest.mark.parametrize("error", [OSError("gone"), trio.BrokenResourceError()], ids=repr)
async def test_a_send_that_fails_is_a_client_that_left(
    channel: EventChannel, mock_clock: MockClock, error: Exception
) -> None:
    """Later versions of ASGI say it this way."""
    host = Host()

    async def send(_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async def receive() -> MutableMapping[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    scope = {"type": "http", "method": "GET", "headers": [], "extensions": host.extensions}
    await EventStream(channel)(scope, receive, send)
    assert host.reasons == ["disconnected"]
    assert channel.statistics().subscribers == 0


async def test_finish_writes_what_is_ready_then_the_farewell(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """Not what is published afterwards; the first reason counts."""
    host = Host()
    async with open_stream(EventStream(channel, policy=BARE), extensions=host.extensions) as stream:
        (running,) = host.open
        channel.publish_nowait(ServerSentEvent("ready"))
        running.finish("drained", farewell=b"retry: 5\n\n")
        running.finish("later", farewell=b": no\n\n")
        await wait_all_tasks_blocked()
        channel.publish_nowait(ServerSentEvent("too late"))
        assert await stream.read_body() == CONNECTED + b"data: ready\n\nretry: 5\n\n"
    assert host.reasons == ["drained"]


async def test_cancel_cuts_off_a_stream_whose_client_does_not_read(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """Where finish can only wait, cancel does not: the body ends without its last message."""
    host = Host()
    with pytest.raises(ApplicationFault, match="before the last"):  # noqa: PT012 # by the exit
        async with open_stream(EventStream(channel), window=10, extensions=host.extensions):
            (running,) = host.open
            for _ in range(10):
                channel.publish_nowait(ServerSentEvent("x" * 100))
            await wait_all_tasks_blocked()
            running.finish("drained")
            await wait_all_tasks_blocked()
            assert host.over == []
            running.cancel("kicked")
            await wait_all_tasks_blocked()
            assert host.reasons == ["drained"]
    assert channel.statistics().subscribers == 0


async def test_a_stream_that_is_cancelled_before_it_begins_sends_nothing(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """A registry may do that while it admits."""

    class Kicking(Host):
        def admit(self, stream: OpenStream) -> None:
            super().admit(stream)
            stream.cancel("kicked")

    host = Kicking()

    async def never(_: object = None) -> MutableMapping[str, Any]:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "headers": [], "extensions": host.extensions}
    await EventStream(channel)(scope, never, never)  # type: ignore[arg-type] # one fake for both
    assert host.reasons == ["kicked"]


async def test_a_refusal_is_sent_as_it_is(channel: EventChannel, mock_clock: MockClock) -> None:
    """Nothing is subscribed, and nothing discarded."""
    refusal = Refusal(status=429, headers=((b"retry-after", b"5"),), body=b"no\n")
    host = Host(refusal)
    async with open_stream(EventStream(channel), extensions=host.extensions) as stream:
        assert (stream.status, stream.headers) == (429, {"retry-after": "5"})
        assert await stream.read_body() == b"no\n"
        assert channel.statistics().subscribers == 0
    assert host.over == []


async def test_cancelling_the_request_leaves_nothing(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """The registry is told, and the subscription ends."""
    host = Host()

    async def send(_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def receive() -> MutableMapping[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    scope = {"type": "http", "method": "GET", "headers": [], "extensions": host.extensions}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(EventStream(channel), scope, receive, send)
        await wait_all_tasks_blocked()
        assert channel.statistics().subscribers == 1
        nursery.cancel_scope.cancel()
    assert channel.statistics().subscribers == 0
    assert host.reasons == ["cancelled"]


async def test_a_thousand_clients_leave_nothing_behind(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """The last five hundred leave no object each; one in two would be seen."""
    app = EventStream(channel)

    async def come_and_go() -> int:
        for _ in range(500):
            async with open_stream(app) as stream:
                await channel.publish(ServerSentEvent("x"), key="k", coalesce=True)
                await stream.receive()
        gc.collect()
        return len(gc.get_objects())

    await come_and_go()
    before = await come_and_go()
    assert await come_and_go() - before < 250  # what else is alive in the process varies by some
    assert channel.statistics().subscribers == 0
    assert channel.statistics().last_id is None  # the window went with the last of them
    assert (await channel.log.read("", ORIGIN)).head is not None


# ---- a source of the client's own ----------------------------------------------------------------


async def test_a_function_sends_what_it_likes(mock_clock: MockClock) -> None:
    """Events with its own ids, comments; the stream ends when it returns."""

    async def source(send: SendEvent) -> None:
        await send(ServerSentEvent("1", id="a", retry=7))
        await send(Comment("between"))
        await send(ServerSentEvent("2"))

    host = Host()
    async with open_stream(EventStream(source), extensions=host.extensions) as stream:
        body = CONNECTED + b"retry: 7\nid: a\ndata: 1\n\n: between\n\ndata: 2\n\n"
        assert await stream.read_body() == body
    assert host.reasons == ["ended"]


async def test_a_function_waits_for_its_client(mock_clock: MockClock) -> None:
    """While the client does not read, ``send`` does not return."""
    accepted = 0

    async def source(send: SendEvent) -> None:
        nonlocal accepted
        while True:
            await send(ServerSentEvent("x" * 100))
            accepted += 1

    async with open_stream(EventStream(source), window=1000) as stream:
        await wait_all_tasks_blocked()
        stalled_at = accepted
        assert 0 < stalled_at < 20
        await advance(60)
        assert accepted == stalled_at
        for _ in range(15):
            await stream.receive_block()
        await wait_all_tasks_blocked()
        assert accepted > stalled_at


async def test_a_function_that_raises_fails_the_stream(mock_clock: MockClock) -> None:
    """The server gets the error; the registry gets the reason."""
    host = Host()

    async def source(send: SendEvent) -> None:
        await send(ServerSentEvent("x"))
        raise LookupError("broken")

    with pytest.RaisesGroup(LookupError):
        async with open_stream(EventStream(source), extensions=host.extensions) as stream:
            await stream.read_body()
    assert host.reasons == ["failed"]


async def test_finish_ends_a_function_of_the_users(mock_clock: MockClock) -> None:
    """It is cancelled; the farewell is written."""
    host = Host()

    async def source(_: SendEvent) -> None:
        await trio.sleep_forever()

    async with open_stream(EventStream(source), extensions=host.extensions) as stream:
        host.open[0].finish("drained", farewell=b": bye\n\n")
        assert await stream.read_body() == CONNECTED + b": bye\n\n"
    assert host.reasons == ["drained"]
