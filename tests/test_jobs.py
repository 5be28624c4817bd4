"""Jobs: what becomes of work, and what those who watch it are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock, Sequencer, assert_checkpoints, wait_all_tasks_blocked

from sselib import (
    ChannelEnded,
    InvalidTransition,
    Job,
    JobChange,
    JobError,
    JobFailed,
    JobKind,
    JobRunner,
    Lifecycle,
    MemoryLog,
    NewEntry,
    Outcome,
    RunningJob,
    ServerSentEvent,
    TooManyJobs,
    open_job_runner,
    open_topics,
)

from .test_log_contract import DistantLog

STEPS = JobKind(
    name="steps",
    lifecycle=Lifecycle(
        {
            "new": ("reading", "failed"),
            "reading": ("writing", "failed"),
            "writing": ("done", "partly", "failed"),
        },
        initial="new",
        started=None,
        succeeded="done",
        failed="failed",
    ),
    one_state=True,
    clear_at_end=True,
)
BATCH = JobKind(name="batch", takes_slot=False)


@asynccontextmanager
async def running(log: Any = None, **options: Any) -> AsyncIterator[JobRunner]:
    """Open a runner on a log, in memory unless another is given."""
    async with (
        open_topics(MemoryLog() if log is None else log) as topics,
        open_job_runner(topics, **options) as runner,
    ):
        yield runner


@pytest.fixture(params=["memory", "distant"])
def log(request: pytest.FixtureRequest) -> Any:
    """Give a log of this process, and one that has to be followed."""
    return MemoryLog() if request.param == "memory" else DistantLog(MemoryLog())


async def done(runner: JobRunner, job: Job) -> Job:
    """Wait for the end of a job."""
    with trio.fail_after(20):
        finished = await runner.wait_finished(job.id)
    assert finished is not None
    assert finished.finished
    return finished


def words(change: JobChange) -> list[ServerSentEvent]:
    """Render a change as one line of text."""
    progress = "" if change.progress is None else f" {change.progress}"
    what = change.what if change.part is None else f"{change.what} {change.part}={change.value}"
    return [ServerSentEvent(f"{what} {change.status}{progress}", event="change")]


async def seen(runner: JobRunner, job: Job, **options: Any) -> list[str]:
    """Return what a client of a job is told until its end."""
    with trio.fail_after(20):
        async with runner.channel(job.id, words).subscribe(**options) as changes:
            return [each.data async for each in changes]


def by_trio() -> datetime:
    """Tell the time of day by Trio's clock."""
    return datetime.fromtimestamp(trio.current_time(), UTC)


async def nothing(job: RunningJob) -> None:
    await trio.lowlevel.checkpoint()


async def forever(job: RunningJob) -> None:
    await trio.sleep_forever()


# ---- a life --------------------------------------------------------------------------------------


async def test_a_job_is_the_fold_of_its_topic(log: Any) -> None:
    """Submitted, running, done: what was said of it is what it is, and stays so at its end."""

    async def work(job: RunningJob) -> dict[str, int]:
        assert job.details == {"of": "what"}
        await job.progress(0.25, "reading")
        await job.update("page 1", {"lines": 3})
        await job.update("page 2", {"lines": 5})
        await job.progress(message="writing")
        await job.update("page 1", {"lines": 4})
        assert job.now == await runner.get(job.id)
        return {"pages": 2}

    async with running(log) as runner:
        job = await runner.submit(work, details={"of": "what"})
        assert (job.status, job.progress, job.finished) == ("pending", None, False)
        job = await done(runner, job)
        assert job.status == "succeeded"
        assert job.result == {"pages": 2}
        assert list(job.parts.items()) == [("page 2", {"lines": 5}), ("page 1", {"lines": 4})]
        assert (job.progress, job.message) == (1.0, "writing")
        assert job.owner == runner.id
        assert [step.status for step in job.steps] == ["pending", "running", "succeeded"]
        times = [job.created_at, job.started_at, job.completed_at]
        assert times == [step.at for step in job.steps]
        assert times == sorted(times, key=str)


