"""Servers of event streams that the benchmarks compare, each as a process of its own.

`python -m benchmarks.stream_servers NAME` prints the port it listens on. Each line on standard
input, `COUNT RATE`, has it publish COUNT events, RATE in a second (0: without a pause, but letting
streams come to their turn); the end of the input ends it. Every stream gets every event.

Ours are used as the README says, with the defaults, without limits on streams. The peers get the
best that their documentation knows: bytes that are encoded once for all streams where they take
bytes. What they lack beside that (ids to come back with, a bound for a client that does not read,
an exit while streams are open) costs them nothing here.

This module is run by the peers' Python too, so it imports what it compares late.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

EVENT_TYPE: Final = "progress"
# Once in each event, and nowhere else in what a server sends.
MARK: Final = "{"
_OPENING: Final = b": connected\n\n"
_HEADERS: Final = {"cache-control": "no-cache"}


def payload(padding: int = 0) -> str:
    """Return the data of an event: with the time at which it is published, and of 75 bytes."""
    text = f'{{"at":{time.monotonic_ns()},"job":"7f3a91c2","state":"running","step":"render",'
    return text + f'"done":0.4375{padding * " "}}}'


# ---- ours ----------------------------------------------------------------------------------------


async def _obey(publish: Callable[[], object], port: int) -> None:
    import trio

    print(port, flush=True)
    async with trio.lowlevel.FdStream(os.dup(0)) as commands:
        told = b""
        async for data in commands:
            told += data
            while b"\n" in told:
                line, _, told = told.partition(b"\n")
                count, rate = map(float, line.split())
                start = trio.current_time()
                for number in range(int(count)):
                    if rate:
                        await trio.sleep_until(start + number / rate)
                    publish()
                    if not rate:
                        await trio.lowlevel.checkpoint()


async def _serve_ours(kind: str) -> None:
    import trio

    from sselib import EventChannel, EventStream, ServerSentEvent, serve
    from sselib.registry import StreamRegistry

    padding = int(os.environ.get("PADDING", "0"))
    channel = EventChannel()
    stream = EventStream(channel, replay="live")
    app: Any = stream
    served: Any = serve
    if kind == "starlette":
        from starlette.applications import Starlette
        from starlette.routing import Route

        app = Starlette(routes=[Route("/", stream)])
    if kind == "hypercorn":
        from sselib.hypercorn import serve as served
    registry = StreamRegistry(max_streams=None, max_streams_per_client=None)

    def publish() -> None:
        channel.publish_nowait(ServerSentEvent(payload(padding), event=EVENT_TYPE))

    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(served, app, port=0, registry=registry))
        await _obey(publish, addresses[0][1])
        nursery.cancel_scope.cancel()


def ours(kind: str) -> None:
    """Our response, on our server or another."""
    import trio

    trio.run(_serve_ours, kind)


# ---- peers on asyncio ----------------------------------------------------------------------------


class _Frames:
    """What is published, and a place to wait for more."""

    def __init__(self) -> None:
        import asyncio

        self._event = asyncio.Event
        self.items: list[Any] = []
        self.more = asyncio.Event()

    def add(self, item: Any) -> None:
        self.items.append(item)
        self.more.set()
        self.more = self._event()

    async def follow(self) -> AsyncIterator[Any]:
        sent = len(self.items)
        while True:
            while sent == len(self.items):
                await self.more.wait()
            yield self.items[sent]
            sent += 1


def uvicorn(kind: str) -> None:
    """Starlette's StreamingResponse, or sse-starlette's EventSourceResponse, on uvicorn."""
    import asyncio
    import threading

    import uvicorn as server  # type: ignore[import-not-found, unused-ignore]
    from starlette.applications import Starlette
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    frames: _Frames
    loop: asyncio.AbstractEventLoop
    published = 0

    async def bare() -> AsyncIterator[bytes]:
        yield _OPENING
        async for frame in frames.follow():
            yield frame

    async def rich() -> AsyncIterator[Any]:
        from sse_starlette import ServerSentEvent  # type: ignore[import-not-found, unused-ignore]

        yield ServerSentEvent(comment="connected")
        async for data, number in frames.follow():
            yield ServerSentEvent(data, event=EVENT_TYPE, id=number)

    async def answer(_: Any) -> Any:
        if kind == "sse-starlette":
            from sse_starlette import EventSourceResponse

            return EventSourceResponse(rich())
        return StreamingResponse(bare(), media_type="text/event-stream", headers=_HEADERS)

    def publish() -> None:
        nonlocal published
        number = f"3f9a1c07-1735689600000-{published}"
        published += 1
        data = payload()
        if kind == "sse-starlette":
            frames.add((data, number))
        else:
            frames.add(f"id: {number}\nevent: {EVENT_TYPE}\ndata: {data}\n\n".encode())

    async def obey(line: str) -> None:
        count, rate = map(float, line.split())
        start = time.monotonic()
        for number in range(int(count)):
            if rate:
                await asyncio.sleep(max(0, start + number / rate - time.monotonic()))
            publish()
            if not rate:
                await asyncio.sleep(0)

    def listen() -> None:
        for line in sys.stdin:
            asyncio.run_coroutine_threadsafe(obey(line), loop)
        os._exit(0)  # it does not end while streams are open

    class Told(server.Server):  # type: ignore[misc, name-defined, unused-ignore]
        async def startup(self, sockets: Any = None) -> None:
            nonlocal frames, loop
            frames, loop = _Frames(), asyncio.get_running_loop()
            await super().startup(sockets)
            print(self.servers[0].sockets[0].getsockname()[1], flush=True)
            threading.Thread(target=listen, daemon=True).start()

    config = server.Config(
        Starlette(routes=[Route("/", answer)]), port=0, log_level="warning", access_log=False
    )
    Told(config).run()


SERVERS: Final[dict[str, Callable[[], None]]] = {
    "sselib": partial(ours, "bare"),
    "sselib-starlette": partial(ours, "starlette"),
    "sselib-hypercorn": partial(ours, "hypercorn"),
    "starlette": partial(uvicorn, "starlette"),
    "sse-starlette": partial(uvicorn, "sse-starlette"),
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]]()
