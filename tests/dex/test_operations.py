"""What the API says of a change, and the lives of its jobs: tables and pure functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from examples.dex.operations import KINDS, SEVERAL, SINGLE, progress, render, resource
from examples.dex.spans import close_open, history, timestamp
from sselib import Job, JobChange, JobError, encode
from sselib.jobs import ChildJob, Step

NOON = datetime(2023, 11, 7, 12, tzinfo=UTC)
STEPS = (Step("pending", NOON), Step("running", NOON + timedelta(seconds=1)))


def change(**fields: Any) -> JobChange:
    return JobChange(job_id="job_1", kind="parse", at=NOON, steps=STEPS, **fields)


def told(**fields: Any) -> bytes:
    return b"".join(map(encode, render(change(**fields))))


def job(**fields: Any) -> Job:
    details = {
        "project_id": "proj_1",
        "source_id": "file_1",
        "correlation_id": "c1",
        "span_id": "root",
    }
    given = {"id": "job_1", "kind": "parse", "owner": "", "status": "running", "steps": STEPS}
    return Job(**given | {"details": details} | fields)


def span(name: str, start: float, end: float | None, **fields: Any) -> dict[str, Any]:
    """Return a stage from and to so many seconds past noon."""

    def time(seconds: float | None) -> str | None:
        return None if seconds is None else timestamp(NOON + timedelta(seconds=seconds))

    given = {"name": name, "parent_id": "root", "status": None, "output": None}
    return {**given, "start_timestamp": time(start), "end_timestamp": time(end), **fields}


def children(*statuses: str) -> dict[str, ChildJob]:
    return {
        str(number): ChildJob(id=str(number), kind="parse", status=status)
        for number, status in enumerate(statuses)
    }


def test_a_status_is_told_when_it_changes() -> None:
    """And the last one only with the end."""
    assert told(what="status", status="running", progress=0.5, message="x") == (
        b'event: job_status\ndata: {"job_id":"job_1","status":"running"}\n\n'
    )
    assert told(what="status", status="partially_succeeded") == b""


def test_a_span_is_told_as_it_is() -> None:
    """Whatever the status of the job."""
    assert told(what="part", part="a", value={"id": "a"}, status="running") == (
        b'event: trace_update\ndata: {"id":"a"}\n\n'
    )


def test_the_end_is_told_last_and_has_data() -> None:
    """After the last status. A browser does not dispatch an event without."""
    assert told(what="end", status="succeeded") == (
        b'event: job_status\ndata: {"job_id":"job_1","status":"succeeded"}\n\n'
        b'event: done\ndata: {"job_id":"job_1","status":"succeeded"}\n\n'
    )


def test_the_last_status_says_what_there_is_to_say() -> None:
    """The counters of a batch, and the error of a job that failed."""
    error = JobError("internal", "internal error")
    record = job(
        kind="batch_parse",
        details={"source_ids": ["a", "b", "c"]},
        children=children("failed"),
        finished=True,
    )
    ended = JobChange(
        what="end",
        job_id="job_1",
        kind="batch_parse",
        at=NOON,
        status="failed",
        steps=STEPS,
        error=error,
        record=record,
    )
    assert b"".join(map(encode, render(ended))) == (
        b'event: job_status\ndata: {"job_id":"job_1","status":"failed","progress":{"total":3,'
        b'"succeeded":0,"failed":1,"cancelled":2,"pending":0},"error":"internal error"}\n\n'
        b'event: done\ndata: {"job_id":"job_1","status":"failed"}\n\n'
    )


@pytest.mark.parametrize("what", ["progress", "child"])
def test_what_else_happens_is_not_told(what: Any) -> None:
    """There are three events in this API."""
    assert told(what=what, status="running") == b""


@pytest.mark.parametrize("life", [SINGLE, SEVERAL], ids=["one document", "several"])
def test_the_lives_are_those_of_the_documentation(life: Any) -> None:
    """From pending by running to an end, of which the partial one is for several documents."""
    partial = {"partially_succeeded"} if life is SEVERAL else set()
    ends = {"succeeded", "failed", "cancelled"} | partial
    assert set(life.states) == {"pending", "running"} | ends
    assert set(life.allowed("pending")) == {"running", "failed", "cancelled"}
    assert set(life.allowed("running")) == ends
    assert all(life.is_final(end) for end in ends)
    assert {kind.name for kind in KINDS if kind.lifecycle is SEVERAL} == {"batch_parse"}


@pytest.mark.parametrize(("finished", "cancelled", "pending"), [(False, 1, 4), (True, 5, 0)])
def test_counters_add_up(finished: bool, cancelled: int, pending: int) -> None:  # noqa: FBT001 # a parameter of the test
    """Who runs or was not come to counts as pending; when the batch is over, as cancelled."""
    batch = job(
        kind="batch_parse",
        details={"source_ids": list("abcdefg")},
        children=children("succeeded", "failed", "cancelled", "running", "pending"),
        finished=finished,
    )
    assert progress(batch) == {
        "total": 7,
        "succeeded": 1,
        "failed": 1,
        "cancelled": cancelled,
        "pending": pending,
    }


def test_spans_that_are_open_are_closed_by_the_end() -> None:
    """With its time and what it was; those that are closed stay as they are."""
    parts = {
        "root": {"id": "root", "parent_id": None, "end_timestamp": None, "output": None},
        "a": {"id": "a", "end_timestamp": "x", "status": "SUCCESS", "output": 1},
    }
    ended = job(parts=parts, finished=True)
    at = "2023-11-07T12:00:01.000000Z"
    for status, error, closed, output in (
        ("succeeded", None, "SUCCESS", None),
        ("failed", JobError("x", "no"), "ERROR", {"error": "no"}),
        ("cancelled", None, "CANCELED", None),
    ):
        assert close_open(attrs.evolve(ended, status=status, error=error)) == {
            "root": {
                "id": "root",
                "parent_id": None,
                "end_timestamp": at,
                "status": closed,
                "output": output,
            }
        }


def test_spans_of_children_are_closed_by_how_these_ended() -> None:
    """Also if the batch was cancelled before it had shown that."""
    parts = {
        each["id"]: each
        for each in (
            {"id": "root", "parent_id": None, "end_timestamp": None},
            {"id": "root-0", "parent_id": "root", "end_timestamp": None},
            {"id": "a", "parent_id": "root-0", "end_timestamp": None},
            {"id": "root-1", "parent_id": "root", "end_timestamp": None},
            {"id": "root-2", "parent_id": "root", "end_timestamp": None},
        )
    }
    error = JobError("x", "no")
    ended = [
        ChildJob(
            id=str(number),
            kind="parse",
            status=status,
            details={"span_id": f"root-{number}"},
            error=error if status == "failed" else None,
        )
        for number, status in enumerate(("succeeded", "failed", "cancelled"))
    ]
    batch = job(
        status="cancelled",
        parts=parts,
        children={child.id: child for child in ended},
        finished=True,
    )
    closed = close_open(batch)
    assert {id: span["status"] for id, span in closed.items()} == {
        "root": "CANCELED",
        "root-0": "SUCCESS",
        "a": "SUCCESS",
        "root-1": "ERROR",
        "root-2": "CANCELED",
    }
    assert closed["root-1"]["output"] == {"error": "no"}


def test_a_job_is_shown_as_documented() -> None:
    """Every field of the documentation; times in UTC with a Z."""
    assert resource(job()) == {
        "id": "job_1",
        "project_id": "proj_1",
        "operation": "parse",
        "status": "running",
        "created_at": "2023-11-07T12:00:00.000000Z",
        "object": "job",
        "source_id": "file_1",
        "correlation_id": "c1",
        "started_at": "2023-11-07T12:00:01.000000Z",
        "completed_at": None,
        "result": None,
        "progress": None,
        "error": None,
        "history": [],
    }
    assert timestamp(NOON.astimezone(timezone(timedelta(hours=5)))) == "2023-11-07T12:00:00.000000Z"


def test_the_fields_of_a_job_come_in_the_documented_order() -> None:
    """As in the sample of the documentation, down to the children and the timeline."""
    details = job().details | {"source_ids": ["f1"]}
    parts = {"a": span("a", 0, 1)}
    child = ChildJob(id="c1", kind="parse", status="pending", details={"source_id": "f1"})
    shown = resource(job(kind="batch_parse", details=details, parts=parts, children={"c1": child}))
    assert list(shown) == [
        *("id", "project_id", "operation", "status", "created_at", "object", "source_id"),
        *("correlation_id", "started_at", "completed_at", "result", "progress", "error", "history"),
    ]
    assert list(shown["progress"]) == [
        *("total", "succeeded", "failed", "cancelled", "pending", "child_jobs"),
    ]
    assert list(shown["progress"]["child_jobs"][0]) == [
        *("source_document_id", "job_id", "status", "parse_result_id", "error"),
    ]
    assert list(shown["history"][0]) == ["step", "timestamp", "duration_ms", "status", "details"]


def test_the_timeline_has_the_stages() -> None:
    """In the order in which they began, with how long they took; one that runs says so."""
    parts = {
        "root": span("root", 0, None, parent_id=None),
        "b": span("b", 1.5, None),
        "a": span("a", 0, 1.25, status="SUCCESS", output={"blocks": 2}),
        "c": span("c", 0, 1, parent_id="b"),
    }
    assert history(job(parts=parts)) == [
        {
            "step": "a",
            "timestamp": "2023-11-07T12:00:00.000000Z",
            "duration_ms": 1250,
            "status": "success",
            "details": {"blocks": 2},
        },
        {
            "step": "b",
            "timestamp": "2023-11-07T12:00:01.500000Z",
            "duration_ms": None,
            "status": "running",
            "details": {},
        },
    ]


def test_a_batch_is_shown_with_its_documents() -> None:
    """Each child with what came of it."""
    details = job().details | {"source_ids": ["f1", "f2", "f3"], "source_id": None}
    children = {
        "c1": ChildJob(
            id="c1",
            kind="parse",
            status="succeeded",
            details={"source_id": "f1"},
            result={"parse_result_id": "r1"},
        ),
        "c2": ChildJob(
            id="c2",
            kind="parse",
            status="failed",
            details={"source_id": "f2"},
            error=JobError("x", "no"),
        ),
    }
    shown = resource(job(kind="batch_parse", details=details, children=children))["progress"]
    assert shown == {
        "total": 3,
        "succeeded": 1,
        "failed": 1,
        "cancelled": 0,
        "pending": 1,
        "child_jobs": [
            {
                "source_document_id": "f1",
                "job_id": "c1",
                "status": "succeeded",
                "parse_result_id": "r1",
                "error": None,
            },
            {
                "source_document_id": "f2",
                "job_id": "c2",
                "status": "failed",
                "parse_result_id": None,
                "error": "no",
            },
        ],
    }
