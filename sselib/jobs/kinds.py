"""What jobs of a kind have in common: data, chosen by an API once for all of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from ..lifecycle import Lifecycle
from .record import Job

SIMPLE: Final = Lifecycle(
    {
        "pending": ("running", "failed", "cancelled"),
        "running": ("succeeded", "failed", "cancelled"),
    },
    initial="pending",
    started="running",
    succeeded="succeeded",
    failed="failed",
    cancelled="cancelled",
)
"""The life of a job that needs no words of its own."""


@attrs.frozen(kw_only=True)
class JobKind:
    """What all jobs of a kind have in common.

    Args:
        name: Stored with each job and shown to clients. A runner has one kind of a name.
        lifecycle: Its states.
        one_state: Status and progress are one thing to clients: who joins is given one change,
            and who is slow the newest alone. Otherwise each change of status is owed to all.
        clear_at_end: Who comes when the job is over is given its end alone. Otherwise it is given
            the job's parts and its status as they last were, and then its end.
        takes_slot: Its work counts against the runner's capacity. Not for work that itself waits
            for jobs: it would keep from running what it waits for.
        at_end: Given the job as it ends, returns the parts that end with it and what they then
            are: a span or a task that was under way when its work was cut off. It is pure, and
            what it says is stored in one step with the end, whoever it is that ends the job.
    """

    name: str
    lifecycle: Lifecycle = SIMPLE
    one_state: bool = False
    clear_at_end: bool = False
    takes_slot: bool = True
    at_end: Callable[[Job], Mapping[str, Any]] | None = None


JOB: Final = JobKind(name="job")
"""The kind of a job that needs no kind."""


@attrs.frozen
class Outcome:
    """What work returns that has more to say than its result.

    Args:
        result: What any other work would have returned: JSON of the application's own.
        status: The final state, if it is not the lifecycle's ``succeeded``.
        message: The last message.
    """

    result: Any = None
    status: str | None = attrs.field(default=None, kw_only=True)
    message: str | None = attrs.field(default=None, kw_only=True)
