"""The pump writes what belongs on a connection there, and nothing anywhere else.

The churn test does it over real sockets, whose numbers go from one connection to the next all the
time. The others look at one lane, between the two ends of a socket pair: what is written to one end
is at the other, without anybody's doing, so these can be used under a mock clock too.
"""

from __future__ import annotations

import gc
import random
import select
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import pairwise

import attrs
import pytest
import trio

import sselib.server
from sselib import EventChannel, EventStream, ServerSentEvent, StreamPolicy, Subscription
from sselib.http1 import ChunkedDecoder
from sselib.policy import Schedule
from sselib.pump import SLICE, Lane, Pump
from sselib.registry import StreamRegistry
from sselib.requests import PIPELINED_BYTES, Limits, Requests
from sselib.stream import OpenStream, Receive, Scope, Send
from sselib.transport import ClientGone, SocketTransport

from .servers import SOON, connected, serving, until

CONNECTED = b": connected\n\n"
SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": []}


# ---- connections that come and go ----------------------------------------------------------------


class Users:
    """An application with a channel for each user, and requests that are answered at once."""

    def __init__(self, count: int) -> None:
        self.channels = [EventChannel() for _ in range(count)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        kind, _, rest = scope["path"][1:].partition("/")
        if kind == "events":
            stream = EventStream(self.channels[int(rest)], replay="live")
            await stream(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(3):
                body = f"<{rest}>".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def test_nothing_is_ever_written_into_a_strangers_connection() -> None:
    """While connections come and go and everybody is written to, each gets its own bytes alone."""
    users = 4
    app = Users(users)
    rng = random.Random(7)
    checked = 0
    registry = StreamRegistry(max_streams_per_client=None)

    async def publish() -> None:
        for number in range(1_000_000):
            for user, channel in enumerate(app.channels):
                channel.publish_nowait(ServerSentEvent(f"{user}: {number} " + "." * 200))
            await trio.lowlevel.checkpoint()

    def check_stream(user: int, body: bytes) -> None:
        """Whole blocks of one user, one number after the other; the last block may be cut."""
        assert body.startswith(CONNECTED)
        blocks = body.removeprefix(CONNECTED).split(b"\n\n")
        said = [block.partition(b"data: ")[2].decode() for block in blocks[:-1]]
        first = int(said[0].split()[1]) if said else 0
        filler = "." * 200
        assert said == [f"{user}: {first + i} {filler}" for i in range(len(said))]

    async def follow(address: object) -> None:
        user = rng.randrange(users)
        sock = trio.socket.socket()
        await sock.connect(address)
        await sock.send(b"GET /events/%d HTTP/1.1\r\nhost: x\r\n\r\n" % user)
        data = b""
        for _ in range(rng.randrange(4)):
            data += await sock.recv(100_000)
        head, _, chunked = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") or not data
        if chunked:
            check_stream(user, ChunkedDecoder().feed(chunked))
        if rng.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    async def ask(address: object) -> None:
        sock = trio.socket.socket()
        await sock.connect(address)
        word = f"{rng.random()}"
        await sock.send(f"GET /say/{word} HTTP/1.0\r\n\r\n".encode())
        data = b""
        while piece := await sock.recv(100_000):
            data += piece
        assert data.partition(b"\r\n\r\n")[2] == f"<{word}>".encode() * 3
        sock.close()

    async def churn(address: object) -> None:
        nonlocal checked
        for _ in range(400):
            with trio.fail_after(SOON):
                await rng.choice((follow, ask))(address)
            checked += 1

    async with serving(sselib.server, app, registry=registry) as served:
        async with trio.open_nursery() as publishing:
            publishing.start_soon(publish)
            async with trio.open_nursery() as churning:
                for _ in range(8):
                    churning.start_soon(churn, served.address)
            publishing.cancel_scope.cancel()
        assert checked == 8 * 400
        await until(lambda: not registry.statistics().streams)
        gc.collect()
        lanes = sum(type(each) is Lane for each in gc.get_objects())
        assert lanes < 200  # of many hundred: what is shut is forgotten
        await served.cancel()


# ---- one lane ------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Driven:
    """A lane, and what is around it."""

    channel: EventChannel
    source: Subscription
    stream: OpenStream
    lane: Lane
    pump: Pump
    requests: Requests
    client: socket.socket

    async def carry(self) -> None:
        await self.lane.carry()
        await self.lane.settle()

    async def carry_until_gone(self, why: str | None = None) -> None:
        with pytest.raises(ClientGone, match=why):
            await self.carry()

    def publish(self, text: str) -> None:
        self.channel.publish_nowait(ServerSentEvent(text))

    def received(self) -> bytes:
        try:
            return self.client.recv(10_000_000)
        except BlockingIOError:
            return b""


Pair = tuple[socket.socket, socket.socket]


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


@contextmanager
def socket_pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.settimeout(0)
        yield ours, theirs


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket_pair() as made:
        yield made


@asynccontextmanager
async def driving(
    pair: Pair,
    policy: StreamPolicy | None = None,
    channel: EventChannel | None = None,
    pump: Pump | None = None,
) -> AsyncIterator[Driven]:
    channel = channel or EventChannel()
    async with channel.subscribe(replay="live") as source:
        assert source.take(1) == b""
        stream = OpenStream(dict(SCOPE))
        schedule = Schedule(policy or StreamPolicy(), stream.opened_at)
        transport = SocketTransport(pair[0], 0.5)
        given = pump or Pump()
        requests = Requests(transport, Limits())
        lane = Lane(given, transport, requests, stream, source, schedule, is_chunked=False)
        async with trio.open_nursery() as nursery:
            if pump is None:
                nursery.start_soon(given.run)
            yield Driven(channel, source, stream, lane, given, requests, pair[1])
            nursery.cancel_scope.cancel()


async def test_an_open_lane_is_written_and_counted(
    pair: Pair,
) -> None:
    """What is published goes to the socket, and the stream knows of it."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry)
        await trio.testing.wait_all_tasks_blocked()
        for text in ("one", "two"):
            driven.publish(text)
            await trio.testing.wait_all_tasks_blocked()
            assert driven.received().endswith(f"data: {text}\n\n".encode())
        assert driven.stream.events == 2
        assert driven.lane.is_open
        nursery.cancel_scope.cancel()


async def test_a_shut_lane_is_not_written(pair: Pair) -> None:
    """Shut behind the pump's back, after it was told, it is left alone."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry)
        await trio.testing.wait_all_tasks_blocked()
        driven.publish("one")
        driven.lane.shut()
        await trio.testing.wait_all_tasks_blocked()
        assert driven.received() == b""
        assert not nursery.child_tasks  # carry() has returned
        assert driven.source.is_ready()  # and the task has it to give


async def test_a_closed_socket_is_nobodys_number(pair: Pair) -> None:
    """Even a lane that were open for a closed socket cannot write into what has its number now."""
    async with driving(pair) as driven:
        number = pair[0].fileno()
        pair[0].close()
        strangers = socket.socketpair()
        assert number in [sock.fileno() for sock in strangers]
        driven.lane.is_open = True
        driven.publish("one")
        driven.lane.write(0.0)
        for sock in strangers:
            sock.settimeout(0)
            with pytest.raises(BlockingIOError):
                sock.recv(100)
        for sock in strangers:
            sock.close()


async def test_what_a_client_sends_is_its_next_request(pair: Pair) -> None:
    """It is read and kept, and its task sleeps on; but nobody sends without end."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry_until_gone)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            driven.client.send(b"GET ")
            await until(lambda: not readable(pair[0]))
            await trio.testing.wait_all_tasks_blocked()
            assert driven.lane.is_open
        assert driven.requests.has_begun()
        driven.client.send(b"x" * PIPELINED_BYTES)
        await until(lambda: not nursery.child_tasks)


async def test_a_lane_is_shut_once(pair: Pair) -> None:
    """Its client leaves while its task is about to go on for another reason, and a third comes."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry)
        await trio.testing.wait_all_tasks_blocked()
        driven.lane.shut()
        driven.client.close()
        driven.lane.look()
        driven.lane.shut()
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_a_cancelled_lane_is_nobodys(pair: Pair) -> None:
    """Cancelled while it is told of something, its task ends and the pump goes on with others."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        driven.publish("one")
        driven.lane.shut()
        driven.client.send(b"x")
    assert driven.pump.lanes == 0
    assert driven.received() == b""


async def test_what_a_socket_does_not_take_waits_with_the_task(
    pair: Pair,
) -> None:
    """The rest of one write, and no more, while what comes next stays in the window."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry)
        await trio.testing.wait_all_tasks_blocked()
        text = "x" * 900_000
        driven.publish(text)
        await trio.testing.wait_all_tasks_blocked()
        assert not driven.lane.is_open
        driven.publish("behind it")
        data = b""
        while nursery.child_tasks:
            data += driven.received()
            await trio.lowlevel.checkpoint()
        data += driven.received()
        assert data.endswith(f"data: {text}\n\n".encode())
        assert b"behind it" in driven.source.take(10_000)


async def test_a_client_that_takes_nothing_is_gone(
    pair: Pair,
) -> None:
    """The task waits for room as long as the write timeout says."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry_until_gone, "took nothing")
        await trio.testing.wait_all_tasks_blocked()
        driven.publish("x" * 900_000)
        await until(lambda: not nursery.child_tasks)


@pytest.mark.parametrize("what", ["left", "broken"])
async def test_a_client_that_has_left_is_gone(pair: Pair, what: str) -> None:
    """By what is read or by what is written, whichever comes first."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry_until_gone)
        await trio.testing.wait_all_tasks_blocked()
        if what == "left":
            driven.client.shutdown(socket.SHUT_WR)
        else:
            pair[0].shutdown(socket.SHUT_WR)
            driven.publish("one")
        await until(lambda: not nursery.child_tasks)


async def test_an_end_is_the_tasks_affair(pair: Pair) -> None:
    """The pump writes the last event and shuts the lane."""
    async with driving(pair) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry)
        await trio.testing.wait_all_tasks_blocked()
        driven.channel.publish_nowait(ServerSentEvent("over"), end=True)
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert driven.received().endswith(b"data: over\n\n")
        assert driven.source.finished


async def test_heartbeats_come_when_nothing_else_does(
    pair: Pair, mock_clock: trio.testing.MockClock
) -> None:
    """After so long without a write, counted from the last one; at the maximum age it is shut."""
    policy = StreamPolicy(heartbeat=10, max_age=35, max_age_jitter=0)
    async with driving(pair, policy) as driven, trio.open_nursery() as nursery:
        nursery.start_soon(driven.carry)
        await trio.testing.wait_all_tasks_blocked()
        seen = []
        for second in range(1, 36):
            if second == 5:
                driven.publish("one")
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
            if data := driven.received():
                seen.append((second, data.startswith(b": keepalive")))
        assert seen == [(5, False), (15, True), (25, True)]
        assert not nursery.child_tasks
        assert driven.stream.reason == "max age"


async def test_a_later_lane_with_an_earlier_heartbeat_is_not_late(
    mock_clock: trio.testing.MockClock,
) -> None:
    """The pump, which waits for one lane's, does not oversleep another's."""
    pump = Pump()
    async with AsyncExitStack() as stack:
        pairs = [stack.enter_context(socket_pair()) for _ in range(2)]
        policies = [StreamPolicy(heartbeat=100), StreamPolicy(heartbeat=1)]
        first, second = [
            await stack.enter_async_context(driving(pair, policy, pump=pump))
            for pair, policy in zip(pairs, policies, strict=True)
        ]
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(pump.run)
        nursery.start_soon(first.carry)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(second.carry)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1)
        await trio.testing.wait_all_tasks_blocked()
        assert second.received() == b": keepalive\n\n"
        assert first.received() == b""
        nursery.cancel_scope.cancel()


