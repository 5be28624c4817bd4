"""The stream of a job: its bytes, its times, and whoever comes whenever."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sselib import JobFailed, MemoryLog, ServerSentEvent
from sselib.testing import ReceivedStream, advance, open_stream

from ..test_log_contract import DistantLog
from .service import DEMO, OTHER, STREAM, Service, Work, hold_to_schema, open_service

CONNECTED = b": connected\n\n"
HEARTBEAT = b": heartbeat\n\n"
TIMESTAMP = re.compile(r',"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"}')


async def told(stream: ReceivedStream) -> list[str]:
    """Read to the end, and return each event as its name and its status or progress."""
    return [said(event) async for event in stream]


def said(event: ServerSentEvent) -> str:
    """Check that an event is one of the documented kind, and return it in short."""
    data = checked(event)
    return f"{event.event} {data['progress'] if event.event == 'progress' else data['status']}"


def checked(event: ServerSentEvent) -> dict[str, Any]:
    """Return the data of an event, held to the document."""
    data: dict[str, Any] = event.json()
    assert event.event in ("status", "progress", "completed", "failed", "canceled")
    assert list(data)[:3] == ["job_id", "type", "status"]
    assert list(data)[-1] == "timestamp"
    hold_to_schema({"$ref": "#/components/schemas/JobEvent"}, data)
    return data


async def submit_running(service: Service, work: Work) -> str:
    """Submit a job, and return its id when it runs."""
    job = await service.submit(work)
    await work.begun.wait()
    return job.id


async def test_the_documented_bytes_are_sent(service: Service) -> None:
    """Event line first, compact JSON in its order on one line, no id, no retry; more follows it."""
    work = Work()
    job_id = await submit_running(service, work)
    async with service.stream(job_id) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert "no-cache" in stream.headers["cache-control"]
        assert "content-length" not in stream.headers
        assert await stream.receive_block() == CONNECTED
        work.proceed.set()
        body = (await stream.read_body()).decode()
    bare = TIMESTAMP.sub("}", body)
    assert body.count("timestamp") == 2
    assert bare.replace(job_id, "job_01JABCD123").encode() == STREAM


async def test_each_event_is_one_message_of_the_body(service: Service) -> None:
    """Clients that take a chunk for a whole number of events are right."""
    work = Work()
    job_id = await submit_running(service, work)
    sent: list[bytes] = []

    async def recording(scope: Any, receive: Any, send: Any) -> None:
        async def record(message: Any) -> None:
            sent.append(message.get("body", b""))
            await send(message)

        await service.app(scope, receive, record)

    async with open_stream(recording, f"/jobs/{job_id}/stream", headers=DEMO) as stream:
        for value in (0.25, 0.5):
            await work.job.progress(value, "half\nway")
            await wait_all_tasks_blocked()
        work.proceed.set()
        await stream.read_body()
    assert all(body == b"" or body.endswith(b"\n\n") for body in sent)
    assert sum(body.startswith(b"event: progress\n") for body in sent) == 2


async def test_who_comes_before_the_job_begins_is_told_all_of_it(tmp_path: Path) -> None:
    """It waits, runs, makes progress, completes: each as it happens."""
    async with open_service(tmp_path, capacity=1) as service:
        first, second = Work(), Work(result={"overlay": {"overlay_id": "ovl_1", "score": 1}})
        await service.submit(first)
        waiting = await service.submit(second)
        async with service.stream(waiting.id) as stream:
            assert said(await stream.receive()) == "status PENDING"
            assert stream.unread == b""
            first.proceed.set()
            assert said(await stream.receive()) == "status RUNNING"
            await second.begun.wait()
            await second.job.progress(0.25, "Comparing tile row 3 of 12")
            event = await stream.receive()
            data = checked(event)
            assert (event.event, data["progress"], data["message"], data["status"]) == (
                *("progress", 0.25),
                *("Comparing tile row 3 of 12", "RUNNING"),
            )
            second.proceed.set()
            event = await stream.receive()
            assert said(event) == "completed COMPLETED"
            assert event.json()["results"] == second.result
            assert await stream.read_body() == b""


async def test_who_comes_while_it_runs_is_told_where_it_stands(service: Service) -> None:
    """The status, then the last progress, then what happens."""
    work = Work()
    job_id = await submit_running(service, work)
    await work.job.progress(0.25)
    await work.job.progress(0.5)
    async with service.stream(job_id) as stream:
        assert said(await stream.receive()) == "status RUNNING"
        assert said(await stream.receive()) == "progress 0.5"
        assert stream.unread == b""
        await work.job.progress(0.75)
        assert said(await stream.receive()) == "progress 0.75"
        work.proceed.set()
        assert await told(stream) == ["completed COMPLETED"]


@pytest.mark.parametrize("error", [None, JobFailed("no", code="PROCESSING_ERROR")])
async def test_who_comes_after_its_end_is_told_that_alone(
    service: Service, error: Exception | None
) -> None:
    """One terminal event, and the stream closes; as often as somebody asks."""
    work = Work(error=error)
    work.proceed.set()
    job = await service.submit(work)
    await service.runner.wait_finished(job.id)
    for _ in range(2):
        async with service.stream(job.id) as stream:
            assert await told(stream) == ["failed FAILED" if error else "completed COMPLETED"]


async def test_several_clients_of_a_job_are_told_the_same(service: Service) -> None:
    """One was there from the start, and two came at once."""
    work = Work()
    job_id = await submit_running(service, work)
    async with (
        service.stream(job_id) as first,
        service.stream(job_id) as second,
    ):
        await work.job.progress(0.5)
        async with service.stream(job_id) as third:
            work.proceed.set()
            expected = ["status RUNNING", "progress 0.5", "completed COMPLETED"]
            assert [await told(stream) for stream in (first, second, third)] == [expected] * 3


async def test_progress_never_goes_back(service: Service) -> None:
    """Whatever its work says, and whoever comes back."""
    work = Work()
    job_id = await submit_running(service, work)
    async with service.stream(job_id) as stream:
        await stream.receive()
        await work.job.progress(0.5)
        await work.job.progress(0.25, "again")
        await work.job.progress(0.75)
        work.proceed.set()
        values = [checked(event).get("progress") async for event in stream]
    shown = [value for value in values if value is not None]
    assert shown == sorted(shown)
    assert shown[-1] == 0.75


async def test_a_slow_client_is_not_sent_outdated_progress(service: Service) -> None:
    """It misses no status, and of the progress it slept through it is given the last."""
    work = Work()
    job_id = await submit_running(service, work)
    path = f"/jobs/{job_id}/stream"
    async with open_stream(service.app, path, headers=DEMO, window=0) as stream:
        for number in range(1, 500):
            await work.job.progress(number / 500)
        work.proceed.set()
        await service.runner.wait_finished(job_id)
        events = await told(stream)
    assert events[0] == "status RUNNING"
    assert events[-1] == "completed COMPLETED"
    assert len(events) < 10


async def test_a_job_that_fails_says_why(service: Service) -> None:
    """What its work let clients know is in the event; there is no status event before it."""
    work = Work(error=JobFailed("block blk_1: not a PNG file", code="PROCESSING_ERROR"))
    job_id = await submit_running(service, work)
    async with service.stream(job_id) as stream:
        assert said(await stream.receive()) == "status RUNNING"
        work.proceed.set()
        event = await stream.receive()
        assert said(event) == "failed FAILED"
        assert event.json()["error"] == {
            "code": "PROCESSING_ERROR",
            "message": "block blk_1: not a PNG file",
        }
        assert await stream.read_body() == b""


async def test_an_error_of_ours_is_told_to_the_log_alone(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients are told that it failed; the secret in the exception stays here."""
    work = Work(error=RuntimeError("the secret"))
    work.proceed.set()
    with caplog.at_level(logging.ERROR):
        job = await service.submit(work)
        async with service.stream(job.id) as stream:
            body = await stream.read_body()
    assert b'event: failed\ndata: {"job_id"' in body
    assert b"secret" not in body
    assert "the secret" in caplog.text


