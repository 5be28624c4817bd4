"""A client that sends our server what it is told, and applications that answer it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import h11
import trio

import sselib.server
from sselib.stream import ASGIApp, Receive, Scope, Send

from .servers import SOON, Served, connected, serving

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
