"""The application: who may ask, and what lives around it.

Everything is opened in :func:`open_app` and closed there. Each client of the stream is a subscriber
of one channel; there is no replay and there are no ids: a client sees what happens while it is
connected, and asks the other endpoints for what is. One that falls further behind than the channel
keeps is disconnected, and nothing here ever waits for one.

This server has no passwords, so it is for this machine alone. It listens on loopback addresses
only, and answers only requests that name one of them as their host: otherwise any web site could
have its own name resolve to 127.0.0.1 and read along in the browser of whoever visits it. Nor may
the page of another site change anything: a browser says whose page it is that asks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import attrs
import trio
from starlette.responses import JSONResponse

from sselib import EventChannel, EventStream, MemoryLog, Retention, StreamPolicy
from sselib.stream import ASGIApp, Receive, Scope, Send

from .api import routes
from .backend import Backend
from .intake import Intake
from .queue import COOLDOWN, Queue
from .store import companions, open_store
from .watching import open_watcher
from .work import work

KEEPALIVE: Final = 15.0  # seconds, as documented
SCAN_COOLDOWN: Final = 5.0  # seconds before a file is processed that was there from the beginning
CLIENT_BACKLOG: Final = 1000  # updates that a client may fall behind before it is disconnected

_HOSTS: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))


@attrs.frozen(eq=False)
class FileUpdates:
    """The ASGI application, while it is open. It may be mounted below another path."""

    _app: ASGIApp
    _backend: Backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)

    async def say_goodbye(self) -> None:
        """Tell the streams that the server shuts down: a registry's ``before_drain``."""
        await trio.lowlevel.checkpoint()
        self._backend.say_goodbye()


@asynccontextmanager
async def open_app(
    directories: Iterable[str] = (),
    *,
    data: str | os.PathLike[str] | None = None,
    keepalive: float = KEEPALIVE,
    cooldown: float = COOLDOWN,
    scan_cooldown: float = SCAN_COOLDOWN,
    poll_interval: float | None = None,
) -> AsyncIterator[FileUpdates]:
    """Watch directories, index their files, and give the application that tells of it.

    Args:
        directories: What to watch, each with all that is below it, besides what was watched before.
        data: The file that holds watches, queue and index. ``None``: a temporary one, so that
            everything begins anew with each process.
        keepalive: Seconds without an update after which a stream gets a comment.
        cooldown: Seconds without a change after which a file is processed.
        scan_cooldown: The same for files that were there when the watch began.
        poll_interval: Look for changes this often, in seconds. ``None``: the system says when.

    Raises:
        WatchError: One of the directories cannot be watched.
        StoreError: The file cannot be used.

    Cancellation: the streams have been cut by the server before that; what was being processed
    is still in the queue.
    """
    channel = new_channel()
    with ExitStack() as stack:
        if data is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="file_updates-"))
            data = os.path.join(directory, "index.sqlite3")
        backend = Backend(
            store=stack.enter_context(open_store(data)),
            watcher=stack.enter_context(open_watcher(poll_interval=poll_interval)),
            channel=channel,
            queue=Queue(cooldown=cooldown),
            scan_cooldown=scan_cooldown,
            own_files=companions(data),
        )
        await backend.restore()
        for each in directories:
            await backend.want_watch(each)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.run_until_failed)
            nursery.start_soon(Intake(backend).run)
            nursery.start_soon(work, backend)
            nursery.start_soon(backend.run_scheduler)
            api = routes(backend, new_stream(channel, keepalive))
            yield FileUpdates(_for_this_machine(api), backend)
            nursery.cancel_scope.cancel()


def new_channel() -> EventChannel:
    """Return the channel of updates, which keeps as many as a client may fall behind."""
    return EventChannel(MemoryLog(retention=Retention(entries=CLIENT_BACKLOG)))


def new_stream(channel: EventChannel, keepalive: float) -> EventStream:
    """Return the stream of a channel's updates: live, and without ids."""
    policy = StreamPolicy(heartbeat=keepalive, ids="none")
    return EventStream(channel, replay="live", policy=policy)


def _for_this_machine(app: ASGIApp) -> ASGIApp:
    """Refuse requests to a host that is not this machine by its own name, and of foreign pages."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            error = _refusal(scope)
            if error is not None:
                await JSONResponse({"error": error}, status_code=400)(scope, receive, send)
                return
        await app(scope, receive, send)

    return guarded


def _refusal(scope: Scope) -> str | None:
    hosts, origins = (
        [value.decode("latin-1").lower() for name, value in scope["headers"] if name == wanted]
        for wanted in (b"host", b"origin")
    )
    if len(hosts) != 1 or _without_port(hosts[0]) not in _HOSTS:
        return "Invalid host header"
    own = (f"http://{hosts[0]}", f"https://{hosts[0]}")
    if scope["method"] not in ("GET", "HEAD") and any(origin not in own for origin in origins):
        return "Invalid origin header"
    return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
