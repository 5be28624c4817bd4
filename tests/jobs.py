"""What tests of jobs share: kinds, work, and what was seen of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import trio

from sselib import (
    Job,
    JobChange,
    JobError,
    JobKind,
    JobRunner,
    Lifecycle,
    MemoryLog,
    RunningJob,
    ServerSentEvent,
    open_job_runner,
    open_topics,
)

from .test_log_contract import DistantLog

LEASE = 15
INTERRUPTED = JobError("interrupted", "interrupted: the server stopped before it was done")

# A log of this process, and one that has to be followed.
LOGS: dict[str, Callable[[], Any]] = {
    "memory": MemoryLog,
    "distant": lambda: DistantLog(MemoryLog()),
}

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


async def done(runner: JobRunner, job: Job) -> Job:
    """Wait for the end of a job."""
    with trio.fail_after(3 * LEASE):
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


async def begun(runner: JobRunner, job: Job) -> None:
    """Wait until the work of a job has begun."""
    async with runner.channel(job.id).subscribe() as changes:
        with trio.fail_after(5):
            async for event in changes:
                if event.structure(JobChange).status == "running":
                    return
