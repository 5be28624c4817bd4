"""A job while it lives: the one writer of its topic, and what its work speaks through.

Each change is made in three steps under the job's lock: the job is put as it will be, the change
is appended, and only an append that was refused takes the first step back. So the changes of a job
are in the log in the order in which they were made, and what its last change says is never behind
what was said before it.

What an entry says about keys is the kind's choice. ``status`` is owed to everybody and progress
only until there is newer, each part and each child has a key of its own; a kind that is
``one_state`` has one key for status and progress, of which the newest alone is owed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, TypeAlias

import attrs
import trio

from ..errors import ChannelEnded
from ..events import ServerSentEvent
from ..log import EventLog, NewEntry
from .kinds import JobKind
from .record import ChildJob, Job, JobChange, JobError, Step, What

_logger: Final = logging.getLogger("sselib.jobs")


@attrs.frozen(kw_only=True)
class Ending:
    """How a job is to end."""

    status: str
    result: Any = None
    error: JobError | None = None
    message: str | None = None
    progress: float | None = None


class Unfit(Exception):
    """What a job was to end with cannot be stored."""


class RunningJob:
    """What work is given: it speaks through it, and nothing else publishes.

    From a thread: ``trio.from_thread.run(job.progress, 0.5, "half of it")``. Several tasks may
    speak at once. When the job is over, whoever still speaks gets :exc:`ChannelEnded`.
    """

    __slots__ = ("_writer",)

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    @property
    def id(self) -> str:
        """The job's id."""
        return self._writer.job.id

    @property
    def details(self) -> Any:
        """What the job was submitted with."""
        return self._writer.job.details

    @property
    def now(self) -> Job:
        """The job as it is now."""
        return self._writer.job

    async def progress(self, value: float | None = None, message: str | None = None) -> None:
        """Say how much is done, or what is being done, or both.

        Progress never goes back: a value below an earlier one changes nothing, so that tasks
        and threads need not agree on who speaks first. What is left out stays as it was.

        Args:
            value: From 0 to 1.
            message: For people.

        Raises:
            ValueError: ``value`` is out of range.
            ChannelEnded: The job is over.

        Cancellation: as the log's ``append``; on a memory log, cancelled means not said.
        """
        await self._writer.report(None, value, message)

    async def move(
        self, status: str, *, progress: float | None = None, message: str | None = None
    ) -> None:
        """Enter another state of the lifecycle, in which the work goes on.

        Args:
            status: The state. Final ones are entered by returning and raising.
            progress: As in :meth:`progress`.
            message: As in :meth:`progress`.

        Raises:
            InvalidTransition: The lifecycle does not lead there from here.
            ValueError: A final state, or ``progress`` is out of range.
            ChannelEnded: The job is over.

        Cancellation: as :meth:`progress`.
        """
        if self._writer.kind.lifecycle.is_final(status):
            raise ValueError(f"work enters a final state by returning or raising: {status!r}")
        await self._writer.report(status, progress, message)

    async def update(self, part: str, value: Any, *, coalesce: bool = False) -> None:
        """Say what a named part of the job is now: a span, a task, a step.

        Args:
            part: Its name.
            value: What it is, whole: anything that has a JSON form.
            coalesce: Nobody is owed this value once there is a newer one of this part.

        Raises:
            TypeError, ValueError: ``value`` has no JSON form.
            ChannelEnded: The job is over.
            TopicFull: One part more than a topic of this log may hold.

        Cancellation: as :meth:`progress`.
        """
        await self._writer.change("part", part=part, value=value, coalesce=coalesce)


Work: TypeAlias = Callable[[RunningJob], Awaitable[Any]]
"""The work of a job: its result has a JSON form, or is an :class:`Outcome`."""


