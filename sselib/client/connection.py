"""One connection, for one request and its response.

The bytes go through three hands: a stream that carries them, h11 for the head of the response, and
a decoder of :mod:`sselib.http1` for its body. None of them is shared, and the connection is closed
by whoever opened it.

Rules:

- What the world does to a connection is :exc:`Lost`, with a reason. Nothing else comes out of here.
- A cancelled read has read nothing. A cancelled opening leaves nothing open.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from urllib.request import getproxies_environment, proxy_bypass

import attrs
import h11
import trio

from ..errors import EventSourceFailed, InvalidHTTP, ProxyRefused
from ..http1 import ChunkedDecoder, PlainDecoder
from .reports import LossReason
from .request import Request, Target

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

READ_BYTES: Final = 64 * 1024  # what Trio's sockets read at once, and hence all that is ever kept
USER_AGENT: Final = b"sselib"


class Lost(Exception):
    """A connection is lost, or could not be made; another one may do better."""

    def __init__(
        self,
        reason: LossReason,
        message: str,
        status: int | None = None,
        asked: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.status = status
        self.asked = asked


@attrs.frozen
class Head:
    """The head of a response; header names in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]

    def get(self, name: bytes) -> str | None:
        """Return the last value of a header, if there is one."""
        values = [value for key, value in self.headers if key == name]
        return values[-1].decode("latin-1") if values else None


class Connection:
    """A stream on which a request was sent, and its response; made by :func:`open_connection`."""

    def __init__(self, stream: trio.abc.Stream, http: h11.Connection) -> None:
        self._stream = stream
        self._http = http
        self._body: ChunkedDecoder | PlainDecoder = PlainDecoder(0)
        self._ahead = b""  # what of the body came together with the head

    async def read_head(self) -> Head:
        """Read the head of the response, past those that are only informational.

        Raises:
            Lost: The connection broke or ended, or what came is no head.

        Cancellation: what came is kept; call it again.
        """
        while True:
            try:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    break
                if event is h11.NEED_DATA:
                    data = await self._receive()
                    if not data:
                        raise Lost("cut", "the connection ended before a response")
                    self._http.receive_data(data)
            except h11.RemoteProtocolError as error:
                raise Lost("malformed", f"the response has no proper head: {error}") from None
        head = Head(event.status_code, tuple(event.headers))
        length = head.get(b"content-length")
        if head.get(b"transfer-encoding") is not None:  # h11 knows chunked, and refuses others
            self._body = ChunkedDecoder()
        else:
            self._body = PlainDecoder(None if length is None else int(length))
        self._ahead, _ = self._http.trailing_data
        return head  # noqa: ASYNC910 # at first there is nothing to go by but to wait

    async def read_body(self) -> bytes:
        """Return the next bytes of the body; none if what came was only its framing.

        Raises:
            Lost: The body is at its end, or the connection broke or ended.

        Cancellation: nothing was read.
        """
        body = self._body
        if body.complete:
            raise Lost("ended", "the response came to its end")
        try:
            if self._ahead:
                await trio.lowlevel.checkpoint()
                data, self._ahead = self._ahead, b""
            else:
                body.feed(b"")  # raises if what came last was at fault behind its payload
                data = await self._receive()
            if not data and isinstance(body, PlainDecoder) and body.length is None:
                raise Lost("ended", "the response came to its end with the connection")
            if not data:
                raise Lost("cut", "the connection ended in the middle of the response")
            return body.feed(data)
        except InvalidHTTP as error:
            raise Lost("malformed", str(error)) from None

    async def close(self) -> None:
        """Close at once, without a word to the peer.

        Cancellation: it does not wait, and is not cancelled.
        """
        await _close(self._stream)

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, OSError) as error:
            raise Lost("cut", f"the connection broke: {_said(error)}") from error


async def open_connection(
    request: Request,
    *,
    last_event_id: bytes,
    connect: Connect,
    ssl_context: ssl.SSLContext | None,
    max_head_bytes: int,
) -> Connection:
    """Connect, with TLS if the URL is https, and send the request.

    Raises:
        Lost: There is no connection, or it broke.
        EventSourceFailed: The server's certificate is not good for its name.

    Cancellation: nothing is left open. The server may have got the request.
    """
    target = request.target
    try:
        stream = await connect(target.host, target.port)
        try:
            if ssl_context is not None:
                stream = trio.SSLStream(
                    stream, ssl_context, server_hostname=target.host, https_compatible=True
                )
                await stream.do_handshake()
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_head_bytes)
            data = request.send(http, last_event_id=last_event_id, user_agent=USER_AGENT)
            await stream.send_all(data)
        except BaseException:
            await _close(stream)  # noqa: ASYNC102 # it waits for nothing
            raise
    except (trio.BrokenResourceError, OSError) as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise EventSourceFailed("certificate", target.url, _said(error)) from error
        where = target.authority.decode()
        raise Lost("unreachable", f"cannot connect to {where}: {_said(error)}") from error
    return Connection(stream, http)


def check_proxy(target: Target) -> None:
    """Refuse to go past a proxy that the environment asks for.

    Raises:
        ProxyRefused: It does.
    """
    proxies = getproxies_environment()
    named = [name for name in (target.scheme, "all") if name in proxies]
    if named and not proxy_bypass(target.host):
        raise ProxyRefused(f"{named[0]}_proxy", target.url)


async def _close(stream: trio.abc.Stream) -> None:  # noqa: ASYNC910 # it waits for nothing
    """Close a stream as :func:`trio.aclose_forcefully` does, but cancelled by nobody else."""
    with trio.CancelScope(shield=True) as scope, suppress(trio.BrokenResourceError, OSError):
        scope.cancel()
        await stream.aclose()


def _said(error: BaseException) -> str:
    """Return what the innermost error says, of those that led to this one."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return str(error) or type(error).__name__
