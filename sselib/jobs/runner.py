"""Takes work, keeps the list of jobs, and shares a log with other runners.

Who does what: a job's :class:`Writer` writes its topic; the :class:`Crew` runs the work and ends
the job; the :class:`Listing` follows; those who have :class:`Finished` are kept for a time; the
:class:`Members` tell who else is there. The runner here puts them together, and looks after the
jobs of runners that are gone: they are ended, or taken if their work can be done again.

Between runners the log decides. Nothing can be appended after an end, so the first one counts; of
several who take a job, the first to say so has it.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import attrs
import trio

from ..channel import EventChannel
from ..errors import ChannelEnded, TooManyJobs
from ..events import ServerSentEvent
from ..log import LocalEventLog
from ..subscription import Subscription
from ..topics import Topics
from .crew import RETRY, Crew, check_cancellable, interrupted
from .kinds import JOB, JobKind
from .listing import Listing, brief
from .members import DEFAULT_LEASE, RENEWALS, Members
from .record import INTERNAL, ChildJob, Job, JobChange, Step, fold
from .retention import Finished
from .running import Work, Writer

# What is waited for meanwhile is a core, most of the time, and this machine has some.
DEFAULT_CAPACITY: Final = 4
# A client that was away for lunch still finds its result. Celery keeps results for a day.
DEFAULT_KEEP_FINISHED: Final = 3600.0
# Half of the keys that a topic may have by default, the list of jobs being one.
DEFAULT_MAX_JOBS: Final = 5000

RenderChange: TypeAlias = Callable[[JobChange], Iterable[ServerSentEvent]]
"""Returns the events by which an API tells its clients of a change: some, or none. It is pure."""

_logger: Final = logging.getLogger("sselib.jobs")


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
        again: Mapping[str, Work],
        lease: float,
        clock: Callable[[], datetime],
    ) -> None:
        if capacity < 1 or max_jobs < 1:
            raise ValueError(f"capacity and max_jobs must be at least 1: {capacity}, {max_jobs}")
        if keep_finished is not None and not 0 <= keep_finished < math.inf:
            raise ValueError(f"keep_finished must be seconds, or None: {keep_finished!r}")
        if not 0 < lease < math.inf:
            raise ValueError(f"lease must be positive seconds: {lease!r}")
        self.name = name
        self.id = secrets.token_hex(8)
        self.topics = topics
        self._log = topics.log
        self._is_local = isinstance(topics.log, LocalEventLog)
        self._listing = Listing(self._log, name)
        self._members = Members(
            topics, f"{name}.runners", self.id, None if self._is_local else lease
        )
        self._again = again
        self._kinds: dict[str, JobKind] = {}
        for kind in kinds:
            self._learn(kind)
        self._finished = Finished(
            keep=math.inf if keep_finished is None else keep_finished,
            clock=clock,
            forget=self._forget,
        )
        self._crew = Crew(
            capacity=capacity, given_back=again.keys(), on_end=self._finished.remember
        )
        self._max_jobs = max_jobs
        self._clock = clock
        self._submitting = trio.Lock()

    async def submit(
        self,
        work: Work,
        *,
        kind: JobKind = JOB,
        job_id: str | None = None,
        parent: str | None = None,
        details: Any = None,
    ) -> Job:
        """Put work in line and return its job, as it is before the work is begun.

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
            existing = None if job_id is None else await self._find(job_id)
            if existing is not None:
                return existing
            parent_writer = self._parent(parent)
            await self._make_room()
            if self._crew.is_closed:
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
            try:
                with suppress(ChannelEnded):  # Then it is another's, as below.
                    await writer.create()
                # Another runner may have been asked for a job of that id at the same time.
                stored = job if job_id is None or self._is_local else await self.get(job_id)
                if stored is not None and stored.owner != self.id:
                    return stored
            except trio.Cancelled:
                if not self._is_local:
                    self._crew.put_in_line(writer)  # It may be there: its own task finds out.
                raise
            submitted = writer.job
            if self._crew.is_closed:
                await writer.end(interrupted(writer))
                raise trio.ClosedResourceError
            self._crew.put_in_line(writer)
        await writer.announce()
        return submitted

    async def get(self, job_id: str) -> Job | None:
        """Return the job as its topic has it; ``None`` if there is none of that id.

        Cancellation: it only reads.
        """
        return fold(await self._log.snapshot(self._topic(job_id)))

    async def list(self) -> Sequence[Job]:
        """Return all jobs, without their parts, in the order in which they were submitted.

        Cancellation: it only reads.
        """
        return await self._listing.jobs()

    async def cancel(self, job_id: str) -> Job | None:
        """Cancel a job, and return it as it then is; ``None`` if there is none of that id.

        One that is in line is cancelled at once. One that runs has its cancel scope cancelled,
        and its status changes when its work has unwound; if the work returns nevertheless, that
        counts. One that is finished stays as it is. If it is another runner's, that is asked to.

        Raises:
            ValueError: Jobs of its kind cannot be cancelled.

        Cancellation: it has been cancelled or not.
        """
        writer = self._crew.unfinished.get(job_id)
        if writer is not None:
            check_cancellable(writer.kind)
            self._crew.stop(writer)
            if self._crew.is_in_line(job_id):
                await writer.over.wait()
        job = await self.get(job_id)
        if writer is None and job is not None and not job.finished:
            await self._ask_to_cancel(job)
        return job

    async def wait_finished(self, job_id: str) -> Job | None:
        """Wait until a job is over and return it; ``None`` if there is none, or it was forgotten.

        Cancellation: it only reads.
        """
        channel = self.channel(job_id)
        async with channel.subscribe(replay="live", lag="restart") as changes:
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
        """Do what there is to do, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._crew.serve)
            nursery.start_soon(self._finished.forget_in_time)
            nursery.start_soon(self.keep_in_touch)

    async def join(self) -> None:
        """Become one of the runners of this log, and look after what those who are gone left."""
        await self._members.renew()
        await self._take_over()

    def patience(self) -> float:
        """Return how many seconds leaving may take."""
        return self._crew.patience()

    async def leave(self) -> None:
        """Be one of the runners no more."""
        await self._members.strike_off(self.id)

    async def keep_in_touch(self) -> None:
        """Do what other runners ask for, and look after those who are gone, until cancelled."""
        while True:
            try:
                async with self._members.listen() as events:
                    await self._renew(gone="")
                    await self._listen(events)
            except Exception:
                # The log may be back before the lease runs out; and if not, the others see to it.
                _logger.exception("runner %s: the log does not answer it", self.id)
            await trio.sleep(RETRY)

    # ---- among the runners of a log ----------------------------------------------------------

    async def _listen(self, events: Subscription) -> None:  # noqa: ASYNC910 # it may be over
        """Do what the others say, and renew our lease, for as long as the topic is there."""
        period = math.inf if self._members.lease is None else self._members.lease / RENEWALS
        due = trio.current_time() + period
        while not events.finished:
            gone = None
            with trio.move_on_at(due), suppress(trio.EndOfChannel):
                event = await events.receive()
                if event.event == "cancel":
                    self._crew.stop(self._crew.unfinished.get(event.json()["job"]))
                elif event.event == "gone":
                    gone = event.json()["runner"]
            if gone is not None or trio.current_time() >= due:
                due = trio.current_time() + period
                await self._renew(gone)

    async def _renew(self, gone: str | None) -> None:
        """Say that we are there, and look after those who are not, of whom one just went.

        ``""``: before we listened anybody may have gone, and we have been taken for dead.
        """
        known = await self._members.known()
        alive = await self._members.renew()
        if gone in {self.id, ""}:
            await self._give_up_what_is_lost()
        if gone not in {self.id, None} or known - alive:
            await self._take_over()
        for runner in known - alive:
            await self._members.strike_off(runner)

    async def _take_over(self) -> None:
        """Set the list right, and see to the unfinished jobs of runners that are gone."""
        prefix = self._topic("")
        listed = {job.id: job for job in await self._listing.jobs()}
        jobs = [
            job
            for topic in await self.topics.names(prefix)
            if (job := await self.get(topic.removeprefix(prefix))) is not None
        ]
        # A runner is there before its first job: so whoever has one is alive by now, or gone.
        alive = await self._members.renew()
        orphans: dict[str, Writer] = {}
        for job in jobs:
            was_listed = listed.pop(job.id, None)
            if job.finished:
                self._finished.remember(job)
            elif job.owner in alive:
                continue  # It is for its owner to list it.
            elif (kind := self._kinds.get(job.kind)) is not None:
                orphans[job.id] = self._writer(job, kind)
                continue
            if was_listed != brief(job):
                await self._listing.put(job)
        for job_id in listed:
            await self._listing.drop(job_id)
        await self._see_to(orphans, jobs, others=alive - {self.id})

    async def _see_to(  # noqa: ASYNC910 # there may be none
        self, orphans: Mapping[str, Writer], jobs: Sequence[Job], *, others: set[str]
    ) -> None:
        """Take the jobs whose runners are gone, or end them. Children go with their parents."""
        by_age = sorted(orphans.values(), key=lambda writer: writer.job.created_at)
        children: dict[str | None, list[Job]] = defaultdict(list)
        for job in jobs:
            children[job.parent].append(job)
        elsewhere = {job.id for job in jobs if job.owner in others and not job.finished}
        for writer in by_age:  # Parents are taken before their children,
            job, parent = writer.job, writer.job.parent
            if parent in elsewhere:
                elsewhere.add(job.id)
                continue
            if parent is not None:
                writer.parent = orphans.get(parent) or self._crew.unfinished.get(parent)
            has_its_parent = writer.parent is not None and writer.parent.work is not None
            may_go_on = parent is None or has_its_parent
            if may_go_on and not await self._take(writer, children[job.id]):
                elsewhere.add(job.id)
        for writer in reversed(by_age):  # and end after them.
            if writer.work is None and writer.job.id not in elsewhere:
                with suppress(ChannelEnded):
                    await writer.end(interrupted(writer))
                self._finished.remember(writer.job)

    async def _take(self, writer: Writer, children: Iterable[Job]) -> bool:  # noqa: ASYNC910 # it asks the log, if at all
        """Take a job that its runner has left, if its work can be done again.

        Returns:
            Whether it is ours: taken, or to be ended. If not, another runner was quicker.
        """
        work = self._again.get(writer.kind.name)
        if work is None:
            return True  # noqa: ASYNC910 # as above
        with suppress(ChannelEnded):
            await writer.tell("taken", owner=self.id)
        job = await self.get(writer.job.id)
        if job is None or job.finished or job.owner != self.id:
            return False
        writer.work = work
        writer.job = job
        writer.is_created = True
        with suppress(ChannelEnded):
            for child in map(ChildJob.of, children):  # It may not have been told of their ends.
                if child != job.children.get(child.id):
                    await writer.change("child", child=child)
        self._crew.put_in_line(writer)
        if job.is_to_be_cancelled:
            self._crew.stop(writer)
        return True

    async def _give_up_what_is_lost(self) -> None:  # noqa: ASYNC910 # it asks the log, if at all
        for writer in [each for each in self._crew.unfinished.values() if each.is_created]:
            job = await self.get(writer.job.id)
            if job is None or job.finished or job.owner != self.id:
                writer.is_lost = True
                self._crew.stop(writer)

    async def _ask_to_cancel(self, job: Job) -> None:  # noqa: ASYNC910 # it asks the log, if at all
        kind = self._kinds.get(job.kind, JOB)
        check_cancellable(kind)
        with suppress(ChannelEnded):
            await self._writer(job, kind).tell("cancel")
            await self._members.ask_to_cancel(job.id)

    # ---- the jobs ----------------------------------------------------------------------------

    def _parent(self, job_id: str | None) -> Writer | None:
        if job_id is None:
            return None
        writer = self._crew.unfinished.get(job_id)
        if writer is None or writer.is_ending or self._crew.is_in_line(job_id):
            raise ValueError(f"no job that runs here, to be a parent: {job_id!r}")
        return writer

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
            enlist=self._listing.put,
            parent=parent,
        )

    async def _make_room(self) -> None:  # noqa: ASYNC910 # what calls it waits anyway
        """Forget the oldest finished job if there are as many as there may be."""
        if len(self._crew.unfinished) + len(self._finished) >= self._max_jobs:
            if not self._finished:
                raise TooManyJobs(self._max_jobs)
            await self._finished.forget_next()

    async def _find(self, job_id: str) -> Job | None:
        """Return the job of an id, also if its submission was cancelled on the way to the log."""
        writer = self._crew.unfinished.get(job_id)
        if writer is not None:
            with suppress(ChannelEnded):
                await writer.create()
        return await self.get(job_id)

    async def _forget(self, job_id: str) -> None:
        job = await self.get(job_id)
        if job is not None and job.finished:  # Else another runner has forgotten it before us.
            await self._listing.drop(job_id)
            await self._log.delete(self._topic(job_id))

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
    again: Mapping[str, Work] | None = None,
    lease: float = DEFAULT_LEASE,
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
        again: For kinds whose jobs can be done again when their runner is gone, by name: the
            work. It finds its job as it was left, and for a moment may not be the only one that
            works on it. Such jobs are not failed when their runner is left, but given back.
        lease: On a log that other processes share: seconds after which a runner that is not
            heard of is taken for gone.
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
        again={} if again is None else again,
        lease=lease,
        clock=clock,
    )
    try:
        await runner.join()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.serve)  # noqa: ASYNC113 # what comes earlier is in line
            yield runner
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(runner.patience(), shield=True):
            await runner.leave()


@attrs.frozen
class _Rendering:
    """A function of changes as one of events, equal if that is the same: it has one channel."""

    render: RenderChange

    def __call__(self, event: ServerSentEvent) -> Iterable[ServerSentEvent]:
        change = event.structure(JobChange)
        return () if change.what in INTERNAL else self.render(change)
