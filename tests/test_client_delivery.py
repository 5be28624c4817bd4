"""Every event, once and in order, whatever becomes of connections and of calls.

Everything is in memory: what is cut is cut in the same place each time.
"""

from __future__ import annotations

import random
import ssl
from contextlib import suppress

import pytest
import trio
import trio.testing
import trustme

from sselib import EventChannel, EventSource, EventStream, RetryPolicy, ServerSentEvent
from sselib.http1 import LAST_CHUNK, encode_chunk, encode_head
from sselib.stream import ASGIApp, Message

from .scripted import (
    AT_ONCE,
    CHUNKED,
    NO_CONTENT,
    OPEN,
    Asked,
    ScriptedServer,
    in_memory,
    redirect,
    until_left,
)
from .servers import SOON

DROPS = 10_000


# ---- ten thousand drops --------------------------------------------------------------------------


async def test_ten_thousand_drops_lose_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A client of a flapping server is given every event of a channel, once and in order."""
    chance = random.Random(6)  # the same each time
    channel = EventChannel()
    published: list[str] = []
    server: ScriptedServer

    async def flap(peer: trio.abc.Stream) -> None:
        """Send what the client is owed, and leave it in the middle of a head or of an event."""
        left = chance.randrange(500)
        await peer.send_all(OPEN[:left])
        left -= len(OPEN)
        id = server.asked[-1].last_event_id
        async with channel.subscribe(last_event_id=id, replay="history") as cursor:
            while left > 0 and not cursor.finished:
                data = encode_chunk(cursor.take(16_384))
                await peer.send_all(data[:left])
                left -= len(data)
                if not data:
                    await cursor.wait()

    async def publish() -> None:
        while len(server.asked) < DROPS:
            for _ in range(chance.choice([1, 1, 2])):
                published.append(f"{len(published)} ü\nx")
                await channel.publish(ServerSentEvent(published[-1]))
            await trio.sleep(chance.uniform(0, 60))
        published.append("end")
        await channel.publish(ServerSentEvent("end"), end=True)

    async def end(peer: trio.abc.Stream) -> None:
        """Be our own stream, which says when there is nothing more."""
        await serve(EventStream(channel, replay="history"), server.asked[-1], peer)

    async with (
        in_memory(*[flap] * DROPS, *[end] * 3) as (server, open_source),
        trio.open_nursery() as nursery,
        open_source() as source,
    ):
        nursery.start_soon(publish)
        assert [event.data async for event in source] == published
        assert source.ended_by == "no content"
        assert len(server.asked) > DROPS
        assert len(published) > DROPS / 4


async def serve(app: ASGIApp, asked: Asked, peer: trio.abc.Stream) -> None:
    """Serve a request with an ASGI application."""

    async def receive() -> Message:
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], CHUNKED]
            await peer.send_all(encode_head(message["status"], headers))
        else:
            end = b"" if message.get("more_body") else LAST_CHUNK
            await peer.send_all(encode_chunk(message["body"]) + end)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "http_version": "1.1",
        "method": asked.method,
        "path": asked.target,
        "headers": [(name.encode(), value.encode()) for name, value in asked.headers.items()],
    }
    await app(scope, receive, send)


# ---- cancelled at every checkpoint ---------------------------------------------------------------

EVENTS = [ServerSentEvent(f"{number} ü", event="x", id=str(number)) for number in range(1, 5)]
BLOCKS = {
    event.id: f"id: {event.id}\nevent: x\ndata: {event.data}\n\n".encode() for event in EVENTS
}


async def give_two(asked: Asked, peer: trio.abc.Stream) -> None:
    """Give the two events after the last one, cut into pieces, and half of the one after them."""
    if asked.target != "/two":
        await peer.send_all(redirect("/two"))
        return
    start = int(asked.last_event_id or "0")
    first, second, third = (BLOCKS.get(str(start + number)) for number in (1, 2, 3))
    if first is None or second is None:
        await peer.send_all(NO_CONTENT)
        return
    body = encode_chunk(first[:5]) + encode_chunk(first[5:] + second[:-1]) + encode_chunk(b"\n")
    data = OPEN + body + encode_chunk(third or b"!")[:-4]
    for place in range(0, len(data), 40):
        await peer.send_all(data[place : place + 40])
        await trio.lowlevel.checkpoint()


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when a task has come to its nth checkpoint."""

    def __init__(self, checkpoint: int, scope: trio.CancelScope) -> None:
        self.left = checkpoint
        self._task = trio.lowlevel.current_task()
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self.left -= 1
            if self.left == 0:
                self._scope.cancel()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "TLS"])
