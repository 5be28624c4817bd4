"""The HTTP API: who may ask, what the stream is, and what lives around it.

One task reads the watcher and publishes each change to one channel; each client is a subscriber of
it. There is no replay and there are no ids: a client sees what happens while it is connected. One
that falls further behind than the channel keeps is disconnected, and the watcher never waits for
one.

This server has no passwords, so it is for this machine alone. It listens on loopback addresses
only, and answers only requests that name one of them as their host: otherwise any web site could
have its own name resolve to 127.0.0.1 and read along in the browser of whoever visits it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sselib import EventChannel, EventStream, MemoryLog, Retention, StreamPolicy
from sselib.registry import StreamRegistry
from sselib.stream import ASGIApp, Receive, Scope, Send

from .updates import update, update_of
from .watching import Watcher, open_watcher

KEEPALIVE: Final = 15.0  # seconds, as documented
CLIENT_BACKLOG: Final = 1000  # updates that a client may fall behind before it is disconnected
DRAIN_WINDOW: Final = 2.0  # seconds in which streams are told that the server shuts down

_HOSTS: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))
_PAGE: Final = Path(__file__).with_name("page")


@asynccontextmanager
async def open_app(
    directories: Iterable[str],
    *,
    keepalive: float = KEEPALIVE,
    poll_interval: float | None = None,
) -> AsyncIterator[ASGIApp]:
    """Watch directories, and give the application that announces what happens in them.

    Args:
        directories: What to watch, each with all that is below it.
        keepalive: Seconds without an update after which a stream gets a comment.
        poll_interval: Look for changes this often, in seconds. ``None``: the system says when.

    Raises:
        WatchError: One of the directories cannot be watched.

    Cancellation: the streams have been cut by the server before that; the watcher is closed.
    """
    channel = EventChannel(MemoryLog(retention=Retention(entries=CLIENT_BACKLOG)))

    async def say_goodbye() -> None:
        await channel.publish(update("shutting_down"))

    registry = StreamRegistry(
        drain_window=DRAIN_WINDOW, before_drain=say_goodbye, farewell_retry=False
    )
    with open_watcher(poll_interval=poll_interval) as watcher:
        for directory in directories:
            await watcher.add(directory)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announce, watcher, channel)
            yield registry(_for_this_machine(routes(channel, keepalive)))
            nursery.cancel_scope.cancel()


async def announce(watcher: Watcher, channel: EventChannel) -> None:
    """Publish what a watcher says, for as long as it says something."""
    async for change in watcher:
        event = update_of(change)
        if event is not None:
            await channel.publish(event)


def routes(channel: EventChannel, keepalive: float) -> ASGIApp:
    """Return the application: the stream of a channel's updates, and the page that shows it."""
    updates = EventStream(
        channel, replay="live", policy=StreamPolicy(heartbeat=keepalive, ids="none")
    )

    async def get_updates(request: Request) -> ASGIApp:
        if not _accepts_event_stream(request.headers.getlist("accept")):
            return JSONResponse({"error": "Accept: text/event-stream required"}, status_code=400)  # noqa: ASYNC910 # nothing here blocks
        return updates  # noqa: ASYNC910 # as above

    return Starlette(
        routes=[
            Route("/api/updates", get_updates),
            Route("/api/updates/", get_updates),
            Mount("/", StaticFiles(directory=_PAGE, html=True)),
        ]
    )


def _accepts_event_stream(accept: Iterable[str]) -> bool:
    """Return whether Accept headers name ``text/event-stream``, alone or in a range."""
    qualities: dict[str, float] = {}
    for media_range in ",".join(accept).split(","):
        kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        qualities[kind] = quality
    # The most specific range decides: https://www.rfc-editor.org/rfc/rfc9110#field.accept
    for kind in ("text/event-stream", "text/*", "*/*"):
        if kind in qualities:
            return qualities[kind] > 0
    return False


def _for_this_machine(app: ASGIApp) -> ASGIApp:
    """Refuse requests to a host that is not this machine by its own name."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or _without_port(hosts[0]).lower() not in _HOSTS:
                refusal = PlainTextResponse("Invalid host header\n", status_code=400)
                await refusal(scope, receive, send)
                return
        await app(scope, receive, send)

    return guarded


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