async def test_a_pending_job_is_canceled_at_once(tmp_path: Path) -> None:
    """200, and its stream says so; its work is never begun. Again is 200 again."""
    async with open_service(tmp_path, capacity=1) as service:
        first, second = Work(), Work()
        await service.submit(first)
        job = await service.submit(second)
        async with service.stream(job.id) as stream:
            for _ in range(2):
                reply = await service.call("POST", f"/jobs/{job.id}/cancel")
                assert reply.status == 200
                assert reply.json == {"job_id": job.id, "status": "CANCELED"}
            assert await told(stream) == ["status PENDING", "canceled CANCELED"]
        first.proceed.set()
        assert not second.begun.is_set()


async def test_a_running_job_is_canceled_when_its_work_has_unwound(service: Service) -> None:
    """202 while it unwinds; the stream says it when it has."""
    proceed = trio.Event()
    begun = trio.Event()

    async def work(_: Any) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await proceed.wait()

    job = await service.submit(work)
    await begun.wait()
    async with service.stream(job.id) as stream:
        reply = await service.call("POST", f"/jobs/{job.id}/cancel")
        assert (reply.status, reply.json) == (202, {"job_id": job.id, "status": "RUNNING"})
        assert said(await stream.receive()) == "status RUNNING"
        await wait_all_tasks_blocked()
        assert stream.unread == b""
        proceed.set()
        assert await told(stream) == ["canceled CANCELED"]
    reply = await service.call("POST", f"/jobs/{job.id}/cancel")
    assert reply.status == 200


