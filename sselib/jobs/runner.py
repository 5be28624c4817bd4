"""Takes work, runs so much of it at a time, and keeps the list of jobs.

Who does what: ``submit`` makes a job's topic and puts the job in line; one task begins the jobs in
that order, as many at a time as there is capacity, each in a task of its own; that task runs the
work in the job's cancel scope and then appends the job's end. Another task forgets finished jobs
when their time is over.

A job ends when its work has unwound, and its children before it. If the runner is left meanwhile,
the end is appended all the same, under a shield and within :data:`LAST_WORDS` seconds, the one step
here that cancellation has to wait for: without it nobody would be told. On a log of this process
it takes no time. On one that does not answer it is given up, and the next runner that starts finds
a job whose owner is gone.

The list of jobs is a topic as well, with a key for each job. Nothing is decided by it: it follows
the jobs' own topics, and is set right from them when a runner starts.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import attrs
import trio

from ..channel import EventChannel
from ..errors import ChannelEnded, JobFailed, TooManyJobs
from ..events import ServerSentEvent
from ..log import NewEntry
from ..topics import Topics
from .record import Job, JobChange, JobError, Step, fold, read
from .running import JOB, Ending, JobKind, Outcome, RunningJob, Work, Writer

# What is waited for meanwhile is a core, most of the time, and this machine has some.
DEFAULT_CAPACITY: Final = 4
# A client that was away for lunch still finds its result. Celery keeps results for a day.
DEFAULT_KEEP_FINISHED: Final = 3600.0
# Half of the keys that a topic may have by default, the list of jobs being one.
DEFAULT_MAX_JOBS: Final = 5000
# Seconds for the end of a job whose runner is left.
LAST_WORDS: Final = 2.0

RenderChange: TypeAlias = Callable[[JobChange], Iterable[ServerSentEvent]]
"""Returns the events by which an API tells its clients of a change: some, or none. It is pure."""

_logger: Final = logging.getLogger("sselib.jobs")

_INTERNAL: Final = JobError("internal", "internal error")
_INTERRUPTED: Final = JobError("interrupted", "interrupted: the server stopped before it was done")


def _now() -> datetime:
    return datetime.now(UTC)


class JobRunner:
    """Runs jobs and knows them. :func:`open_job_runner` makes it.

    Attributes:
        name: What the names of its topics begin with.
        id: Names this runner as the owner of its jobs.
        topics: The channels of its log.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        name: str,
        kinds: Iterable[JobKind],
        capacity: int,
        keep_finished: float | None,
        max_jobs: int,
        clock: Callable[[], datetime],
    ) -> None:
        if capacity < 1 or max_jobs < 1:
            raise ValueError(f"capacity and max_jobs must be at least 1: {capacity}, {max_jobs}")
        if keep_finished is not None and not 0 <= keep_finished < math.inf:
            raise ValueError(f"keep_finished must be seconds, or None: {keep_finished!r}")
        self.name = name
        self.id = secrets.token_hex(8)
        self.topics = topics
        self._log = topics.log
        self._kinds: dict[str, JobKind] = {}
        for kind in kinds:
            self._learn(kind)
        self._free = capacity
        self._keep_finished = math.inf if keep_finished is None else keep_finished
        self._max_jobs = max_jobs
        self._clock = clock
        self._submitting = trio.Lock()
        self._unfinished: dict[str, Writer] = {}
        self._in_line: dict[str, Writer] = {}  # in the order in which they were submitted
        self._finished: dict[str, float] = {}  # when to forget them on Trio's clock, the next first
        self._work_to_do = trio.Event()
        self._something_finished = trio.Event()
        self._is_closed = False

    async def submit(
        self,
        work: Work,
        *,
        kind: JobKind = JOB,
        job_id: str | None = None,
        parent: str | None = None,
        details: Any = None,
    ) -> Job:
        """Put work in line and return its job.

        Args:
            work: An async function that is given a :class:`RunningJob`.
            kind: What its states are and what its clients are owed.
            job_id: The job's id. If there is a job of that id, nothing is done and that one is
                returned. ``None``: a random one.
            parent: The id of the job whose work submits this one. A job ends after its children:
                those that are not finished when its work is, are cancelled.
            details: What is to be known of the job from the start: anything with a JSON form.

        Raises:
            TypeError: ``details`` has no JSON form.
            ValueError: It has none, or ``parent`` is not running here, or this runner has
                another kind of that name.
            TooManyJobs: The runner holds as many unfinished jobs as it may.
            trio.ClosedResourceError: The runner was left.

        Cancellation: it has been submitted or not. To be sure, submit it again with the same
        ``job_id``.
        """
        self._learn(kind)
        async with self._submitting:
            existing = None if job_id is None else await self.get(job_id)
            if existing is not None:
                return existing
            parent_writer = self._running(parent)
            await self._make_room()
            if self._is_closed:
                raise trio.ClosedResourceError
            initial = kind.lifecycle.initial
            job = Job(
                id=secrets.token_hex(8) if job_id is None else job_id,
                kind=kind.name,
                owner=self.id,
                parent=parent,
                details=details,
                status=initial,
                steps=(Step(initial, self._clock()),),
            )
            writer = self._writer(job, kind, work, parent_writer)
            await writer.create()
            self._unfinished[job.id] = self._in_line[job.id] = writer
            if parent_writer is not None:
                parent_writer.children[job.id] = writer
        self._work_to_do.set()
        await writer.announce()
        return writer.job

    async def get(self, job_id: str) -> Job | None:
        """Return the job as its topic has it; ``None`` if there is none of that id.

        Cancellation: it only reads.
        """
        return fold(await self._log.snapshot(self._topic(job_id)))

    async def list(self) -> Sequence[Job]:
        """Return all jobs, without their parts, in the order in which they were submitted.

        Cancellation: it only reads.
        """
        snapshot = await self._log.snapshot(self.name)
        jobs = [read(entry.content).structure(Job) for entry in snapshot.entries]
        return sorted(jobs, key=lambda job: (job.created_at, job.id))

    async def cancel(self, job_id: str) -> Job | None:
        """Cancel a job, and return it as it then is; ``None`` if there is none of that id.

        One that is in line is cancelled at once. One that runs has its cancel scope cancelled,
        and its status changes when its work has unwound; if the work returns nevertheless, that
        counts. One that is finished stays as it is.

        Raises:
            ValueError: Jobs of its kind cannot be cancelled.

        Cancellation: it has been cancelled or not.
        """
        writer = self._unfinished.get(job_id)
        if writer is not None:
            if writer.kind.lifecycle.cancelled is None:
                raise ValueError(f"jobs of the kind {writer.kind.name!r} cannot be cancelled")
            self._stop(writer)
            if job_id in self._in_line:
                await writer.over.wait()
        return await self.get(job_id)

    async def wait_finished(self, job_id: str) -> Job | None:
        """Wait until a job is over and return it; ``None`` if there is none, or it was forgotten.

        Cancellation: it only reads.
        """
        async with self.topics.channel(self._topic(job_id)).subscribe(replay="live") as changes:
            if await self.get(job_id) is not None:
                async for _ in changes:
                    pass
        return await self.get(job_id)

    def channel(self, job_id: str, render: RenderChange | None = None) -> EventChannel:
        """Return the channel of a job's topic, for an :class:`sselib.EventStream`.

        Args:
            job_id: The job's id. Whether there is such a job, ask :meth:`get` first: a channel
                waits for what is not there.
            render: What clients are told of each change: a pure function that is defined once,
                since each has a channel of its own. ``None``: the change itself, as JSON.
        """
        return self.topics.channel(
            self._topic(job_id), render=None if render is None else _Rendering(render)
        )

    # ---- the tasks ---------------------------------------------------------------------------

    async def serve(self) -> None:
        """Begin jobs in the order in which they were submitted, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    self._work_to_do = trio.Event()
                    for writer in self._ready():
                        nursery.start_soon(self._run, writer)
                        await writer.begun.wait()
                    await self._work_to_do.wait()
        finally:
            self._is_closed = True
            with trio.move_on_after(LAST_WORDS, shield=True):  # noqa: ASYNC912 # none may be in line
                for writer in list(self._in_line.values()):
                    await self._end(writer, _failed(writer, _INTERRUPTED))

    async def forget_finished(self) -> None:
        """Forget each finished job when its time is over, until cancelled."""
        while True:
            self._something_finished = trio.Event()
            for job_id, due in list(self._finished.items()):
                if due > trio.current_time():
                    break
                await self._forget(job_id)
            with trio.move_on_at(next(iter(self._finished.values()), math.inf)):
                await self._something_finished.wait()

    async def take_over(self) -> None:
        """Set the list right, and end what other runners have left unfinished."""
        prefix = self._topic("")
        listed = {job.id: job for job in await self.list()}
        ages: dict[str, float] = {}
        for topic in await self.topics.names(prefix):
            job = await self.get(topic.removeprefix(prefix))
            if job is None:
                continue
            kind = self._kinds.get(job.kind)
            if not job.finished and kind is not None:
                writer = self._writer(job, kind)
                with suppress(ChannelEnded):
                    await writer.end(_failed(writer, _INTERRUPTED))
                job = writer.job
            elif listed.get(job.id) != _brief(job):
                await self._enlist(job)
            listed.pop(job.id, None)
            if job.completed_at is not None:
                ages[job.id] = (self._clock() - job.completed_at).total_seconds()
        for job_id in listed:
            await self._delist(job_id)
        for job_id in sorted(ages, key=ages.__getitem__, reverse=True):
            self._finished[job_id] = trio.current_time() + self._keep_finished - ages[job_id]

    # ---- the steps of a job's life -----------------------------------------------------------

    def _ready(self) -> Iterator[Writer]:
        """Take those out of the line that are to run now."""
        for writer in list(self._in_line.values()):
            # One that is cancelled needs no slot to say so.
            if writer.kind.takes_slot and not writer.scope.cancel_called:
                if self._free == 0:
                    continue
                self._free -= 1
                writer.has_slot = True
            del self._in_line[writer.job.id]
            yield writer

    async def _run(self, writer: Writer) -> None:
        """Run a job's work, and append what comes of it."""
        ending = _failed(writer, _INTERRUPTED)
        try:
            ending = await self._work(writer)
            await self._end(writer, ending)
        finally:
            if not writer.over.is_set():
                with trio.move_on_after(LAST_WORDS, shield=True):
                    await self._end(writer, ending)
            self._free += writer.has_slot
            self._work_to_do.set()

    async def _work(self, writer: Writer) -> Ending:
        lifecycle, work = writer.kind.lifecycle, writer.work
        assert work is not None, "only what was submitted here is run here"
        try:
            with writer.scope:
                await trio.lowlevel.checkpoint()
                if lifecycle.started is not None:
                    await writer.report(lifecycle.started, None, None)
                writer.begun.set()
                returned = await work(RunningJob(writer))
                outcome = returned if isinstance(returned, Outcome) else Outcome(returned)
                return Ending(
                    status=outcome.status or lifecycle.succeeded,
                    result=outcome.result,
                    message=outcome.message,
                    progress=1.0,
                )
        except Exception as error:
            failure = _public(error)
            if failure is None:
                _logger.exception("job %s failed", writer.job.id)
                return _failed(writer, _INTERNAL)  # noqa: ASYNC910 # it has begun with a checkpoint
            return _failed(writer, JobError(failure.code, failure.message))  # noqa: ASYNC910 # as above
        return _cancelled(writer)

    def _stop(self, writer: Writer) -> None:
        writer.scope.cancel()
        self._work_to_do.set()

    async def _end(self, writer: Writer, ending: Ending) -> None:  # noqa: ASYNC910 # end() waits
        """Append a job's end, unless it has one, and be done with it."""
        job_id = writer.job.id
        while writer.children:
            child = next(iter(writer.children.values()))
            self._stop(child)
            await child.over.wait()
        try:
            await writer.end(ending)
        except ChannelEnded:
            pass  # Somebody else has ended it, and the first end is the one that counts.
        except Exception:
            _logger.exception("job %s: its end was refused", job_id)
            with suppress(Exception):
                await writer.end(_failed(writer, _INTERNAL), bare=True)
        writer.begun.set()
        writer.over.set()
        if writer.parent is not None:
            del writer.parent.children[job_id]
        del self._unfinished[job_id]
        self._in_line.pop(job_id, None)
        self._finished[job_id] = trio.current_time() + self._keep_finished
        self._something_finished.set()

    def _running(self, job_id: str | None) -> Writer | None:
        if job_id is None:
            return None
        if job_id not in self._unfinished or job_id in self._in_line:
            raise ValueError(f"no job that runs here, to be a parent: {job_id!r}")
        return self._unfinished[job_id]

    def _writer(
        self, job: Job, kind: JobKind, work: Work | None = None, parent: Writer | None = None
    ) -> Writer:
        return Writer(
            log=self._log,
            topic=self._topic(job.id),
            kind=kind,
            work=work,
            job=job,
            clock=self._clock,
            enlist=self._enlist,
            parent=parent,
        )

    async def _make_room(self) -> None:  # noqa: ASYNC910 # what calls it waits anyway
        """Forget the oldest finished job if there are as many as there may be."""
        if len(self._unfinished) + len(self._finished) >= self._max_jobs:
            if not self._finished:
                raise TooManyJobs(self._max_jobs)
            await self._forget(next(iter(self._finished)))

    async def _forget(self, job_id: str) -> None:
        await self._delist(job_id)
        await self._log.delete(self._topic(job_id))
        self._finished.pop(job_id, None)

    async def _enlist(self, job: Job) -> None:
        event = ServerSentEvent.of_json(_brief(job), event="job")
        await self._log.append(self.name, [NewEntry.of(event, key=job.id, coalesce=True)])

    async def _delist(self, job_id: str) -> None:
        event = ServerSentEvent.of_json({"id": job_id}, event="forgotten")
        await self._log.append(self.name, [NewEntry.of(event, key=job_id, remove=True)])

    def _topic(self, job_id: str) -> str:
        return f"{self.name}/{job_id}"

    def _learn(self, kind: JobKind) -> None:
        if self._kinds.setdefault(kind.name, kind) != kind:
            raise ValueError(f"there is another kind of job named {kind.name!r}")