async def test_every_transition_is_told_and_progress_until_there_is_newer() -> None:
    """Who is there is told all; who was away the transitions and parts, and the last progress."""
    go_on = trio.Event()

    async def work(job: RunningJob) -> None:
        await go_on.wait()
        for value in (0.25, 0.5):
            await job.progress(value)
            await job.update("a", value)
        await job.update("b", 1, coalesce=True)
        await job.update("b", 2, coalesce=True)

    async with running() as runner:
        job = await runner.submit(work)
        channel = runner.channel(job.id, words)
        async with channel.subscribe() as there, channel.subscribe() as away:
            told = [(await there.receive()).data]
            go_on.set()
            with trio.fail_after(20):
                told += [each.data async for each in there]
            await done(runner, job)
            assert told == [
                "status pending",
                "status running",
                "progress running 0.25",
                "part a=0.25 running 0.25",
                "progress running 0.5",
                "part a=0.5 running 0.5",
                "part b=1 running 0.5",
                "part b=2 running 0.5",
                "status succeeded 1.0",
                "end succeeded 1.0",
            ]
            assert [each.data async for each in away] == [
                "status pending",
                "status running",
                "part a=0.25 running 0.25",
                "progress running 0.5",
                "part a=0.5 running 0.5",
                "part b=2 running 0.5",
                "status succeeded 1.0",
                "end succeeded 1.0",
            ]
        assert await seen(runner, job) == [
            "progress running 0.5",
            "part a=0.5 running 0.5",
            "part b=2 running 0.5",
            "status succeeded 1.0",
            "end succeeded 1.0",
        ]


async def test_a_kind_of_one_state_is_one_change_to_who_joins() -> None:
    """Before its work begins, in the middle, and, when it is cleared, after its end."""
    sequence = Sequencer()

    async def work(job: RunningJob) -> Outcome:
        async with sequence(1):
            await job.move("reading", progress=0.1, message="Reading")
            await job.progress(0.3)
        async with sequence(3):
            await job.move("writing")
            await job.update("task", "mine", coalesce=True)
        return Outcome("all", message="Complete")

    def render(change: JobChange) -> list[ServerSentEvent]:
        return [] if change.what == "part" else words(change)

    async def joins(job: Job) -> str:
        async with runner.channel(job.id, render).subscribe() as changes:
            with trio.fail_after(20):
                event = await changes.receive()
            with pytest.raises((trio.WouldBlock, trio.EndOfChannel)):
                changes.receive_nowait()
            return event.data

    async with running(kinds=[STEPS]) as runner:
        job = await runner.submit(work, kind=STEPS)
        async with sequence(0):
            assert await joins(job) == "status new"
        async with sequence(2):
            assert await joins(job) == "progress reading 0.3"
            in_the_middle = await runner.get(job.id)
            assert in_the_middle is not None
            assert in_the_middle.message == "Reading"
        job = await done(runner, job)
        assert await joins(job) == "end done 1.0"
        assert job.result == "all"
        assert job.parts == {"task": "mine"}
        assert job.message == "Complete"
        assert [step.status for step in job.steps] == ["new", "reading", "writing", "done"]


async def test_progress_never_goes_back(log: Any) -> None:
    """A lower value changes nothing but the message; an impossible one is refused."""

    async def work(job: RunningJob) -> None:
        await job.progress(0.5, "a")
        await job.progress(0.25, "b")
        assert (job.now.progress, job.now.message) == (0.5, "b")
        for wrong in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="from 0 to 1"):
                await job.progress(wrong)
        assert job.now == await runner.get(job.id)
        raise JobFailed("no")

    async with running(log) as runner:
        job = await done(runner, await runner.submit(work))
        assert (job.progress, job.error) == (0.5, JobError("failed", "no"))


async def test_work_speaks_from_threads() -> None:
    """As often as it likes, from several at once, and in the order of the log."""

    def count(job: RunningJob, name: str) -> None:
        for number in range(20):
            trio.from_thread.run(job.update, name, number)
            trio.from_thread.run(job.progress, number / 20)

    async def work(job: RunningJob) -> None:
        async with trio.open_nursery() as nursery:
            for name in ("a", "b"):
                nursery.start_soon(trio.to_thread.run_sync, count, job, name)

    async with running() as runner:
        job = await runner.submit(work)
        told = await seen(runner, job)
        assert (await done(runner, job)).parts == {"a": 19, "b": 19}
        progress = [float(line.split()[-1]) for line in told if line.startswith("progress")]
        assert progress == sorted(progress)


