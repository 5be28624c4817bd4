"""A load client that costs less than most servers: many streams, one epoll, large reads.

It makes no object per event. An event is counted by a byte that occurs once in each and nowhere
else in what a server sends, so no read has to be put together with the one before it. Where there
is a C compiler, :file:`load.c` takes its place in front of servers that are faster. Connections
without a stream, for :mod:`benchmarks.idle`, are its alone.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from .stream_events import HELLO

READ_BYTES: Final = 64 * 1024
SILENCE: Final = 30.0  # seconds without a byte after which the server is taken for dead
# Connections that are made at once, before waiting for the first bytes of all of them.
BURST: Final = 50
ORDINARY: Final = b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


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

    def hold(self, count: int, *, silent: bool) -> None:
        """Make so many more connections and leave them alone.

        Args:
            count: How many.
            silent: Whether they send nothing; else each has one request and its answer.

        Raises:
            RuntimeError: The server answered something else, or nothing.
        """
        for number in range(count):
            held = socket.create_connection(self._address, timeout=SILENCE)
            self._streams.append(held)
            if not silent:
                ask(held)
            elif number % BURST == 0 or number == count - 1:
                self.ask()  # an answer to a later one: all before it have been accepted
            held.setblocking(False)  # noqa: FBT003 # its only argument

    def closed(self) -> int:
        """Return how many connections that were left alone the server has closed."""
        closed = 0
        for held in self._streams:
            try:
                held.recv(1)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                pass
            closed += 1
        return closed

    def ask(self) -> float:
        """Make an ordinary request on a connection of its own; return the seconds that took.

        Raises:
            RuntimeError: The server answered something else, or nothing.
        """
        start = time.perf_counter()
        with socket.create_connection(self._address, timeout=SILENCE) as connection:
            ask(connection)
        return time.perf_counter() - start

    def _connect(self) -> socket.socket:
        stream = socket.create_connection(self._address, timeout=SILENCE)
        self._streams.append(stream)
        stream.sendall(self._request)
        stream.setblocking(False)  # noqa: FBT003 # its only argument
        self._selector.register(stream, selectors.EVENT_READ)
        return stream

    def _readable(self) -> Iterator[socket.socket]:
        ready = self._selector.select(SILENCE)
        if not ready:
            raise RuntimeError(f"the server has sent nothing for {SILENCE:.0f} s")
        for key, _ in ready:
            assert isinstance(key.fileobj, socket.socket)
            yield key.fileobj


def ask(connection: socket.socket) -> None:
    """Make an ordinary request and read its answer.

    Raises:
        RuntimeError: It is something else.
    """
    connection.sendall(ORDINARY)
    answer = b""
    while not answer.endswith(b"\r\n\r\n" + HELLO):
        data = connection.recv(READ_BYTES)
        answer += data
        if not data or not b"HTTP/1.1 200".startswith(answer[:12]):
            raise RuntimeError(f"the server answered {answer[:200]!r}")


def main(port: int, mark: str) -> None:
    """Do what :file:`load.c` does, where there is no C compiler; delays are not measured.

    And besides, `hold N silent|kept` makes connections, `closed` counts those of them that the
    server has closed, and `ask N` makes so many requests, one after the other: seconds, then what
    one takes, p50, p99 and all, in milliseconds.
    """
    with LoadClient(port, mark=mark.encode()) as client:
        for line in sys.stdin:
            start = time.perf_counter()
            delays = [0.0]
            match line.split():
                case ["hold", number, how]:
                    client.hold(int(number), silent=how == "silent")
                case ["closed"]:
                    delays = [client.closed()]
                case ["ask", number]:
                    delays = sorted(client.ask() * 1e3 for _ in range(int(number)))
                case ["open", number, _]:
                    client.open(int(number))
                case ["read", events]:
                    client.read(int(events))
                case ["mute"]:
                    pass
                case other:
                    raise SystemExit(f"no command: {other!r}")
            seconds = time.perf_counter() - start
            shares = [delays[int(share * (len(delays) - 1))] for share in (0.5, 0.99, 1)]
            print(seconds, *shares, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
