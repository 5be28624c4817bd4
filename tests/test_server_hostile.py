"""What a client can do to our server, and what it cannot."""

from __future__ import annotations

import socket
import struct
from contextlib import AsyncExitStack, suppress
from typing import Any

import h11
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

import sselib.server
from sselib import EventChannel, EventStream, ServerSentEvent
from sselib.connection import Connection, Service
from sselib.registry import StreamRegistry
from sselib.requests import PIPELINED_BYTES, Limits
from sselib.stream import Receive, Scope, Send

from .servers import SOON, connected, serving, until
from .talking import CONNECTED, GET, answer, body_of, echo, talking

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
