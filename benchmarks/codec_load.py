"""What the codec benchmark feeds, and how it takes the time.

The peers' processes import this as well, from an environment that has nothing of the library's:
the standard library is all it may use.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

# The rows of the table, by what is measured.
MADE: Final = "made and encoded"
ENCODED: Final = "encoded"
DECODED: Final = "decoded, 64 KiB chunks"
DECODED_SINGLY: Final = "decoded, one event per chunk"
DECODED_DATA: Final = "decoded, data only"
BIG_LINE: Final = "14 MB in one line"
BIG_LINE_RATIO: Final = "7 -> 14 MB in one line"
BIG_LINES: Final = "4 MB in short lines"
BIG_LINES_RATIO: Final = "2 -> 4 MB in short lines"

EVENT_TYPE: Final = "progress"
PAYLOAD: Final = '{"job":"7f3a91c2","state":"running","step":"render","done":0.4375,"eta":42}'
EVENTS: Final = 5000  # in one round: some hundredths of a second
CHUNK_BYTES: Final = 64 * 1024  # what one read of a socket gives at most
BIG_LINE_BYTES: Final = 14_000_000
BIG_LINES_BYTES: Final = 4_000_000  # 14 would take a peer more than a minute for each round
LINE_BYTES: Final = 100


def event_id(number: int) -> str:
    """Return an id of the length that ids have."""
    return f"k3v9-1735689600000-{number}"


def blocks(*, data_only: bool = False) -> list[bytes]:
    """Return the blocks of a stream of EVENTS events."""
    if data_only:
        return [f"data: {PAYLOAD}\n\n".encode()] * EVENTS
    return [
        f"id: {event_id(number)}\nevent: {EVENT_TYPE}\ndata: {PAYLOAD}\n\n".encode()
        for number in range(EVENTS)
    ]


def big_line(size: int) -> bytes:
    """Return the block of one event with that many bytes of data in one line."""
    return b"data: " + b"x" * size + b"\n\n"


def big_lines(size: int) -> bytes:
    """Return the block of one event that takes that many bytes in short lines."""
    line = b"data: " + b"x" * (LINE_BYTES - 7) + b"\n"
    return line * (size // LINE_BYTES) + b"\n"


def cut(stream: bytes) -> list[bytes]:
    """Cut a stream into chunks as they come from a socket."""
    return [stream[i : i + CHUNK_BYTES] for i in range(0, len(stream), CHUNK_BYTES)]


def fastest(work: Callable[[], object], seconds: float) -> float:
    """Return the CPU seconds of the fastest round of work, out of that many seconds of rounds.

    The fastest, because what else goes on in a machine only ever slows a round down. There is
    one round at least.
    """
    best = math.inf
    enough = time.perf_counter() + seconds
    while True:
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
        if time.perf_counter() >= enough:
            return best


def decoding(decode: Callable[[list[bytes]], int], seconds: float) -> dict[str, float]:
    """Measure a decoder: a function from the chunks of a stream to the number of its events.

    Returns:
        Events per second, seconds for a big event, and how many times longer twice the input
        takes, by row.

    Raises:
        RuntimeError: It did not find the events that are there.
    """

    def round_of(chunks: list[bytes], events: int) -> float:
        def work() -> None:
            if decode(chunks) != events:
                raise RuntimeError(f"decoded another number of events than {events}")

        return fastest(work, seconds)

    whole = b"".join(blocks())
    data_only = b"".join(blocks(data_only=True))
    # The small one first: an allocator that has had the large one keeps memory for the small one.
    half_line, line, half_lines, lines = (
        round_of(cut(big(size)), 1)
        for big, whole_size in ((big_line, BIG_LINE_BYTES), (big_lines, BIG_LINES_BYTES))
        for size in (whole_size // 2, whole_size)
    )
    return {
        DECODED: EVENTS / round_of(cut(whole), EVENTS),
        DECODED_SINGLY: EVENTS / round_of(blocks(), EVENTS),
        DECODED_DATA: EVENTS / round_of(cut(data_only), EVENTS),
        BIG_LINE: line,
        BIG_LINE_RATIO: line / half_line,
        BIG_LINES: lines,
        BIG_LINES_RATIO: lines / half_lines,
    }
