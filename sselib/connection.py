"""One connection of our server: requests in, one after the other, and an application's responses.

Strategy: one task per connection, and nothing beside it. h11 reads requests, as strictly as it
does; heads and chunks of responses are made by :mod:`sselib.http1`. Every request gets an h11
connection of its own: what h11 has not used goes into the next one, and while a response is being
sent, nothing of it has to be kept.

Rules:

- Whatever a client sends, it gets a response or a closed connection, and this program no error.
- Whatever an application does, its client is never told that a response is whole which is not:
  that connection is reset.
- All waiting for a client has an end: for a head, between the pieces of a body, for room to send,
  between two requests. What it may send in advance, while a response is being sent, is bounded.
- A connection that is to be closed while its client may still be sending lingers first: closed at
  once, the system would answer what comes with a reset, and the client would lose the response.
"""

from __future__ import annotations

import logging
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Any, Final
from urllib.parse import unquote

import attrs
import h11
import trio

from .http1 import LAST_CHUNK, encode_chunk, encode_head
from .stream import ASGIApp, Message, Scope
from .transport import ClientGone, Transport

# What other servers take: nginx 8 to 32 KiB, Node 16, Apache 8 for each field.
DEFAULT_MAX_HEAD_BYTES: Final = 32 * 1024
# The largest body that is in wide use for what is no upload: nginx takes 1 MiB, and says so often.
DEFAULT_MAX_BODY_BYTES: Final = 16 * 1024 * 1024
# Seconds. nginx gives 60, Node 60, Go's example 10: a phone on a bad line needs a few.
DEFAULT_REQUEST_TIMEOUT: Final = 20.0
# Seconds. Longer than browsers and proxies wait before they use a connection again (nginx: 60).
DEFAULT_IDLE_TIMEOUT: Final = 75.0
# Requests that a client may send while the response to an earlier one is being sent.
PIPELINED_BYTES: Final = 64 * 1024
# Seconds and bytes for what a client still sends when it has been answered.
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 1024 * 1024

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}  # 2.4: send() says that a client has left
_BODILESS: Final = frozenset((204, 304))

_log: Final = logging.getLogger("sselib")


@attrs.frozen(kw_only=True)
class Limits:
    """What a client may take of a server.

    Args:
        max_head_bytes: The longest request line and headers, in bytes.
        max_body_bytes: The longest body of a request, in bytes. ``None``: no limit.
        request_timeout: Seconds that a request's head may take from its first byte on, and each
            piece of its body.
        idle_timeout: Seconds that a connection may be without a request.

    Raises:
        ValueError: One of them is not positive.
    """

    max_head_bytes: int = DEFAULT_MAX_HEAD_BYTES
    max_body_bytes: int | None = DEFAULT_MAX_BODY_BYTES
    request_timeout: float = DEFAULT_REQUEST_TIMEOUT
    idle_timeout: float = DEFAULT_IDLE_TIMEOUT

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive: {value!r}")


@attrs.define(eq=False)
class Service:
    """What all connections of a server share.

    Attributes:
        app: The application.
        limits: What a client may take.
        state: What the application put into the state of its lifespan.
        is_closing: Whether a connection is to end with the request that it has.
        idle: The scopes of the connections that wait for a request.
    """

    app: ASGIApp
    limits: Limits
    state: dict[str, Any] = attrs.Factory(dict)
    is_closing: bool = attrs.field(default=False, init=False)
    idle: set[trio.CancelScope] = attrs.field(factory=set, init=False)
    _date: tuple[int, bytes] = attrs.field(default=(0, b""), init=False)

    def close(self) -> None:
        """Have every connection end with the request that it has, and idle ones now."""
        self.is_closing = True
        for scope in self.idle:
            scope.cancel()

    def date(self) -> bytes:
        """Return the time as HTTP writes it."""
        now = int(time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]


