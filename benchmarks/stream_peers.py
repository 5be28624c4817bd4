"""Peers on asyncio, as :mod:`benchmarks.stream_servers` is ours: the same port, the same commands.

`python -m benchmarks.stream_peers NAME`, in the environment where they are installed. Each is used
as its documentation says, and gets the best that it knows: bytes that are encoded once for all
streams where it takes bytes, and uvloop and httptools. What they lack (ids to come back with, a
bound for a client that does not read, an exit while streams are open) costs them nothing here.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from .stream_events import EVENT_TYPE, HELLO, KEPT_ALIVE, payload

_OPENING: Final = b": connected\n\n"
_HEADERS: Final = {"cache-control": "no-cache"}


class Frames:
    """What is published, and where streams wait for more."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._more = asyncio.Event()

    def add(self, item: Any) -> None:
        """Publish it."""
        self.items.append(item)
        self._more.set()
        self._more = asyncio.Event()

    async def follow(self) -> AsyncIterator[Any]:
        """Give everything that is published from now on."""
        sent = len(self.items)
        while True:
            while sent == len(self.items):
                await self._more.wait()
            yield self.items[sent]
            sent += 1


class Bare:
    """Starlette's StreamingResponse of shared bytes."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._response: Any = importlib.import_module("starlette.responses").StreamingResponse

    def publish(self, data: str, number: str) -> None:
        """Publish an event."""
        self._frames.add(f"id: {number}\nevent: {EVENT_TYPE}\ndata: {data}\n\n".encode())

    async def answer(self, _: Any) -> Any:
        """Answer a request with the stream."""
        return self._response(self._body(), media_type="text/event-stream", headers=_HEADERS)

    async def _body(self) -> AsyncIterator[bytes]:
        yield _OPENING
        async for frame in self._frames.follow():
            yield frame


class Rich:
    """sse-starlette's EventSourceResponse of its own events."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._peer: Any = importlib.import_module("sse_starlette")

    def publish(self, data: str, number: str) -> None:
        """Publish an event."""
        self._frames.add((data, number))

    async def answer(self, _: Any) -> Any:
        """Answer a request with the stream."""
        return self._peer.EventSourceResponse(self._body())

    async def _body(self) -> AsyncIterator[Any]:
        event = self._peer.ServerSentEvent
        yield event(comment="connected")
        async for data, number in self._frames.follow():
            yield event(data, event=EVENT_TYPE, id=number)


PEERS: Final[dict[str, Callable[[Frames], Any]]] = {"starlette": Bare, "sse-starlette": Rich}


async def main(name: str) -> None:
    """Serve and publish as told; the end of the input ends the process."""
    uvicorn: Any = importlib.import_module("uvicorn")
    starlette: Any = importlib.import_module("starlette.applications")
    route: Any = importlib.import_module("starlette.routing").Route
    peer = PEERS[name](Frames())
    text: Any = importlib.import_module("starlette.responses").PlainTextResponse

    async def hello(_: Any) -> Any:
        return text(HELLO)

    app = starlette.Starlette(routes=[route("/", peer.answer), route("/hello", hello)])
    config = uvicorn.Config(
        app, port=0, log_level="warning", access_log=False, timeout_keep_alive=KEPT_ALIVE
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)

    published = 0

    async def obey(line: str) -> None:
        nonlocal published
        count, rate = map(float, line.split())
        start = time.monotonic()
        for number in range(int(count)):
            if rate:
                await asyncio.sleep(max(0, start + number / rate - time.monotonic()))
            peer.publish(payload(), f"3f9a1c07-1735689600000-{published}")
            published += 1
            if not rate:
                await asyncio.sleep(0)

    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin:
            asyncio.run_coroutine_threadsafe(obey(line), loop)
        os._exit(0)  # of itself it does not end while streams are open

    threading.Thread(target=listen, daemon=True).start()
    await serving


if __name__ == "__main__":
    importlib.import_module("uvloop").run(main(sys.argv[1]))
