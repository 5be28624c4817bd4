"""The jobs of the API: their states, the work itself, and what clients are told of it.

``events_of`` is all there is between a job and its stream. Clients are given the present status,
then the last progress if there was any, and then what happens; of a finished job the one event that
finished it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import trio
from PIL import Image

from sselib import JobFailed, Lifecycle, ServerSentEvent
from sselib.jobs import Job, JobChange, JobKind, RunningJob

from .ids import new_id, timestamp
from .overlay import (
    PICTURES,
    Change,
    Comparison,
    Overlay,
    Picture,
    SizesDiffer,
    UnreadableDrawing,
    find_shift,
    read_drawing,
)
from .store import Overlay as StoredOverlay
from .store import StorageFull, Store

P = ParamSpec("P")
T = TypeVar("T")

LIFECYCLE: Final = Lifecycle(
    {
        "PENDING": ("RUNNING", "FAILED", "CANCELED"),
        "RUNNING": ("COMPLETED", "FAILED", "CANCELED"),
    },
    initial="PENDING",
    started="RUNNING",
    succeeded="COMPLETED",
    failed="FAILED",
    cancelled="CANCELED",
)
OVERLAY_JOB: Final = JobKind(name="overlay.generate", lifecycle=LIFECYCLE, clear_at_end=True)

ANALYSES: Final = ("changes",)  # what may be asked for besides the overlay

# Of the canvas: what takes up so much of it is severe.
_SEVERITIES: Final = ((0.01, "high"), (0.001, "medium"), (0.0, "low"))


def events_of(change: JobChange) -> list[ServerSentEvent]:
    """Return what clients are told of a change."""
    data: dict[str, Any] = {
        "job_id": change.job_id,
        "type": change.kind,
        "status": change.status,
    }
    name = "status"
    if change.what == "progress":
        name = "progress"
        data |= {"progress": change.progress, "message": change.message}
    elif change.record is not None:
        name = change.status.lower()
        data |= _outcome(change.record)
    data["timestamp"] = timestamp(change.at)
    return [ServerSentEvent.of_json(data, event=name)]


def resource_of(job: Job) -> dict[str, Any]:
    """Return the job as the API shows it."""
    details = job.details
    completed_at = job.completed_at
    return {
        "id": job.id,
        "organization_id": details["organization_id"],
        "project_id": details["project_id"],
        "type": job.kind,
        "status": job.status,
        "target_type": "Block",
        "target_id": details["new_id"],
        "parent_id": job.parent,
        "payload": {"type": "Block", "old_id": details["old_id"], "new_id": details["new_id"]},
        "events": [{"status": step.status, "timestamp": timestamp(step.at)} for step in job.steps],
        "progress": job.progress,
        "message": job.message,
        **({"results": None, "error": None} | _outcome(job)),
        "created_at": timestamp(job.created_at),
        "updated_at": timestamp(job.steps[-1].at),
        "completed_at": None if completed_at is None else timestamp(completed_at),
    }


async def generate_overlay(store: Store, job: RunningJob) -> dict[str, Any]:
    """Compare the two blocks that the job's details name, and store what comes of it.

    Returns:
        The results that clients are told.

    Raises:
        JobFailed: A drawing is not there or cannot be read, they are none of one sheet, or there
            is no room for the result.

    Cancellation: after the step that is running, which may take a second. Nothing is kept, unless
    all was done.
    """
    details = job.details
    await job.progress(0.0, "Reading the drawings")
    old = await _drawing(store, details["old_id"])
    new = await _drawing(store, details["new_id"])
    await job.progress(message="Aligning the drawings")
    try:
        shift = await _in_thread(find_shift, old, new)
    except SizesDiffer as error:
        raise _failure(str(error)) from error
    comparison = await _in_thread(Comparison, old, new, shift)
    for row in range(comparison.rows):
        await _in_thread(comparison.compare_row, row)
        done = row + 1
        await job.progress(
            done / comparison.rows, f"Comparing tile row {done} of {comparison.rows}"
        )
    overlay = await _in_thread(comparison.result)
    await job.progress(message="Writing the overlay images")
    stored = await _stored(store, job, overlay)
    results: dict[str, Any] = {"overlay": {"overlay_id": stored.id, "score": stored.score}}
    if "changes" in details["analyze"]:
        results["changes"] = stored.changes
    return results


async def _drawing(store: Store, block_id: str) -> Image.Image:
    file = await store.block(block_id)
    if file is None:
        raise _failure(f"block {block_id} is gone")
    path = store.content(file)
    try:
        return await _in_thread(lambda: read_drawing(path.read_bytes()))
    except FileNotFoundError as error:  # since then
        raise _failure(f"block {block_id} is gone") from error
    except UnreadableDrawing as error:
        raise _failure(f"block {block_id}: {error}") from error


async def _stored(store: Store, job: RunningJob, overlay: Overlay) -> StoredOverlay:
    details = job.details
    async with store.draft(details["project_id"]) as draft:
        size = 0
        for name in PICTURES:
            path = draft.path / f"{name}.png"
            await _in_thread(_save, overlay, name, path)
            size += path.stat().st_size
        stored = StoredOverlay(
            id=new_id("ovl"),
            project_id=details["project_id"],
            job_id=job.id,
            block_a_id=details["old_id"],
            block_b_id=details["new_id"],
            score=round(overlay.score, 4),
            summary={
                "added_area": overlay.added_area,
                "removed_area": overlay.removed_area,
                "changed_percent": round(100 * (1 - overlay.score), 2),
                "changes": overlay.changes_total,
            },
            changes=[_described(change, overlay) for change in overlay.changes],
            created_at=timestamp(),
            size=size,
            place=draft.path.name,
        )
        try:
            await store.keep(draft, stored)
        except StorageFull as error:
            raise _failure("the project's storage is full") from error
    return stored


def _save(overlay: Overlay, name: Picture, path: Path) -> None:
    overlay.picture(name).save(path)


def _described(change: Change, overlay: Overlay) -> dict[str, Any]:
    left, top, right, bottom = change.box
    width, height = right - left, bottom - top
    share = width * height / (overlay.size[0] * overlay.size[1])
    return {
        "category": change.category,
        "description": f"{change.category.capitalize()} in an area of {width} x {height} pixels",
        "bounds": {"x_min": left, "y_min": top, "x_max": right, "y_max": bottom},
        "severity": next(name for least, name in _SEVERITIES if share >= least),
    }


def _outcome(job: Job) -> dict[str, Any]:
    """Return the members that only a finished job has."""
    if job.error is not None:
        return {"error": {"code": job.error.code, "message": job.error.message}}
    return {} if job.result is None else {"results": job.result}


def _failure(message: str) -> JobFailed:
    return JobFailed(message, code="PROCESSING_ERROR")


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Compute something, however long it takes; cancellation waits for it."""
    return await trio.to_thread.run_sync(lambda: function(*args, **kwargs))
