"""What is stored of a job: its changes, and the job as their fold. Values, and no I/O.

A :class:`JobChange` says what happened and, whatever that was, where the job then stood: its
status, progress, message, steps and error. So an API can tell a change to its clients without
having seen those before it, and a change that is lost to compaction takes nothing with it. The
first change and the last carry the whole :class:`Job` as well. Between the two, the latest change
of each key is enough to fold the job again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import attrs

from ..codec import EventStreamDecoder
from ..events import ServerSentEvent
from ..log import NewEntry, Snapshot

What: TypeAlias = Literal[
    "created", "status", "progress", "part", "child", "end", "taken", "cancel"
]
"""What happened to a job.

``created``: it was submitted. ``status``: its status changed. ``progress``: its progress or message
did, and its status did not. ``part``: its work updated a named part. ``child``: a child was
submitted, or its status changed. ``end``: it is over, and nothing follows; the change to a final
status comes just before, except in a kind that clears at the end, whose ``end`` says it alone.

Between runners, which share a log: ``taken``: another one has the job now. ``cancel``: another than
its owner was asked to cancel it. No API is asked to render these two, nor ``created``, for the
first ``status`` comes with it.
"""

INTERNAL: Final = frozenset(("created", "taken", "cancel"))
"""What is not rendered."""


@attrs.frozen
class JobError:
    """Why a job failed, as its clients may read it.

    Attributes:
        code: For programs. Ours: ``internal``, the work raised something that clients may not
            read; ``interrupted``, its runner stopped before the work was done.
        message: For people.
    """

    code: str
    message: str


@attrs.frozen
class Step:
    """A status that a job had, and since when."""

    status: str
    at: datetime


@attrs.frozen(kw_only=True)
class ChildJob:
    """What a job knows of a child of its own.

    Attributes:
        id: The child's id.
        kind: The name of its kind.
        status: Its status.
        details: What it was submitted with.
        result: What its work returned, once it has.
        error: Why it failed, if it did.
    """

    id: str
    kind: str
    status: str
    details: Any = None
    result: Any = None
    error: JobError | None = None

    @classmethod
    def of(cls, job: Job) -> ChildJob:
        """Return what a parent is to know of a job."""
        return cls(
            id=job.id,
            kind=job.kind,
            status=job.status,
            details=job.details,
            result=job.result,
            error=job.error,
        )


@attrs.frozen(kw_only=True)
class Job:
    """All that is known of a job at one moment.

    Attributes:
        id: Its id.
        kind: The name of its kind.
        owner: The id of the runner that has it.
        parent: The id of the job that submitted it.
        details: What it was submitted with: JSON of the application's own.
        status: Where in its lifecycle it is.
        progress: How much is done, from 0 to 1; ``None`` until its work has said so.
        message: What its work last said.
        steps: The statuses it has had, the present one last.
        parts: The parts that its work has updated, by name, the latest last.
        children: The jobs that its work has submitted, by id.
        result: What its work returned, once it has.
        error: Why it failed, if it did.
        finished: Its status is final.
        is_to_be_cancelled: Another runner than its owner was asked to cancel it.
    """

    id: str
    kind: str
    owner: str
    parent: str | None = None
    details: Any = None
    status: str
    progress: float | None = None
    message: str | None = None
    steps: tuple[Step, ...]
    parts: Mapping[str, Any] = attrs.field(factory=dict)
    children: Mapping[str, ChildJob] = attrs.field(factory=dict)
    result: Any = None
    error: JobError | None = None
    finished: bool = False
    is_to_be_cancelled: bool = False

    @property
    def created_at(self) -> datetime:
        """When it was submitted."""
        return self.steps[0].at

    @property
    def started_at(self) -> datetime | None:
        """When its work was begun; ``None`` if it was not."""
        begun = self.steps[1:-1] if self.finished else self.steps[1:]
        return begun[0].at if begun else None

    @property
    def completed_at(self) -> datetime | None:
        """When it came to its end; ``None`` before that."""
        return self.steps[-1].at if self.finished else None

    def after(self, change: JobChange) -> Job:
        """Return the job as it is after one more change."""
        if change.record is not None:
            return change.record
        if change.what == "cancel":
            return attrs.evolve(self, is_to_be_cancelled=True)
        if change.what == "taken":
            return attrs.evolve(self, owner=change.owner or "")
        parts, children = self.parts, self.children
        if change.what == "part":
            parts = {name: value for name, value in parts.items() if name != change.part}
            parts[change.part or ""] = change.value
        elif change.child is not None:
            children = {**children, change.child.id: change.child}
        return attrs.evolve(
            self,
            status=change.status,
            progress=change.progress,
            message=change.message,
            steps=change.steps,
            error=change.error,
            parts=parts,
            children=children,
        )


@attrs.frozen(kw_only=True)
class JobChange:
    """One change of a job, and where the job stood after it.

    Attributes:
        what: What happened.
        job_id: The job's id.
        kind: The name of its kind.
        at: When it happened.
        status: As of the :class:`Job`, like the next four.
        progress: See there.
        message: See there.
        steps: See there.
        error: See there.
        owner: Of a ``taken``: the runner that has it now. What else there is of that change, and
            of ``cancel``, is not from the job's one writer, and may be out of date.
        part: Of a ``part``: its name.
        value: Of a ``part``: what it is now, as JSON.
        child: Of a ``child``: what is known of it now.
        counts: How many children have which status.
        record: The whole job, when it is ``created`` and at its ``end``.
    """

    what: What
    job_id: str
    kind: str
    at: datetime
    status: str
    progress: float | None = None
    message: str | None = None
    steps: tuple[Step, ...]
    error: JobError | None = None
    owner: str | None = None
    part: str | None = None
    value: Any = None
    child: ChildJob | None = None
    counts: Mapping[str, int] = attrs.field(factory=dict)
    record: Job | None = None


def fold(snapshot: Snapshot) -> Job | None:
    """Return the job whose topic has that state; ``None`` if it is no job's.

    Raises:
        InvalidEventData: The topic holds something else.
    """
    entries = [snapshot.end] if snapshot.end is not None else snapshot.entries
    job: Job | None = None
    for entry in entries:
        change = read(entry.content).structure(JobChange)
        if job is None:
            job = change.record
        if job is not None:
            job = job.after(change)
    return job


def read(content: NewEntry) -> ServerSentEvent:
    """Return the event that an entry holds."""
    (event,) = EventStreamDecoder(max_event_bytes=None).feed(content.block)
    return event