async def test_moves_are_those_of_the_lifecycle() -> None:
    """A way that is not there is refused and changes nothing; ends are not moved to."""

    async def work(job: RunningJob) -> None:
        with pytest.raises(InvalidTransition):
            await job.move("writing", progress=0.9)
        with pytest.raises(ValueError, match="by returning or raising: 'done'"):
            await job.move("done")
        assert (job.now.status, job.now.progress) == ("new", None)
        await job.move("reading")
        await job.move("writing")

    async with running(kinds=[STEPS]) as runner:
        assert (await done(runner, await runner.submit(work, kind=STEPS))).status == "done"


# ---- how it ends ---------------------------------------------------------------------------------


async def test_what_work_may_tell_of_its_failure_is_told(log: Any) -> None:
    """Message and code of a JobFailed, alone or in the groups that nurseries make."""

    async def work(job: RunningJob) -> None:
        async with trio.open_nursery(), trio.open_nursery():
            raise JobFailed("no such page", code="page")

    async with running(log) as runner:
        job = await done(runner, await runner.submit(work))
        assert (job.status, job.error) == ("failed", JobError("page", "no such page"))


async def test_what_else_work_raises_is_for_the_log_alone(
    log: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients are told of an internal error, and the runner goes on; so in a mixed group."""

    async def work(job: RunningJob) -> None:
        raise ExceptionGroup("", [JobFailed("public"), RuntimeError("password is 1234")])

    async with running(log) as runner:
        job = await done(runner, await runner.submit(work))
        assert (job.status, job.error) == ("failed", JobError("internal", "internal error"))
        assert "password is 1234" in caplog.text
        assert (await done(runner, await runner.submit(nothing))).status == "succeeded"


@pytest.mark.parametrize(
    ("returned", "logged"),
    [
        (object(), "not JSON serializable"),
        (float("nan"), "Out of range float"),
        ("\ud800", "surrogate"),
        ("x" * 9_000_000, "the history holds at most"),
        (Outcome(status="running"), "not a final state: 'running'"),
        (Outcome(status="partly"), "no state of this lifecycle: 'partly'"),
    ],
    ids=["object", "nan", "surrogate", "size", "state", "unknown"],
)
async def test_a_result_that_cannot_be_kept_fails_the_job(
    returned: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no JSON, or too large, or no end of its kind: failed, and the log says why."""

    async def work(job: RunningJob) -> Any:
        await trio.lowlevel.checkpoint()
        return returned

    async with running() as runner:
        job = await done(runner, await runner.submit(work))
        assert (job.status, job.error) == ("failed", JobError("internal", "internal error"))
        assert job.result is None
        assert logged in caplog.text


async def test_work_may_name_its_end() -> None:
    """Another final state than the usual one, if the lifecycle leads there."""

    async def work(job: RunningJob) -> Outcome:
        await job.move("reading")
        await job.move("writing")
        return Outcome(1, status="partly")

    async with running(kinds=[STEPS]) as runner:
        job = await done(runner, await runner.submit(work, kind=STEPS))
        assert (job.status, job.result, job.finished) == ("partly", 1, True)


async def test_an_update_that_is_no_json_is_refused() -> None:
    """The part is as it was, and the job goes on."""

    async def work(job: RunningJob) -> None:
        value = {"a": 1}
        await job.update("part", value)
        value["a"] = 2
        for wrong in (object(), "\ud800", float("nan")):
            with pytest.raises((TypeError, ValueError)):
                await job.update("part", wrong)
        assert job.now.parts == {"part": {"a": 1}}

    async with running() as runner:
        assert (await done(runner, await runner.submit(work))).parts == {"part": {"a": 1}}


async def test_nobody_speaks_of_a_job_that_is_over() -> None:
    """A task or thread that was left behind is told so."""
    left_behind: list[RunningJob] = []

    async def work(job: RunningJob) -> None:
        left_behind.append(job)
        await nothing(job)

    async with running() as runner:
        await done(runner, await runner.submit(work))
        for late in (left_behind[0].progress(0.5), left_behind[0].update("part", 1)):
            with pytest.raises(ChannelEnded):
                await late
        with pytest.raises(InvalidTransition):
            await left_behind[0].move("running")


@pytest.mark.parametrize("how", ["returns", "raises", "is cancelled", "is interrupted"])
async def test_what_was_under_way_ends_with_its_job(log: Any, how: str) -> None:
    """However the job ends, in one step with its end: nobody sees the one without the other."""

    def close(job: Job) -> dict[str, str]:
        return {name: job.status for name, value in job.parts.items() if value == "open"}

    async def work(job: RunningJob) -> None:
        await job.update("a", "closed")
        await job.update("b", "open")
        if how == "raises":
            raise JobFailed("no")
        if how != "returns":
            await trio.sleep_forever()

    kind = JobKind(name="spans", at_end=close)
    async with running(log, kinds=[kind]) as runner:
        job = await runner.submit(work, kind=kind)
        if how == "is cancelled":
            await wait_all_tasks_blocked()
            await runner.cancel(job.id)
        if how != "is interrupted":
            await done(runner, job)
        else:
            await wait_all_tasks_blocked()
    async with running(log, kinds=[kind]) as runner:
        job = await done(runner, job)
        assert job.parts == {"a": "closed", "b": job.status}
        told = await seen(runner, job)
        progress = " 1.0" if how == "returns" else ""
        assert told == [
            "part a=closed running",
            f"part b={job.status} {job.status}{progress}",
            f"status {job.status}{progress}",
            f"end {job.status}{progress}",
        ]


async def test_an_end_that_cannot_be_described_is_an_end_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If `at_end` raises, the job fails without its parts, and the log says why."""

    def close(job: Job) -> dict[str, str]:
        raise RuntimeError("a bug")

    kind = JobKind(name="spans", at_end=close)
    async with running(kinds=[kind]) as runner:
        job = await done(runner, await runner.submit(nothing, kind=kind))
        assert (job.status, job.error) == ("failed", JobError("internal", "internal error"))
        assert "a bug" in caplog.text


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


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"capacity": 0},
        {"max_jobs": 0},
        {"keep_finished": -1},
        {"keep_finished": float("inf")},
        {"keep_finished": float("nan")},
        {"lease": 0},
        {"lease": float("inf")},
        {"kinds": [JobKind(name="a"), JobKind(name="a", one_state=True)]},
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=r"must be|another kind"):
        async with running(**options):
            pass


async def test_wrong_submissions_are_refused() -> None:
    """Details without a JSON form, another kind of a known name: and there is no job of it."""
    async with running() as runner:
        with pytest.raises(TypeError):
            await runner.submit(nothing, details=object())
        with pytest.raises(ValueError, match="another kind of job named 'job'"):
            await runner.submit(nothing, kind=JobKind(name="job", one_state=True))
        assert await runner.list() == []
        assert await runner.topics.names("jobs/") == []


async def test_without_a_render_clients_are_given_the_changes_themselves() -> None:
    """As JSON, in events that are named for what happened."""
    async with running() as runner:
        job = await done(runner, await runner.submit(nothing))
        async with runner.channel(job.id).subscribe(replay="history") as changes:
            events = [event async for event in changes]
        assert [event.event for event in events] == ["created", "status", "status", "status", "end"]
        assert events[-1].structure(JobChange).record == job


async def test_reading_and_cancelling_are_checkpoints() -> None:
    """Also where there is nothing to read or to cancel."""
    async with running() as runner:
        with assert_checkpoints():
            await runner.get("unknown")
        with assert_checkpoints():
            await runner.list()
        with assert_checkpoints():
            await runner.cancel("unknown")
        with assert_checkpoints():
            await runner.wait_finished("unknown")
        with assert_checkpoints():
            await runner.submit(nothing)
