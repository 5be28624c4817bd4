"""The same application on Hypercorn, as a server of event streams needs it.

Strategy: Hypercorn runs as it is, through its public doors alone (``hypercorn.trio.serve`` and
``hypercorn.config.Config``). What it lacks is done around it: on descriptors, and between it and
the application.

Rules:

- The process exits whatever the clients do. Hypercorn sends under a shield, so no cancellation
  reaches a send to a client that has stopped reading; only the socket itself can. So the listening
  sockets are ours, with a timeout for such clients, and at the end the connections that are left
  are shut down from outside.
- A listening socket has one owner. Hypercorn gets its number (``fd://``), says that it has started
  in the same step in which it takes it, and closes it; we let go of ours just then.
- A Config is the caller's: we read it, and change a copy.

HTTP/2 is refused unless asked for. On it Hypercorn's ``send()`` never blocks, so what a client
does not read piles up in this process (30 MiB for one client, seen). The price of HTTP/1.1 is that
a browser opens six connections per host, hence six streams over all its tabs at most: share one
between tabs, or give streams host names of their own.
"""

from __future__ import annotations

import copy
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, Unpack, cast

import attrs
import trio

from .listening import (
    CLOSE_GRACE,
    DEFAULT_HOST,
    DEFAULT_PORT,
    DEFAULT_WRITE_TIMEOUT,
    Address,
    Listening,
    ListenOptions,
    listen,
)
from .process import run_process
from .registry import StreamRegistry, registered
from .stream import ASGIApp, Message, Receive, Scope, Send

try:
    from hypercorn.config import Config
    from hypercorn.trio import serve as serve_hypercorn
except ModuleNotFoundError as error:
    if error.name != "hypercorn":
        raise
    raise ImportError("sselib.hypercorn needs Hypercorn: pip install 'sselib[hypercorn]'") from None

# Connections waiting to be accepted. Hypercorn's 100 are few when all clients come back at once.
DEFAULT_BACKLOG: Final = 1024

# What of a Config says where to listen, and as whom: not ours to take from it.
_LISTENING: Final = ("bind", "insecure_bind", "quic_bind", "umask", "user", "group")
_NOT_HTTP_1: Final = b"This server speaks HTTP/1.1.\n"


class ServeOptions(ListenOptions, total=False):
    """The options of :func:`serve` that :func:`run` has too, with the same defaults."""

    config: Config | None
    registry: StreamRegistry | None
    http2: bool


