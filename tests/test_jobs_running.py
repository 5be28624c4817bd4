"""Jobs of a runner: cancelled, many at once, parents and children, and how a runner ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sselib import (
    Job,
    JobChange,
    JobError,
    JobFailed,
    MemoryLog,
    NewEntry,
    RunningJob,
    ServerSentEvent,
    TooManyJobs,
)

from .jobs import BATCH, LOGS, STEPS, by_trio, done, forever, nothing, running
from .test_log_contract import DistantLog


@pytest.fixture(params=LOGS)
def log(request: pytest.FixtureRequest) -> Any:
    return LOGS[request.param]()


# ---- cancelling ----------------------------------------------------------------------------------


async def test_a_job_in_line_is_cancelled_at_once(log: Any) -> None:
    """Its work is never begun, and those behind it move up."""
    async with running(log, capacity=1) as runner:
        first = await runner.submit(forever)
        second = await runner.submit(nothing)
        third = await runner.submit(nothing)
        cancelled = await runner.cancel(second.id)
        assert cancelled is not None
        assert (cancelled.status, cancelled.started_at) == ("cancelled", None)
        assert cancelled.completed_at is not None
        await runner.cancel(first.id)
        assert (await done(runner, third)).status == "succeeded"


async def test_a_running_job_is_cancelled_when_its_work_has_unwound(log: Any) -> None:
    """Until then it is running; cancelling again, or when it is over, changes nothing."""
    unwind = trio.Event()

    async def work(job: RunningJob) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await unwind.wait()

    async with running(log) as runner:
        job = await runner.submit(work)
        await wait_all_tasks_blocked()
        for _ in range(2):
            still = await runner.cancel(job.id)
            assert still is not None
            assert still.status == "running"
        unwind.set()
        job = await done(runner, job)
        assert (job.status, job.error) == ("cancelled", None)
        assert await runner.cancel(job.id) == job


async def test_work_that_succeeds_all_the_same_has_succeeded(log: Any) -> None:
    """The first end counts."""

    async def work(job: RunningJob) -> str:
        with trio.CancelScope(shield=True):
            await go_on.wait()
        return "done"

    go_on = trio.Event()
    async with running(log) as runner:
        job = await runner.submit(work)
        await wait_all_tasks_blocked()
        await runner.cancel(job.id)
        go_on.set()
        assert (await done(runner, job)).result == "done"


async def test_some_kinds_cannot_be_cancelled() -> None:
    """It is an error, and the job goes on."""
    async with running(kinds=[STEPS]) as runner:
        job = await runner.submit(forever, kind=STEPS)
        with pytest.raises(ValueError, match="'steps' cannot be cancelled"):
            await runner.cancel(job.id)
        assert await runner.cancel("unknown") is None


async def test_a_cancel_that_is_cancelled_itself_leaves_no_job_behind() -> None:
    """Whoever asked for it may go: the job is cancelled all the same."""
    async with running(DistantLog(MemoryLog()), capacity=1) as runner:
        first = await runner.submit(forever)
        second = await runner.submit(nothing)
        with trio.CancelScope() as scope:
            scope.cancel()
            await runner.cancel(second.id)
        assert (await done(runner, second)).status == "cancelled"
        await runner.cancel(first.id)
        assert (await done(runner, await runner.submit(nothing))).status == "succeeded"


# ---- many ----------------------------------------------------------------------------------------


async def test_so_many_run_at_a_time_in_the_order_in_which_they_came(log: Any) -> None:
    """Never more than the capacity, and each begun before those behind it."""
    begun: list[int] = []
    now = most = 0
    go_on = trio.Event()

    def numbered(number: int) -> Callable[[RunningJob], Awaitable[None]]:
        async def work(job: RunningJob) -> None:
            nonlocal now, most
            begun.append(number)
            now += 1
            most = max(most, now)
            await go_on.wait()
            for _ in range(number % 5):
                await trio.lowlevel.checkpoint()
            now -= 1

        return work

    async with running(log, capacity=3) as runner:
        jobs = [await runner.submit(numbered(number)) for number in range(30)]
        assert [job.id for job in await runner.list()] == [job.id for job in jobs]
        go_on.set()
        for job in jobs:
            await done(runner, job)
    assert begun == list(range(30))
    assert most == 3


async def test_two_hundred_jobs_at_once() -> None:
    """All come to their ends, each with its own result."""

    def numbered(number: int) -> Callable[[RunningJob], Awaitable[int]]:
        async def work(job: RunningJob) -> int:
            await job.progress(0.5)
            return number

        return work

    async with running(capacity=100) as runner:
        jobs = [await runner.submit(numbered(number)) for number in range(200)]
        assert [(await done(runner, job)).result for job in jobs] == list(range(200))
        assert {job.status for job in await runner.list()} == {"succeeded"}


async def test_submitting_an_id_again_returns_its_job(log: Any) -> None:
    """While it is unfinished and when it is over, also to two at once: the work runs once."""
    runs = 0

    async def work(job: RunningJob) -> int:
        nonlocal runs
        runs += 1
        await trio.lowlevel.checkpoint()
        return runs

    async with running(log) as runner:

        async def submit() -> None:
            jobs.append(await runner.submit(work, job_id="mine"))

        jobs: list[Job] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            nursery.start_soon(submit)
        assert {job.id for job in jobs} == {"mine"}
        await done(runner, jobs[0])
        assert (await runner.submit(work, job_id="mine")).result == 1
        assert runs == 1
        assert len(await runner.list()) == 1


async def test_no_more_jobs_are_held_than_may_be() -> None:
    """What is finished makes room, the oldest first; when nothing is, a new job is refused."""
    async with running(max_jobs=2, capacity=2) as runner:
        old = await done(runner, await runner.submit(nothing))
        newer = await done(runner, await runner.submit(nothing))
        one = await runner.submit(forever)
        assert await runner.get(old.id) is None
        assert await runner.get(newer.id) is not None
        two = await runner.submit(forever)
        with pytest.raises(TooManyJobs) as caught:
            await runner.submit(nothing)
        assert caught.value.max_jobs == 2
        assert [job.id for job in await runner.list()] == [one.id, two.id]


async def test_finished_jobs_are_forgotten_when_their_time_is_over(
    log: Any, mock_clock: MockClock
) -> None:
    """Not before, and their streams with them; who waits for one is told that it is gone."""
    async with running(log, keep_finished=60, clock=by_trio) as runner:
        first = await done(runner, await runner.submit(nothing))
        mock_clock.jump(59)
        await wait_all_tasks_blocked()
        second = await done(runner, await runner.submit(nothing))
        third = await runner.submit(forever)
        await wait_all_tasks_blocked()
        assert await runner.get(first.id) is not None
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert await runner.get(first.id) is None
        assert await runner.wait_finished(first.id) is None
        assert {job.id for job in await runner.list()} == {second.id, third.id}
        assert await runner.topics.names("jobs/") == sorted(
            [f"jobs/{second.id}", f"jobs/{third.id}"]
        )
        mock_clock.jump(59)
        await wait_all_tasks_blocked()
        assert [job.id for job in await runner.list()] == [third.id]


# ---- parents -------------------------------------------------------------------------------------


async def test_a_parent_knows_its_children_as_they_are(log: Any) -> None:
    """Each change of a child's status is one of the parent's, with counts and what came of it."""
    counts: list[dict[str, int]] = []

    def count(change: JobChange) -> list[ServerSentEvent]:
        if change.what != "child":
            return []
        return [ServerSentEvent.of_json(change.counts)]

    async def child(job: RunningJob) -> str:
        await trio.lowlevel.checkpoint()
        if job.details == "bad":
            raise JobFailed("bad")
        return str(job.details).upper()

    async def parent(job: RunningJob) -> None:
        for name in ("a", "bad", "c"):
            await runner.submit(child, parent=job.id, details=name, job_id=name)
        for name in ("a", "bad", "c"):
            await runner.wait_finished(name)

    async with running(log, capacity=1, kinds=[BATCH]) as runner:
        job = await runner.submit(parent, kind=BATCH)
        async with runner.channel(job.id, count).subscribe() as changes:
            with trio.fail_after(20):
                counts = [each.json() async for each in changes]
        job = await done(runner, job)
        assert counts[-1] == {"succeeded": 2, "failed": 1}
        assert {
            name: (each.status, each.details, each.result, each.error)
            for name, each in job.children.items()
        } == {
            "a": ("succeeded", "a", "A", None),
            "bad": ("failed", "bad", None, JobError("failed", "bad")),
            "c": ("succeeded", "c", "C", None),
        }
        for name in job.children:
            child_job = await runner.get(name)
            assert child_job is not None
            assert child_job.parent == job.id


@pytest.mark.parametrize("how", ["cancelled", "failed", "succeeded"])
async def test_a_job_ends_after_its_children(log: Any, how: str) -> None:
    """Those that are not finished when its work is are cancelled first, running and in line."""

    async def parent(job: RunningJob) -> None:
        for _ in range(3):
            await runner.submit(forever, parent=job.id)
        await trio.testing.wait_all_tasks_blocked(0.01)
        if how == "failed":
            raise JobFailed("no")
        if how == "cancelled":
            await trio.sleep_forever()

    async with running(log, capacity=1, kinds=[BATCH]) as runner:
        job = await runner.submit(parent, kind=BATCH)
        if how == "cancelled":
            await trio.testing.wait_all_tasks_blocked(0.02)
            await runner.cancel(job.id)
        job = await done(runner, job)
        assert job.status == how
        assert [child.status for child in job.children.values()] == ["cancelled"] * 3
        assert all(each.finished for each in await runner.list())


async def test_a_parent_is_a_job_that_runs_here() -> None:
    """None that is unknown, in line or finished."""
    async with running(capacity=1) as runner:
        finished = await done(runner, await runner.submit(nothing))
        await runner.submit(forever)
        in_line = await runner.submit(forever)
        for parent in ("unknown", finished.id, in_line.id):
            with pytest.raises(ValueError, match=parent):
                await runner.submit(nothing, parent=parent)


async def test_children_of_a_kind_that_cannot_be_cancelled_fail_with_their_parent() -> None:
    """They are told why."""

    async def parent(job: RunningJob) -> None:
        await runner.submit(forever, kind=STEPS, parent=job.id)

    async with running(kinds=[BATCH, STEPS]) as runner:
        job = await done(runner, await runner.submit(parent, kind=BATCH))
        (child,) = job.children.values()
        assert child.status == "failed"
        assert child.error is not None
        assert child.error.code == "cancelled"


# ---- runners -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["left", "cancelled"])
async def test_leaving_interrupts_what_is_unfinished(log: Any, how: str) -> None:
    """What runs, with its children, and what is in line: the next runner finds it failed."""

    async def parent(job: RunningJob) -> None:
        await runner.submit(forever, parent=job.id, job_id="child")
        await runner.submit(nothing, parent=job.id, job_id="child in line")
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        async with running(log, capacity=1, kinds=[BATCH]) as runner:
            await runner.submit(parent, kind=BATCH, job_id="parent")
            await wait_all_tasks_blocked()
            await runner.submit(nothing, job_id="in line")
            if how == "cancelled":
                scope.cancel()
                await trio.sleep_forever()
    async with running(log, kinds=[BATCH]) as runner:
        for job_id in ("parent", "child", "child in line", "in line"):
            job = await runner.get(job_id)
            assert job is not None
            assert job.status == "failed"
            assert job.error is not None
            assert job.error.code == "interrupted"
        assert all(each.finished for each in await runner.list())


async def test_nothing_is_submitted_to_a_runner_that_was_left() -> None:
    """It is closed."""
    async with running() as runner:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await runner.submit(nothing)


async def test_a_log_that_does_not_answer_holds_no_exit_up(autojump_clock: MockClock) -> None:
    """The ends of jobs are given up after two seconds, and the next runner sets it right."""

    class Silent(DistantLog):
        is_silent = False

        async def append(self, *args: Any, **options: Any) -> Any:
            if self.is_silent:
                await trio.sleep_forever()
            return await super().append(*args, **options)

    memory = MemoryLog(clock=lambda: int(1000 * trio.current_time()))
    log = Silent(memory)
    async with running(log, capacity=1) as runner:
        one = await runner.submit(forever)
        two = await runner.submit(forever)
        await wait_all_tasks_blocked()
        log.is_silent = True
        left_at = trio.current_time()
    assert trio.current_time() - left_at <= 2
    async with running(DistantLog(memory)) as runner:
        for job in (one, two):
            assert (await done(runner, job)).error == JobError(
                "interrupted", "interrupted: the server stopped before it was done"
            )
        assert trio.current_time() - left_at <= 2 + 15


async def test_a_runner_sets_the_list_right_when_it_starts(log: Any) -> None:
    """What is missing is listed, what is outdated brought up to date, what is gone taken off."""
    async with running(log) as runner:
        missing = await done(runner, await runner.submit(nothing))
        outdated = await done(runner, await runner.submit(nothing))
        gone = await done(runner, await runner.submit(nothing))
        right = await runner.list()
    await log.append("jobs", [NewEntry(b"data: {}\n\n", key=missing.id, remove=True)])
    pending = ServerSentEvent.of_json(
        {
            "id": outdated.id,
            "kind": "job",
            "owner": "",
            "status": "pending",
            "steps": [{"status": "pending", "at": "2020-01-01T00:00:00+00:00"}],
        }
    )
    await log.append("jobs", [NewEntry.of(pending, key=outdated.id, coalesce=True)])
    await log.delete(f"jobs/{gone.id}")
    async with running(log) as runner:
        assert await runner.list() == [job for job in right if job.id != gone.id]


async def test_finished_jobs_are_forgotten_by_the_next_runner_too(mock_clock: MockClock) -> None:
    """Their time goes on while there is none, by the wall clock."""
    log = MemoryLog()
    async with running(log, keep_finished=60, clock=by_trio) as runner:
        job = await done(runner, await runner.submit(nothing))
    mock_clock.jump(40)
    async with running(log, keep_finished=60, clock=by_trio) as runner:
        mock_clock.jump(19)
        await wait_all_tasks_blocked()
        assert await runner.get(job.id) is not None
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert await runner.get(job.id) is None


async def test_a_job_of_a_kind_that_a_runner_does_not_know_is_left_alone() -> None:
    """It is some other application's, and is listed all the same."""
    log = MemoryLog()
    async with running(log, kinds=[STEPS]) as runner:
        job = await runner.submit(forever, kind=STEPS)
        snapshot = await log.snapshot(f"jobs/{job.id}")
    other = MemoryLog()
    await other.append(f"jobs/{job.id}", [entry.content for entry in snapshot.entries])
    async with running(other) as runner:
        found = await runner.get(job.id)
        assert found is not None
        assert not found.finished
        assert [each.id for each in await runner.list()] == [job.id]


async def test_runners_of_different_names_share_a_log() -> None:
    """Neither sees the other's jobs."""
    log = MemoryLog()
    async with running(log, name="dex") as dex, running(log, name="guild") as guild:
        job = await done(dex, await dex.submit(nothing))
        assert await guild.get(job.id) is None
        assert await guild.list() == []
        assert [each.id for each in await dex.list()] == [job.id]


async def test_the_list_is_a_topic_that_can_be_followed() -> None:
    """Each job has its key: who joins is given what each is now."""
    async with running() as runner, runner.topics.channel("jobs").subscribe() as jobs:
        job = await done(runner, await runner.submit(nothing))
        events: list[ServerSentEvent] = []
        while not events or events[-1].json().get("status") != "succeeded":
            events.append(await jobs.receive())
        assert {event.json()["id"] for event in events} == {job.id}
        assert events[-1].structure(Job) == job
