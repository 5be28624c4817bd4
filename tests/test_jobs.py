"""Jobs: what becomes of work, and what those who watch it are told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import Sequencer, assert_checkpoints, wait_all_tasks_blocked

from sselib import (
    ChannelEnded,
    InvalidTransition,
    Job,
    JobChange,
    JobError,
    JobFailed,
    JobKind,
    Outcome,
    RunningJob,
    ServerSentEvent,
)

from .jobs import LOGS, STEPS, done, nothing, running, seen, words


@pytest.fixture(params=LOGS)
def log(request: pytest.FixtureRequest) -> Any:
    return LOGS[request.param]()


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
