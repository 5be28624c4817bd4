"""Listening sockets, and the connections that were accepted from them.

Strategy: a server is to be sure of two things that no event loop tells it: that a client which has
stopped reading is let go, and that at the end no connection is left that could hold the process.
Both are done on the sockets alone, so that they hold whatever runs above, and whatever it awaits.

Rules:

- A connection is known by its own address: it is that of the listener it came from. So all of them
  can be found at any time among the descriptors of this process, whoever has them.
- Only connections are ever shut down. A listening socket may be one that other processes accept
  from, and they would all go deaf.
- A descriptor has one owner, who closes it once: its number may be a stranger's a moment later.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypedDict

import attrs
import trio

Address = tuple[str, int] | str  # (host, port), or the path of a Unix socket

DEFAULT_HOST: Final = "127.0.0.1"  # whoever wants to let the world in says so
DEFAULT_PORT: Final = 8000
# Seconds. A client that reads slowly but steadily needs about 20 of them.
DEFAULT_WRITE_TIMEOUT: Final = 30.0
LONGEST_WRITE_TIMEOUT: Final = 86_400.0  # the kernel counts milliseconds in 31 bits
# Seconds between the end of a drain and the end of what is left then.
CLOSE_GRACE: Final = 1.0

# Where the system lists the descriptors of this process: Linux, then macOS.
DESCRIPTORS: Final = next(filter(Path.is_dir, (Path("/proc/self/fd"), Path("/dev/fd"))), None)

# Connections waiting to be accepted: all clients may come back at once.
BACKLOG: Final = 1024

_ANY_HOST: Final = ("0.0.0.0", "::")  # noqa: S104 # known here, not bound to

_log: Final = logging.getLogger("sselib")


class ListenOptions(TypedDict, total=False):
    """The options of :func:`listen`, which those of every server are built on."""

    host: str
    port: int
    unix_path: str | os.PathLike[str] | None
    sockets: Sequence[socket.socket] | None
    reuse_port: bool
    write_timeout: float | None


class CannotListen(OSError):
    """There can be no listening socket at that address; the message is fit for a user's eyes."""

    def __init__(self, where: str, reason: OSError) -> None:
        super().__init__(f"cannot listen on {where}: {reason.strerror or reason}")
        self.errno = reason.errno


@attrs.frozen
class Endpoint:
    """Where a listening socket is bound."""

    family: int
    name: Any  # as getsockname() has it

    @property
    def address(self) -> Address:
        """The address as people write it."""
        if self.family == socket.AF_UNIX:
            return os.fsdecode(self.name)
        return (self.name[0], self.name[1])

    def may_have_accepted(self, sock: socket.socket) -> bool:
        """Whether a socket is bound like the connections that are accepted here."""
        if sock.family != self.family or sock.type != socket.SOCK_STREAM:
            return False
        name = sock.getsockname()
        if self.family == socket.AF_UNIX:
            return bool(name == self.name)
        return bool(name[1] == self.name[1] and self.name[0] in (name[0], *_ANY_HOST))


