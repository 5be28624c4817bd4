"""How many requests a key may make: a bucket of tokens each, filled up steadily.

Whoever was quiet for a minute may make a minute's requests at once; whoever never rests gets them
evenly spaced. There is one bucket per key that is known, so no stranger can make another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

_MINUTE = 60.0


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
        per_minute: Requests that a key may make in a minute, and at once after a quiet one.
        clock: The time in seconds, of a clock that is never set back.

    Raises:
        ValueError: Less than one request.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        if per_minute < 1:
            raise ValueError(f"a rate limit is at least one request a minute: {per_minute}")
        self._limit = per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when there were so many

    def take(self, key: str) -> Allowance:
        """Take a token from the bucket of a key, if there is one.

        Args:
            key: One of those that are known.
        """
        now = self._clock()
        tokens, at = self._buckets.get(key, (float(self._limit), now))
        tokens = min(self._limit, tokens + (now - at) * self._limit / _MINUTE)
        is_allowed = tokens >= 1
        if is_allowed:
            tokens -= 1
        self._buckets[key] = (tokens, now)
        return Allowance(
            limit=self._limit,
            remaining=math.floor(tokens),
            full_in=self._seconds(self._limit - tokens),
            retry_after=None if is_allowed else max(1, self._seconds(1 - tokens)),
        )

    def _seconds(self, tokens: float) -> int:
        return math.ceil(round(tokens * _MINUTE / self._limit, 6))