def contexts(
    request: pytest.FixtureRequest, authority: trustme.CA
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Give the server's and the client's, if there is to be TLS."""
    if request.param == "plain":
        return None, None
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("test").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    return theirs, ours


async def receive_all(
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None], checkpoint: int
) -> tuple[list[str], bool]:
    """Receive all events, cancelled at that checkpoint; return them, and whether it was."""
    server: ScriptedServer

    async def give(peer: trio.abc.Stream) -> None:
        await give_two(server.asked[-1], peer)

    theirs, ours = contexts
    received: list[str] = []
    async with (
        in_memory(*[give] * 50, tls=theirs) as (server, open_source),
        open_source(policy=AT_ONCE, ssl_context=ours) as source,
    ):
        with suppress(trio.EndOfChannel):
            with trio.CancelScope() as scope:
                instrument = CancelAt(checkpoint, scope)
                trio.lowlevel.add_instrument(instrument)
                try:
                    while True:
                        received.append((await source.receive()).data)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            while True:
                received.append((await source.receive()).data)
    await gone(server)
    return received, scope.cancelled_caught


async def gone(server: ScriptedServer) -> None:
    """Return when the client has closed all its connections."""
    with trio.fail_after(SOON):
        await server.all_closed.wait()


async def test_a_cancelled_call_loses_no_event(
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None],
) -> None:
    """Cancelled at whichever checkpoint, the calls after it return what was to come, once."""
    checkpoint, cancelled = 0, True
    while cancelled:
        checkpoint += 1
        received, cancelled = await receive_all(contexts, checkpoint)
        assert received == [event.data for event in EVENTS], checkpoint
    assert checkpoint > 40  # they were really all, and many


async def test_each_call_is_a_checkpoint() -> None:
    """A call that has its event at hand can be cancelled too, and then has not taken it."""
    server: ScriptedServer

    async def give(peer: trio.abc.Stream) -> None:
        await peer.send_all(OPEN + encode_chunk(b"".join(BLOCKS.values())))
        await until_left(peer)

    async with in_memory(give) as (server, open_source), open_source() as source:
        await source.wait_open()
        for event in EVENTS:
            with trio.CancelScope() as scope:
                scope.cancel()
                await source.receive()
            assert scope.cancelled_caught
            with trio.CancelScope() as scope:
                scope.cancel()
                await source.wait_open()
            assert scope.cancelled_caught
            assert (await source.receive()) == event
        assert len(server.asked) == 1


@pytest.mark.parametrize("where", ["head", "open", "waiting"])
async def test_leaving_closes_the_connection(where: str) -> None:
    """Whatever is under way when the block is left or cancelled, no connection stays open."""
    reached = trio.Event()
    data = {"head": b"HTTP/1.1 200", "open": OPEN, "waiting": b""}[where]

    async def give(peer: trio.abc.Stream) -> None:
        await peer.send_all(data)
        reached.set()
        if where != "waiting":
            await until_left(peer)

    policy = RetryPolicy(backoff=1e6, max_backoff=1e6)
    async with in_memory(give) as (server, open_source):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                async with open_source(policy=policy) as opened:
                    sources.append(opened)
                    await opened.receive()

            sources: list[EventSource] = []
            nursery.start_soon(receive)
            await reached.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        [source] = sources
        assert source.state == "closed"
        await gone(server)


@pytest.mark.parametrize("where", ["dial", "head", "open"])
async def test_closing_it_under_another_task(where: str) -> None:
    """A task that still waits when the source is closed is told, and leaves nothing open."""
    data = {"dial": b"", "head": b"HTTP/1.1 200", "open": OPEN}[where]

    async def give(peer: trio.abc.Stream) -> None:
        await peer.send_all(data)
        await until_left(peer)

    async def slow(host: str, port: int) -> trio.abc.Stream:
        if where == "dial":
            await go_on.wait()
        stream: trio.abc.Stream = await connect(host, port)
        return stream

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await source.receive()
        told.set()

    go_on, told = trio.Event(), trio.Event()
    async with in_memory(give) as (server, open_source), trio.open_nursery() as nursery:
        connect = open_source.keywords["connect"]
        async with open_source(connect=slow) as source:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        await told.wait()
        await gone(server)


async def test_what_the_block_raises_comes_out() -> None:
    """An error in the block is not replaced by anything that leaving does, cancelled or not."""

    async def give(peer: trio.abc.Stream) -> None:
        await peer.send_all(OPEN)
        await until_left(peer)

    async def fail() -> None:
        async with open_source() as source:
            await source.wait_open()
            scope.cancel()
            raise KeyError

    async with in_memory(give) as (server, open_source):
        with trio.CancelScope() as scope, pytest.raises(KeyError):
            await fail()
        await gone(server)
