"""Our server: HTTP/1.1 on Trio, made for connections that stay open.

Strategy: the listening sockets, the lifespan of the application and the connections are three
``async with``, each inside the one that it needs, so whatever ends the server ends them in the
right order: first nobody is accepted any more, then the connections end, then the application.

Rules:

- Whatever fails in a connection ends there. What fails in the lifespan ends the server.
- An accept loop takes all that is waiting at one turn. When the process may open no more files it
  waits a little: those who are there go on, and others wait in the kernel's queue.
- Nothing here waits for a client but for :data:`CLOSE_GRACE`, at the end.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from typing import Any, Final, Unpack

import attrs
import trio

from .connection import Connection, Service
from .listening import (
    CLOSE_GRACE,
    DEFAULT_HOST,
    DEFAULT_PORT,
    DEFAULT_WRITE_TIMEOUT,
    Address,
    ListenOptions,
    listen,
)
from .process import run_process
from .registry import RegistryStatistics, StreamRegistry, registered
from .requests import Limits
from .stream import ASGIApp, Message
from .transport import ClientGone, SocketTransport, TLSTransport

# Bytes that the kernel keeps of what has not been sent yet, beyond what is on its way. With more,
# a stream whose client does not read fills four megabytes of it.
UNSENT_BYTES: Final = 16 * 1024

# Connections that are accepted at one turn of the scheduler.
_ACCEPTED_AT_ONCE: Final = 32
# Of accept(): what the machine is short of, and what is wrong with the listening socket.
_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_UNUSABLE: Final = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)
_SHORTAGE_PAUSE: Final = 0.1  # seconds

_log: Final = logging.getLogger("sselib")


class LifespanFailed(RuntimeError):
    """The application said that it could not start or end; the message is its own."""


class ServeOptions(ListenOptions, total=False):
    """The options of :func:`serve` that :func:`run` has too, with the same defaults."""

    ssl_context: ssl.SSLContext | None
    registry: StreamRegistry | None
    limits: Limits


async def serve(  # noqa: ASYNC128 # Server calls it
    app: ASGIApp,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    unix_path: str | os.PathLike[str] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    reuse_port: bool = False,
    ssl_context: ssl.SSLContext | None = None,
    registry: StreamRegistry | None = None,
    limits: Limits = Limits(),  # noqa: B008 # frozen
    write_timeout: float | None = DEFAULT_WRITE_TIMEOUT,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application until ``shutdown_trigger()`` returns, then drain and return.

    It touches no signals. Requests that go on one second after the drain are cut off, so it
    returns within the drain window and little more than that second.

    Args:
        app: The application; its lifespan, if it has one, is around all connections.
        host: Name or address to listen on, at every address it has. ``"0.0.0.0"`` and ``"::"``
            are all addresses of the machine.
        port: Port to listen on; 0 for any that is free.
        unix_path: Where to make a Unix socket, instead of a host and port. A socket that nobody
            answers on any more is replaced; ours is removed at the end.
        sockets: Bound sockets to listen on instead, such as those a supervisor passes on. They
            are given away: detached from these objects, and closed at the end.
        reuse_port: Let other processes listen on the same port; the kernel deals out the clients.
        ssl_context: Speak TLS, with this.
        registry: Keeps the streams. Without one it is that in which ``app`` is wrapped already
            (``registry(app)``), else a new one with its defaults.
        limits: What a client may take.
        write_timeout: Seconds without progress after which a client that does not take what was
            sent is cut off; ``None`` for never. The kernel does it too, for clients that vanished
            (TCP on Linux); below 20 seconds it also hits those that read steadily but slowly.
        shutdown_trigger: Begins the drain by returning. ``None``: only cancelling ends ``serve``.
        task_status: Told where it listens, a list of ``(host, port)`` and paths, once the
            application has started.

    Raises:
        OSError: It cannot listen there.
        ValueError: Arguments contradict each other.
        ExceptionGroup: With what stopped the server in it, such as a :exc:`LifespanFailed`.

    Cancellation: stops at once. All connections are reset, without a farewell.
    """
    server = Server(
        app,
        host=host,
        port=port,
        unix_path=unix_path,
        sockets=sockets,
        reuse_port=reuse_port,
        ssl_context=ssl_context,
        registry=registry,
        limits=limits,
        write_timeout=write_timeout,
    )
    await server.serve(shutdown_trigger=shutdown_trigger, task_status=task_status)


def run(
    app: ASGIApp | AbstractAsyncContextManager[ASGIApp],
    *,
    started: Callable[[list[Address]], object] | None = None,
    **options: Unpack[ServeOptions],
) -> None:
    """Be a process that serves: start Trio, serve, drain at a signal, return.

    SIGINT and SIGTERM begin the drain; a second one cancels everything. Both are ours from the
    first moment to the last, so what stands around the server is always left in order.

    Args:
        app: The application, or an async context manager that gives it. The second is for what
            streams depend on (a log, a watcher, a runner): open that around the ``yield``, and it
            outlives them all. A registry made there comes along by yielding ``registry(app)``.
        started: Called with where it listens, once the application has started.
        options: As for :func:`serve`.

    Raises:
        SystemExit: With one line on standard error and code 1 if it cannot listen; with 128 plus
            the signal's number after a second signal.
        Exception: Whatever else ended the server, or what stands around it.
    """
    run_process(partial(serve, **options), app, started)


@attrs.frozen(kw_only=True)
class ServerStatistics:
    """What a server does at one moment.

    Attributes:
        connections: Connections that are open.
        lanes: Streams that wait in the fast lane.
        streams: What its registry has seen of all streams, in whichever lane.
    """

    connections: int
    lanes: int
    streams: RegistryStatistics