class Refused(Exception):
    """The request is answered by the server itself.

    Attributes:
        status: With this.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the request is refused: {status}")
        self.status = status


class Connection:
    """A connection, for as long as :meth:`run` runs.

    Args:
        service: What it serves.
        transport: Its bytes; closed at the end of :meth:`run`.
        scheme: ``http`` or ``https``.
        client: Where the client is, as far as that is known.
        server: Where it connected to.

    Attributes:
        is_gone: The client has left.
    """

    __slots__ = (
        "_client",
        "_http",
        "_is_lingering",
        "_pending",
        "_scheme",
        "_server",
        "is_gone",
        "service",
        "transport",
    )

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
        self.is_gone = False
        self._scheme = scheme
        self._client = client
        self._server = server
        self._http: h11.Connection | None = None  # while there is more to read of a request
        self._pending = b""  # what came behind that request
        self._is_lingering = False  # the client may still be sending what nobody reads

    async def run(self) -> None:
        """Answer requests until the connection is to be closed.

        Cancellation: what was not yet sent whole is cut off.
        """
        close = self.transport.abort
        try:
            while await self._serve_one():  # noqa: ASYNC110
                # Whoever sends many requests at once does not keep everybody else waiting.
                await trio.lowlevel.checkpoint()
            if self._is_lingering:
                await self._linger()
            close = self.transport.close
        except ClientGone:
            pass
        finally:
            close()

    @property
    def has_read_all(self) -> bool:
        """Whether the request has been read to its end."""
        return self._http is None

    async def read_body(self) -> bytes:
        """Return the next piece of the request's body, ``b""`` at its end.

        Raises:
            Refused: What comes is no body, or comes too slowly.
            ClientGone: The client has left in the middle of it.

        Cancellation: nothing is lost.
        """
        while self._http is not None:
            event = await self._next_event(self._http)
            if not isinstance(event, h11.Data):
                self._end_request(self._http)
            elif event.data:
                return bytes(event.data)
        return b""

    async def send_continue(self) -> None:
        """Ask a client for its body that waits to be asked."""
        if self._http is not None and self._http.they_are_waiting_for_100_continue:
            await self.transport.send(_CONTINUE)

    async def until_gone(self) -> None:
        """Return when the client has left. What it sends is its next request, and is kept.

        A client that sends too much in advance is not watched any longer: whoever writes to it
        finds out.

        Cancellation: nothing is lost.
        """
        while not self.is_gone and len(self._pending) < PIPELINED_BYTES:
            data = self.transport.receive_nowait()
            if data is None:
                data = await self.transport.receive()
            self._pending += data
            self.is_gone = not data
        if not self.is_gone:
            await trio.sleep_forever()

    async def _serve_one(self) -> bool:
        """Read a request and answer it; return whether there may be another one."""
        try:
            request = await self._read_head()
        except Refused as refused:
            await self._refuse(refused.status)
            return False
        if request is None:
            return False
        exchange = Exchange(self, request, self._scope(request))
        await self._answer(exchange)
        if exchange.is_complete:
            self._is_lingering = not self._has_sent_all()
            return exchange.is_persistent and not self._is_lingering
        if self.is_gone or exchange.has_started:
            raise ClientGone("what it was sent is not whole")
        await self._refuse(exchange.refusal or 500, has_body=request.method != b"HEAD")
        return False

    async def _answer(self, exchange: Exchange) -> None:
        """Have the application answer; what it raises ends here."""
        try:
            await self.service.app(exchange.scope, exchange.receive, exchange.send)
        except Exception:  # noqa: BLE001 # whatever it is, this request ends with it and no more
            if not self.is_gone:
                _log.exception("the application failed at %r", exchange.scope["path"])
        except BaseExceptionGroup as group:
            _, failures = group.split(trio.Cancelled)
            if not isinstance(failures, Exception):
                raise
            # It failed while it was being cancelled. The checkpoint goes on with that.
            _log.error("the application failed at %r", exchange.scope["path"], exc_info=failures)
            await trio.lowlevel.checkpoint()

    async def _refuse(self, status: int, *, has_body: bool = True) -> None:
        """Answer for the server itself, and be ready to close the connection."""
        text = f"{status} {HTTPStatus(status).phrase}\n".encode()
        headers = [
            (b"date", self.service.date()),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ]
        self._is_lingering = True
        await self.transport.send(encode_head(status, headers) + text * has_body)

    async def _linger(self) -> None:
        """Read for a moment what a client still sends that was answered."""
        self.transport.send_end()
        left = LINGER_BYTES
        with trio.move_on_after(LINGER_SECONDS):
            while left > 0 and (data := await self.transport.receive()):
                left -= len(data)

    # ---- requests ----

    async def _read_head(self) -> h11.Request | None:
        """Return the next request; ``None`` if none comes."""
        limits = self.service.limits
        data, self._pending = self._pending or self.transport.receive_nowait(), b""
        if data is None:
            data = await self._first_bytes()
        if not data:
            return None
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_head_bytes)
        http.receive_data(data)
        request = await self._next_event(http)
        assert isinstance(request, h11.Request)
        self._http = http
        if not self._checked_for_body(request):
            await self._next_event(http)  # which is there already: the end
            self._end_request(http)
        return request

    async def _first_bytes(self) -> bytes:
        """Wait for a request to begin; return ``b""`` if none does."""
        service = self.service
        if service.is_closing:
            return b""
        with trio.move_on_after(service.limits.idle_timeout) as scope:
            service.idle.add(scope)
            try:
                return await self.transport.receive()
            finally:
                service.idle.discard(scope)
        return b""

    async def _next_event(self, http: h11.Connection) -> object:
        """Return the head, or what comes next of the body, within the time for it."""
        ends: float | None = None
        while (event := _parsed(http)) is h11.NEED_DATA:
            data = self.transport.receive_nowait()
            if data is None:
                if ends is None:
                    ends = trio.current_time() + self.service.limits.request_timeout
                with trio.move_on_at(ends) as scope:
                    data = await self.transport.receive()
                if scope.cancelled_caught:
                    raise Refused(408)
            if not data:
                self.is_gone = True
                raise ClientGone("the client has left in the middle of a request")
            http.receive_data(data)
        return event

    def _checked_for_body(self, request: h11.Request) -> bool:
        """Return whether a body follows, if the request is one that can be answered."""
        if not request.http_version.startswith(b"1."):
            raise Refused(505)
        length, is_chunked = None, False
        for name, value in request.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                is_chunked = True
        # Two ways to say where a body ends, or one that HTTP/1.0 does not know: somebody in
        # between may have taken the other.
        if is_chunked and (length is not None or request.http_version < b"1.1"):
            raise Refused(400)
        most = self.service.limits.max_body_bytes
        if most is not None and length is not None and length > most:
            raise Refused(413)
        return is_chunked or bool(length)

    def _end_request(self, http: h11.Connection) -> None:
        self._pending = http.trailing_data[0]
        self._http = None

    def _has_sent_all(self) -> bool:
        """Return whether the end of the request is here, as far as can be known without waiting."""
        try:
            while self._http is not None and not self._http.they_are_waiting_for_100_continue:
                event = _parsed(self._http)
                if event is h11.NEED_DATA:
                    break
                if isinstance(event, h11.EndOfMessage):
                    self._end_request(self._http)
        except Refused:
            pass
        return self._http is None

    def _scope(self, request: h11.Request) -> Scope:
        target = request.target
        if not target.startswith((b"/", b"*")):  # the absolute form, which proxies are sent
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        raw_path, _, query_string = target.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": self._scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query_string,
            "root_path": "",
            "headers": list(request.headers),
            "client": self._client,
            "server": self._server,
            "state": self.service.state.copy(),
            "extensions": {},
        }


def _parsed(http: h11.Connection) -> object:
    try:
        return http.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused(error.error_status_hint) from None


class Exchange:
    """One request and its response, as an application sees them.

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
        "_left",
        "_received",
        "_was_told_all",
        "has_started",
        "is_complete",
        "is_persistent",
        "refusal",
        "scope",
    )

    def __init__(self, connection: Connection, request: h11.Request, scope: Scope) -> None:
        self.scope = scope
        self.has_started = False
        self.is_complete = False
        self.is_persistent = request.http_version != b"1.0" and not any(
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

    async def receive(self) -> Message:
        """Return what comes of the request: its body, then that the client has left.

        Cancellation: nothing is lost.
        """
        connection = self._connection
        if self.is_complete or self.refusal is not None:
            await trio.lowlevel.checkpoint()
            return {"type": "http.disconnect"}
        try:
            if self._was_told_all:
                await connection.until_gone()
                return {"type": "http.disconnect"}
            if not self.has_started:
                await connection.send_continue()
            body = await connection.read_body()
        except Refused as refused:
            self.refusal = refused.status
            return {"type": "http.disconnect"}
        except ClientGone:
            return {"type": "http.disconnect"}
        self._received += len(body)
        most = connection.service.limits.max_body_bytes
        if most is not None and self._received > most:
            self.refusal = 413
            return {"type": "http.disconnect"}
        self._was_told_all = connection.has_read_all
        return {"type": "http.request", "body": body, "more_body": not self._was_told_all}

    async def send(self, message: Message) -> None:
        """Take a part of the response. The head waits for the first of the body.

        Raises:
            ClientGone: There is nobody to send it to.
            RuntimeError: It is not what may come next.
            TypeError, ValueError: There is something in it that cannot be sent.

        Cancellation: the response cannot be completed any more.
        """
        if self._connection.is_gone or self.refusal is not None:
            raise ClientGone("the client has left")
        kind = message["type"]
        if kind == "http.response.start" and self._head is None:
            self._start(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self._head is not None and not self.is_complete:
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"the response may not go on with {kind!r}")

    def _start(self, status: int, headers: Any) -> None:
        connection = self._connection
        self._is_bodiless = self.scope["method"] == "HEAD" or status in _BODILESS
        kept = [(b"date", connection.service.date())]
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
        if more and not is_first:
            # An application that always has something to send lets others come to their turn.
            await trio.lowlevel.checkpoint()

    def _finished_head(self, body: bytes, *, more: bool) -> bytes:
        """Return the head with what only the first of the body says: how the body ends."""
        assert self._head is not None
        more_headers = b""
        if self._is_bodiless or self._left is not None:
            pass
        elif not more:
            self._left = len(body)
            more_headers = b"content-length: %d\r\n" % len(body)
        elif self.scope["http_version"] == "1.0":
            self.is_persistent = False
        else:
            self._is_chunked = True
            more_headers = b"transfer-encoding: chunked\r\n"
        self.is_persistent = self.is_persistent and not self._connection.service.is_closing
        if not self.is_persistent:
            more_headers += b"connection: close\r\n"
        return self._head[:-2] + more_headers + b"\r\n"