async def test_others_come_to_their_turn_while_many_are_written() -> None:
    """After each slice of writes the pump lets other tasks run."""
    lanes = 4 * SLICE
    channel = EventChannel()
    pump = Pump()
    turns: list[int] = []
    everybody: list[Driven] = []

    async def drive() -> None:
        with socket_pair() as pair:
            async with driving(pair, channel=channel, pump=pump) as driven:
                everybody.append(driven)
                await driven.carry()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        for _ in range(lanes):
            nursery.start_soon(drive)
        await trio.testing.wait_all_tasks_blocked()
        channel.publish_nowait(ServerSentEvent("one"))
        while not turns or turns[-1] < lanes:
            turns.append(sum(driven.stream.events for driven in everybody))
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert turns[0] == 0
    assert all(later - earlier <= 2 * SLICE for earlier, later in pairwise(turns))


async def test_a_stream_in_a_lane_is_as_good_as_any_to_its_registry() -> None:
    """It is kicked, and drained with its farewell, out of the lane."""
    channel = EventChannel()
    registry = StreamRegistry(drain_window=0.5)
    server = sselib.server.Server(EventStream(channel), port=0, registry=registry)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(
            lambda task_status: server.serve(shutdown_trigger=stop.wait, task_status=task_status)
        )
        async with connected(address) as kicked:
            await kicked.get("/")
            await kicked.read_until(CONNECTED)
            await until(lambda: server.statistics().lanes == 1)
            assert registry.kick("127.0.0.1") == 1
            await kicked.read_cut()
        await until(lambda: server.statistics().lanes == 0)
        async with connected(address) as drained:
            await drained.get("/")
            await drained.read_until(CONNECTED)
            await until(lambda: server.statistics().lanes == 1)
            channel.publish_nowait(ServerSentEvent("last"))
            stop.set()
            body = await drained.read_all()
            assert b"data: last\n\n" in body
            assert b"retry: " in body.splitlines()[-2]
    assert registry.statistics().ended == {"kicked": 1, "drained": 1}
