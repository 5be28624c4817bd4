"""One connection of our server: requests in, one after the other, and an application's responses.

Strategy: one task per connection, and nothing beside it. It calls the application with the request
that it has read and an :class:`Exchange`, whose ``send`` makes the bytes of the response and gives
them to the transport. An event stream may take the fast lane from there: :mod:`sselib.pump`.

Rules:

- Whatever a client sends, it gets a response or a closed connection, and this program no error.
- Whatever an application does, its client is never told that a response is whole which is not:
  that connection is reset.
- A connection that is to be closed while its client may still be sending lingers first: closed at
  once, the system would answer what comes with a reset, and the client would lose the response.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from sys import intern
from time import time
from typing import Any, Final
from urllib.parse import unquote

import attrs
import h11
import trio

from .http1 import LAST_CHUNK, encode_chunk, encode_head
from .policy import Schedule
from .pump import Lane, Pump, open_pump
from .requests import Limits, Refused, Requests
from .stream import (
    FAST_LANE,
    REGISTRY,
    ASGIApp,
    Message,
    OpenStream,
    Scope,
    StreamHost,
)
from .subscription import Subscription
from .transport import ClientGone, SocketTransport, Transport

# Seconds and bytes for what a client still sends when it has been answered.
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 1024 * 1024

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}  # 2.4: send() says that a client has left
_BODILESS: Final = frozenset((204, 304))

_log: Final = logging.getLogger("sselib")


@attrs.define(eq=False)
class Service:
    """What all connections of a server share.

    Attributes:
        app: The application.
        registry: Knows its streams.
        limits: What a client may take.
        pump: Writes the streams that took the fast lane, where there is one.
        state: What the application put into the state of its lifespan.
        connections: How many there are.
        is_closing: Whether a connection is to end with the request that it has.
    """

    app: ASGIApp
    registry: StreamHost
    limits: Limits
    pump: Pump | None = attrs.field(factory=open_pump, init=False)
    state: dict[str, Any] = attrs.field(factory=dict, init=False)
    connections: int = attrs.field(default=0, init=False)
    is_closing: bool = attrs.field(default=False, init=False)
    _idle: set[trio.CancelScope] = attrs.field(factory=set, init=False)
    _date: tuple[int, bytes] = attrs.field(default=(0, b""), init=False)

    def close(self) -> None:
        """Have every connection end with the request that it has, and idle ones now."""
        self.is_closing = True
        for scope in self._idle:
            scope.cancel()

    async def wait_idle(self, requests: Requests) -> None:  # noqa: ASYNC910 # unless it is closing
        """Wait for the next request of a connection, as long as it may be without one.

        Cancellation: nothing is lost.
        """
        if self.is_closing:
            return
        with trio.move_on_after(self.limits.idle_timeout) as scope:
            self._idle.add(scope)
            try:
                await requests.begin()
            finally:
                self._idle.discard(scope)

    def date(self) -> bytes:
        """Return the time as HTTP writes it."""
        now = int(time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]


class Connection:
    """A connection, for as long as :meth:`run` runs.

    Args:
        service: What it serves.
        transport: Its bytes; closed at the end of :meth:`run`.
        scheme: ``http`` or ``https``.
        client: Where the client is, as far as that is known.
        server: Where it connected to.

    Attributes:
        requests: What comes in.
        service, transport: The same.
    """

    __slots__ = ("_client", "_scheme", "_server", "requests", "service", "transport")

    def __init__(
        self,
        service: Service,
        transport: Transport,
        scheme: str,
        client: tuple[str, int] | None,
        server: tuple[str, int | None],
    ) -> None:
        self.service = service
        self.transport = transport
        self.requests = Requests(transport, service.limits)
        self._scheme = scheme
        self._client = client
        self._server = server

    async def run(self) -> None:
        """Answer requests until the connection is to be closed.

        Cancellation: what was not yet sent whole is cut off.
        """
        is_whole = False
        self.service.connections += 1
        try:
            while await self._serve_one():  # noqa: ASYNC110 # each round answers a request; nothing is polled
                # Whoever sends many requests at once does not keep everybody else waiting.
                await trio.lowlevel.checkpoint()
            is_whole = True
        except ClientGone:
            pass
        finally:
            self.service.connections -= 1
            if is_whole:
                self.transport.close()
            else:
                self.transport.abort()

    async def _serve_one(self) -> bool:
        """Read a request and answer it; return whether there may be another one."""
        requests = self.requests
        if not requests.has_begun() and not requests.is_gone:
            await self.service.wait_idle(requests)
        if requests.is_gone or not requests.has_begun():
            return False
        try:
            request, headers = await requests.read_head()
        except Refused as refused:
            await self._refuse(refused.status)
            return False
        exchange = Exchange(self, self._scope(request, headers))
        del request, headers  # the application has them, and may run for long
        try:
            await self.service.app(exchange.scope, exchange.receive, exchange.send)
        except Exception:  # noqa: BLE001 # whatever it is, this request ends with it and no more
            if not requests.is_gone:
                _log.exception("the application failed at %r", exchange.scope["path"])
        except BaseExceptionGroup as group:
            _, failures = group.split(trio.Cancelled)
            if not isinstance(failures, Exception):
                raise
            # It failed while it was being cancelled. The checkpoint goes on with that.
            _log.error("the application failed at %r", exchange.scope["path"], exc_info=failures)
            await trio.lowlevel.checkpoint()
        if exchange.is_complete:
            if not requests.finish():
                await self._linger()
                return False
            return exchange.is_persistent
        if exchange.has_started or requests.is_gone:
            raise ClientGone("what it was sent is not whole")
        await self._refuse(exchange.refusal or 500, has_body=exchange.scope["method"] != "HEAD")
        return False

    async def _refuse(self, status: int, *, has_body: bool = True) -> None:
        """Answer for the server itself, and be ready to close the connection."""
        text = f"{status} {HTTPStatus(status).phrase}\n".encode()
        headers = [
            (b"date", self.service.date()),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ]
        await self.transport.send(encode_head(status, headers) + text * has_body)
        await self._linger()

    async def _linger(self) -> None:
        """Read for a moment what a client still sends that was answered."""
        self.transport.send_end()
        left = LINGER_BYTES
        with trio.move_on_after(LINGER_SECONDS):
            while left > 0 and (data := await self.transport.receive()):
                left -= len(data)

    def _scope(self, request: h11.Request, headers: list[tuple[bytes, bytes]]) -> Scope:
        target = request.target
        if not target.startswith((b"/", b"*")):  # the absolute form, which proxies are sent
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        raw_path, _, query_string = target.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            # Interned, for a stream holds its scope for as long as it is open.
            "http_version": intern(request.http_version.decode("ascii")),
            "method": intern(request.method.decode("ascii")),
            "scheme": self._scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query_string,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._server,
            "state": self.service.state.copy(),
            "extensions": {REGISTRY: self.service.registry},
        }


class Exchange:
    """One request and its response, as an application sees them; also its door to the fast lane.

    Attributes:
        scope: The request.
        has_started: The client has been sent something of the response.
        is_complete: The client has been sent all of the response.
        is_persistent: The connection may serve another request.
        refusal: With which status the server itself answers, since the request turned out bad.
    """

    __slots__ = (
        "_connection",
        "_head",
        "_is_bodiless",
        "_is_chunked",
        "_is_clear",
        "_left",
        "_probe",
        "_received",
        "_was_told_all",
        "has_started",
        "is_complete",
        "is_persistent",
        "refusal",
        "scope",
    )

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self.scope = scope
        self.has_started = False
        self.is_complete = False
        self.is_persistent = scope["http_version"] != "1.0" and not any(
            name == b"connection" and b"close" in value.lower() for name, value in scope["headers"]
        )
        self.refusal: int | None = None
        self._connection = connection
        self._received = 0  # bytes of the request's body
        self._was_told_all = False  # of that
        self._head: bytes | None = None
        self._is_bodiless = False
        self._is_chunked = False
        self._left: int | None = None  # bytes of the body that the head has promised
        self._probe: tuple[bytes, trio.lowlevel.Task] | None = None
        self._is_clear = False
        if connection.service.pump is not None and isinstance(
            connection.transport, SocketTransport
        ):
            scope["extensions"][FAST_LANE] = self

    # ---- for applications ----

    async def receive(self) -> Message:
        """Return what comes of the request: its body, then that the client has left.

        Cancellation: nothing is lost.
        """
        requests = self._connection.requests
        if self.is_complete or self.refusal is not None:
            await trio.lowlevel.checkpoint()
            return {"type": "http.disconnect"}
        try:
            if self._was_told_all:
                await requests.until_gone()
                return {"type": "http.disconnect"}
            if requests.wants_continue and not self.has_started:
                await self._connection.transport.send(_CONTINUE)
            body = await requests.read_body()
        except Refused as refused:
            self.refusal = refused.status
            return {"type": "http.disconnect"}
        except ClientGone:
            return {"type": "http.disconnect"}
        self._received += len(body)
        most = requests.limits.max_body_bytes
        if most is not None and self._received > most:
            self.refusal = 413
            return {"type": "http.disconnect"}
        self._was_told_all = requests.has_read_all
        return {"type": "http.request", "body": body, "more_body": not self._was_told_all}

    async def send(self, message: Message) -> None:
        """Take a part of the response. The head waits for the first of the body.

        Raises:
            ClientGone: There is nobody to send it to.
            RuntimeError: It is not what may come next.
            TypeError, ValueError: There is something in it that cannot be sent.

        Cancellation: the response cannot be completed any more.
        """
        if self._connection.requests.is_gone or self.refusal is not None:
            raise ClientGone("the client has left")
        kind = message["type"]
        if kind == "http.response.body" and self._head is not None and not self.is_complete:
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start" and self._head is None:
            self._start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"the response may not go on with {kind!r}")

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._is_bodiless = self.scope["method"] == "HEAD" or status in _BODILESS
        kept = [(b"date", self._connection.service.date())]
        for raw_name, value in headers:
            name = raw_name.lower()
            if name == b"connection":
                # Of what it can say, this alone is the application's affair.
                if b"close" in value.lower():
                    self.is_persistent = False
            elif name == b"content-length":
                if not value.isdigit() or self._left not in (None, int(value)):
                    raise ValueError(f"no length that a body can have: {value!r}")
                self._left = int(value)
                if status != 204:
                    kept.append((name, value))
            elif name == b"date":
                kept[0] = (name, value)
            elif name != b"transfer-encoding":  # the connection's, too
                kept.append((name, value))
        if status < 200:
            raise ValueError(f"no status of a response: {status!r}")
        self._head = encode_head(status, kept)

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        is_first = not self.has_started
        head = self._finished_head(body, more=more) if is_first else b""
        if self._is_bodiless:
            framed = b""
        elif self._is_chunked:
            framed = encode_chunk(body) if more else encode_chunk(body) + LAST_CHUNK
        else:
            framed = body
            if self._left is not None:
                self._left -= len(body)
                if self._left < 0 or (self._left > 0 and not more):
                    raise RuntimeError("the body has another length than its head says")
        self.has_started = True
        await self._connection.transport.send(head + framed)
        self.is_complete = not more
        if self._probe is not None:
            self._is_clear = body is self._probe[0] and (
                trio.lowlevel.current_task() is self._probe[1]
            )
        if more and not is_first:
            # An application that always has something to send lets others come to their turn.
            await trio.lowlevel.checkpoint()

    def _finished_head(self, body: bytes, *, more: bool) -> bytes:
        """Return the head with what only the first of the body says: how the body ends."""
        assert self._head is not None
        further = b""
        if self._is_bodiless or self._left is not None:
            pass
        elif not more:
            self._left = len(body)
            further = b"content-length: %d\r\n" % len(body)
        elif self.scope["http_version"] == "1.0":
            self.is_persistent = False
        else:
            self._is_chunked = True
            further = b"transfer-encoding: chunked\r\n"
        self.is_persistent = self.is_persistent and not self._connection.service.is_closing
        if not self.is_persistent:
            further += b"connection: close\r\n"
        head, self._head = self._head, b""
        return head[:-2] + further + b"\r\n"

    # ---- for event streams: the fast lane, as stream.py describes it ----

    def probe(self, data: bytes) -> None:
        """Look out for these bytes: whether this very object is sent next, by this very task."""
        self._probe = (data, trio.lowlevel.current_task())

    def is_clear(self) -> bool:
        """Return whether it was, so that nothing stands between this stream and its connection."""
        self._probe = None
        return (
            self._is_clear
            and self._left is None
            and not self._is_bodiless
            and self._connection.requests.has_read_all
        )

    def open_lane(self, stream: OpenStream, source: Subscription, schedule: Schedule) -> Lane:
        """Have the pump write what the source gives, and heartbeats."""
        connection = self._connection
        pump, transport = connection.service.pump, connection.transport
        assert pump is not None
        assert isinstance(transport, SocketTransport)
        return Lane(
            pump,
            transport,
            connection.requests,
            stream,
            source,
            schedule,
            is_chunked=self._is_chunked,
        )
