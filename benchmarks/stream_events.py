"""What the servers of :mod:`benchmarks.streams` send: events and, at ``/hello``, a greeting."""

from __future__ import annotations

import time
from typing import Final

EVENT_TYPE: Final = "progress"
# Once in each event, and nowhere else in what a server sends.
MARK: Final = "{"
HELLO: Final = b"hello\n"
KEPT_ALIVE: Final = 75  # seconds that a connection may be idle, where a server's default is 5


def payload(padding: int = 0) -> str:
    """Return the data of an event, 90 bytes and the padding, with the time of its publishing."""
    text = f'{{"at":{time.monotonic_ns()},"job":"7f3a91c2","state":"running","step":"render",'
    return text + f'"done":0.4375{" " * padding}}}'
