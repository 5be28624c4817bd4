"""What an event source tells about itself."""

from __future__ import annotations

from typing import Literal

import attrs

LossReason = Literal[
    "unreachable",
    "open timeout",
    "status",
    "ended",
    "cut",
    "malformed",
    "idle timeout",
    "event timeout",
]


@attrs.frozen(kw_only=True)
class Interruption:
    """Why a connection was lost, or could not be made, and what is done about it.

    Attributes:
        reason: What happened.

            - ``"unreachable"``: there was no connection, or no TLS;
            - ``"open timeout"``: no response came within the policy's ``open_timeout``;
            - ``"status"``: the response has one of the policy's ``retry_statuses``;
            - ``"ended"``: the response came to its proper end;
            - ``"cut"``: the connection ended or broke in the middle of the response;
            - ``"malformed"``: what came is not HTTP/1.1;
            - ``"idle timeout"``: nothing came for the policy's ``idle_timeout``;
            - ``"event timeout"``: no event came for its ``event_timeout``.
        message: The same in words, with what is known of the cause.
        status: The status of the response, if that is the reason.
        failures: How many there were in a row, this one included; a healthy connection begins
            the count anew.
        wait: Seconds until the next attempt; ``None`` if there is none, by ``max_failures``.
    """

    reason: LossReason
    message: str
    status: int | None
    failures: int
    wait: float | None


@attrs.frozen(kw_only=True)
class EventSourceStatistics:
    """What an event source has done so far.

    Attributes:
        attempts: Attempts to open a connection; redirects belong to the attempt they came in.
        opened: Event streams that were opened.
        failures: The ``failures`` of the last interruption; 0 before there was one.
        events: Events that were returned.
        events_waiting: Events that were read and not returned yet.
        body_bytes: Bytes of the streams' bodies.
    """

    attempts: int
    opened: int
    failures: int
    events: int
    events_waiting: int
    body_bytes: int