class Listening:
    """The listening sockets of one server, made by :func:`listen`.

    As a context manager it closes them at the end, as far as they are still its own, and removes
    the path of a Unix socket.

    Attributes:
        sockets: The sockets; none once they are handed over.
        endpoints: Where they are bound, also after that.
    """

    def __init__(self, sockets: Sequence[socket.socket], unix_path: Path | None = None) -> None:
        self.sockets = list(sockets)
        self.endpoints = [Endpoint(sock.family, sock.getsockname()) for sock in sockets]
        self._unix_path = unix_path
        self._inode = None if unix_path is None else unix_path.stat().st_ino
        # Kept for cut(): by then clients may have taken all others that the process may open.
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets as far as they are still its own; connections go on."""
        self._free_spare()
        for sock in self.sockets:
            sock.close()
        path, self._unix_path = self._unix_path, None
        if path is not None:
            with suppress(FileNotFoundError):
                if path.stat().st_ino == self._inode:  # not a successor's
                    path.unlink()

    @property
    def addresses(self) -> list[Address]:
        """Where clients can connect."""
        return [endpoint.address for endpoint in self.endpoints]

    def begin(self, *, unsent_bytes: int) -> None:
        """Take the sockets away from whoever gave them, and listen without blocking.

        Args:
            unsent_bytes: How much of what is sent on a connection the kernel keeps beyond what
                is on its way. Connections inherit it when accepted.
        """
        self.sockets = [socket.socket(fileno=sock.detach()) for sock in self.sockets]
        for sock in self.sockets:
            sock.setblocking(False)  # noqa: FBT003 # the standard library's
            sock.listen(BACKLOG)
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent_bytes)

    def hand_over(self) -> None:
        """Let go of the sockets: somebody else has the descriptors, and closes them."""
        for sock in self.sockets:
            sock.detach()
        self.sockets.clear()

    def cut_connections(self) -> None:
        """Shut down every connection of this process that was accepted here.

        Their descriptors stay with their owners, who see each send fail and each receive end.
        Two listeners of one process at the same address (``SO_REUSEPORT``) are one to it.
        """
        if DESCRIPTORS is None:
            _log.warning("descriptors are not listed here: silent clients can hold the exit")
            return
        self._free_spare()
        for descriptor in list(DESCRIPTORS.iterdir()):
            try:
                sock = socket.socket(fileno=int(descriptor.name))
            except OSError:  # no socket, or closed by now
                continue
            try:
                if any(endpoint.may_have_accepted(sock) for endpoint in self.endpoints):
                    sock.getpeername()  # which a listening socket does not have
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            finally:
                sock.detach()

    def _free_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


async def listen(
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    unix_path: str | os.PathLike[str] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    reuse_port: bool = False,
    write_timeout: float | None = DEFAULT_WRITE_TIMEOUT,
) -> Listening:
    """Open listening sockets: at all addresses of a host, or at a path, or those given.

    Args:
        host: Name or address.
        port: Port; 0 for any that is free.
        unix_path: Path of a Unix socket to make instead. If there is one that nobody answers on,
            left by a process that died, it is replaced.
        sockets: Bound stream sockets to take over instead.
        reuse_port: Let others that say so too listen on the same port.
        write_timeout: Have the kernel reset connections whose client takes nothing of what was
            sent for so many seconds; ``None`` for never. TCP on Linux can do it; elsewhere nothing
            changes.

    Raises:
        CannotListen: The address is taken, forbidden or unknown.
        ValueError: The arguments contradict each other, or one is out of its range.

    Cancellation: nothing is left open.
    """
    await trio.lowlevel.checkpoint()
    if write_timeout is not None and not 0.001 <= write_timeout <= LONGEST_WRITE_TIMEOUT:
        raise ValueError(f"write_timeout must be from 1 ms to a day: {write_timeout!r}")
    if sockets is not None:
        if unix_path is not None:
            raise ValueError("give unix_path or sockets, not both")
        if reuse_port:
            raise ValueError("reuse_port is about a host and port, not about sockets")
        if not sockets or any(sock.type != socket.SOCK_STREAM for sock in sockets):
            raise ValueError("sockets must be stream sockets, and at least one")
        listening = Listening(sockets)
    elif unix_path is not None:
        if reuse_port:
            raise ValueError("reuse_port is about a host and port, not about a unix_path")
        path = Path(unix_path)
        try:
            listening = Listening([_listen_unix(path)], path)
        except OSError as error:
            raise CannotListen(str(path), error) from error
    else:
        if not 0 <= port < 2**16:  # the resolver would take it modulo 65,536
            raise ValueError(f"port must be from 0 to 65535: {port!r}")
        try:
            listening = Listening(await _listen_tcp(host, port, reuse_port=reuse_port))
        except OSError as error:
            raise CannotListen(f"{host} port {port}", error) from error
    if write_timeout is not None:
        _set_write_timeout(listening.sockets, write_timeout)
    return listening


def _set_write_timeout(sockets: Iterable[socket.socket], seconds: float) -> None:
    """Set it where the system has it. Connections inherit it when they are accepted."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for sock in sockets:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                milliseconds = math.ceil(seconds * 1000)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


async def _listen_tcp(host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    found = await trio.socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with ExitStack() as opened:
        sockets = []
        for family, kind, protocol, _, address in found:
            try:
                sock = opened.enter_context(socket.socket(family, kind, protocol))
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and len(found) > 1:
                    continue  # a host that has IPv6 addresses, on a machine that has none
                raise
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
            sockets.append(sock)
        opened.pop_all()
        return sockets


def _listen_unix(path: Path) -> socket.socket:
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)  # noqa: FBT003 # the standard library's
            if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
                path.unlink()
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        sock.listen()
    except BaseException:
        sock.close()
        raise
    return sock