async def serve(  # noqa: ASYNC128 # _Front calls it
    app: ASGIApp,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    unix_path: str | os.PathLike[str] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    reuse_port: bool = False,
    config: Config | None = None,
    registry: StreamRegistry | None = None,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    http2: bool = False,
    write_timeout: float | None = DEFAULT_WRITE_TIMEOUT,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application until ``shutdown_trigger()`` returns, then drain and return.

    It touches no signals. Connections that still stand one second after the drain are shut down,
    so it returns within the drain window and little more than that second.

    Args:
        app: The application; its lifespan is run. What streams depend on is better opened around
            ``serve``: Hypercorn ends the lifespan only after the streams were cut.
        host: Name or address to listen on, at every address it has. ``"0.0.0.0"`` and ``"::"``
            are all addresses of the machine.
        port: Port to listen on; 0 for any that is free.
        unix_path: Where to make a Unix socket, instead of a host and port. A socket that nobody
            answers on any more is replaced; ours is removed at the end.
        sockets: Bound sockets to listen on instead, such as those a supervisor passes on. They
            are given away: detached from these objects, and closed at the end.
        reuse_port: Let other processes listen on the same port; the kernel deals out the clients.
        config: Settings for Hypercorn, among them ``certfile`` and ``keyfile`` for TLS. Where to
            listen is not taken from it, nor a ``graceful_timeout`` above one second.
        registry: Keeps the streams. Without one it is that in which ``app`` is wrapped already
            (``registry(app)``), else a new one with its defaults.
        shutdown_trigger: Begins the drain by returning. ``None``: only cancelling ends ``serve``.
        http2: Also speak HTTP/2, at the price told at the top of this module. Otherwise its
            requests get 505 before the application sees them, however they got in.
        write_timeout: Seconds without progress after which a client that does not take what was
            sent is cut off; ``None`` for never. TCP on Linux only. Below 20 it also hits clients
            that read steadily but slowly.
        task_status: Told where it listens, a list of ``(host, port)`` and paths, once the
            application has started.

    Raises:
        OSError: It cannot listen there, or cannot read a certificate.
        ValueError: Arguments contradict each other, or the Config asks for what is not taken.
        ExceptionGroup: With what stopped Hypercorn in it, such as a failure in the lifespan.

    Cancellation: stops at once. All connections are shut down, without a farewell.
    """
    settings = _settings(config, http2=http2)
    app_in_registry = registered(app, registry)
    drained = app_in_registry.registry.drained_after(shutdown_trigger or trio.sleep_forever)
    closing = trio.Event()
    over = False

    async def trigger() -> None:
        try:
            await drained()
        finally:
            closing.set()  # also when Hypercorn stops for a reason of its own

    async def cut_when_late() -> None:
        try:
            await closing.wait()
            await trio.sleep(CLOSE_GRACE)
        finally:
            if not over:  # else whatever is at these addresses now is another's
                listening.cut_connections()

    with await listen(
        host=host,
        port=port,
        unix_path=unix_path,
        sockets=sockets,
        reuse_port=reuse_port,
        write_timeout=write_timeout,
    ) as listening:
        settings.bind = [f"fd://{sock.fileno()}" for sock in listening.sockets]
        front = _Front(app_in_registry, listening, task_status, http2=http2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_when_late)
            try:
                await serve_hypercorn(
                    cast("Any", front),
                    settings,
                    shutdown_trigger=trigger,
                    task_status=front,
                    mode="asgi",
                )
            finally:
                over = True
            nursery.cancel_scope.cancel()


def run(
    app: ASGIApp | AbstractAsyncContextManager[ASGIApp],
    *,
    started: Callable[[list[Address]], object] | None = None,
    **options: Unpack[ServeOptions],
) -> None:
    """Be a process that serves: as :func:`sselib.run`, on Hypercorn.

    Args:
        app: The application, or an async context manager that gives it.
        started: Called with where it listens, once the application has started.
        options: As for :func:`serve`.

    Raises:
        SystemExit, Exception: As :func:`sselib.run`.
    """
    run_process(partial(serve, **options), app, started)


@attrs.define(eq=False)
class _Front:
    """What Hypercorn is given: the application, and the task status."""

    app: ASGIApp
    listening: Listening
    task_status: trio.TaskStatus[list[Address]]
    http2: bool = attrs.field(kw_only=True)
    failed: bool = attrs.field(default=False, init=False)  # the application did not start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched_send(message: Message) -> None:
            self.failed = self.failed or message["type"] == "lifespan.startup.failed"
            await send(message)

        if scope["type"] == "lifespan":
            await self.app(scope, receive, watched_send)
        elif self.http2 or scope["http_version"].startswith("1."):
            await self.app(scope, receive, send)
        else:
            await _refuse_version(scope, send)

    def started(self, _: object = None) -> None:
        self.listening.hand_over()
        if not self.failed:  # Hypercorn says that it has started even then
            self.task_status.started(self.listening.addresses)


async def _refuse_version(scope: Scope, send: Send) -> None:
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(_NOT_HTTP_1)),
    ]
    await send({"type": f"{kind}.start", "status": 505, "headers": headers})
    await send({"type": f"{kind}.body", "body": _NOT_HTTP_1})


def _settings(config: Config | None, *, http2: bool) -> Config:
    settings = Config() if config is None else copy.copy(config)
    if config is None:
        settings.backlog = DEFAULT_BACKLOG
        settings.errorlog = logging.getLogger("hypercorn.error")  # no format or level of its own
    elif config.quic_bind:
        raise ValueError("HTTP/3 is not served: the Config has a quic_bind")
    elif taken := [name for name in _LISTENING if getattr(config, name) != getattr(Config(), name)]:
        raise ValueError(
            "where to listen is said by host and port, unix_path or sockets, "
            f"not in the Config: {', '.join(taken)}"
        )
    settings.graceful_timeout = min(settings.graceful_timeout, CLOSE_GRACE)
    if not http2:
        spoken = [name for name in settings.alpn_protocols if name != "h2"]
        settings.alpn_protocols = spoken or ["http/1.1"]
    settings.create_ssl_context()  # a bad certificate fails here, before there are sockets
    return settings
