"""An accepted connection as bytes: a plain socket, or TLS on one.

Strategy: work on the non-blocking socket itself and wait only when it says that it would block.
Most requests are there before anybody looks, and most responses fit into the kernel's buffer, so
most connections never cost a turn of the scheduler. One task owns a transport and closes it.

Rules:

- What is wrong with a connection is its client's doing, so there is one error for all of it,
  :exc:`ClientGone`, and reading past the end of a connection is its end, however it ended.
- Whoever takes nothing for ``write_timeout`` seconds is gone.
- Closing and aborting wait for nothing. Abort is for a response that is not whole: the client must
  not take it for one, and what the kernel still holds for a client that does not read is freed.
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from typing import Final, Protocol

import trio

READ_BYTES: Final = 64 * 1024

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds


class ClientGone(ConnectionError):
    """The client has left, or takes nothing any more. What an application's ``send`` raises."""


class Transport(Protocol):
    """What a connection needs of its bytes."""

    def receive_nowait(self) -> bytes | None:
        """Return what there is, ``b""`` at the end, or ``None`` if it takes waiting."""
        ...

    async def receive(self) -> bytes:
        """Return what comes, ``b""`` at the end."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises :exc:`ClientGone`."""
        ...

    def send_end(self) -> None:
        """Say that nothing more is sent, if that can be said without waiting."""
        ...

    def close(self) -> None:
        """Close it; what was sent still gets there."""
        ...

    def abort(self) -> None:
        """Close it and forget what was sent."""
        ...


class SocketTransport:
    """A plain socket.

    Args:
        sock: Connected and non-blocking; the transport closes it.
        write_timeout: Seconds without progress after which a client is gone; ``inf`` for never.

    Attributes:
        socket: The same. Closed, it has no descriptor, and every use of it is an ``OSError``: it
            can be kept where a bare descriptor would become a stranger's.
    """

    __slots__ = ("_write_timeout", "socket")

    def __init__(self, sock: socket.socket, write_timeout: float) -> None:
        self.socket = sock
        self._write_timeout = write_timeout

    def receive_nowait(self) -> bytes | None:
        """Return what there is, ``b""`` at the end, or ``None`` if it takes waiting."""
        try:
            return self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    async def receive(self) -> bytes:
        """Return what comes, ``b""`` at the end.

        Cancellation: nothing is lost.
        """
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            data = self.receive_nowait()
            if data is not None:
                return data

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes and return how many bytes those were.

        Raises:
            ClientGone: The connection is broken.
        """
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            raise ClientGone("the client has left") from None

    async def send(self, data: bytes) -> None:  # noqa: ASYNC910, ASYNC911 # see above
        """Send all of it. Where nothing has to be waited for, this is no checkpoint.

        Raises:
            ClientGone: The connection is broken, or its client takes nothing.

        Cancellation: some of it may have been sent.
        """
        sent = self.send_nowait(data)
        if sent < len(data):
            await self.send_rest(memoryview(data)[sent:])

    async def send_rest(self, rest: memoryview) -> None:  # noqa: ASYNC910 # it is called to wait
        """Send what the kernel did not take yet, as it takes it.

        Raises:
            ClientGone: The connection is broken, or its client takes nothing.

        Cancellation: some of it may have been sent.
        """
        while rest:
            with trio.move_on_after(self._write_timeout) as scope:
                await trio.lowlevel.wait_writable(self.socket)
            if scope.cancelled_caught:
                raise ClientGone(f"the client took nothing for {self._write_timeout:g} s")
            rest = rest[self.send_nowait(rest) :]

    def send_end(self) -> None:
        """Say that nothing more is sent."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close it; what was sent still gets there."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    def abort(self) -> None:
        """Close it and forget what was sent."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()


class TLSTransport:
    """TLS on a socket.

    Args:
        sock: Connected and non-blocking; the transport closes it.
        context: Certificate and all that.
        write_timeout: Seconds without progress after which a client is gone; ``inf`` for never.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, write_timeout: float) -> None:
        self._raw = SocketTransport(sock, write_timeout)
        self._stream = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(sock)),
            context,
            server_side=True,
            https_compatible=True,
        )
        self._write_timeout = write_timeout

    async def shake_hands(self) -> None:
        """Agree on keys.

        Raises:
            ClientGone: They could not agree.

        Cancellation: the connection is of no use.
        """
        try:
            await self._stream.do_handshake()
        except trio.BrokenResourceError:
            raise ClientGone("no agreement on TLS") from None

    def receive_nowait(self) -> None:
        """Return ``None``: to know what there is takes a turn of the scheduler."""

    async def receive(self) -> bytes:
        """Return what comes, ``b""`` at the end.

        Cancellation: nothing is lost.
        """
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except trio.BrokenResourceError:
            return b""

    async def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            ClientGone: The connection is broken, or its client takes nothing.

        Cancellation: the connection is of no use.
        """
        await trio.lowlevel.checkpoint()
        # In pieces, since it is told of no progress within one.
        for start in range(0, len(data), READ_BYTES):
            with trio.move_on_after(self._write_timeout) as scope:
                try:
                    await self._stream.send_all(data[start : start + READ_BYTES])
                except trio.BrokenResourceError:
                    raise ClientGone("the client has left") from None
            if scope.cancelled_caught:
                raise ClientGone(f"the client took nothing for {self._write_timeout:g} s")

    def send_end(self) -> None:
        """Do nothing: the alert that says so might have to wait."""

    def close(self) -> None:
        """Close it; what was sent still gets there."""
        self._raw.close()

    def abort(self) -> None:
        """Close it and forget what was sent."""
        self._raw.abort()
