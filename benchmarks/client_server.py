"""A server that sends event streams as fast as they are taken, for the client benchmark.

`python -m benchmarks.client_server` prints its port. What it sends was made before anybody asked:
`/single` has each event in a chunk of its own, `/full` has chunks of 64 KiB. A stream has
:data:`EVENTS` events and ends. The end of standard input ends the server.

The peers' process imports this for the figures: the standard library is all it may use.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from typing import Final

from . import codec_load

EVENTS: Final = 20_000  # in one stream: some tenths of a second
CHUNK_BYTES: Final = 64 * 1024
SINGLE: Final = "/single"
FULL: Final = "/full"

_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def responses() -> dict[str, bytes]:
    """Make what there is to ask for, by its path."""
    blocks = codec_load.blocks() * (EVENTS // codec_load.EVENTS)
    whole = b"".join(blocks)
    pieces = [whole[i : i + CHUNK_BYTES] for i in range(0, len(whole), CHUNK_BYTES)]
    return {SINGLE: _chunked(blocks), FULL: _chunked(pieces)}


def _chunked(pieces: list[bytes]) -> bytes:
    return _HEAD + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


def answer(peer: socket.socket, found: dict[str, bytes]) -> None:
    """Answer one request."""
    with peer, suppress(ConnectionError):  # a client leaves when it has what it counts
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += peer.recv(65_536)
        peer.sendall(found[asked.split(b" ")[1].decode()])


def main() -> None:
    """Serve until the end of standard input."""
    found = responses()
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    print(listener.getsockname()[1], flush=True)

    def serve() -> None:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=answer, args=(peer, found), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
