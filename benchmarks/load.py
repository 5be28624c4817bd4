"""A load client that costs less than most servers: many streams, one epoll, large reads.

It makes no object per event. An event is counted by a byte that occurs once in each and nowhere
else in what a server sends, so no read has to be put together with the one before it. Where there
is a C compiler, :file:`load.c` takes its place in front of servers that are faster.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

READ_BYTES: Final = 64 * 1024
SILENCE: Final = 30.0  # seconds without a byte after which the server is taken for dead
# Connections that are made at once, before waiting for the first bytes of all of them.
BURST: Final = 50


class LoadClient:
    """Event streams to one server, read and counted.

    Args:
        port: Where the server listens, on 127.0.0.1.
        mark: The byte that occurs once in each event.
    """

    def __init__(self, port: int, *, mark: bytes) -> None:
        self.delivered = 0
        self._address = ("127.0.0.1", port)
        self._request = (
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n"
        ).encode()
        self._mark = mark
        self._selector = selectors.DefaultSelector()
        self._streams: list[socket.socket] = []

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all streams."""
        for stream in self._streams:
            stream.close()
        self._selector.close()

    def open(self, count: int) -> None:
        """Open so many more streams and wait for the first bytes of the body of each.

        Raises:
            RuntimeError: The server answered something else, or nothing.
        """
        for start in range(0, count, BURST):
            burst = [self._connect() for _ in range(min(BURST, count - start))]
            heads = dict.fromkeys(burst, b"")
            while heads:
                for stream in self._readable():
                    data = stream.recv(READ_BYTES)
                    head = heads.pop(stream, b"") + data
                    if not data or not b"HTTP/1.1 200".startswith(head[:12]):
                        raise RuntimeError(f"the server answered {head[:200]!r}")
                    if not head.partition(b"\r\n\r\n")[2]:
                        heads[stream] = head

    def read(self, events: int) -> None:
        """Read until so many more events have come on all streams together.

        Raises:
            RuntimeError: More came than that, or a stream ended, or nothing came any more.
        """
        mark = self._mark
        due = self.delivered + events
        while self.delivered < due:
            for stream in self._readable():
                data = stream.recv(READ_BYTES)
                if not data:
                    raise RuntimeError("the server ended a stream")
                self.delivered += data.count(mark)
        if self.delivered > due:
            raise RuntimeError(f"{self.delivered} events came where {due} were due")

    def _connect(self) -> socket.socket:
        stream = socket.create_connection(self._address, timeout=SILENCE)
        self._streams.append(stream)
        stream.sendall(self._request)
        stream.setblocking(False)  # noqa: FBT003 - its only argument
        self._selector.register(stream, selectors.EVENT_READ)
        return stream

    def _readable(self) -> Iterator[socket.socket]:
        ready = self._selector.select(SILENCE)
        if not ready:
            raise RuntimeError(f"the server has sent nothing for {SILENCE:.0f} s")
        for key, _ in ready:
            assert isinstance(key.fileobj, socket.socket)
            yield key.fileobj


def main(port: int, mark: str) -> None:
    """Do what :file:`load.c` does, where there is no C compiler; delays are not measured."""
    with LoadClient(port, mark=mark.encode()) as client:
        for line in sys.stdin:
            start = time.perf_counter()
            match line.split():
                case ["open", number, _]:
                    client.open(int(number))
                case ["read", events]:
                    client.read(int(events))
                case ["mute"]:
                    pass
                case other:
                    raise SystemExit(f"no command: {other!r}")
            print(f"{time.perf_counter() - start:.6f} 0 0 0", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
