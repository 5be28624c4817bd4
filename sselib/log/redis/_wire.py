"""The protocol of the server, RESP, over a stream: commands, replies, and what errors mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import trio

from ...errors import LogUnavailable

try:
    from hiredis import ProtocolError, PushNotification, Reader, ReplyError, pack_command
except ImportError as error:
    raise ImportError("sselib.log.redis needs hiredis: pip install 'sselib[redis]'") from error

# What a server answers that is an error, and what it says unasked.
__all__ = [
    "Lost",
    "PushNotification",
    "RedisRefused",
    "ReplyError",
    "Wire",
    "is_of_the_moment",
    "pack",
]

# As much as a server's own bound for one value; no state that makes sense is larger.
MAX_REPLY_BYTES: Final = 512 * 1024 * 1024

_RECEIVE_BYTES: Final = 64 * 1024

# What a server says that will soon be another one, or the same one in another state.
_OF_THE_MOMENT: Final = {
    *("NOSCRIPT", "LOADING", "READONLY", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN"),
}

_MORE: Final = object()


class RedisRefused(LogUnavailable):
    """The server answered with an error. What it was asked to do was not done.

    Attributes:
        code: The first word of its answer: ``"OOM"``, ``"NOPERM"``, ``"MISCONF"``.
    """

    def __init__(self, log: str, answer: str) -> None:
        super().__init__(log, answer)
        self.code = answer.partition(" ")[0]


class Lost(Exception):
    """The connection is of no use any more; another one may be. The message says why.

    Attributes:
        cause: What the operating system or TLS said.
    """

    def __init__(self, why: object, cause: BaseException | None = None) -> None:
        super().__init__(str(why) or type(why).__name__)
        self.cause = cause


def is_of_the_moment(error: ReplyError) -> bool:
    """Return whether the same command may soon be answered in another way."""
    return str(error).partition(" ")[0] in _OF_THE_MOMENT


class Wire:
    """Commands and replies over a stream.

    Attributes:
        stream: The stream.
        received: How many bytes have come.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = 0
        self._reader = Reader(notEnoughData=_MORE)
        self._unfinished = 0

    async def send(self, data: bytes) -> None:
        """Send packed commands.

        Raises:
            Lost: The connection is broken.

        Cancellation: some of it is sent; the wire is of no use.
        """
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _lost(error) from error

    async def receive(self) -> list[Any]:
        """Return the replies, at least one, that the next bytes complete.

        Raises:
            Lost: The connection is broken, or what comes is not the protocol.

        Cancellation: nothing is lost.
        """
        while True:
            try:
                data = bytes(await self.stream.receive_some(_RECEIVE_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise _lost(error) from error
            if not data:
                raise Lost("the server closed the connection")
            self.received += len(data)
            replies = []
            try:
                self._reader.feed(data)
                while (reply := self._reader.gets()) is not _MORE:
                    replies.append(reply)
            # A map may have a key that is none for a dict.
            except (ProtocolError, TypeError) as error:
                raise Lost(f"the server does not speak RESP: {error}") from error
            if replies:
                self._unfinished = 0
                return replies
            self._unfinished += len(data)
            if self._unfinished > MAX_REPLY_BYTES:
                raise Lost(f"a reply exceeds {MAX_REPLY_BYTES} bytes")

    async def ask(self, *commands: Sequence[bytes | int]) -> list[Any]:
        """Send commands and return their replies, while nobody else uses the wire.

        Raises:
            Lost: The connection is broken.

        Cancellation: the wire is of no use.
        """
        await self.send(b"".join(pack(*command) for command in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            replies += await self.receive()
        return replies


def pack(*command: bytes | int) -> bytes:
    """Return a command as bytes."""
    packed: bytes = pack_command(command)  # type: ignore[arg-type] # the stub says: a tuple of one
    return packed


def _lost(error: Exception) -> Lost:
    cause = error.__cause__ or error
    return Lost(cause, cause)
