"""Our response on a server, as a process: what the peers of :mod:`benchmarks.streams` stand beside.

`python -m benchmarks.stream_servers NAME` prints the port it listens on. Each line on standard
input, `COUNT RATE`, has it publish COUNT events, RATE in a second (0: without a pause, but letting
streams come to their turn); the end of the input ends it. Every stream gets every event.

It is used as the README says, with its defaults, without limits on streams. The environment
variable PADDING makes events larger.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.routing import Route

import sselib.hypercorn
from sselib import EventChannel, EventStream, ServerSentEvent
from sselib.registry import StreamRegistry

from .stream_events import EVENT_TYPE, payload


async def main(name: str) -> None:
    """Serve and publish as told, until there is nothing more to be told."""
    channel = EventChannel()
    app: Any = EventStream(channel, replay="live")
    if name == "sselib-starlette":
        app = Starlette(routes=[Route("/", app)])
    serve: Any = sselib.hypercorn.serve if name == "sselib-hypercorn" else sselib.serve
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