async def test_a_finished_job_cannot_be_canceled(service: Service) -> None:
    """409, and its end stays what it was."""
    work = Work()
    work.proceed.set()
    job = await service.submit(work)
    await service.runner.wait_finished(job.id)
    reply = await service.call("POST", f"/jobs/{job.id}/cancel")
    assert (reply.status, reply.json["code"]) == (409, "CONFLICT")
    assert "COMPLETED" in reply.json["detail"]
    assert (await service.call("GET", f"/jobs/{job.id}")).data["status"] == "COMPLETED"


async def test_a_heartbeat_comes_every_fifteen_seconds_whatever_happens(
    service: Service, mock_clock: MockClock
) -> None:
    """Events do not put it off, and it is a comment, so that no client takes it for one."""
    work = Work()
    job_id = await submit_running(service, work)
    async with service.stream(job_id) as stream:
        await stream.receive()
        for number in range(1, 5):
            await advance(8)
            await work.job.progress(number / 10)
            assert said(await stream.receive()) == f"progress {number / 10}"
            await advance(6.9)
            assert stream.unread == b""
            await advance(0.1)
            assert await stream.receive_block() == HEARTBEAT
        work.proceed.set()


async def test_a_stream_closes_after_five_minutes_and_the_job_goes_on(
    service: Service, mock_clock: MockClock
) -> None:
    """At exactly 300 s, after 19 heartbeats and without a word; who comes back goes on."""
    work = Work()
    job_id = await submit_running(service, work)
    async with service.stream(job_id) as stream:
        await stream.receive()
        await advance(299.9)
        assert stream.unread == HEARTBEAT * 19
        assert not stream.ended
        await advance(0.1)
        assert stream.ended
        assert await stream.read_body() == HEARTBEAT * 19
    assert not work.unwound
    async with service.stream(job_id) as stream:
        assert said(await stream.receive()) == "status RUNNING"
        work.proceed.set()
        assert await told(stream) == ["completed COMPLETED"]


async def test_who_leaves_in_the_middle_leaves_the_job_alone(service: Service) -> None:
    """The task of its stream is gone, and so is its subscription; the job completes."""
    work = Work()
    job_id = await submit_running(service, work)
    await wait_all_tasks_blocked()
    before = trio.lowlevel.current_statistics().tasks_living
    async with service.stream(job_id) as stream:
        await stream.receive()
        assert trio.lowlevel.current_statistics().tasks_living > before
        stream.disconnect()
        await stream.wait_ended()
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert all(
        channel.subscribers == 0
        for (topic, _), channel in service.runner.topics.statistics().items()
        if topic.endswith(job_id)
    )
    work.proceed.set()
    assert (await service.finished(job_id))["status"] == "COMPLETED"


async def test_there_are_no_ids_and_none_is_asked_for(service: Service) -> None:
    """Whatever last event ID a client brings, it is given the state."""
    work = Work()
    work.proceed.set()
    job = await service.submit(work)
    await service.runner.wait_finished(job.id)
    for last in ("x", "0-0", ""):
        async with service.stream(job.id, headers={"last-event-id": last}) as stream:
            body = await stream.read_body()
        assert body.startswith(CONNECTED + b"event: completed\n")
        assert b"id: " not in body.replace(b'"job_id": ', b"")


