"""Our response on a server, as a process: what the peers of :mod:`benchmarks.streams` stand beside.

`python -m benchmarks.stream_servers NAME` prints the port it listens on. Each line on standard
input, `COUNT RATE`, has it publish COUNT events, RATE in a second (0: without a pause, but letting
streams come to their turn); the end of the input ends it. Every stream gets every event.

It is used as the README says, with its defaults, without limits on streams. Environment variables
change that: PADDING makes events larger by so many bytes, WRITE_TIMEOUT says after how many seconds
a client is let go that takes nothing, and with HELLO there are no streams, but a greeting.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.routing import Route

import sselib.hypercorn
from sselib import EventChannel, EventStream, ServerSentEvent
from sselib.registry import StreamRegistry

from .stream_events import EVENT_TYPE, HELLO, KEPT_ALIVE, payload


async def hello(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 # ASGI's arguments
    """Answer any request with a greeting."""
    if scope["type"] != "http":
        raise RuntimeError("there is no lifespan")
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(HELLO))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


async def main(name: str) -> None:
    """Serve and publish as told, until there is nothing more to be told."""
    channel = EventChannel()
    app: Any = hello if "HELLO" in os.environ else EventStream(channel, replay="live")
    if name == "sselib-starlette":
        app = Starlette(routes=[Route("/", app)])
    serve: Any = sselib.serve
    if name == "sselib-hypercorn":
        config = Config()
        config.keep_alive_timeout = KEPT_ALIVE
        config.loglevel = "ERROR"  # below that it tells that there is no lifespan
        serve = partial(sselib.hypercorn.serve, config=config)
    if "WRITE_TIMEOUT" in os.environ:
        serve = partial(serve, write_timeout=float(os.environ["WRITE_TIMEOUT"]))
    registry = StreamRegistry(max_streams=None, max_streams_per_client=None)
    padding = int(os.environ.get("PADDING", "0"))
    async with trio.open_nursery() as nursery, trio.lowlevel.FdStream(os.dup(0)) as commands:
        ((_, port),) = await nursery.start(partial(serve, app, port=0, registry=registry))
        print(port, flush=True)
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
                    channel.publish_nowait(ServerSentEvent(payload(padding), event=EVENT_TYPE))
                    if not rate:
                        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
