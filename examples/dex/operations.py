"""The kinds of jobs, and what the API tells its clients of their changes.

The states are those that the API documents; ``partially_succeeded`` is for batches. The parts of a
job are its trace spans, each by its id. Everything here is a table or a pure function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from sselib import Job, JobChange, JobKind, Lifecycle, ServerSentEvent
from sselib.jobs import ChildJob

from .spans import close_open, history, timestamp

_ENDS: Final = ("succeeded", "failed", "cancelled")


def _lifecycle(*further_ends: str) -> Lifecycle:
    return Lifecycle(
        {
            "pending": ("running", "failed", "cancelled"),
            "running": (*_ENDS, *further_ends),
        },
        initial="pending",
        started="running",
        succeeded="succeeded",
        failed="failed",
        cancelled="cancelled",
    )


SINGLE: Final = _lifecycle()
"""The life of a job that is about one document."""

SEVERAL: Final = _lifecycle("partially_succeeded")
"""The life of a job that is about several."""

PARSE: Final = JobKind(name="parse", lifecycle=SINGLE, at_end=close_open)
CHUNK: Final = JobKind(name="chunk", lifecycle=SINGLE, at_end=close_open)
BATCH: Final = JobKind(name="batch_parse", lifecycle=SEVERAL, at_end=close_open, takes_slot=False)
KINDS: Final = (PARSE, CHUNK, BATCH)


def render(change: JobChange) -> Iterator[ServerSentEvent]:
    """Yield what the updates stream says of a change: spans, status and the end, no more.

    The last status is told with the end, which carries the whole job and so the counters.
    """
    about: dict[str, Any] = {"job_id": change.job_id, "status": change.status}
    if change.what == "part":
        yield ServerSentEvent.of_json(change.value, event="trace_update")
    elif change.what == "status" and not SEVERAL.is_final(change.status):
        yield ServerSentEvent.of_json(about, event="job_status")
    elif change.what == "end":
        told = dict(about)
        if change.record is not None and change.kind == BATCH.name:
            told["progress"] = progress(change.record)
        if change.error is not None:
            told["error"] = change.error.message
        yield ServerSentEvent.of_json(told, event="job_status")
        yield ServerSentEvent.of_json(about, event="done")


def progress(job: Job) -> dict[str, int]:
    """Return the counters of a batch, which add up to its documents.

    There is none for those that run: they count as pending. Those that a batch had not come to
    when it was over are cancelled.
    """
    statuses = Counter(child.status for child in job.children.values())
    total = len(job.details["source_ids"])
    counts = {"total": total, **{name: statuses[name] for name in _ENDS}, "pending": 0}
    left = total - sum(statuses[name] for name in _ENDS)
    counts["cancelled" if job.finished else "pending"] += left
    return counts


def resource(job: Job) -> dict[str, Any]:
    """Return a job as the API shows it."""
    return {
        "id": job.id,
        "project_id": job.details["project_id"],
        "operation": job.kind,
        "status": job.status,
        "created_at": timestamp(job.created_at),
        "object": "job",
        "source_id": job.details["source_id"],
        "correlation_id": job.details["correlation_id"],
        "started_at": timestamp(job.started_at),
        "completed_at": timestamp(job.completed_at),
        "result": job.result,
        "progress": {**progress(job), "child_jobs": _children(job)}
        if job.kind == "batch_parse"
        else None,
        "error": None if job.error is None else job.error.message,
        "history": history(job),
    }


def children(job: Job) -> list[ChildJob]:
    """Return the children of a batch, in the order of its documents."""
    order = {source_id: place for place, source_id in enumerate(job.details["source_ids"])}
    return sorted(job.children.values(), key=lambda child: order[child.details["source_id"]])


def _children(job: Job) -> list[dict[str, Any]]:
    return [
        {
            "source_document_id": child.details["source_id"],
            "job_id": child.id,
            "status": child.status,
            "parse_result_id": (child.result or {}).get("parse_result_id"),
            "error": None if child.error is None else child.error.message,
        }
        for child in children(job)
    ]
