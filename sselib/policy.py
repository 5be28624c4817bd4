"""What a stream does besides sending its events, and when that is due.

A :class:`StreamPolicy` is the user's, and one serves many streams. A :class:`Schedule` is its clock
for one of them: it says when something falls due, and is asked then what that is. It sets no timer
and writes nothing, so whoever writes a stream can keep it.
"""

from __future__ import annotations

import math
import random
from typing import Final, Literal, get_args

import attrs

from .codec import encode
from .events import Comment, ServerSentEvent
from .subscription import Lag
from .window import IDS, Ids

# Seconds. The standard suggests a comment "every 15 seconds or so" against proxies that give up
# on an idle connection; the shortest such time in wide use is 30 (Heroku: 55, nginx: 60).
DEFAULT_HEARTBEAT: Final = 15.0
DEFAULT_HEARTBEAT_COMMENT: Final = "keepalive"
# Of the maximum age: streams that were opened together do not come back together.
DEFAULT_MAX_AGE_JITTER: Final = 0.1
# One TLS record, and what a client that does not read keeps of the server's memory.
DEFAULT_BATCH_BYTES: Final = 16 * 1024


@attrs.frozen(kw_only=True)
class StreamPolicy:
    """What a stream does besides sending its events. Times are seconds; ``None`` means none.

    Args:
        heartbeat: Send a comment after this long. Without a heartbeat a maximum age is needed,
            for some departures are only noticed by writing.
        heartbeat_mode: ``"idle"``: after this long without anything written. ``"interval"``:
            whenever this long has passed, whatever else was written.
        heartbeat_comment: The text of the comment.
        max_age: End the stream when it is this old, so that clients spread over new servers.
        max_age_jitter: The fraction of ``max_age``, from 0 to 1, by which a stream may end
            earlier, at random.
        retry: The reconnection time to tell the client when the stream opens, in milliseconds.
        ids: Which events say their id: ``"all"``; ``"end"``, the topic's end event alone, which
            stops a browser from coming back for ever; ``"none"``, and then there is no resuming
            and ``Last-Event-ID`` is ignored.
        batch_bytes: The most bytes to write at once, except for a single larger event.
        lag: What happens to a client that has fallen behind what the log keeps: ``"close"``
            ends its stream, and it finds out when it comes back; ``"restart"`` tells it and goes
            on as if it had just joined.

    Raises:
        ValueError: A value that is out of its range, or neither heartbeat nor maximum age.

    Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes
    """

    heartbeat: float | None = DEFAULT_HEARTBEAT
    heartbeat_mode: Literal["idle", "interval"] = "idle"
    heartbeat_comment: str = DEFAULT_HEARTBEAT_COMMENT
    max_age: float | None = None
    max_age_jitter: float = DEFAULT_MAX_AGE_JITTER
    retry: int | None = None
    ids: Ids = "all"
    batch_bytes: int = DEFAULT_BATCH_BYTES
    lag: Lag = "close"
    heartbeat_block: bytes = attrs.field(  # encoded once for all streams
        init=False, repr=False, eq=False
    )

    @heartbeat_block.default
    def _encoded(self) -> bytes:
        return encode(Comment(self.heartbeat_comment))

    def __attrs_post_init__(self) -> None:
        if self.heartbeat is None and self.max_age is None:
            raise ValueError("a policy without a heartbeat needs a max_age")
        for name in ("heartbeat", "max_age"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive seconds, or None: {value!r}")
        if not 0 <= self.max_age_jitter <= 1:
            raise ValueError(f"max_age_jitter must be from 0 to 1: {self.max_age_jitter!r}")
        if self.batch_bytes < 1:
            raise ValueError(f"batch_bytes must be at least 1: {self.batch_bytes!r}")
        for name, choices in (
            ("heartbeat_mode", ("idle", "interval")),
            ("ids", IDS),
            ("lag", get_args(Lag)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}: {getattr(self, name)!r}"
                )
        ServerSentEvent("", retry=self.retry)


class Schedule:
    """When a stream's heartbeats fall due, and when it is too old.

    Args:
        policy: What it obeys.
        opened_at: When it was opened, on Trio's clock.

    Attributes:
        comment: The bytes of a heartbeat.
        batch_bytes: The most bytes to write at once.
        is_idle_mode: A heartbeat is due only when nothing was written for that long.
    """

    __slots__ = ("_beat", "_expires", "_heartbeat", "batch_bytes", "comment", "is_idle_mode")

    def __init__(self, policy: StreamPolicy, opened_at: float) -> None:
        self.comment = policy.heartbeat_block
        self.batch_bytes = policy.batch_bytes
        self.is_idle_mode = policy.heartbeat_mode == "idle"
        self._heartbeat = math.inf if policy.heartbeat is None else policy.heartbeat
        self._beat = opened_at + self._heartbeat
        self._expires = math.inf
        if policy.max_age is not None:
            earlier = random.uniform(0, policy.max_age_jitter)  # noqa: S311 # it is no secret
            self._expires = opened_at + policy.max_age * (1 - earlier)

    def next(self) -> float:
        """Return when something may fall due, on Trio's clock."""
        return min(self._beat, self._expires)

    def falls_due(self, now: float, written_at: float) -> Literal["age", "beat"] | None:
        """Return what is due, and look out for what comes then.

        Args:
            now: The time.
            written_at: When the stream was written to last.
        """
        if now >= self._expires:
            self._expires = self._beat = math.inf  # it says nothing any more but its end
            return "age"
        if self.is_idle_mode and now < written_at + self._heartbeat:
            self._beat = written_at + self._heartbeat
            return None
        if now < self._beat:
            return None
        self._beat = (
            now + self._heartbeat if self.is_idle_mode else max(self._beat + self._heartbeat, now)
        )
        return "beat"
