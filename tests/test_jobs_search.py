"""A search: whatever work says, whoever listens folds the same job."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sselib import (
    Job,
    JobChange,
    JobFailed,
    JobKind,
    Lifecycle,
    MemoryLog,
    Outcome,
    RunningJob,
    Subscription,
    open_job_runner,
    open_topics,
)

from .test_log_contract import DistantLog

LIFECYCLE = Lifecycle(
    {
        "new": ("one", "failed", "cancelled"),
        "one": ("two", "done", "failed", "cancelled"),
        "two": ("one", "done", "partly", "failed", "cancelled"),
    },
    initial="new",
    started="one",
    succeeded="done",
    failed="failed",
    cancelled="cancelled",
)


def close(job: Job) -> dict[str, Any]:
    """End the parts that are open."""
    return {name: "closed" for name, value in job.parts.items() if value == "open"}


kinds = st.builds(
    JobKind,
    name=st.just("job"),
    lifecycle=st.just(LIFECYCLE),
    one_state=st.booleans(),
    clear_at_end=st.booleans(),
    at_end=st.sampled_from([None, close]),
)
said = st.one_of(
    st.tuples(st.just("progress"), st.none() | st.floats(0, 1), st.none() | st.text(max_size=3)),
    st.tuples(
        st.just("update"),
        st.sampled_from("abc"),
        st.sampled_from(["open", 1, None, {"x": [1.5]}]),
        st.booleans(),
    ),
    st.tuples(st.just("move"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("join"), st.booleans()),
)
ends = st.sampled_from(["returns", "raises", "fails", "is cancelled", "is left", "ends otherwise"])


def folded(changes: list[JobChange]) -> Job:
    """Return the job as somebody knows it who was told these changes."""
    job = changes[0].record
    assert job is not None, "whoever joins is told the whole job first"
    for change in changes:
        job = job.after(change)
    return job


async def read(subscription: Subscription) -> list[JobChange]:
    return [event.structure(JobChange) async for event in subscription]


def check(changes: list[JobChange]) -> None:
    """Hold what one client was told to what all are promised."""
    assert [change.what for change in changes].count("end") == 1
    assert changes[-1].what == "end"
    progress = [change.progress or 0.0 for change in changes]
    assert progress == sorted(progress)
    steps = [tuple(step.status for step in change.steps) for change in changes]
    for before, after in pairwise(steps):
        assert after[: len(before)] == before
    for state, to in pairwise(steps[-1]):
        LIFECYCLE.check(state, to)
    for change in changes:
        assert change.steps[-1].status == change.status


async def live(kind: JobKind, script: list[Any], end: str, log: Any) -> None:
    eager: list[list[JobChange]] = []
    lazy: list[Subscription] = []
    everything = trio.Event()

    async def work(job: RunningJob) -> Any:
        for what, *arguments in script:
            if what == "progress":
                await job.progress(*arguments)
            elif what == "update":
                await job.update(*arguments[:2], coalesce=arguments[2])
            elif what == "move":
                if arguments[0] in LIFECYCLE.allowed(job.now.status):
                    await job.move(arguments[0])
            else:
                await joins.start(join, arguments[0])
            assert await runner.get(job.id) == job.now
        everything.set()
        if end == "raises":
            raise RuntimeError
        if end == "fails":
            raise JobFailed("no")
        if end in {"is cancelled", "is left"}:
            await trio.sleep_forever()
        if end == "ends otherwise" and job.now.status == "two":
            return Outcome(status="partly")
        return {"result": 1}

    async def join(
        is_eager: bool,  # noqa: FBT001 # given by nursery.start
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with runner.channel("it").subscribe() as subscription:
            task_status.started()
            if is_eager:
                eager.append(await read(subscription))
            else:
                lazy.append(subscription)
                await trio.sleep_forever()

    with trio.fail_after(10):
        async with open_topics(log) as topics, trio.open_nursery() as joins:
            async with open_job_runner(topics, kinds=[kind]) as runner:
                await runner.submit(work, kind=kind, job_id="it", details={"about": "it"})
                await joins.start(join, True)  # noqa: FBT003 # as above
                if end in {"is cancelled", "is left"}:
                    await everything.wait()
                if end == "is cancelled":
                    await runner.cancel("it")
                if end != "is left":
                    await runner.wait_finished("it")
            await joins.start(join, False)  # noqa: FBT003 # start() passes on no keywords
            job = await runner.get("it")
            assert job is not None
            assert job.finished
            told = [await read(subscription) for subscription in lazy]
            await trio.testing.wait_all_tasks_blocked()
            assert len(eager) + len(lazy) == 2 + sum(what == "join" for what, *_ in script)
            for changes in told + eager:
                check(changes)
                assert folded(changes) == job
                if not kind.clear_at_end:  # The end says it all, and so does what came before it.
                    before = folded(changes[:-1])
                    assert list(before.parts) == list(job.parts)
                    assert attrs.evolve(before, result=job.result, finished=True) == job
            if kind.clear_at_end:
                assert [change.what for change in told[-1]] == ["end"]
            assert "open" not in job.parts.values() or kind.at_end is None
            joins.cancel_scope.cancel()


@pytest.mark.parametrize("is_local", [True, False], ids=["memory", "distant"])
def test_everybody_folds_the_same_job(is_local: object) -> None:
    """Joining whenever, reading at once or in the end, on a log of this process or another's."""

    @given(kinds, st.lists(said, max_size=12), ends)
    def search(kind: JobKind, script: list[Any], end: str) -> None:
        log = MemoryLog() if is_local else DistantLog(MemoryLog())
        trio.run(live, kind, script, end, log)

    search()
