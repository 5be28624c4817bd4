"""The two servers that the Hypercorn benchmark compares, each in a process of its own.

`python -m benchmarks.hypercorn_servers NAME` prints the port it listens on. Each line on standard
input, `COUNT RATE`, has it publish COUNT events, RATE in a second; the end of the input ends it.

The bare application does as little as an application can that gives every event to every stream:
the head and the bytes are made once for all, a stream is one task that waits for a `trio.Event` and
sends what is there. It does not notice that a client has left, knows no heartbeat, no id that a
client comes back with, no limits and no end. Hypercorn is the same, with the same settings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_hypercorn

import sselib.hypercorn
from sselib import EventChannel, EventStream, ServerSentEvent
from sselib.registry import StreamRegistry

EVENT_TYPE: Final = "progress"
PAYLOAD: Final = '{"job":"7f3a91c2","state":"running","step":"render","done":0.4375,"eta":42}'
MARK: Final = b"{"  # once in each event; heads, comments and chunk sizes have none

_HEAD: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
    ],
}
_OPENING: Final = b": connected\n\n"


class BareApp:
    """The least work that gives every event to every stream."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._published = trio.Event()

    def publish(self) -> None:
        """Make the bytes of an event and wake all streams."""
        number = len(self._frames)
        self._frames.append(
            f"id: k3v9-1735689600000-{number}\nevent: {EVENT_TYPE}\ndata: {PAYLOAD}\n\n".encode()
        )
        self._published.set()
        self._published = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the lifespan, and a request with a stream of what is published from now on."""
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        await send(_HEAD)
        await send({"type": "http.response.body", "body": _OPENING, "more_body": True})
        frames = self._frames
        sent = len(frames)
        while True:
            while sent == len(frames):
                await self._published.wait()
            await send({"type": "http.response.body", "body": frames[sent], "more_body": True})
            sent += 1


async def serve_bare(nursery: trio.Nursery) -> tuple[int, Callable[[], object]]:
    """Start the bare application; return its port and what publishes an event."""
    app = BareApp()
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.backlog = sselib.hypercorn.DEFAULT_BACKLOG
    config.loglevel = "WARNING"
    (address,) = await nursery.start(partial(serve_hypercorn, app, config, mode="asgi"))
    return int(address.rpartition(":")[2]), app.publish


async def serve_ours(nursery: trio.Nursery) -> tuple[int, Callable[[], object]]:
    """Start our response on our serve; return its port and what publishes an event."""
    channel = EventChannel()
    app = EventStream(channel, replay="live")
    registry = StreamRegistry(max_streams=None, max_streams_per_client=None)
    ((_, port),) = await nursery.start(
        partial(sselib.hypercorn.serve, app, port=0, registry=registry)
    )

    def publish() -> None:
        channel.publish_nowait(ServerSentEvent(PAYLOAD, event=EVENT_TYPE))

    return port, publish


SERVERS: Final = {"ours": serve_ours, "bare": serve_bare}


async def main(name: str) -> None:
    """Serve and publish as told, until there is nothing more to be told."""
    async with trio.open_nursery() as nursery, trio.lowlevel.FdStream(0) as commands:
        port, publish = await SERVERS[name](nursery)
        print(port, flush=True)
        told = b""
        async for data in commands:
            told += data
            while b"\n" in told:
                line, _, told = told.partition(b"\n")
                count, rate = map(float, line.split())
                start = trio.current_time()
                for number in range(int(count)):
                    await trio.sleep_until(start + number / rate)
                    publish()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
