"""Applications by hand, each of which does one thing right or wrong."""

from __future__ import annotations

import trio

from sselib.stream import ASGIApp, Message, Receive, Scope, Send
from sselib.testing import ReceivedStream

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
