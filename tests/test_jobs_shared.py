"""Runners that share a log: each sees all jobs, and none harms what another runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sselib import (
    Job,
    JobKind,
    JobRunner,
    MemoryLog,
    NewEntry,
    RunningJob,
    open_job_runner,
    open_topics,
)
from sselib.jobs import JOB
from sselib.log import EntryId

from .jobs import BATCH, INTERRUPTED, LEASE, STEPS, begun, by_trio, done, forever, nothing, seen
from .test_log_contract import DistantLog


class Wire(DistantLog):
    """The way of one process to a log that several share: it can be cut, or fail.

    Attributes:
        is_cut: What is appended does not arrive before it is mended.
        fails: So many appends are refused, as by a server that is restarted.
    """

    is_cut = False
    fails = 0

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self._mended = trio.Event()

    def mend(self) -> None:
        """Let through what waits, and what comes."""
        self.is_cut = False
        self._mended.set()

    async def append(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        if self.is_cut:
            await self._mended.wait()
        if self.fails:
            self.fails -= 1
            raise OSError("the log is away")
        return await super().append(topic, entries, token=token)


@pytest.fixture
def shared() -> MemoryLog:
    """Give a log whose time is Trio's."""
    return MemoryLog(clock=lambda: int(1000 * trio.current_time()))


@asynccontextmanager
async def process(shared: MemoryLog, **options: Any) -> AsyncIterator[tuple[JobRunner, Wire]]:
    """Open a runner as another process would have it, and give it and its wire."""
    wire = Wire(shared)
    async with open_topics(wire) as topics, open_job_runner(topics, **options) as runner:
        yield runner, wire


class Endless:
    """Work that goes on until it is cancelled.

    Attributes:
        unwound: It was.
    """

    def __init__(self) -> None:
        self.unwound = trio.Event()

    async def __call__(self, job: RunningJob) -> None:
        """Work."""
        try:
            await trio.sleep_forever()
        finally:
            self.unwound.set()


async def test_every_runner_knows_every_job(shared: MemoryLog, autojump_clock: MockClock) -> None:
    """Listed, read, followed and awaited, whosoever it is; and one that starts harms none."""
    go_on = trio.Event()

    async def work(job: RunningJob) -> str:
        await job.progress(0.5)
        await go_on.wait()
        return "done"

    async with process(shared) as (a, _):
        job = await a.submit(work)
        await begun(a, job)
        async with process(shared) as (b, _):
            assert [each.id for each in await b.list()] == [job.id]
            assert (await b.get(job.id)) == (await a.get(job.id))
            await trio.sleep(5 * LEASE)
            async with trio.open_nursery() as nursery:
                told: list[str] = []

                async def follow() -> None:
                    told.extend(await seen(b, job))

                nursery.start_soon(follow)
                await wait_all_tasks_blocked()
                go_on.set()
            assert told[0] == "status running"
            assert told[-1] == "end succeeded 1.0"
            assert (await done(b, job)).result == "done"


