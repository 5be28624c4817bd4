"""Jobs on logs that outlive a process: shared, killed, and found again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trio

from sselib import (
    EventLog,
    JobChange,
    RunningJob,
    open_job_runner,
    open_sqlite_log,
    open_topics,
)
from sselib.log import wall_clock_ms
from sselib.log.redis import open_redis_log

from .jobs import INTERRUPTED, begun, done, forever, nothing, seen
from .redis_servers import PROGRAMS, redis_server

WORKERS = Path(__file__)


# ---- logs that outlive a process -----------------------------------------------------------------


@pytest.fixture(params=["sqlite", "redis"])
def open_shared_log(
    request: pytest.FixtureRequest, tmp_path: Path, require_program: Callable[..., str]
) -> Iterator[Callable[[], AbstractAsyncContextManager[EventLog]]]:
    """Give what opens a log, the same one each time, as another process would."""
    if request.param == "sqlite":
        yield partial(open_sqlite_log, tmp_path / "log", synchronous="normal")
        return
    with redis_server(require_program(*PROGRAMS), tmp_path / "redis") as server:
        yield partial(open_redis_log, server.url)


async def test_every_log_that_is_shared_will_do(
    open_shared_log: Callable[[], AbstractAsyncContextManager[EventLog]],
) -> None:
    """Submitted through one, seen, followed, cancelled and awaited through another, then kept."""

    async def work(job: RunningJob) -> int:
        for number in range(10):
            await job.progress(number / 10)
            await job.update(f"part {number % 3}", number)
        return len(job.now.parts)

    with trio.fail_after(50):
        async with (
            open_shared_log() as a_log,
            open_shared_log() as b_log,
            open_topics(a_log) as a_topics,
            open_topics(b_log) as b_topics,
            open_job_runner(a_topics) as a,
            open_job_runner(b_topics) as b,
        ):
            endless = await a.submit(forever)
            jobs = [await a.submit(work) for _ in range(10)]
            for job in jobs:
                told = await seen(b, job)
                assert told[-1] == "end succeeded 1.0"
                assert (await done(b, job)).result == 3
            await begun(b, endless)
            await b.cancel(endless.id)
            assert (await done(b, endless)).status == "cancelled"
            ids = [each.id for each in [endless, *jobs]]
            assert [each.id for each in await b.list()] == ids
        async with (
            open_shared_log() as log,
            open_topics(log) as topics,
            open_job_runner(topics) as after,
        ):
            listed = await after.list()
            assert [each.id for each in listed] == ids
            assert all(each.finished for each in listed)
            assert (await done(after, jobs[0])).parts == {"part 0": 9, "part 1": 7, "part 2": 8}


# ---- processes -----------------------------------------------------------------------------------


async def serve(path: str) -> None:
    """Be a process that runs jobs on a file."""

    async def work(job: RunningJob) -> None:
        await job.update("pid", job.details)
        await trio.sleep_forever()

    async with (
        open_sqlite_log(path, synchronous="normal") as log,
        open_topics(log) as topics,
        open_job_runner(topics, lease=1000) as runner,
    ):
        await runner.submit(work, job_id="one", details=1)
        await runner.submit(work, job_id="two", details=2)
        await runner.wait_finished((await runner.submit(nothing, job_id="finished")).id)
        print("running", flush=True)
        await trio.sleep_forever()


async def test_a_process_that_is_killed_leaves_jobs_that_are_interrupted(tmp_path: Path) -> None:
    """Another one sees them run, cancels one of them, and ends the other when the first is dead."""
    later = 0
    path = str(tmp_path / "log")
    command = [sys.executable, "-m", "tests.test_jobs_durable", path]
    async with trio.open_nursery() as nursery:

        async def start(  # noqa: ASYNC128 # run_process calls it
            task_status: trio.TaskStatus[trio.Process],
        ) -> None:
            await trio.run_process(
                command, stdout=-1, check=False, cwd=WORKERS.parent.parent, task_status=task_status
            )

        with trio.fail_after(30):
            other: trio.Process = await nursery.start(start)
            assert other.stdout is not None
            printed = b""
            while not printed.endswith(b"\n"):
                printed += await other.stdout.receive_some()
            async with (
                open_sqlite_log(
                    path, synchronous="normal", clock=lambda: wall_clock_ms() + later
                ) as log,
                open_topics(log) as topics,
                open_job_runner(topics, lease=1) as runner,
            ):
                assert {job.id: job.status for job in await runner.list()} == {
                    "one": "running",
                    "two": "running",
                    "finished": "succeeded",
                }
                await runner.cancel("one")
                one = await runner.wait_finished("one")
                assert one is not None
                assert one.status == "cancelled"
                async with runner.channel("two").subscribe() as changes:
                    other.send_signal(signal.SIGKILL)
                    later = 2_000_000  # so that the lease of who is dead has run out
                    events = [event async for event in changes]
                assert events[-1].structure(JobChange).error == INTERRUPTED
                two = await runner.get("two")
                assert two is not None
                assert two.parts == {"pid": 2}
                finished = await runner.get("finished")
                assert finished is not None
                assert finished.status == "succeeded"


if __name__ == "__main__":
    trio.run(serve, sys.argv[1])