@asynccontextmanager
async def open_job_runner(
    topics: Topics,
    *,
    name: str = "jobs",
    kinds: Iterable[JobKind] = (JOB,),
    capacity: int = DEFAULT_CAPACITY,
    keep_finished: float | None = DEFAULT_KEEP_FINISHED,
    max_jobs: int = DEFAULT_MAX_JOBS,
    clock: Callable[[], datetime] = _now,
) -> AsyncIterator[JobRunner]:
    """Run jobs for as long as the ``async with`` lasts.

    Leaving it cancels what runs, and fails it and what is in line as ``interrupted``.

    Args:
        topics: Where the jobs are kept: ``open_topics(MemoryLog())``.
        name: The topic of the list of jobs, and with ``/`` what the jobs' own topics begin with.
            Runners of different applications on one log need different names.
        kinds: The kinds of the jobs that may be found on the log. Those of which a runner is gone
            are failed as ``interrupted``, if their kind is known.
        capacity: The most jobs to run at a time.
        keep_finished: Seconds after which a finished job is forgotten. ``None``: only to make room.
        max_jobs: The most jobs to hold. To make room, the job that finished first is forgotten.
        clock: Tells the time.

    Raises:
        ValueError: An argument that is out of range, or two kinds of one name.

    Cancellation: of the body: as leaving it.
    """
    runner = JobRunner(
        topics,
        name=name,
        kinds=kinds,
        capacity=capacity,
        keep_finished=keep_finished,
        max_jobs=max_jobs,
        clock=clock,
    )
    await runner.take_over()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.serve)  # noqa: ASYNC113 # what comes earlier is in line
        nursery.start_soon(runner.forget_finished)
        yield runner
        nursery.cancel_scope.cancel()


@attrs.frozen
class _Rendering:
    """A function of changes as one of events, equal if that is the same: it has one channel."""

    render: RenderChange

    def __call__(self, event: ServerSentEvent) -> Iterable[ServerSentEvent]:
        change = event.structure(JobChange)
        return () if change.what == "created" else self.render(change)


def _brief(job: Job) -> Job:
    return attrs.evolve(job, parts={})


def _failed(writer: Writer, error: JobError) -> Ending:
    return Ending(status=writer.kind.lifecycle.failed, error=error)


def _cancelled(writer: Writer) -> Ending:
    status = writer.kind.lifecycle.cancelled
    if status is None:
        return _failed(writer, JobError("cancelled", "cancelled with the job that it belongs to"))
    return Ending(status=status)


def _public(error: BaseException) -> JobFailed | None:
    """Return what clients may read of an error: it is, or is a group of nothing but, JobFailed."""
    if isinstance(error, BaseExceptionGroup):
        found = [_public(each) for each in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, JobFailed) else None
