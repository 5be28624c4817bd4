"""The trace of a job: a span for each stage of its work, while that runs and when it is over.

A span is a part of its job, by its id, and clients put each one that they are sent in the place of
the one of that id. It is opened by the stage it stands for, and closed when that has succeeded.
Whatever is open when the job ends was cut off by its end, and is closed by it: see
:func:`close_open`. So a span that is open in a finished job cannot be.

A job whose process is gone is done again under the same root. The stages of the first attempt stay
in the trace, and those that it left open are closed as errors.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from sselib import Job, JobFailed, RunningJob

MAX_ATTEMPTS: Final = 3  # It may be the document that takes the processes with it.

_STATUS: Final = {"failed": "ERROR", "cancelled": "CANCELED"}


@attrs.define(kw_only=True)
class Span:
    """What is known of a stage."""

    id: str = attrs.field(factory=lambda: secrets.token_hex(8))
    trace_id: str
    parent_id: str | None
    name: str
    start_timestamp: str
    end_timestamp: str | None = None
    status: str | None = None
    input: Any = None
    output: Any = None
    metadata: Any = None
    object: str = "span"


class Tracer:
    """Opens the spans of one job. Its root is the span that the job was submitted with."""

    def __init__(self, job: RunningJob) -> None:
        self._job = job

    @asynccontextmanager
    async def root(self, **given: Any) -> AsyncIterator[Span]:
        """Open the root, unless an earlier attempt has. It is closed by the end of the job."""
        details = self._job.details
        before = self._job.now.parts.get(details["span_id"])
        if before is not None:
            yield Span(**before)
            return
        span = Span(
            id=details["span_id"],
            trace_id=details["correlation_id"],
            parent_id=details["parent_span_id"],
            name=self._job.now.kind,
            start_timestamp=now(),
            input=given,
        )
        await self.show(span)
        yield span

    @asynccontextmanager
    async def attempt(self, **given: Any) -> AsyncIterator[Span]:
        """Open the root for stages, and close those that an earlier attempt has left open.

        Raises:
            JobFailed: There were as many attempts as there may be.
        """
        is_first = self._job.details["span_id"] not in self._job.now.parts
        async with self.root(**given) as root:
            if not is_first:
                await self._begin_again(root)
            yield root

    async def _begin_again(self, root: Span) -> None:
        before = 1 if root.metadata is None else root.metadata["attempt"]
        root.metadata = {"attempt": before + 1}
        await self.show(root)
        for span in [Span(**part) for part in self._job.now.parts.values()]:
            if span.id != root.id and span.end_timestamp is None:
                span.end_timestamp = now()
                span.status = "ERROR"
                span.output = {"error": "interrupted"}
                await self.show(span)
        if before == MAX_ATTEMPTS:
            raise JobFailed(f"interrupted {before} times, and given up", code="interrupted")

    @asynccontextmanager
    async def stage(self, name: str, parent: Span, **given: Any) -> AsyncIterator[Span]:
        """Open the span of a stage; if that succeeds, close it with the output it was given."""
        span = Span(
            trace_id=parent.trace_id,
            parent_id=parent.id,
            name=name,
            start_timestamp=now(),
            input=given or None,
        )
        await self.show(span)
        yield span
        span.end_timestamp = now()
        span.status = "SUCCESS"
        await self.show(span)

    async def show(self, span: Span, *, coalesce: bool = False) -> None:
        """Tell clients what the span is now; with ``coalesce``, slow ones the newest alone."""
        await self._job.update(span.id, attrs.asdict(span), coalesce=coalesce)


def close_open(job: Job) -> dict[str, Any]:
    """Return the spans of a job that are open at its end, as that closes them.

    Those that a batch shows of its children are closed by how these ended: it may be cancelled
    before it has come to show that.
    """
    roots = {child.details["span_id"]: child for child in job.children.values()}

    def ended(span: dict[str, Any]) -> dict[str, Any]:
        above: dict[str, Any] | None = span
        while above is not None and above["id"] not in roots:
            above = job.parts.get(above["parent_id"])
        who = job if above is None else roots[above["id"]]
        end = {
            "end_timestamp": timestamp(job.completed_at),
            "status": _STATUS.get(who.status, "SUCCESS"),
        }
        return span | end | ({} if who.error is None else {"output": {"error": who.error.message}})

    return {id: ended(span) for id, span in job.parts.items() if span["end_timestamp"] is None}


def history(job: Job) -> list[dict[str, Any]]:
    """Return the timeline of a job: its stages, those right below its root."""
    stages = [span for span in job.parts.values() if span["parent_id"] == job.details["span_id"]]
    return [
        {
            "step": span["name"],
            "timestamp": span["start_timestamp"],
            "duration_ms": _milliseconds(span["start_timestamp"], span["end_timestamp"]),
            "status": (span["status"] or "running").lower(),
            "details": span["output"] or {},
        }
        for span in sorted(stages, key=lambda span: str(span["start_timestamp"]))
    ]


def now() -> str:
    """Return the time, as the API writes it."""
    return str(timestamp(datetime.now(UTC)))


def timestamp(at: datetime | None) -> str | None:
    """Return a time as the API writes it: ISO 8601, UTC, with a Z."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _milliseconds(start: str, end: str | None) -> int | None:
    if end is None:
        return None
    took = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return round(took.total_seconds() * 1000)
