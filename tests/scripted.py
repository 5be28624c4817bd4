"""A server that says, byte by byte, what a test wants it to say: also what no server should.

Each connection gets the next answer of the script. An answer is the bytes of a whole response,
after which the connection is closed, or an async function that is given the connection. Where the
script is over a connection gets 204, which ends an event source well: so a test iterates one to its
end, and has seen all that came of the script.

It runs in memory, where a `MockClock` may be used, or on a real socket.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import attrs
import h11
import trio
import trio.testing

from sselib import open_event_source
from sselib.client import RetryPolicy
from sselib.http1 import LAST_CHUNK, encode_chunk, encode_head

NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
CHUNKED: Final = (b"transfer-encoding", b"chunked")
EVENT_STREAM: Final = (b"content-type", b"text/event-stream")
OPEN: Final = encode_head(200, [EVENT_STREAM, CHUNKED])

# For a real socket, where nobody turns the clock: lost connections are made anew at once.
AT_ONCE: Final = RetryPolicy(backoff=0)


def response(
    status: int = 200, *headers: tuple[str, str], body: bytes = b"", content_type: str | None = None
) -> bytes:
    """Return a response whose body has its length told."""
    named = [(name.encode(), value.encode()) for name, value in headers]
    if content_type is not None:
        named.append((b"content-type", content_type.encode()))
    return encode_head(status, [*named, (b"content-length", b"%d" % len(body))]) + body


def stream(*blocks: bytes, end: bytes = LAST_CHUNK) -> bytes:
    """Return an event stream, each block in a chunk of its own."""
    return OPEN + b"".join(map(encode_chunk, blocks)) + end


def redirect(location: str, status: int = 302) -> bytes:
    return response(status, ("location", location))


@attrs.frozen
class Asked:
    """A request, as the server got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def last_event_id(self) -> str | None:
        return self.headers.get("last-event-id")


Answer = bytes | Callable[[trio.abc.Stream], Awaitable[None]]


class ScriptedServer:
    """What answers.

    Attributes:
        asked: The requests so far.
        connected: How many connections there were.
        all_closed: Set while there is none.
        url: Where it can be reached.
    """

    def __init__(self, answers: Iterable[Answer], url: str = "http://test/events") -> None:
        self.asked: list[Asked] = []
        self.connected = 0
        self.all_closed = trio.Event()
        self._open = 0
        self.url = url
        self._answers = iter(answers)

    async def serve(self, peer: trio.abc.Stream, tls: ssl.SSLContext | None = None) -> None:
        if tls is not None:
            peer = trio.SSLStream(peer, tls, server_side=True, https_compatible=True)
        self.connected += 1
        self._open += 1
        self.all_closed = trio.Event()
        try:
            async with peer:
                with suppress(trio.BrokenResourceError):  # the client may leave when it likes
                    await self._exchange(peer)
        finally:
            self._open -= 1
            if not self._open:
                self.all_closed.set()

    async def _exchange(self, peer: trio.abc.Stream) -> None:
        asked = await read_request(peer)
        if asked is None:
            return
        self.asked.append(asked)
        answer = next(self._answers, NO_CONTENT)
        if isinstance(answer, bytes):
            await peer.send_all(answer)
        else:
            await answer(peer)


async def read_request(peer: trio.abc.Stream) -> Asked | None:
    """Read one request; `None` if the client leaves before that, or speaks of something else."""
    http = h11.Connection(h11.SERVER)
    head, body = None, b""
    while True:  # noqa: ASYNC913 # h11 asks for data before it has an event
        try:
            event = http.next_event()
        except h11.RemoteProtocolError:
            return None
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await peer.receive_some(65_536)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Asked(head.method.decode(), head.target.decode(), headers, body)
        else:
            return None


async def until_left(peer: trio.abc.Stream) -> None:
    """Keep the connection open until the client closes it."""
    with suppress(trio.BrokenResourceError):
        while await peer.receive_some(65_536):
            pass


def then_stay(data: bytes) -> Answer:
    """Answer with these bytes and say nothing more."""

    async def answer(peer: trio.abc.Stream) -> None:
        await peer.send_all(data)
        await until_left(peer)

    return answer


@asynccontextmanager
async def in_memory(
    *answers: Answer, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[ScriptedServer, Any]]:
    """Give a server in memory, and `open_event_source` with a way to it and to it alone."""
    server = ScriptedServer(answers, "http://test/events" if tls is None else "https://test/events")
    async with trio.open_nursery() as nursery:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve, theirs, tls)
            return ours

        yield server, partial(open_event_source, server.url, connect=connect)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def on_socket(
    *answers: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[ScriptedServer, Any]]:
    """Give a server on a socket, and `open_event_source` with its address."""
    server = ScriptedServer(answers)

    async def serve(peer: trio.SocketStream) -> None:
        await server.serve(peer, tls)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        server.url = f"{'http' if tls is None else 'https'}://{host}:{port}/events"
        yield server, partial(open_event_source, server.url, policy=AT_ONCE)
        nursery.cancel_scope.cancel()