@attrs.define(eq=False)
class Writer:
    """The one writer of an unfinished job's topic, and what its runner knows of it.

    Attributes:
        log: Where the topic is.
        topic: Its name.
        kind: The job's kind.
        work: Its work; ``None`` of a job that is only to be ended.
        job: The job as it is.
        clock: Tells the time.
        enlist: Has the list of jobs say what the job is now.
        parent: The writer of the job that it is a child of.
        children: Those of its own children that are not over.
        scope: Around the work.
        has_slot: Its work counts against the capacity at present.
        begun: It is no longer in line: its work is called in this very step, or never will be.
        is_created: The job's topic is known to be there.
        is_ending: Its work is over, and it takes no children any more.
        is_lost: Another runner has the job, or has ended it.
        over: The job has ended, here or elsewhere, or was given back.
    """

    log: EventLog
    topic: str
    kind: JobKind
    work: Work | None
    job: Job
    clock: Callable[[], datetime]
    enlist: Callable[[Job], Awaitable[None]]
    parent: Writer | None = None
    children: dict[str, Writer] = attrs.field(factory=dict)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    has_slot: bool = False
    begun: trio.Event = attrs.field(factory=trio.Event)
    is_created: bool = False
    is_ending: bool = False
    is_lost: bool = False
    over: trio.Event = attrs.field(factory=trio.Event)
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def create(self) -> None:
        """Append the first changes, the record and the initial status; once, however often."""
        async with self._lock:
            if self.is_created:
                return
            created = _event(self._change("created", record=self.job))
            status = _event(self._change("status"))
            # What is remembered is what is stored, whatever becomes of the caller's objects.
            self.job = self.job.after(created.structure(JobChange))
            entries = [
                NewEntry.of(created, key="job"),
                NewEntry.of(status, key=self._key("status"), coalesce=self.kind.one_state),
            ]
            await self.log.append(self.topic, entries, token="created")  # noqa: S106 # no password
            self.is_created = True

    async def tell(self, what: What, **fields: Any) -> None:
        """Append a change that is between runners. Of several with one ``owner``, one counts."""
        event = _event(self._change(what, **fields))
        token = f"{what} {self.job.owner}"
        await self.log.append(
            self.topic, [NewEntry.of(event, key=what, coalesce=True)], token=token
        )

    async def announce(self) -> None:
        """Have the list and the parent know of the job as it is.

        It is done with each status. So one that is lost when the job's work is cancelled is made
        up for by the next, and the last by whoever starts a runner on this log.
        """
        async with self._lock:
            await self._announce()

    async def report(self, status: str | None, progress: float | None, message: str | None) -> None:
        """Append a change of status, progress or message."""
        if progress is not None and not 0 <= progress <= 1:  # nor NaN
            raise ValueError(f"progress goes from 0 to 1: {progress!r}")
        await self.change(
            "progress" if status is None else "status",
            status=status,
            progress=progress,
            message=message,
        )

    async def change(
        self,
        what: What,
        *,
        status: str | None = None,
        progress: float | None = None,
        message: str | None = None,
        part: str | None = None,
        value: Any = None,
        child: ChildJob | None = None,
        coalesce: bool = True,
    ) -> None:
        """Append a change, and have the parent know of a new status."""
        if what == "status":
            coalesce = self.kind.one_state
        name = child.id if child is not None else part
        async with self._lock:
            before = self.job
            self.job = self._moved(status, progress, message)
            try:
                event = _event(self._change(what, part=part, value=value, child=child))
                self.job = self.job.after(event.structure(JobChange))
                entry = NewEntry.of(event, key=self._key(what, name), coalesce=coalesce)
                await self.log.append(self.topic, [entry])
            except trio.Cancelled:
                # It may have been stored: what comes next is not to say less.
                self.job = attrs.evolve(before, progress=self.job.progress)
                raise
            except Exception:
                self.job = before
                raise
            if status is not None:
                await self._announce()

    async def end(self, ending: Ending, *, bare: bool = False) -> None:
        """Append the last change, with the parts that end with it, or ``bare`` of all parts.

        Raises:
            ChannelEnded: There is one already.
            Unfit: The status is no end, the result has no JSON form, or it is all too large.
            Exception: What the log raises that cannot be reached.
        """
        async with self._lock:
            before = self.job
            try:
                entries = self._ending(ending, bare=bare)
                await self.log.append(self.topic, entries, token="end")  # noqa: S106 # no password
            except ValueError as error:  # It is too large.
                self.job = before
                raise Unfit from error
            except BaseException:
                self.job = before
                raise
            await self._announce()

    def _ending(self, ending: Ending, *, bare: bool) -> list[NewEntry]:
        """Put the job as it ends, and return the entries that say so."""
        entries: list[NewEntry] = []
        try:
            if not self.kind.lifecycle.is_final(ending.status):
                raise ValueError(f"not a final state: {ending.status!r}")  # noqa: TRY301 # as others
            job = self._moved(ending.status, ending.progress, ending.message)
            self.job = attrs.evolve(job, result=ending.result, error=ending.error, finished=True)
            if bare:
                self.job = attrs.evolve(self.job, parts={})
            elif self.kind.at_end is not None:
                for part, value in self.kind.at_end(self.job).items():
                    event = _event(self._change("part", part=part, value=value))
                    self.job = self.job.after(event.structure(JobChange))
                    entries.append(NewEntry.of(event, key=self._key("part", part)))
            if not self.kind.clear_at_end:
                status = _event(self._change("status"))
                entries.append(NewEntry.of(status, key=self._key("status")))
            end = _event(self._change("end", record=self.job))
            entries.append(NewEntry.of(end, end=True, clear=self.kind.clear_at_end))
        except Exception as error:
            raise Unfit from error
        return entries

    def _moved(self, status: str | None, progress: float | None, message: str | None) -> Job:
        job = self.job
        steps = job.steps
        if status is not None:
            self.kind.lifecycle.check(job.status, status)
            steps = (*steps, Step(status, self.clock()))
        return attrs.evolve(
            job,
            status=status or job.status,
            steps=steps,
            progress=max(progress, job.progress or 0.0) if progress is not None else job.progress,
            message=job.message if message is None else message,
        )

    def _change(self, what: What, **fields: Any) -> JobChange:
        job = self.job
        children = job.children
        if fields.get("child") is not None:
            children = {**children, fields["child"].id: fields["child"]}
        return JobChange(
            what=what,
            job_id=job.id,
            kind=job.kind,
            at=self.clock(),
            status=job.status,
            progress=job.progress,
            message=job.message,
            steps=job.steps,
            error=job.error,
            counts=Counter(child.status for child in children.values()),
            **fields,
        )

    def _key(self, what: What, name: str | None = None) -> str:
        if name is not None:
            return f"{what}:{name}"
        return "state" if self.kind.one_state else what

    async def _announce(self) -> None:  # noqa: ASYNC910 # it asks the log, if at all
        job = self.job
        try:
            await self.enlist(job)
            if self.parent is not None:
                await self.parent.change("child", child=ChildJob.of(job))
        except ChannelEnded:
            pass  # The parent is over, and this does not count any more.
        except Exception:
            _logger.exception("job %s: its status is not known to all", job.id)


def _event(change: JobChange) -> ServerSentEvent:
    return ServerSentEvent.of_json(change, event=change.what)