class Server:
    """A server that can be looked at while it serves. :func:`serve` makes one.

    Args:
        app: As for :func:`serve`.
        options: As for :func:`serve`.

    Raises:
        ValueError: ``app`` is in another registry than the one given.
    """

    def __init__(self, app: ASGIApp, **options: Unpack[ServeOptions]) -> None:
        front = registered(app, options.pop("registry", None))
        self._registry = front.registry
        self._service = Service(front.app, front.registry, options.pop("limits", Limits()))
        self._ssl_context = options.pop("ssl_context", None)
        write_timeout = options.get("write_timeout", DEFAULT_WRITE_TIMEOUT)
        self._write_timeout = math.inf if write_timeout is None else write_timeout
        self._where: Any = options

    def statistics(self) -> ServerStatistics:
        """Return what it does now."""
        pump = self._service.pump
        return ServerStatistics(
            connections=self._service.connections,
            lanes=0 if pump is None else pump.lanes,
            streams=self._registry.statistics(),
        )

    async def serve(
        self,
        *,
        shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve, once, as :func:`serve` does.

        Cancellation: as :func:`serve`.
        """
        with await listen(**self._where) as listening:
            listening.begin(unsent_bytes=UNSENT_BYTES)
            async with (
                _lifespan(self._service),
                _pumping(self._service),
                trio.open_nursery() as connections,
            ):
                async with trio.open_nursery() as accepting:
                    for sock in listening.sockets:
                        accepting.start_soon(self._accept, sock, connections)
                    task_status.started(listening.addresses)
                    drained = self._registry.drained_after(shutdown_trigger or trio.sleep_forever)
                    await drained()
                    accepting.cancel_scope.cancel()
                listening.close()
                self._service.close()
                connections.cancel_scope.deadline = trio.current_time() + CLOSE_GRACE

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        is_short = False
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                for _ in range(_ACCEPTED_AT_ONCE):
                    sock, address = listener.accept()
                    is_short = False
                    self._connect(sock, address, connections)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno in _UNUSABLE:
                    raise
                if error.errno in _SHORTAGES:
                    if not is_short:
                        _log.error("cannot accept connections for now: %s", error.strerror)
                    is_short = True
                    await trio.sleep(_SHORTAGE_PAUSE)
                # else it is about a client that left before it was accepted

    def _connect(self, sock: socket.socket, address: Any, connections: trio.Nursery) -> None:
        sock.setblocking(False)  # noqa: FBT003 # the standard library's
        where: tuple[tuple[str, int] | None, tuple[str, int | None]]
        if sock.family == socket.AF_UNIX:
            where = None, (os.fsdecode(sock.getsockname()), None)
        else:
            where = (address[0], address[1]), sock.getsockname()[:2]
        if self._ssl_context is None:
            transport = SocketTransport(sock, self._write_timeout)
            connections.start_soon(Connection(self._service, transport, "http", *where).run)
        else:
            secured = TLSTransport(sock, self._ssl_context, self._write_timeout)
            connection = Connection(self._service, secured, "https", *where)
            connections.start_soon(self._connect_securely, secured, connection)

    async def _connect_securely(self, transport: TLSTransport, connection: Connection) -> None:  # noqa: ASYNC910 # run() waits
        try:
            with trio.fail_after(self._service.limits.request_timeout):
                await transport.shake_hands()
            await connection.run()
        except (ClientGone, trio.TooSlowError):
            pass
        finally:
            transport.abort()  # if it is not closed already


@asynccontextmanager
async def _pumping(service: Service) -> AsyncIterator[None]:
    """Look after the streams that took the fast lane."""
    if service.pump is None:
        yield
        return
    with closing(service.pump):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.pump.run)
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _lifespan(service: Service) -> AsyncIterator[None]:
    """Run the application's lifespan around the body of an ``async with``.

    Raises:
        LifespanFailed: It could not start or end. Also in the middle of the body.
    """
    lifespan = _Lifespan(service)
    async with trio.open_nursery() as nursery:
        await nursery.start(lifespan.run)
        yield
        await lifespan.shut_down()
        nursery.cancel_scope.cancel()  # it is over, or said that it is


@attrs.define(eq=False)
class _Lifespan:
    service: Service
    _task_status: trio.TaskStatus[None] = attrs.field(init=False)
    _has_started: bool = attrs.field(default=False, init=False)
    _was_told: bool = attrs.field(default=False, init=False)  # to start
    _shutdown: trio.Event = attrs.field(factory=trio.Event, init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(  # noqa: ASYNC910, ASYNC128 # the application does both
        self, task_status: trio.TaskStatus[None]
    ) -> None:
        """Run the application's lifespan; an application without one has started at once."""
        self._task_status = task_status
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.service.state,
        }
        try:
            await self.service.app(scope, self._receive, self._send)
        except LifespanFailed:
            raise
        except Exception as error:
            if self._has_started:
                raise
            _log.info("the application has no lifespan: %r", error)
        finally:
            self._over.set()
        self._start()

    async def shut_down(self) -> None:
        self._shutdown.set()
        await self._over.wait()

    def _start(self) -> None:
        if not self._has_started:
            self._has_started = True
            self._task_status.started()

    async def _receive(self) -> Message:
        await trio.lowlevel.checkpoint()
        if not self._was_told:
            self._was_told = True
            return {"type": "lifespan.startup"}
        await self._shutdown.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        match message["type"]:
            case "lifespan.startup.complete":
                self._start()
            case "lifespan.shutdown.complete":
                self._over.set()
            case "lifespan.startup.failed" | "lifespan.shutdown.failed":
                raise LifespanFailed(message.get("message", "") or message["type"])
            case kind:
                raise RuntimeError(f"no message of a lifespan: {kind!r}")
