"""The updates stream: what a client is told that comes before, during, after, and again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import trio
from trio.testing import MockClock

from sselib.testing import advance

from .conftest import Gate, client_of, read
from .test_api import MARKDOWN

CONNECTED = b": connected\n\n"


def statuses(events: list[tuple[str, Any]]) -> list[str]:
    return [data["status"] for event, data in events if event == "job_status"]


def check_order(events: list[tuple[str, Any]], status: str = "succeeded") -> None:
    """Hold the events of a stream to what is promised of every one of them."""
    names = [name for name, _ in events]
    assert set(names) <= {"trace_update", "job_status", "done"}
    assert names.count("done") == 1
    assert names[-2:] == ["job_status", "done"]
    assert events[-1][1]["status"] == events[-2][1]["status"] == status
    told = statuses(events)
    assert all(before != after for before, after in pairwise(told))
    seen: dict[str, Any] = {}
    for name, span in events:
        if name == "trace_update":
            assert seen.get(span["id"]) != span
            assert not seen.get(span["id"], {}).get("end_timestamp")
            seen[span["id"]] = span
    assert seen
    assert all(span["end_timestamp"] for span in seen.values())


async def test_the_head_is_that_of_an_event_stream() -> None:
    """200 at once, whatever the documentation lists, since browsers take nothing else."""
    async with client_of() as client:
        job = await client.parse("a.md", MARKDOWN)
        async with client.updates(job) as stream:
            assert stream.status == 200
            assert stream.headers["content-type"] == "text/event-stream"
            assert "no-cache" in stream.headers["cache-control"]
            assert "content-length" not in stream.headers
            assert await stream.receive_block() == CONNECTED


async def test_who_comes_before_the_work_sees_all_of_it(gate: Gate) -> None:
    """Every status and every span, new and updated, in order, and then the end."""
    async with client_of(capacity=1) as client:
        await client.parse("first.txt", b"a")
        job = await client.parse("a.md", MARKDOWN)
        async with client.updates(job) as stream:
            first = read(await stream.receive())
            assert first == ("job_status", {"job_id": job["id"], "status": "pending"})
            gate.open.set()
            with trio.fail_after(20):
                events = [first] + [read(event) async for event in stream]
        check_order(events)
        assert statuses(events) == ["pending", "running", "succeeded"]
        spans = [data for name, data in events if name == "trace_update"]
        told = [(span["name"], span["status"]) for span in spans]
        assert told == [
            ("parse", None),
            ("load_document", None),
            ("load_document", "SUCCESS"),
            ("detect_format", None),
            ("detect_format", "SUCCESS"),
            ("parse_blocks", None),
            ("parse_section", None),
            ("parse_section", "SUCCESS"),
            ("parse_section", None),
            ("parse_section", "SUCCESS"),
            ("parse_blocks", "SUCCESS"),
            ("chunk", None),
            ("chunk", "SUCCESS"),
            ("store_result", None),
            ("store_result", "SUCCESS"),
            ("parse", "SUCCESS"),
        ]
        by_name = {span["name"]: span["id"] for span in spans}
        parents = {span["name"]: span["parent_id"] for span in spans}
        assert parents["parse"] is None
        assert parents["chunk"] == by_name["parse"]
        assert parents["parse_section"] == by_name["parse_blocks"]


async def test_who_comes_in_the_middle_gets_each_span_once_and_then_what_happens(
    gate: Gate,
) -> None:
    """As it was when they came; and so does who comes a second time."""
    async with client_of() as client:
        job = await client.parse("a.md", MARKDOWN)
        await gate.reached.wait()
        for _ in range(2):
            async with client.updates(job) as stream:
                snapshot = [read(await stream.receive()) for _ in range(5)]
                assert stream.unread == b""
            assert statuses(snapshot) == ["running"]
            ids = [data["id"] for name, data in snapshot if name == "trace_update"]
            assert len(ids) == len(set(ids)) == 4
        async with client.updates(job) as stream:
            gate.open.set()
            with trio.fail_after(20):
                check_order([read(event) async for event in stream])


async def test_who_comes_when_it_is_over_gets_the_whole_and_the_end() -> None:
    """Each span once, closed; the status; done; and the end of the body."""
    async with client_of() as client:
        job = await client.finished(await client.parse("a.md", MARKDOWN))
        events = await client.follow(job)
        check_order(events)
        assert statuses(events) == ["succeeded"]
        ids = [data["id"] for name, data in events if name == "trace_update"]
        assert len(ids) == len(set(ids)) == 8


async def test_who_has_seen_the_end_is_told_that_nothing_is_to_come() -> None:
    """Only the end has an id, in the block that has its data; sent back, the answer is 204."""
    async with client_of() as client:
        job = await client.finished(await client.parse("a.md", MARKDOWN))
        async with client.updates(job) as stream:
            body = await stream.read_body()
        *blocks, last, rest = body.split(b"\n\n")
        assert rest == b""
        assert not any(b"id: " in block.splitlines() for block in blocks)
        id_line, *lines = last.splitlines()
        assert id_line.startswith(b"id: ")
        assert lines == [
            b"event: done",
            f'data: {{"job_id":"{job["id"]}","status":"succeeded"}}'.encode(),
        ]
        async with client.updates(job, last_event_id=id_line[4:].decode()) as stream:
            assert stream.status == 204
            assert await stream.read_body() == b""
        async with client.updates(job, last_event_id="another") as stream:
            assert await stream.read_body() == body


async def test_a_client_that_goes_leaves_the_job_alone(gate: Gate) -> None:
    """Its stream ends; the job comes to its own end."""
    async with client_of() as client:
        job = await client.parse("a.md", MARKDOWN)
        async with client.updates(job) as stream:
            await stream.receive()
            stream.disconnect()
            await stream.wait_ended()
        gate.open.set()
        assert (await client.finished(job))["status"] == "succeeded"


async def test_a_comment_comes_after_fifteen_idle_seconds(
    gate: Gate, mock_clock: MockClock
) -> None:
    """For as long as the job runs, however long that is."""
    async with client_of() as client:
        job = await client.parse("a.md", MARKDOWN)
        await gate.reached.wait()
        async with client.updates(job) as stream:
            assert await stream.receive_block() == CONNECTED
            for _ in range(5):
                await stream.receive()
            for _ in range(25):
                await advance(14.9)
                assert stream.unread == b""
                await advance(0.1)
                assert await stream.receive_block() == b": keepalive\n\n"
        gate.open.set()
        assert (await client.finished(job))["status"] == "succeeded"


async def test_two_hundred_jobs_at_once() -> None:
    """Each stream is about its own job, and all come to their ends."""
    async with client_of() as client:
        file = await client.upload("a.txt", b"a")
        start = {"source_document_id": file, "parameters": {}}
        jobs = [await client.post("/parse", start) for _ in range(200)]
        ended: list[str] = []

        async def follow(job: Any) -> None:
            events = await client.follow(job)
            check_order(events)
            assert {data["job_id"] for name, data in events if name != "trace_update"} == {
                job["id"]
            }
            ended.append(job["id"])

        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(follow, job)
        assert sorted(ended) == sorted(job["id"] for job in jobs)
        assert (await client.get("/jobs?status=succeeded"))["total_count"] == 200