async def test_a_job_is_cancelled_through_any_runner(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Running and in line; what cannot be cancelled is not asked for."""
    async with (
        process(shared, capacity=1) as (a, _),
        process(shared, kinds=[STEPS]) as (b, _),
    ):
        first = await a.submit(forever)
        await begun(a, first)
        second = await a.submit(nothing)
        for job in (second, first):
            asked = await b.cancel(job.id)
            assert asked is not None
            assert not asked.finished
        assert (await done(b, second)).status == "cancelled"
        assert (await done(b, first)).status == "cancelled"
        assert (await b.cancel(first.id)) == await a.get(first.id)
        steps = await a.submit(forever, kind=STEPS)
        with pytest.raises(ValueError, match="cannot be cancelled"):
            await b.cancel(steps.id)


async def test_runners_that_start_together_harm_no_job(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """One that comes, and has a job, while another looks for jobs of those who are gone."""
    looking, go_on = trio.Event(), trio.Event()

    class Slow(Wire):
        async def topics(self, prefix: str = "") -> list[str]:
            looking.set()
            await go_on.wait()
            return await super().topics(prefix)

    async def start_slowly() -> None:
        async with open_topics(Slow(shared)) as topics, open_job_runner(topics):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_slowly)
        await looking.wait()
        async with process(shared) as (a, _):
            job = await a.submit(forever)
            await begun(a, job)
            go_on.set()
            await trio.sleep(5 * LEASE)
            found = await a.get(job.id)
            assert found is not None
            assert found.status == "running"
        nursery.cancel_scope.cancel()


async def test_what_a_dead_runner_ran_is_interrupted(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """When its lease has run out and not before: children first, and the parent knows of them."""

    async def parent(job: RunningJob) -> None:
        await a.submit(forever, parent=job.id, job_id="child")
        await trio.sleep_forever()

    async with process(shared, kinds=[BATCH, JOB]) as (b, _):
        async with process(shared, kinds=[BATCH, JOB]) as (a, wire):
            job = await a.submit(parent, kind=BATCH, job_id="parent")
            await begun(a, job)
            await trio.sleep(1)
            wire.is_cut = True
            cut_at = trio.current_time()
            job = await done(b, job)
            assert LEASE - 6 <= trio.current_time() - cut_at <= LEASE + 6
            assert job.error == INTERRUPTED
            (child,) = job.children.values()
            assert child.error == INTERRUPTED
            listed = await b.list()
            assert [(each.id, each.status) for each in listed] == [
                ("parent", "failed"),
                ("child", "failed"),
            ]
        assert job == await b.get(job.id)


async def test_a_runner_that_was_taken_for_dead_gives_up_what_is_lost(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """When it hears of it: its work is cancelled and says nothing more. Then it goes on."""
    work = Endless()
    async with process(shared) as (b, _), process(shared) as (a, wire):
        lost = await a.submit(work)
        await begun(a, lost)
        wire.is_cut = True
        lost = await done(b, lost)
        assert not work.unwound.is_set()
        wire.mend()
        with trio.fail_after(1):
            await work.unwound.wait()
        kept = await a.submit(forever)
        await trio.sleep(5 * LEASE)
        assert await b.get(lost.id) == lost
        found = await b.get(kept.id)
        assert found is not None
        assert found.status == "running"


async def test_a_runner_that_did_not_hear_that_it_was_taken_for_dead_finds_out(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """It was cut off, and then its log failed, before it heard of it."""
    work = Endless()
    async with process(shared) as (b, _), process(shared) as (a, wire):
        lost = await a.submit(work)
        await begun(a, lost)
        await wait_all_tasks_blocked()
        snapshot = wire.snapshot

        async def cut_off(topic: str) -> Any:
            await mended.wait()
            return await snapshot(topic)

        mended = trio.Event()
        wire.fails = 1
        wire.snapshot = cut_off  # type: ignore[method-assign] # a log that is away, made of one that is not
        lost = await done(b, lost)
        assert lost.error == INTERRUPTED
        mended.set()
        with trio.fail_after(5):
            await work.unwound.wait()


async def test_a_job_whose_work_can_be_done_again_is_taken(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """By one of the others, as it was left; what its old runner still says of its end is lost."""
    runs: list[str] = []

    async def again(job: RunningJob) -> str:
        runs.append(job.now.owner)
        assert job.now.parts == {"a": 1}
        assert job.now.status == "running"
        await trio.sleep(1)
        return "again"

    async def first(job: RunningJob) -> str:
        await job.update("a", 1)
        wire.is_cut = True
        await trio.sleep(10 * LEASE)
        return "first"

    kinds: dict[str, Any] = {"again": {"job": again}}
    async with process(shared, **kinds) as (b, _), process(shared, **kinds) as (c, _):
        async with process(shared, **kinds) as (a, wire):
            job = await a.submit(first)
            job = await done(b, job)
        assert job.result == "again"
        assert job.owner in {b.id, c.id}
        assert runs == [job.owner]
        assert [step.status for step in job.steps] == ["pending", "running", "succeeded"]


async def test_children_go_with_their_parent(
    shared: MemoryLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Who takes a job has its children too, and knows of those that ended when nobody was told."""

    async def child(job: RunningJob) -> str:
        await trio.lowlevel.checkpoint()
        return "again"

    async def parent(job: RunningJob) -> list[str]:
        owner = b if b.id == job.now.owner else c
        for name in ("finished", "running", "new"):
            made = await owner.submit(child, parent=job.id, job_id=name)
            await owner.wait_finished(made.id)
        return [f"{each.id} {each.status} {each.result}" for each in job.now.children.values()]

    async def first(job: RunningJob) -> None:
        await a.submit(forever, parent=job.id, job_id="running")
        await begun(a, job.now)
        append = wire.append

        async def refuse(topic: str, entries: Any, **options: Any) -> Any:
            if topic == "jobs/parent":
                raise OSError("the log is away")
            return await append(topic, entries, **options)

        wire.append = refuse  # type: ignore[method-assign] # a log that fails, made of one that does not
        await a.submit(child, parent=job.id, job_id="finished")
        await a.wait_finished("finished")
        wire.is_cut = True
        await trio.sleep_forever()

    options: dict[str, Any] = {"again": {"batch": parent, "job": child}, "kinds": [BATCH, JOB]}
    async with process(shared, **options) as (b, _), process(shared, **options) as (c, _):
        async with process(shared, **options) as (a, wire):
            job = await a.submit(first, kind=BATCH, job_id="parent")
            job = await done(b, job)
        assert sorted(job.result) == [
            "finished succeeded again",
            "new succeeded again",
            "running succeeded again",
        ]
        assert job.owner in {b.id, c.id}
        owners = {each.id: each.owner for each in await b.list()}
        assert owners == dict.fromkeys(owners, job.owner) | {"finished": a.id}


async def test_children_of_a_job_that_is_not_done_again_end_with_it(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Even if they could be done again: nobody waits for them."""

    async def parent(job: RunningJob) -> None:
        await a.submit(forever, parent=job.id, job_id="child")
        wire.is_cut = True
        await trio.sleep_forever()

    options: dict[str, Any] = {"again": {"job": nothing}, "kinds": [BATCH, JOB]}
    async with process(shared, **options) as (b, _), process(shared, **options) as (a, wire):
        job = await done(b, await a.submit(parent, kind=BATCH))
        assert job.error == INTERRUPTED
        (child,) = job.children.values()
        assert child.error == INTERRUPTED
        assert await b.wait_finished("child") == await b.get("child")


async def test_a_runner_that_is_left_gives_its_jobs_back(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Those that can be done again: another takes them at once. The others are interrupted."""

    async def again(job: RunningJob) -> str:
        await trio.lowlevel.checkpoint()
        return "again"

    other = JobKind(name="other")
    kinds: dict[str, Any] = {"again": {"job": again}, "kinds": [JobKind(name="job"), other]}
    async with process(shared, **kinds) as (b, _):
        async with process(shared, capacity=1, **kinds) as (a, _):
            jobs = [await a.submit(forever) for _ in range(3)]
            interrupted = await a.submit(forever, kind=other)
            await begun(a, jobs[0])
        left_at = trio.current_time()
        for job in jobs:
            assert (await done(b, job)).result == "again"
        assert (await done(b, interrupted)).error == INTERRUPTED
        assert trio.current_time() - left_at < 1


async def test_a_job_that_was_to_be_cancelled_is_not_done_again(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Who takes it finds that out."""

    async def stubborn(job: RunningJob) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5 * LEASE)

    kinds: dict[str, Any] = {"again": {"job": nothing}}
    async with process(shared, **kinds) as (b, _), process(shared, **kinds) as (a, wire):
        job = await a.submit(stubborn)
        await begun(a, job)
        await b.cancel(job.id)
        wire.is_cut = True
        with trio.fail_after(3 * LEASE):
            finished = await b.wait_finished(job.id)
        assert finished is not None
        assert finished.status == "cancelled"
        assert finished.owner == b.id


async def test_an_id_is_one_job_on_all_runners(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Submitted to two at the same moment, its work is done once."""
    runs = 0

    async def work(job: RunningJob) -> int:
        nonlocal runs
        runs += 1
        await trio.sleep(1)
        return runs

    async with process(shared) as (a, _), process(shared) as (b, _):
        got: list[Job] = []

        async def submit(runner: JobRunner) -> None:
            got.append(await runner.submit(work, job_id="mine"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, a)
            nursery.start_soon(submit, b)
        assert got[0].owner == got[1].owner
        await done(a, got[0])
        assert (await b.submit(work, job_id="mine")).result == 1
        assert runs == 1


async def test_a_submission_that_is_cancelled_is_none_or_is_done(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """On a log that answers late nobody can know; but no job is left that nobody works on."""
    async with process(shared) as (a, wire):
        append = wire.append

        async def late(topic: str, entries: Any, **options: Any) -> Any:
            ids = await append(topic, entries, **options)
            if topic == "jobs/mine":
                await trio.sleep(1)
            return ids

        wire.append = late  # type: ignore[method-assign] # a log that fails, made of one that does not
        with trio.move_on_after(0.5) as scope:
            await a.submit(nothing, job_id="mine")
        assert scope.cancelled_caught
        job = await a.submit(nothing, job_id="mine")
        assert (await done(a, job)).status == "succeeded"
        assert [step.status for step in (await done(a, job)).steps] == [
            "pending",
            "running",
            "succeeded",
        ]


async def test_a_submission_that_is_repeated_before_it_arrived_is_one_job(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Cancelled on its way and made again, its work is done once."""
    runs: list[str] = []

    async def work(job: RunningJob) -> None:
        runs.append(job.id)
        await trio.sleep(5)

    async with process(shared) as (a, wire):
        append = wire.append

        async def late(topic: str, entries: Any, **options: Any) -> Any:
            if topic == "jobs/mine":
                await trio.sleep(1)
            return await append(topic, entries, **options)

        wire.append = late  # type: ignore[method-assign] # a log that is slow, made of one that is not
        with trio.move_on_after(0.5) as scope:
            await a.submit(work, job_id="mine")
        assert scope.cancelled_caught
        job = await a.submit(work, job_id="mine")
        assert (job.id, job.status) == ("mine", "pending")
        assert (await done(a, job)).status == "succeeded"
        await trio.sleep(20)
        assert runs == ["mine"]


async def test_a_job_that_is_submitted_while_its_runner_is_left_is_interrupted(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Whoever submits it is told that the runner is closed, and nobody waits for the job."""
    refused: list[type[Exception]] = []

    async def submit(runner: JobRunner) -> None:
        try:
            await runner.submit(nothing, job_id="late")
        except trio.ClosedResourceError as error:
            refused.append(type(error))

    async with trio.open_nursery() as nursery:
        wire = Wire(shared)
        async with open_topics(wire) as topics:
            async with open_job_runner(topics) as runner:
                append = wire.append

                async def late(topic: str, entries: Any, **options: Any) -> Any:
                    if topic == "jobs/late":
                        await trio.sleep(5)
                    return await append(topic, entries, **options)

                wire.append = late  # type: ignore[method-assign] # a log that fails, made of one that does not
                nursery.start_soon(submit, runner)  # noqa: ASYNC111 # it is meant to be late
                await trio.sleep(1)
            await trio.sleep(20)
            assert refused == [trio.ClosedResourceError]
            job = await runner.get("late")
            assert job is not None
            assert job.error == INTERRUPTED


async def test_a_child_that_comes_late_holds_no_exit_up(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Its submission is cancelled when nothing is taken out of the line any more."""

    async def parent(job: RunningJob) -> None:
        with trio.move_on_after(1, shield=True):
            await a.submit(nothing, parent=job.id, job_id="late")
        await trio.sleep_forever()

    async with process(shared, kinds=[BATCH, JOB]) as (b, _):
        async with process(shared, kinds=[BATCH, JOB]) as (a, wire):
            append = wire.append

            async def late(topic: str, entries: Any, **options: Any) -> Any:
                ids = await append(topic, entries, **options)
                if topic == "jobs/late" and options.get("token") == "created":
                    await trio.sleep(5)
                return ids

            wire.append = late  # type: ignore[method-assign] # a log that fails, made of one that does not
            await a.submit(parent, kind=BATCH, job_id="parent")
            await wait_all_tasks_blocked()
            left_at = trio.current_time()
        assert trio.current_time() - left_at == 1
        for job_id in ("parent", "late"):
            job = await b.get(job_id)
            assert job is not None
            assert job.error == INTERRUPTED


async def test_an_end_waits_for_its_log(
    shared: MemoryLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """While the log is away the job is not over, and when it is back, it is, with its result."""

    async def work(job: RunningJob) -> str:
        await trio.lowlevel.checkpoint()
        wire.fails = 3
        return "done"

    async with process(shared) as (a, wire):
        await wait_all_tasks_blocked()  # with nothing else to append
        job = await done(a, await a.submit(work))
        assert (job.status, job.result) == ("succeeded", "done")
        assert caplog.text.count("the log does not take its end") == 3


async def test_a_lease_that_cannot_be_renewed_is_tried_again(
    shared: MemoryLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One or two failures do no harm."""
    async with process(shared) as (b, _), process(shared) as (a, wire):
        job = await a.submit(forever)
        await begun(a, job)
        await wait_all_tasks_blocked()
        wire.fails = 2
        await trio.sleep(5 * LEASE)
        assert caplog.text.count("the log does not answer it") == 2
        found = await b.get(job.id)
        assert found is not None
        assert found.status == "running"


async def test_a_finished_job_is_forgotten_when_the_log_is_back(
    shared: MemoryLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails meanwhile is tried again."""
    async with process(shared, keep_finished=2) as (a, wire):
        job = await done(a, await a.submit(nothing))
        wire.fails = 2
        await trio.sleep(10)
        assert caplog.text.count("a finished job could not be forgotten") == 2
        assert await a.get(job.id) is None
        assert await a.list() == []


async def test_a_runner_that_comes_late_does_not_forget_a_new_job_of_that_id(
    shared: MemoryLog, autojump_clock: MockClock
) -> None:
    """Its clock is slow, and the job that it knows was forgotten by another before."""

    def slow() -> datetime:
        return by_trio() - timedelta(seconds=30)

    async with process(shared, keep_finished=60, clock=by_trio) as (a, _):
        await done(a, await a.submit(nothing, job_id="mine"))
        async with process(shared, keep_finished=60, clock=slow):
            await trio.sleep(70)
            assert await a.get("mine") is None
            again = await a.submit(forever, job_id="mine")
            await begun(a, again)
            await trio.sleep(60)
            found = await a.get("mine")
            assert found is not None
            assert found.status == "running"


async def test_a_list_that_cannot_be_written_harms_no_job(
    shared: MemoryLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set right by the next status."""
    async with process(shared) as (a, wire):
        append = wire.append

        async def refuse(topic: str, entries: Any, **options: Any) -> Any:
            if topic == "jobs" and len(refused) < 2:
                refused.append(topic)
                raise OSError("the log is away")
            return await append(topic, entries, **options)

        refused: list[str] = []
        wire.append = refuse  # type: ignore[method-assign] # a log that fails, made of one that does not
        job = await done(a, await a.submit(nothing))
        assert caplog.text.count("is not known to all") == 2
        assert [each.status for each in await a.list()] == [job.status] == ["succeeded"]
