"""When to try again, and how long to wait before that.

Two things add up to the wait. What the server asked for (``retry`` in a stream, ``Retry-After`` in
a refusal) is waited for in full, up to a bound: it knows when it will be back, and spreads its
clients by it. On top comes our own part, a random time that grows with every failure: full jitter,
so that clients which lost the same server do not come back in the same moment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final

import attrs

# LaunchDarkly's, whose clients hang on such streams all over the world: 1 s, 30 s, 60 s.
DEFAULT_BACKOFF: Final = 1.0
DEFAULT_MAX_BACKOFF: Final = 30.0
DEFAULT_HEALTHY_AFTER: Final = 60.0
# As long as one would put up with when a server says so. Without a bound it could stop us for good.
DEFAULT_MAX_SERVER_WAIT: Final = 600.0
# nginx and most load balancers cut what is silent for 60 s, so whoever wants to be heard behind
# them sends more often than that.
DEFAULT_IDLE_TIMEOUT: Final = 75.0
DEFAULT_OPEN_TIMEOUT: Final = 30.0  # the name, the connection, TLS, and a server that has to think
DEFAULT_MAX_REDIRECTS: Final = 20  # as browsers, and the standard of fetching

# A server, or what stands before it, that says to come back.
TEMPORARY: Final = frozenset((429, 502, 503, 504))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When an event source takes a connection for lost, and when and how often it tries again.

    Times are seconds; ``None`` means no such bound. A connection is *healthy* when it was open for
    ``healthy_after``, or when its body came to its proper end after an event.

    Args:
        retry_statuses: The statuses after which to try again. All but 200, 204 and redirects end
            the event source otherwise.
        backoff: Our part of the wait is random, from 0 to this after the first failure, and to
            twice as much after each further one.
        max_backoff: ... but never to more than this.
        healthy_after: A connection that was open for so long begins the count of failures anew.
        max_failures: How many losses in a row to put up with before giving up; that of a healthy
            connection is the first of its row. 0: the first loss of any kind is the end.
        max_server_wait: The most to wait because the server asked for it.
        idle_timeout: Without a byte for so long, comments included, the connection is lost.
        event_timeout: Without an event for so long, whatever else comes, it is lost too.
        open_timeout: From the beginning of an attempt to the head of the response.
        max_redirects: How many redirects to follow in one attempt.

    Attributes:
        standard: Tries again exactly when the standard says, which is after no status at all.

    Raises:
        ValueError: A value that is out of its range.

    Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model
    """

    retry_statuses: Collection[int] = attrs.field(default=TEMPORARY, converter=frozenset)
    backoff: float = DEFAULT_BACKOFF
    max_backoff: float = DEFAULT_MAX_BACKOFF
    healthy_after: float = DEFAULT_HEALTHY_AFTER
    max_failures: int | None = None
    max_server_wait: float = DEFAULT_MAX_SERVER_WAIT
    idle_timeout: float | None = DEFAULT_IDLE_TIMEOUT
    event_timeout: float | None = None
    open_timeout: float | None = DEFAULT_OPEN_TIMEOUT
    max_redirects: int = DEFAULT_MAX_REDIRECTS

    standard: ClassVar[RetryPolicy]

    def __attrs_post_init__(self) -> None:
        for name in ("idle_timeout", "event_timeout", "open_timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive seconds, or None: {value!r}")
        for name in ("backoff", "max_backoff", "healthy_after", "max_server_wait"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be seconds, and not negative: {value!r}")
        for name in ("max_failures", "max_redirects"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} may not be negative: {value!r}")
        for status in self.retry_statuses:
            if not 400 <= status <= 599:
                raise ValueError(f"retry_statuses are errors, from 400 to 599: {status!r}")

    def wait(
        self,
        *,
        failures: int,
        asked: float | None,
        retry: int | None,
        random: Callable[[float, float], float],
    ) -> float:
        """Return how many seconds to wait before the next attempt.

        Args:
            failures: How many in a row there were, this one included: at least 1.
            asked: What the refused request was told to wait, in seconds, if it was.
            retry: The stream's reconnection time, in milliseconds, if it has one.
            random: Gives a number between two, as ``random.uniform`` does.
        """
        if asked is None:
            # As an int: a server may say more milliseconds than a float can hold.
            asked = min(retry or 0, math.ceil(self.max_server_wait * 1000)) / 1000
        doublings = min(failures - 1, _MOST_DOUBLINGS)
        ours = random(0, min(self.max_backoff, self.backoff * 2**doublings))
        return min(asked, self.max_server_wait) + ours


RetryPolicy.standard = RetryPolicy(retry_statuses=())

_MOST_DOUBLINGS: Final = 64  # of any time at all: more than there is
_DIGITS: Final = re.compile("[0-9]{1,18}")


def retry_after(value: str, *, date: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for; ``None`` if it is malformed.

    Args:
        value: Its value: seconds, or a date.
        date: The ``Date`` of the same response, by which a date is read, since the clocks of two
            machines differ.
        now: Our own clock, for a response that has none.

    Spec: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    if _DIGITS.fullmatch(value):
        return float(value)
    until = _parsed(value)
    if until is None:
        return None
    return max(0.0, (until - (_parsed(date or "") or now)).total_seconds())


def _parsed(date: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
