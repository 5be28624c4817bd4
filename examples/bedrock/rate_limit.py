"""How many requests a key may make: a bucket of tokens each, filled up steadily.

Whoever was quiet for a minute may make a minute's requests at once; whoever never rests gets them
evenly spaced. There is one bucket per key that is known, so no stranger can make another, and all
processes of a directory take from the same ones.

Of a bucket it is enough to know when it will be full: a token that is taken puts that off by the
time in which one comes. It is a time of the wall clock, which all processes and runs of a machine
have in common. If that is set back, the bucket counts as empty, and fills up from there; if it is
set forward, the bucket is full.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs

from .shared import Shared

_SECOND: Final = 10**9  # nanoseconds, in which all of it is exact
_MINUTE: Final = 60 * _SECOND


@attrs.frozen(kw_only=True)
class Allowance:
    """What a bucket said to one request. Times are whole seconds, and enough of them.

    Attributes:
        limit: Requests in a minute.
        remaining: Requests that could follow at once.
        full_in: When the bucket will be full again.
        retry_after: When the request may be repeated; ``None``: it was allowed.
    """

    limit: int
    remaining: int
    full_in: int
    retry_after: int | None


class RateLimiter:
    """A bucket per key.

    Args:
        shared: Where they are.
        per_minute: Requests that a key may make in a minute, and at once after a quiet one.
        clock: The time in nanoseconds since the epoch.

    Raises:
        ValueError: Less than one request.
    """

    def __init__(
        self, shared: Shared, per_minute: int, clock: Callable[[], int] = time.time_ns
    ) -> None:
        if per_minute < 1:
            raise ValueError(f"a rate limit is at least one request a minute: {per_minute}")
        self._shared = shared
        self._limit = per_minute
        self._token = max(1, _MINUTE // per_minute)  # the time in which one comes
        self._clock = clock

    async def take(self, key: str) -> Allowance:
        """Take a token from the bucket of a key, if there is one.

        Args:
            key: One of those that are known.

        Cancellation: it is taken or not.
        """
        return await self._shared.write(partial(self._take, key))

    def _take(self, key: str, db: sqlite3.Connection) -> Allowance:
        now = self._clock()  # in our turn, so that who comes later does not bring an earlier time
        row = db.execute("SELECT full_at FROM bucket WHERE key = ?", (key,)).fetchone()
        whole = self._limit * self._token
        full_in = 0 if row is None else min(max(row[0] - now, 0), whole)
        wait = full_in + self._token - whole
        if wait <= 0:
            full_in += self._token
        # Also if it was refused: after the clock was set back the bucket fills up from here.
        db.execute("REPLACE INTO bucket VALUES (?, ?)", (key, now + full_in))
        return Allowance(
            limit=self._limit,
            remaining=(whole - full_in) // self._token,
            full_in=_seconds(full_in),
            retry_after=None if wait <= 0 else _seconds(wait),
        )


def _seconds(nanoseconds: int) -> int:
    return -(-nanoseconds // _SECOND)
