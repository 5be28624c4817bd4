"""What the benchmarks of logs have in common: entries of 100 bytes, who publishes and who follows.

A delivery is measured from before the append until a subscriber has the event, on the clock of
this machine.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import quantiles
from typing import Final

import trio

from sselib import EventLog, NewEntry, ServerSentEvent, open_topics
from sselib.log import ORIGIN

PUBLISHERS: Final = 50
ENTRY: Final = NewEntry.of(ServerSentEvent("x" * 92))
_STAMPED: Final = "stamped"


async def rate(work: Callable[[], Awaitable[object]], tasks: int, seconds: float) -> float:
    """Return how often per second so many tasks get it done, together."""
    done = 0
    end = time.perf_counter() + seconds

    async def repeat() -> None:  # noqa: ASYNC910 # the work waits
        nonlocal done
        while time.perf_counter() < end:
            await work()
            done += 1

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(repeat)
    return done / (time.perf_counter() - began)


async def page_rate(work: Callable[[], Awaitable[int]], seconds: float) -> float:
    """Return how many entries per second are read in pages."""
    read = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        read += await work()
    return read / (time.perf_counter() - began)  # noqa: ASYNC910 # the work waits


async def read_all(log: EventLog, topic: str) -> int:
    """Read a topic from its beginning, and return how many entries it has."""
    after, read = ORIGIN, 0
    while True:
        page = await log.read(topic, after)
        read += len(page.entries)
        after = page.upto
        if page.head is None or after == page.head.last:
            return read


def spread(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th of a hundred, in milliseconds."""
    found = quantiles(seconds, n=100)
    return found[49] * 1000, found[98] * 1000


async def publish_stamped(log: EventLog, count: int) -> None:  # noqa: ASYNC910 # it waits for each append
    """Append so many entries that say when they were made, one each two milliseconds."""
    for _ in range(count):
        await log.append(_STAMPED, [NewEntry.of(ServerSentEvent(repr(time.time())))])
        await trio.sleep(0.002)


async def follow_stamped(
    log: EventLog, publish: Callable[[], Awaitable[object]], count: int
) -> tuple[float, float]:
    """Return how long entries take from whoever publishes them to a subscriber."""
    await log.delete(_STAMPED)
    async with open_topics(log) as topics, topics.channel(_STAMPED).subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            found = []
            for _ in range(count):
                event = await subscription.receive()
                found.append(time.time() - float(event.data))
        return spread(found)
