"""A brief as a job: its states, its work, and what clients are told of it.

One pure function, :func:`events_of`, makes this API's events of a job's changes, and nothing else
publishes. Each event is the whole state of the project, so status and progress are one thing of
which the newest counts: who connects is given it, who is slow is given it, and a project that is
over has nothing else to say.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from sselib import JobFailed, Lifecycle, ServerSentEvent
from sselib.jobs import Job, JobChange, JobKind, Outcome, RunningJob

from .site import BriefError, Report, carry_out, decompose, parse_brief

LIFECYCLE: Final = Lifecycle(
    {
        "pending": ("parsing", "failed"),
        "parsing": ("decomposing", "failed"),
        "decomposing": ("executing", "failed"),
        "executing": ("done", "failed"),
    },
    initial="pending",
    started=None,  # with what it says first
    succeeded="done",
    failed="failed",
)
"""The states of a project. No client sees ``pending``: it has not begun, and says nothing."""

PROJECT: Final = JobKind(name="project", lifecycle=LIFECYCLE, one_state=True, clear_at_end=True)

# Where on the way from 0 to 1 it is when these begin; executing takes the rest.
PARSING: Final = 0.1
DECOMPOSING: Final = 0.2

_PLAN: Final = "plan"  # the part of a job that lists its tasks; each task is a part by its id


async def build_site(
    job: RunningJob, *, brief: str, title: str, site: Path, scratch: Path
) -> Outcome:
    """Do the work of a project; the result is the names and sizes of its files.

    Args:
        job: The job to speak through.
        brief: The brief.
        title: What the request calls it.
        site: The folder that is to be the site.
        scratch: As for :func:`carry_out`.

    Raises:
        JobFailed: The site cannot be built as the brief says.

    Cancellation: as :func:`carry_out`.
    """
    said = ("", 0.0)

    async def tell(report: Report) -> None:
        nonlocal said
        await job.update(report.task.id, report.status)
        progress = round(DECOMPOSING + (1 - DECOMPOSING) * report.finished, 3)
        if job.now.status == "decomposing":
            await job.move("executing", progress=progress, message=report.step)
        elif said != (report.step, progress):
            await job.progress(progress, report.step)
        said = (report.step, progress)

    try:
        await job.move("parsing", progress=PARSING, message="Analyzing brief")
        parsed = await trio.to_thread.run_sync(partial(parse_brief, brief, title=title))
        await job.move("decomposing", progress=DECOMPOSING, message="Breaking into tasks")
        plan = decompose(parsed, job.id)
        tasks = [
            {"id": task.id, "agentName": task.agent, "step": task.step, "needs": list(task.needs)}
            for task in plan.tasks.values()
        ]
        await job.update(_PLAN, tasks)
        deliverables = await carry_out(plan, site, scratch=scratch, tell=tell)
    except BriefError as error:
        raise JobFailed(str(error), code="brief") from error
    return Outcome([[each.filename, each.size] for each in deliverables], message="Complete")


def events_of(change: JobChange) -> Iterator[ServerSentEvent]:
    """Yield the event by which clients are told of a change, if it is one to them."""
    if change.what in ("status", "progress", "end") and change.status != LIFECYCLE.initial:
        yield ServerSentEvent.of_json(state_of(change))


def state_of(job: Job | JobChange) -> dict[str, Any]:
    """Return the state of a project as clients are told it: on its stream and when they ask."""
    if job.status == LIFECYCLE.initial:
        return {"status": "parsing", "progress": 0, "currentStep": "Waiting to start"}
    step = job.message or ""
    if job.status == LIFECYCLE.failed and job.error is not None:
        step = f"Failed: {job.error.message}"
    progress = job.progress or 0.0
    return {
        "status": job.status,
        "progress": int(progress) if progress.is_integer() else progress,
        "currentStep": step,
    }


def summary_of(job: Job, base: str) -> dict[str, Any]:
    """Return a project as it is listed."""
    return {
        "id": job.id,
        "title": job.details["title"],
        **state_of(job),
        "createdAt": _time(job.created_at),
        "completedAt": _time(job.completed_at),
        "siteUrl": f"{base}/sites/{job.details['slug']}/" if job.status == "done" else None,
    }


def project_of(job: Job, base: str) -> dict[str, Any]:
    """Return a project with its tasks and deliverables."""
    tasks = [{**task, "status": _task_status(job, task["id"])} for task in job.parts.get(_PLAN, ())]
    deliverables = [
        {
            "id": f"del_{_digest(f'{job.id}:{name}')}",
            "fileType": name.rpartition(".")[2],
            "filename": name,
            "fileSizeBytes": size,
            "status": "ready",
            "url": f"{base}/sites/{job.details['slug']}/{name}",
        }
        for name, size in job.result or ()
    ]
    return {
        **summary_of(job, base),
        "tasks": tasks,
        "deliverables": deliverables,
        "errorMessage": None if job.error is None else job.error.message,
    }


def project_id(account: str, idempotency_key: str) -> str:
    """Return the id of the project that this account submits with this key."""
    what = f"{account}\n{idempotency_key}"  # A key is a header's, and has but one line.
    return f"prj_{_digest(what)}"


def site_slug(title: str) -> str:
    """Return a name for the URL of a project's site: readable, and not to be guessed."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "site"
    return f"{words}-{secrets.token_hex(8)}"


def _task_status(job: Job, task: str) -> str:
    status = str(job.parts.get(task, "pending"))
    # What ran when the first one failed was stopped.
    return "cancelled" if job.finished and status in ("pending", "running") else status


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _time(moment: Any) -> str | None:
    return (
        None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
