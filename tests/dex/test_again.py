"""What becomes of jobs whose process is gone: they are done again if their documents are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests
import trio

from examples.dex.store import Store
from sselib import MemoryLog

from ..processes import Example
from ..recording import RecordingLog
from .conftest import DEMO, Gate, client_of
from .test_api import MARKDOWN
from .test_updates import check_order

PATIENCE = 60  # seconds, of which the lease of a process that was killed takes 15


def steps(job: Any) -> list[tuple[str, str]]:
    """Return the timeline of a job."""
    return [(each["step"], each["status"]) for each in job["history"]]


DONE = [
    (step, "success")
    for step in ("load_document", "detect_format", "parse_blocks", "chunk", "store_result")
]


async def test_a_job_is_done_again_by_the_next_process(tmp_path: Path, gate: Gate) -> None:
    """Under the same root; what the first attempt left open is closed as an error."""
    log = MemoryLog()
    async with client_of(log=log, data=tmp_path) as client:
        job = await client.parse("a.md", MARKDOWN)
        await gate.reached.wait()
        before = await client.get(f"/jobs/{job['id']}")
    gate.open.set()
    async with client_of(log=log, data=tmp_path) as client:
        events = await client.follow(job)
        check_order(events)
        after = await client.get(f"/jobs/{job['id']}")
        assert after["status"] == "succeeded"
        assert steps(after) == [*DONE[:2], ("parse_blocks", "error"), *DONE]
        assert after["history"][2]["details"] == {"error": "interrupted"}
        assert [after[name] for name in ("created_at", "started_at", "correlation_id")] == [
            before[name] for name in ("created_at", "started_at", "correlation_id")
        ]
        spans = {data["id"]: data for name, data in events if name == "trace_update"}.values()
        (root,) = (span for span in spans if span["parent_id"] is None)
        assert (root["status"], root["metadata"]) == ("SUCCESS", {"attempt": 2})
        assert {span["parent_id"] for span in spans if span["name"] == "chunk"} == {root["id"]}
        assert (await client.get(f"/parse/{after['result']['parse_result_id']}"))["blocks"]


async def test_what_was_kept_already_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was gone before it could say so leaves no second result behind."""
    log, kept, add_result = MemoryLog(), trio.Event(), Store.add_result

    async def keep_and_stop(*arguments: Any) -> str:
        await add_result(*arguments)
        kept.set()
        await trio.sleep_forever()
        raise AssertionError

    async with client_of(log=log, data=tmp_path) as client:
        monkeypatch.setattr(Store, "add_result", keep_and_stop)
        job = await client.parse("a.md", MARKDOWN)
        await kept.wait()
        monkeypatch.undo()
    async with client_of(log=log, data=tmp_path) as client:
        job = await client.finished(job)
        (path,) = tmp_path.glob("proj_demo/pres_*")
        assert path.stem == job["result"]["parse_result_id"]


async def test_a_batch_goes_on_with_what_is_left_of_it(tmp_path: Path, gate: Gate) -> None:
    """Documents that are over stay so, one that was being parsed and one in line are parsed."""
    log = RecordingLog()
    contents: list[tuple[str, str | bytes]] = [
        ("a.xyz", b"x"),
        ("b.md", MARKDOWN),
        ("c.txt", b"fine"),
    ]
    async with client_of(log=log, data=tmp_path, capacity=1) as client:
        files = [await client.upload(*each) for each in contents]
        batch = await client.post("/parse/batch", {"source_document_ids": files, "parameters": {}})
        await gate.reached.wait()
    gate.open.set()
    async with client_of(log=log, data=tmp_path, capacity=1) as client:
        events = await client.follow(batch)
        check_order(events, "partially_succeeded")
        batch = await client.get(f"/jobs/{batch['id']}")
        children = batch["progress"]["child_jobs"]
        assert [each["source_document_id"] for each in children] == files
        assert [each["status"] for each in children] == ["failed", "succeeded", "succeeded"]
        spans = {data["id"]: data for name, data in events if name == "trace_update"}
        for child in children:
            own = await client.follow({"id": child["job_id"]})
            shown = {data["id"]: data for name, data in own if name == "trace_update"}
            assert {id: spans[id] for id in shown} == shown
    told = [each for each in log.changes if each.job_id == batch["id"] and each.what == "part"]
    check_order(
        [("trace_update", each.value) for each in told] + events[-2:], "partially_succeeded"
    )


async def test_a_document_that_stops_every_process_is_given_up(tmp_path: Path, gate: Gate) -> None:
    """After three of them."""
    log = MemoryLog()
    async with client_of(log=log, data=tmp_path) as client:
        job = await client.parse("a.md", MARKDOWN)
        await gate.reached.wait()
    for _ in range(2):
        gate.reached = trio.Event()
        async with client_of(log=log, data=tmp_path) as client:
            await gate.reached.wait()
    async with client_of(log=log, data=tmp_path) as client:
        check_order(await client.follow(job), "failed")
        job = await client.get(f"/jobs/{job['id']}")
        assert job["error"] == "interrupted 3 times, and given up"


async def test_without_a_place_for_documents_a_job_is_interrupted(gate: Gate) -> None:
    """There is nothing to do it again with."""
    log = MemoryLog()
    async with client_of(log=log) as client:
        job = await client.parse("a.md", MARKDOWN)
        await gate.reached.wait()
    async with client_of(log=log) as client:
        check_order(await client.follow(job), "failed")
        job = await client.get(f"/jobs/{job['id']}")
        assert job["error"] == "interrupted: the server stopped before it was done"


def test_a_process_that_is_killed_loses_no_job(tmp_path: Path) -> None:
    """The next one on its directory does again what was left, once the dead one's lease is over."""
    with Example.starting("examples.dex", tmp_path) as start:
        data = tmp_path / "data"
        example = start("--data", str(data))
        project = "/v1/projects/proj_demo"

        def ask(method: str, path: str, **options: Any) -> Any:
            url = example.url + project + path
            answer = requests.request(method, url, headers=DEMO, timeout=PATIENCE, **options)
            assert answer.ok, answer.text
            return answer

        def upload(text: bytes) -> str:
            return str(ask("POST", "/files", files={"file": ("a.md", text)}).json()["id"])

        files = [upload(b"# One\n"), upload(b"# Two\n")]
        stuck = data / "proj_demo" / files[1]
        stuck.unlink()
        os.mkfifo(stuck)  # Whoever reads it waits.
        body = {"source_document_ids": files, "parameters": {}}
        batch = ask("POST", "/parse/batch", json=body).json()["id"]
        with ask("GET", f"/jobs/{batch}/updates", stream=True) as updates:
            for line in updates.iter_lines():
                if b'"succeeded":1' in line:  # The other one is being read, or in line for that.
                    break
        example.kill()
        stuck.unlink()
        stuck.write_bytes(b"# Two\n")

        example = start("--data", str(data))
        assert ask("GET", f"/jobs/{batch}").json()["status"] == "running"
        events = ask("GET", f"/jobs/{batch}/updates").text
        assert events.endswith(
            f'event: done\ndata: {{"job_id":"{batch}","status":"succeeded"}}\n\n'
        )
        results = ask("GET", f"/jobs/{batch}").json()["result"]["parse_result_ids"]
        texts = [ask("GET", f"/parse/{id}").json()["blocks"][0]["text"] for id in results]
        assert texts == ["One", "Two"]
        assert len(list(data.glob("proj_demo/pres_*"))) == 2