async def test_browsers_can_be_told_to_stop(tmp_path: Path) -> None:
    """If so opened, the terminal event alone says an id, and who brings it is answered 204."""
    async with open_service(tmp_path, ids="end") as service:
        work = Work()
        job_id = await submit_running(service, work)
        async with service.stream(job_id) as stream:
            await stream.receive_block()
            assert b"\nid:" not in b"\n" + await stream.receive_block()
            work.proceed.set()
            block = await stream.receive_block()
            assert block.startswith(b"id: ")
            last = stream.last_event_id
        async with service.stream(job_id, headers={"last-event-id": last}) as stream:
            assert (stream.status, await stream.read_body()) == (204, b"")
        async with service.stream(job_id, headers={"last-event-id": "x-1-0"}) as stream:
            assert stream.status == 200


async def test_another_server_of_the_same_log_streams_a_job_that_runs_here(tmp_path: Path) -> None:
    """Its clients are told what ours are, as it happens, and what came before they did."""
    log = DistantLog(MemoryLog())
    here, there = tmp_path / "here", tmp_path / "there"
    for directory in (here, there):
        directory.mkdir()
    async with open_service(here, log=log) as service, open_service(there, log=log) as other:
        work = Work()
        job_id = await submit_running(service, work)
        async with other.stream(job_id) as stream:
            assert said(await stream.receive()) == "status RUNNING"
            await work.job.progress(0.5)
            assert said(await stream.receive()) == "progress 0.5"
            work.proceed.set()
            assert await told(stream) == ["completed COMPLETED"]
        async with other.stream(job_id) as stream:
            assert await told(stream) == ["completed COMPLETED"]


async def test_two_hundred_jobs_at_once(tmp_path: Path) -> None:
    """Each of two hundred streams is told of its own job, in order, and of no other."""
    async with open_service(tmp_path, capacity=200) as service:
        works = [Work() for _ in range(200)]
        jobs = [await service.submit(work) for work in works]
        seen: dict[str, list[str]] = {}
        following = trio.Semaphore(0)

        async def follow(job_id: str) -> None:
            async with service.stream(job_id) as stream:
                events = [await stream.receive()]
                following.release()
                events += [event async for event in stream]
            assert {json.loads(event.data)["job_id"] for event in events} == {job_id}
            seen[job_id] = [said(event) for event in events]

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for job in jobs:
                    nursery.start_soon(follow, job.id)
                for work in works:
                    await work.begun.wait()
                    await following.acquire()
                for work in works:
                    await work.job.progress(0.5)
                await wait_all_tasks_blocked()
                for work in reversed(works):
                    work.proceed.set()
        end = ["progress 0.5", "completed COMPLETED"]
        assert set(seen) == {job.id for job in jobs}
        assert all(events[-2:] == end for events in seen.values())
        assert all(events[0].startswith("status ") for events in seen.values())


async def test_a_stranger_learns_nothing_of_which_jobs_exist(service: Service) -> None:
    """Without a key every path is 401; with another's, a job that is there is like none."""
    job_id = await submit_running(service, Work())
    unknown = job_id[:-1] + ("0" if job_id[-1] != "0" else "1")
    for path in ("", "/stream"):
        answers = []
        for some_id in (job_id, unknown, "x"):
            reply = await service.call("GET", f"/jobs/{some_id}{path}", headers={})
            assert reply.status == 401
            answers.append({**reply.json, "request_id": ""})
            reply = await service.call("GET", f"/jobs/{some_id}{path}", headers=OTHER)
            assert reply.status == 404
            answers.append({**reply.json, "request_id": ""})
        assert answers[:2] == answers[2:4] == answers[4:]
    for some_id in (job_id, unknown):
        reply = await service.call("POST", f"/jobs/{some_id}/cancel", headers=OTHER)
        assert (reply.status, reply.json["detail"]) == (404, "Job not found.")
    assert (await service.call("GET", "/jobs", headers=OTHER)).json == {
        "data": [],
        "_meta": {"next": None},
    }
    assert (await service.call("GET", f"/jobs/{job_id}")).data["status"] == "RUNNING"


async def test_head_is_answered_with_the_head_alone(service: Service) -> None:
    """It opens no stream."""
    job_id = await submit_running(service, Work())
    path = f"/jobs/{job_id}/stream"
    async with open_stream(service.app, path, method="HEAD", headers=DEMO) as stream:
        assert stream.status == 200
        assert await stream.read_body() == b""
        await stream.wait_ended()
