"""Jobs asked for and listed, and requests that are repeated."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from sselib import Job, MemoryLog, open_sqlite_log

from ..processes import ROOT
from .service import (
    DEMO,
    DRAWING,
    FILE,
    OTHER,
    PATIENCE,
    Service,
    Work,
    open_service,
)


@pytest.mark.parametrize(
    ("change", "name", "rule"),
    [
        ({"type": "Sheet"}, "type", "must be one of Block"),
        ({"type": None}, "type", "is required"),
        ({"type": []}, "type", "must be one of Block"),
        ({"old_id": None}, "old_id", "is required"),
        ({"new_id": {}}, "new_id", "must be a string"),
        ({"analyze": "changes"}, "analyze", "must be a list of changes"),
        ({"analyze": ["clashes"]}, "analyze", "must be a list of changes"),
        ({"analyze": [[]]}, "analyze", "must be a list of changes"),
        ({"analyze": None}, "analyze", "must be a list of changes"),
    ],
)
async def test_a_comparison_names_two_blocks(
    service: Service, change: dict[str, Any], name: str, rule: str
) -> None:
    """Anything else is a 400 that names the field, and no job."""
    block_id = await service.upload(DRAWING)
    body = {"old_id": block_id, "new_id": block_id, "type": "Block"} | change
    reply = await service.call("POST", "/compare", json=body)
    assert reply.status == 400
    assert reply.json["errors"] == {name: [rule]} or rule in reply.json["errors"][name]
    assert (await service.call("GET", "/jobs")).data == []


async def test_a_comparison_is_accepted_as_a_pending_job(tmp_path: Path) -> None:
    """202 with its id; it is there before it runs."""
    async with open_service(tmp_path, capacity=1) as service:
        blocking = Work()
        await service.submit(blocking)
        block_id = await service.upload(DRAWING)
        body = {"old_id": block_id, "new_id": block_id, "type": "Block", "analyze": ["changes"]}
        reply = await service.call("POST", "/compare", json=body)
        assert (reply.status, list(reply.json)) == (202, ["job_id", "status"])
        assert reply.json["status"] == "PENDING"
        job = (await service.call("GET", f"/jobs/{reply.json['job_id']}")).data
        assert re.fullmatch(r"job_[0-9A-Z]{26}", job["id"])
        assert (job["type"], job["status"]) == ("overlay.generate", "PENDING")
        assert (job["organization_id"], job["project_id"]) == ("org_demo", "prj_demo")
        assert [step["status"] for step in job["events"]] == ["PENDING"]
        assert job["created_at"] == job["events"][0]["timestamp"]
        assert job["completed_at"] is None
        blocking.proceed.set()


async def test_too_many_jobs_are_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, and the same request may come again."""
    monkeypatch.setattr(service.runner, "_max_jobs", 1)
    block_id = await service.upload(DRAWING)
    blocking = Work()
    await service.submit(blocking)
    body = {"old_id": block_id, "new_id": block_id, "type": "Block"}
    headers = DEMO | {"idempotency-key": "k"}
    reply = await service.call("POST", "/compare", json=body, headers=headers)
    assert (reply.status, reply.headers["retry-after"]) == (503, "60")
    blocking.proceed.set()
    (job,) = await service.runner.list()
    await service.runner.wait_finished(job.id)
    assert (await service.call("POST", "/compare", json=body, headers=headers)).status == 202


async def test_jobs_are_listed_by_pages_the_newest_first(service: Service) -> None:
    """The cursor of a page leads to the next, without a gap and without repetition."""
    jobs = sorted([(await service.submit()).id for _ in range(7)], reverse=True)
    assert [job["id"] for job in (await service.call("GET", "/jobs")).data] == jobs
    seen: list[str] = []
    path = "/jobs?limit=3"
    while True:
        reply = await service.call("GET", path)
        seen += [job["id"] for job in reply.data]
        following = reply.json["_meta"]["next"]
        if following is None:
            break
        path = f"/jobs?limit=3&cursor={following}"
    assert seen == jobs


