"""The requests of one connection: read as they are asked for, and no sooner.

Strategy: h11 reads, as strictly as it does. Every request gets an h11 connection of its own: what
that has not used goes into the next one. So nothing of it is kept while a response is being sent,
and responses, which h11 has no part in, need not be told to it.

Rules:

- Whatever a client sends is a request, or :exc:`Refused` with a status, or it has left.
- All waiting has an end: for a head from its first byte on, and between the pieces of a body.
- What a client may send in advance, while a response is being sent, is bounded.
"""

from __future__ import annotations

from typing import Final

import attrs
import h11
import trio

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


class Refused(Exception):
    """The request is answered by the server itself.

    Attributes:
        status: With this.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the request is refused: {status}")
        self.status = status


class Requests:
    """What a client sends on one connection.

    Args:
        transport: The connection's bytes.
        limits: What the client may take.

    Attributes:
        is_gone: The client has left.
        limits: The same.
    """

    __slots__ = ("_http", "_pending", "_transport", "is_gone", "limits")

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self.is_gone = False
        self.limits = limits
        self._transport = transport
        self._http: h11.Connection | None = None  # while there is more to read of a request
        self._pending = b""  # what came behind that request

    @property
    def has_read_all(self) -> bool:
        """Whether the present request has been read to its end."""
        return self._http is None

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits to be asked for its body."""
        return self._http is not None and self._http.they_are_waiting_for_100_continue

    def has_begun(self) -> bool:
        """Return whether there is something of the next request."""
        if not self._pending and not self.is_gone:
            self._received(self._transport.receive_nowait())
        return bool(self._pending)

    async def begin(self) -> None:
        """Wait until there is something of the next request, or the client has left.

        Cancellation: nothing is lost.
        """
        self._received(await self._transport.receive())

    async def read_head(self) -> tuple[h11.Request, list[tuple[bytes, bytes]]]:
        """Return the next request and its headers.

        Raises:
            Refused: It is not one that can be answered, or comes too slowly.
            ClientGone: The client has left.

        Cancellation: the connection is of no use.
        """
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self.limits.max_head_bytes)
        http.receive_data(self._pending)
        request = await self._next_event(http)
        assert isinstance(request, h11.Request)
        headers = list(request.headers)
        self._http = http
        if not self._checked_for_body(request, headers):
            self._end_request(http)  # h11 need not be asked for its end
        return request, headers

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

    def finish(self) -> bool:
        """Return whether the present request has come whole, as far as can be known at once.

        What had come of its body is dropped.
        """
        try:
            while self._http is not None and not self.wants_continue:
                event = _parsed(self._http)
                if event is h11.NEED_DATA:
                    break
                if isinstance(event, h11.EndOfMessage):
                    self._end_request(self._http)
        except Refused:
            pass
        return self._http is None

    async def until_gone(self) -> None:
        """Return when the client has left. What it sends is its next request, and is kept.

        A client that sends too much of that is as good as gone.

        Cancellation: nothing is lost.
        """
        while not self.has_gone():
            self._received(await self._transport.receive())

    def has_gone(self) -> bool:
        """Read what there is and return whether the client has left, as :meth:`until_gone`."""
        if not self.is_gone:
            self._received(self._transport.receive_nowait())
        return self.is_gone or len(self._pending) > PIPELINED_BYTES

    def _received(self, data: bytes | None) -> None:
        if data:
            self._pending += data
        elif data is not None:
            self.is_gone = True

    async def _next_event(self, http: h11.Connection) -> object:
        """Return the head, or what comes next of the body, within the time for it."""
        ends: float | None = None
        while (event := _parsed(http)) is h11.NEED_DATA:
            data = self._transport.receive_nowait()
            if data is None:
                if ends is None:
                    ends = trio.current_time() + self.limits.request_timeout
                with trio.move_on_at(ends) as scope:
                    data = await self._transport.receive()
                if scope.cancelled_caught:
                    raise Refused(408)
            if not data:
                self.is_gone = True
                raise ClientGone("the client has left in the middle of a request")
            http.receive_data(data)
        return event

    def _checked_for_body(self, request: h11.Request, headers: list[tuple[bytes, bytes]]) -> bool:
        """Return whether a body follows, if the request is one that can be answered."""
        if not request.http_version.startswith(b"1."):
            raise Refused(505)
        if request.method == b"CONNECT":
            # Whatever an application answered, somebody in between could take it for a tunnel.
            raise Refused(501)
        length, is_chunked = None, False
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                is_chunked = True
        # Two ways to say where a body ends, or one that HTTP/1.0 does not know: somebody in
        # between may have taken the other.
        if is_chunked and (length is not None or request.http_version < b"1.1"):
            raise Refused(400)
        most = self.limits.max_body_bytes
        if most is not None and length is not None and length > most:
            raise Refused(413)
        return is_chunked or bool(length)

    def _end_request(self, http: h11.Connection) -> None:
        self._pending = http.trailing_data[0]
        self._http = None


def _parsed(http: h11.Connection) -> object:
    try:
        return http.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused(error.error_status_hint) from None