async def test_jobs_are_listed_by_what_they_are(tmp_path: Path) -> None:
    """Each filter leaves those that match; a status that there is not is refused."""
    async with open_service(tmp_path, capacity=1) as service:
        work = Work()
        running = await service.submit(work)
        await work.begun.wait()
        waiting = await service.submit()
        for query, expected in (
            ("status=RUNNING", {running.id}),
            ("status=PENDING", {waiting.id}),
            ("status=COMPLETED", set()),
            ("type=overlay.generate", {running.id, waiting.id}),
            ("type=parse", set()),
            ("target_type=Block&target_id=blk_new", {running.id, waiting.id}),
            ("target_id=blk_old", set()),
            ("parent_id=job_1", set()),
            ("project_id=prj_demo&status=PENDING", {waiting.id}),
            ("project_id=prj_other", set()),
        ):
            reply = await service.call("GET", f"/jobs?{query}")
            assert {job["id"] for job in reply.data} == expected, query
        for query, name in (
            ("status=Queued", "status"),
            ("limit=0", "limit"),
            ("limit=x", "limit"),
        ):
            reply = await service.call("GET", f"/jobs?{query}")
            assert reply.status == 400
            assert list(reply.json["errors"]) == [name]
        assert (await service.call("GET", "/jobs?limit=101")).status == 400
        assert (await service.call("GET", "/jobs?limit=100")).status == 200


async def test_a_repeated_request_is_carried_out_once(service: Service) -> None:
    """Its answer is given again, to the byte, and says so."""
    headers = DEMO | {"idempotency-key": "key-1"}
    first = await service.call("POST", "/files", json=FILE, headers=headers)
    again = await service.call("POST", "/files", json=FILE, headers=headers)
    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert first.headers["idempotency-status"] == "miss"
    assert again.headers["idempotency-status"] == "hit"
    assert len(await service.stored()) == 1
    without = await service.call("POST", "/files", json=FILE)
    assert "idempotency-status" not in without.headers
    assert len(await service.stored()) == 2


async def test_a_key_of_another_request_is_a_conflict(service: Service) -> None:
    """Another body or path with the same key; another organization has keys of its own."""
    headers = DEMO | {"idempotency-key": "key-1"}
    await service.call("POST", "/files", json=FILE, headers=headers)
    other = FILE | {"filename": "other.png"}
    assert (await service.call("POST", "/files", json=other, headers=headers)).status == 409
    assert (await service.call("POST", "/compare", json=FILE, headers=headers)).status == 409
    others = OTHER | {"idempotency-key": "key-1"}
    body = FILE | {"project_id": "prj_other"}
    assert (await service.call("POST", "/files", json=body, headers=others)).status == 201


async def test_a_mistake_is_remembered_and_a_failure_is_not(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 4xx is given again; after a 5xx the key is free."""
    headers = DEMO | {"idempotency-key": "key-1"}
    for expected in ("miss", "hit"):
        reply = await service.call("POST", "/files", json={}, headers=headers)
        assert (reply.status, reply.headers["idempotency-status"]) == (400, expected)
    headers = DEMO | {"idempotency-key": "key-2"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.store, "_max_objects", 0)
        assert (await service.call("POST", "/files", json=FILE, headers=headers)).status == 507
    assert (await service.call("POST", "/files", json=FILE, headers=headers)).status == 201


@pytest.mark.parametrize("key", ["", "a b", "x" * 257, "é"])
async def test_a_key_that_is_none_is_refused(service: Service, key: str) -> None:
    """400, and nothing was done."""
    headers = DEMO | {"idempotency-key": key}
    reply = await service.call("POST", "/files", json=FILE, headers=headers)
    assert (reply.status, reply.json["code"]) == (400, "BAD_REQUEST")
    assert await service.stored() == []


async def test_a_request_that_is_under_way_is_not_begun_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """409 meanwhile; if its client has left and it was cancelled, the key is free."""
    block_id = await service.upload(DRAWING)
    body = {"old_id": block_id, "new_id": block_id, "type": "Block"}
    headers = DEMO | {"idempotency-key": "key-1"}
    begun = trio.Event()

    async def never(*_: Any, **__: Any) -> None:
        begun.set()
        await trio.sleep_forever()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.runner, "submit", never)
        async with trio.open_nursery() as nursery:

            async def first() -> None:
                await service.call("POST", "/compare", json=body, headers=headers)

            nursery.start_soon(first)
            await begun.wait()
            reply = await service.call("POST", "/compare", json=body, headers=headers)
            assert (reply.status, reply.json["code"]) == (409, "CONFLICT")
            nursery.cancel_scope.cancel()
    assert (await service.call("POST", "/compare", json=body, headers=headers)).status == 202


async def test_a_request_that_is_under_way_in_another_process_is_not_begun_again(
    tmp_path: Path,
) -> None:
    """409 there as here, and the answer when there is one; to another request always 409."""
    log = MemoryLog()
    async with open_service(tmp_path, log=log) as service, open_service(tmp_path, log=log) as other:
        block_id = await service.upload(DRAWING)
        body = {"old_id": block_id, "new_id": block_id, "type": "Block"}
        headers = DEMO | {"idempotency-key": "key-1"}
        begun, may_go = trio.Event(), trio.Event()
        submit = service.runner.submit
        replies = []

        async def submit_slowly(*arguments: Any, **options: Any) -> Job:
            begun.set()
            await may_go.wait()
            return await submit(*arguments, **options)

        async def first() -> None:
            replies.append(await service.call("POST", "/compare", json=body, headers=headers))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service.runner, "submit", submit_slowly)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first)
                await begun.wait()
                for each in (service, other):
                    for sent in (body, body | {"type": "Sheet"}):
                        reply = await each.call("POST", "/compare", json=sent, headers=headers)
                        assert (reply.status, reply.json["code"]) == (409, "CONFLICT")
                may_go.set()
        replies += [
            await each.call("POST", "/compare", json=body, headers=headers)
            for each in (service, other)
        ]
        assert [reply.status for reply in replies] == [202, 202, 202]
        assert len({reply.body for reply in replies}) == 1
        assert len(await service.runner.list()) == 1


async def test_what_a_killed_process_had_begun_is_not_begun_twice(tmp_path: Path) -> None:
    """It had submitted the job and not answered yet: who repeats the request is given that job."""
    script = """
import json, os, signal, sys, trio
from pathlib import Path
from examples.bedrock.app import open_app
from sselib import JobRunner, open_sqlite_log
from sselib.testing import open_stream

submit = JobRunner.submit

async def submit_and_die(*arguments, **options):
    job = await submit(*arguments, **options)
    print(job.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    JobRunner.submit = submit_and_die
    directory, body, headers = sys.argv[1:]
    async with (
        open_sqlite_log(f"{directory}/log.db") as log,
        open_app(log=log, directory=Path(directory)) as app,
        open_stream(
            app, "/compare", method="POST", headers=json.loads(headers), body=body.encode()
        ),
    ):
        await trio.sleep_forever()

trio.run(main)
"""
    async with (
        open_sqlite_log(tmp_path / "log.db") as log,
        open_service(tmp_path, log=log) as service,
    ):
        block_id = await service.upload(DRAWING)
        body = {"old_id": block_id, "new_id": block_id, "type": "Block"}
        headers = DEMO | {"idempotency-key": "key-1"}
        command = [sys.executable, "-c", script, str(tmp_path), json.dumps(body)]
        with trio.fail_after(PATIENCE):
            killed = await trio.run_process(
                [*command, json.dumps(headers)], cwd=ROOT, capture_stdout=True, check=False
            )
        assert killed.returncode == -signal.SIGKILL
        job_id = killed.stdout.decode().strip()
        for expected in ("miss", "hit"):
            reply = await service.call("POST", "/compare", json=body, headers=headers)
            assert (reply.status, reply.json["job_id"]) == (202, job_id)
            assert reply.headers["idempotency-status"] == expected
        assert [job.id for job in await service.runner.list()] == [job_id]
