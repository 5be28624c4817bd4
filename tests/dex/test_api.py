"""The HTTP API in memory: who gets in, what is made, and what is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from examples.dex import app as app_module
from examples.dex import inputs, store
from examples.dex.app import open_app
from examples.dex.openapi import DOCUMENT
from examples.dex.work import Workshop
from sselib import MemoryLog, open_sqlite_log
from sselib.testing import open_stream

from .conftest import DEMO, OTHER, Client, Gate, client_of, form, read

MARKDOWN = "# One\ntext\n\n# Two\nmore text\n"


# ---- who asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "dex_demo"},
        {"x-selected-account-id": "acct_demo"},
        {"x-api-key": "", "x-selected-account-id": "acct_demo"},
        {"x-api-key": "dex_dem", "x-selected-account-id": "acct_demo"},
        {"x-api-key": "dex_demo", "x-selected-account-id": "acct_other"},
        {"x-api-key": "d\xe9x", "x-selected-account-id": "acct_demo"},
    ],
)
async def test_both_headers_are_needed(headers: dict[str, str]) -> None:
    """Without a key and an account of it: 401, on each path, whether or not there is such a job."""
    async with client_of() as client:
        job = await client.finished(await client.parse("a.md", MARKDOWN))
        client.headers = headers
        for path in ("", "/files", "/jobs", f"/jobs/{job['id']}", "/jobs/none"):
            answer = await client.ask("GET", path)
            assert answer.status == 401
            assert set(answer.value) == {"detail"}
        for path in (f"/jobs/{job['id']}/updates", "/jobs/none/updates"):
            assert (await client.ask("GET", path)).status == 401
        for path in ("/parse", "/parse/batch", f"/jobs/{job['id']}/cancel", "/files"):
            assert (await client.ask("POST", path)).status == 401
        for method in ("GET", "POST"):
            assert (await client.ask(method, "/v1/projects")).status == 401


async def test_what_is_anothers_does_not_exist() -> None:
    """Another account's project, a job of another project, and what nobody has: one answer."""
    async with client_of() as client:
        job = await client.finished(await client.parse("a.md", MARKDOWN))
        result = job["result"]["parse_result_id"]
        mine = await client.post("/v1/projects", {"name": "Mine"})
        stranger = Client(client.app, OTHER)
        other = await stranger.post("/v1/projects", {"name": "Other"})
        for who, project in (
            (stranger, client.project),
            (client, f"/v1/projects/{other['id']}"),
            (client, f"/v1/projects/{mine['id']}"),
            (client, "/v1/projects/none"),
        ):
            for job_id in (job["id"], "none"):
                for method, path in (("GET", ""), ("GET", "/updates"), ("POST", "/cancel")):
                    answer = await who.ask(method, f"{project}/jobs/{job_id}{path}")
                    assert (answer.status, answer.value) == (404, {"detail": "Job not found"})
            assert (await who.ask("GET", f"{project}/parse/{result}")).status == 404
            start = {"source_document_id": job["source_id"], "parameters": {}}
            assert (await who.ask("POST", f"{project}/parse", start)).status == 404
        for project in (other, mine):
            who = stranger if project is other else client
            jobs = await who.get(f"/v1/projects/{project['id']}/jobs")
            assert (jobs["items"], jobs["total_count"]) == ([], 0)
        names = [each["name"] for each in (await stranger.get("/v1/projects"))["items"]]
        assert names == ["Other"]
        assert (await client.get("/v1/projects"))["total_count"] == 2
        assert await client.get(f"/v1/projects/{mine['id']}") == mine


async def test_what_is_not_there_is_said_in_json() -> None:
    """A path or a method that the API does not have."""
    async with client_of() as client:
        answer = await client.ask("GET", "/v1/nothing")
        assert (answer.status, answer.value) == (404, {"detail": "Not Found"})
        answer = await client.ask("DELETE", "/v1/projects")
        assert (answer.status, answer.value) == (405, {"detail": "Method Not Allowed"})


# ---- files ---------------------------------------------------------------------------------------


async def test_a_file_is_kept_and_shown() -> None:
    """With its name, size and type."""
    async with client_of() as client:
        id = await client.upload("a.md", MARKDOWN)
        (file,) = (await client.get("/files"))["items"]
        assert file["id"] == id
        assert (file["filename"], file["size_bytes"]) == ("a.md", len(MARKDOWN))
        assert (file["mime_type"], file["status"]) == ("text/plain", "uploaded")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("/etc/passwd.txt", "passwd.txt"),
        ("C:\\\\temp\\\\a.txt", "a.txt"),
        ("a\u00e9.txt", "a\u00e9.txt"),
        ("x" * 500 + ".txt", "x" * 196 + ".txt"),
    ],
)
async def test_a_path_in_a_name_is_no_path(name: str, shown: str) -> None:
    """It is shown without its folders, and names nothing on this disk."""
    async with client_of() as client:
        job = await client.finished(await client.parse(name, "text"))
        assert job["status"] == "succeeded"
        (file,) = (await client.get("/files"))["items"]
        assert file["filename"] == shown
        assert ".." not in file["storage_key"]


async def test_uploads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their length if it is said, by what comes if not; and so is their number."""
    monkeypatch.setattr(app_module, "MAX_UPLOAD_BYTES", 1000)
    monkeypatch.setattr(app_module, "_MULTIPART_ROOM", 1000)
    monkeypatch.setattr(store, "MAX_FILES", 2)
    async with client_of() as client:
        await client.upload("a.txt", b"x" * 1000)
        for size in (1001, 3000):
            large = form("a.txt", b"x" * size)
            assert (await client.ask("POST", "/files", **large)).status == 413
            large["content_length"] = str(len(large["body"]))
            assert (await client.ask("POST", "/files", **large)).status == 413
        await client.upload("b.txt", b"x")
        answer = await client.ask("POST", "/files", **form("c.txt", b"x"))
        assert (answer.status, answer.value) == (507, {"detail": "No room: there are 2 files"})
        assert (await client.get("/files"))["total_count"] == 2


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (form("a.txt", b"x", field="other"), ["body", "file"]),
        ({"body": b"x", "content_type": "text/plain"}, ["body", "file"]),
        (form("/", b"x"), ["body", "file"]),
    ],
    ids=["another field", "no form", "no name"],
)
async def test_an_upload_without_a_file_is_refused(content: dict[str, Any], place: Any) -> None:
    """It is said which field is missing."""
    async with client_of() as client:
        answer = await client.ask("POST", "/files", **content)
        assert answer.status == 422
        assert [each["loc"] for each in answer.value["detail"]] == [place]


async def test_a_form_that_is_broken_is_refused() -> None:
    """It is said that the form is."""
    async with client_of() as client:
        broken = form("a.txt", b"x") | {"body": b"nothing of the kind"}
        answer = await client.ask("POST", "/files", **broken)
        assert answer.status == 422
        assert [each["type"] for each in answer.value["detail"]] == ["form_invalid"]


# ---- bodies and queries --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "problems"),
    [
        ("/parse", b"", [("body", "json_invalid")]),
        ("/parse", b"{", [("body", "json_invalid")]),
        ("/parse", b"[" * 10_000, [("body", "json_invalid")]),
        ("/parse", b'{"a": "\\ud800"}', [("body", "json_invalid")]),
        ("/parse", b"[]", [("body", "dict_type")]),
        (
            "/parse",
            b"{}",
            [("body.source_document_id", "missing"), ("body.parameters", "missing")],
        ),
        (
            "/parse",
            b'{"source_document_id": 1, "parameters": {"priority": 1, "engine": null}}',
            [
                ("body.source_document_id", "type_error"),
                ("body.parameters.engine", "type_error"),
                ("body.parameters.priority", "type_error"),
            ],
        ),
        (
            "/parse",
            b'{"source_document_id":"","parameters":{"chunking_options":{"chunk_overlap":1.5}}}',
            [("body.parameters.chunking_options.chunk_overlap", "type_error")],
        ),
        (
            "/parse",
            b'{"source_document_id": "a", "parameters": {"chunking_options": {"chunk_size": 0}}}',
            [("body.parameters.chunking_options", "value_error")],
        ),
        (
            "/parse",
            b'{"source_document_id": "a", "parameters": {"chunking_options": {"strategy": "x"}}}',
            [("body.parameters.chunking_options", "value_error")],
        ),
        (
            "/parse/batch",
            b'{"source_document_ids": ["a", 1], "parameters": {}}',
            [("body.source_document_ids.1", "type_error")],
        ),
        (
            "/parse/batch",
            b'{"source_document_ids": [], "parameters": {}}',
            [("body", "value_error")],
        ),
        ("/v1/projects", b'{"name": ""}', [("body", "value_error")]),
    ],
)
async def test_what_is_wrong_with_a_body_is_said(
    path: str, body: bytes, problems: list[tuple[str, str]]
) -> None:
    """422 with the place of each problem."""
    async with client_of() as client:
        answer = await client.ask("POST", path, body=body)
        assert answer.status == 422
        found = [(".".join(map(str, each["loc"])), each["type"]) for each in answer.value["detail"]]
        assert found == problems
        assert (await client.get("/jobs"))["total_count"] == 0


async def test_bodies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are read whole."""
    monkeypatch.setattr(inputs, "MAX_JSON_BYTES", 100)
    async with client_of() as client:
        answer = await client.ask("POST", "/parse", body=b" " * 101)
        assert answer.status == 413


async def test_the_documented_body_is_accepted() -> None:
    """Also what it says to engines that are not here."""
    async with client_of() as client:
        chunking = {
            "strategy": "token_size",
            "chunk_size": 512,
            "chunk_overlap": 50,
            "encoding_name": "cl100k_base",
        }
        job = await client.parse(
            "a.md",
            MARKDOWN,
            options={"chunking": {"chunk_mode": "variable", "chunk_size": 1}},
            engine="reducto",
            chunking_options=chunking,
            advanced_options={},
            experimental_options={},
            priority=False,
        )
        job = await client.finished(job)
        result = await client.get(f"/parse/{job['result']['parse_result_id']}")
        assert result["chunking_options"] == chunking
        assert result["tokenizer"] == "words"


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("page_size=0", "page_size"),
        ("page_size=101", "page_size"),
        ("page_size=x", "page_size"),
        ("page_size=1e1", "page_size"),
        ("page_size=%D9%A1", "page_size"),
        ("continuation_token=-1", "continuation_token"),
        ("status=done", "status"),
        ("operation=dance", "operation"),
        ("sort_by=name", "sort_by"),
        ("sort_order=up", "sort_order"),
        ("created_at_start=yesterday", "created_at_start"),
        ("completed_at_end=2023-13-01", "completed_at_end"),
    ],
)
async def test_what_is_wrong_with_a_query_is_said(query: str, place: str) -> None:
    """422 with the name of the parameter."""
    async with client_of() as client:
        answer = await client.ask("GET", f"/jobs?{query}")
        assert answer.status == 422
        assert [each["loc"] for each in answer.value["detail"]] == [["query", place]]


# ---- jobs ----------------------------------------------------------------------------------------


async def test_a_document_is_parsed() -> None:
    """Pending, then done; its result has blocks and chunks, its history the stages."""
    async with client_of() as client:
        started = await client.parse("a.md", MARKDOWN, chunking_options={"chunk_size": 2})
        assert (started["status"], started["operation"]) == ("pending", "parse")
        assert started["started_at"] is None
        job = await client.finished(started)
        assert job["status"] == "succeeded"
        assert job["created_at"] <= job["started_at"] <= job["completed_at"]
        assert job["error"] is None
        assert [each["step"] for each in job["history"]] == [
            "load_document",
            "detect_format",
            "parse_blocks",
            "chunk",
            "store_result",
        ]
        assert {each["status"] for each in job["history"]} == {"success"}
        result = await client.get(f"/parse/{job['result']['parse_result_id']}")
        assert result["job_id"] == job["id"]
        assert [each["kind"] for each in result["blocks"]] == ["heading", "paragraph"] * 2
        assert [each["text"] for each in result["chunks"]] == [
            "One\n\ntext",
            "text\n\nTwo",
            "Two\n\nmore",
            "more text",
        ]


async def test_what_was_parsed_is_cut_anew() -> None:
    """By another job, into another result; the first one stays."""
    async with client_of() as client:
        job = await client.finished(await client.parse("a.md", MARKDOWN))
        first = job["result"]["parse_result_id"]
        options = {"chunk_size": 1, "chunk_overlap": 0}
        again = await client.post(f"/parse/{first}/rechunk", {"chunking_options": options})
        assert (again["operation"], again["source_id"]) == ("chunk", job["source_id"])
        again = await client.finished(again)
        assert [each["step"] for each in again["history"]] == [
            "load_result",
            "chunk",
            "store_result",
        ]
        result = await client.get(f"/parse/{again['result']['parse_result_id']}")
        assert [each["text"] for each in result["chunks"]] == ["One", "text", "Two", "more", "text"]
        assert len((await client.get(f"/parse/{first}"))["chunks"]) == 1


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.xyz", b"x", "unknown format"),
        ("a.txt", b"\xff", "not UTF-8 text"),
        ("a.docx", b"x", "no archive"),
        ("a.txt", b"  \n", "holds no text"),
    ],
)
async def test_a_document_that_cannot_be_parsed_fails_its_job(
    name: str, data: bytes, error: str
) -> None:
    """The job says why, and its open spans end as errors."""
    async with client_of() as client:
        events = await client.follow(job := await client.parse(name, data))
        assert events[-1] == ("done", {"job_id": job["id"], "status": "failed"})
        assert events[-2][0] == "job_status"
        assert error in events[-2][1]["error"]
        spans = {data["id"]: data for event, data in events if event == "trace_update"}
        assert {span["status"] for span in spans.values()} >= {"ERROR"}
        assert all(span["end_timestamp"] for span in spans.values())
        job = await client.get(f"/jobs/{job['id']}")
        assert (job["status"], job["result"]) == ("failed", None)
        assert error in job["error"]


async def test_what_is_no_fault_of_a_document_is_told_without_details(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Work that raises something fails its job; clients read "internal error", the log the rest."""

    async def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Workshop, "read_blocks", broken)
    async with client_of() as client:
        job = await client.parse("a.md", MARKDOWN)
        events = await client.follow(job)
        assert events[-2:] == [
            ("job_status", {"job_id": job["id"], "status": "failed", "error": "internal error"}),
            ("done", {"job_id": job["id"], "status": "failed"}),
        ]
        job = await client.get(f"/jobs/{job['id']}")
        assert job["error"] == "internal error"
        assert job["history"][-1]["status"] == "error"
        assert "a secret" in caplog.text
        assert "a secret" not in str([events, job])


async def test_a_batch_counts_its_documents() -> None:
    """Each has a job of its own; what came of it is in the counters of the batch."""
    async with client_of(capacity=1) as client:
        files = [
            await client.upload(name, data)
            for name, data in (("a.md", MARKDOWN), ("b.txt", b"\xff"), ("c.txt", b"fine"))
        ]
        batch = await client.post("/parse/batch", {"source_document_ids": files, "parameters": {}})
        assert batch["progress"]["total"] == batch["progress"]["pending"] == 3
        events = await client.follow(batch)
        batch = await client.get(f"/jobs/{batch['id']}")
        assert batch["status"] == "partially_succeeded"
        counted = {name: value for name, value in batch["progress"].items() if name != "child_jobs"}
        assert counted == {"total": 3, "succeeded": 2, "failed": 1, "cancelled": 0, "pending": 0}
        children = batch["progress"]["child_jobs"]
        assert [each["source_document_id"] for each in children] == files
        assert [each["status"] for each in children] == ["succeeded", "failed", "succeeded"]
        assert "not UTF-8" in children[1]["error"]
        assert batch["result"]["parse_result_ids"] == [
            children[0]["parse_result_id"],
            children[2]["parse_result_id"],
        ]
        for child in children:
            own = await client.finished({"id": child["job_id"]})
            assert own["correlation_id"] == batch["correlation_id"]
        # The stream of the batch shows the spans of its documents, and the counters of its root.
        statuses = [data for event, data in events if event == "job_status"]
        assert statuses[-1]["progress"] == counted
        assert {data["job_id"] for data in statuses} == {batch["id"]}
        spans = {data["id"]: data for event, data in events if event == "trace_update"}
        (root,) = (span for span in spans.values() if span["name"] == "batch_parse")
        assert root["metadata"] == counted
        below = [span for span in spans.values() if span["parent_id"] == root["id"]]
        assert sorted(span["status"] for span in below) == ["ERROR", "SUCCESS", "SUCCESS"]
        assert {span["name"] for span in below} == {"parse"}
        parents = {span["id"] for span in below}
        assert sum(span["parent_id"] in parents for span in spans.values()) >= 8


@pytest.mark.parametrize(
    ("contents", "status"), [([b"a", b"b"], "succeeded"), ([b"\xff", b"\xfe"], "failed")]
)
async def test_a_batch_succeeds_or_fails_whole(contents: list[bytes], status: str) -> None:
    """If all of its documents do."""
    async with client_of() as client:
        files = [await client.upload("a.txt", each) for each in contents]
        start = {"source_document_ids": files, "parameters": {}}
        batch = await client.finished(await client.post("/parse/batch", start))
        assert batch["status"] == status


async def test_jobs_are_listed_by_page() -> None:
    """The newest first unless asked otherwise, each page naming the next; filters narrow it."""
    async with client_of(capacity=1) as client:
        jobs = [
            await client.finished(await client.parse("a.txt", data))
            for data in (b"a", b"\xff", b"c", b"d", b"e")
        ]
        ids = [job["id"] for job in jobs]
        page = await client.get("/jobs?page_size=2")
        assert page["total_count"] == 5
        assert page["items"] == jobs[:2:-1]
        assert page["prev_token"] is None
        page = await client.get(f"/jobs?page_size=2&continuation_token={page['next_token']}")
        assert [job["id"] for job in page["items"]] == [ids[2], ids[1]]
        last = await client.get(f"/jobs?page_size=2&continuation_token={page['next_token']}")
        assert [job["id"] for job in last["items"]] == [ids[0]]
        assert last["next_token"] is None
        back = await client.get(f"/jobs?page_size=2&continuation_token={last['prev_token']}")
        assert back["items"] == page["items"]

        async def listed(query: str) -> list[str]:
            return [job["id"] for job in (await client.get(f"/jobs?{query}"))["items"]]

        assert await listed("sort_order=asc") == ids
        assert await listed("sort_by=completed_at") == ids[::-1]
        assert await listed("status=failed") == [ids[1]]
        assert await listed("status=failed&status=running") == [ids[1]]
        assert await listed("operation=chunk") == []
        assert await listed(f"ids={ids[2]}&ids={ids[3]}&sort_order=asc") == ids[2:4]
        since = jobs[3]["created_at"].replace("Z", "%2B00:00")
        assert await listed(f"created_at_start={since}") == ids[:2:-1]
        until = jobs[1]["completed_at"]
        assert await listed(f"completed_at_end={until}") == ids[1::-1]
        assert await listed("completed_at_start=2999-01-01") == []


async def test_a_correlation_id_is_passed_on() -> None:
    """If it can be; it is the trace of the job's spans."""
    async with client_of() as client:
        file = await client.upload("a.txt", b"a")
        start = {"source_document_id": file, "parameters": {}}
        answer = await client.ask("POST", "/parse", start, x_correlation_id="mine")
        assert answer.value["correlation_id"] == "mine"
        events = await client.follow(answer.value)
        assert {data["trace_id"] for event, data in events if event == "trace_update"} == {"mine"}
        answer = await client.ask("POST", "/parse", start, x_correlation_id="x" * 129)
        assert len(answer.value["correlation_id"]) == 32


# ---- cancelling ----------------------------------------------------------------------------------


async def test_a_job_is_cancelled(gate: Gate) -> None:
    """In line: 200 at once. Running: 202, and cancelled when it has unwound. Then 200 again."""
    async with client_of(capacity=1) as client:
        running = await client.parse("a.txt", b"a")
        pending = await client.parse("a.txt", b"a")
        await gate.reached.wait()
        async with client.updates(pending) as stream:
            told = [read(await stream.receive())]
            answer = await client.ask("POST", f"/jobs/{pending['id']}/cancel")
            assert (answer.status, answer.value["status"]) == (200, "cancelled")
            told += [read(event) async for event in stream]
        about = {"job_id": pending["id"], "status": "cancelled"}
        assert told == [
            ("job_status", {"job_id": pending["id"], "status": "pending"}),
            ("job_status", about),
            ("done", about),
        ]
        answer = await client.ask("POST", f"/jobs/{running['id']}/cancel")
        assert (answer.status, answer.value["status"]) == (202, "running")
        events = await client.follow(running)
        spans = {data["id"]: data for event, data in events if event == "trace_update"}
        ends = {span["name"]: span["status"] for span in spans.values()}
        assert ends["load_document"] == "SUCCESS"
        assert ends["parse"] == ends["parse_blocks"] == "CANCELED"
        for job in (running, pending):
            answer = await client.ask("POST", f"/jobs/{job['id']}/cancel")
            assert (answer.status, answer.value["status"]) == (200, "cancelled")
            assert answer.value["completed_at"] is not None


async def test_a_batch_is_cancelled_with_its_documents(gate: Gate) -> None:
    """Those that run and those in line; each is counted as cancelled."""
    async with client_of(capacity=1) as client:
        files = [await client.upload("a.txt", b"a") for _ in range(3)]
        start = {"source_document_ids": files, "parameters": {}}
        batch = await client.post("/parse/batch", start)
        await gate.reached.wait()
        assert (await client.ask("POST", f"/jobs/{batch['id']}/cancel")).status == 202
        batch = await client.finished(batch)
        assert batch["status"] == "cancelled"
        assert batch["progress"]["cancelled"] == 3


async def test_a_finished_job_cannot_be_cancelled() -> None:
    """409, with the state that it is in."""
    async with client_of() as client:
        for data, status in ((b"a", "succeeded"), (b"\xff", "failed")):
            job = await client.finished(await client.parse("a.txt", data))
            answer = await client.ask("POST", f"/jobs/{job['id']}/cancel")
            assert answer.status == 409
            assert answer.value == {"detail": f"Job is already in a terminal state: {status}"}


# ---- the whole -----------------------------------------------------------------------------------


async def test_the_api_describes_itself() -> None:
    """With a document that is OpenAPI 3.1, and that needs no key to read."""
    validate(DOCUMENT)
    async with client_of() as client:
        client.headers = {}
        assert (await client.ask("GET", "/openapi.json")).status == 404  # in no project
        async with open_stream(client.app, "/openapi.json") as response:
            assert response.status == 200
            assert b'"openapi":"3.1.0"' in await response.read_body()


async def test_all_outlives_the_server_in_a_place_that_does(tmp_path: Path) -> None:
    """Projects, files, jobs with their spans, and results: the next server has them all."""
    log = MemoryLog()
    async with client_of(log=log, data=tmp_path) as client:
        project = await client.post("/v1/projects", {"name": "Mine"})
        job = await client.finished(await client.parse("a.md", MARKDOWN))
        events = await client.follow(job)
        result = await client.get(f"/parse/{job['result']['parse_result_id']}")
    async with client_of(log=log, data=tmp_path) as client:
        assert (await client.get("/v1/projects"))["items"][1:] == [project]
        assert await client.get(f"/jobs/{job['id']}") == job
        assert await client.follow(job) == events
        assert await client.get(f"/parse/{result['id']}") == result
        again = await client.post(f"/parse/{result['id']}/rechunk", {"chunking_options": {}})
        assert (await client.finished(again))["status"] == "succeeded"


async def test_servers_share_a_log_and_a_directory(tmp_path: Path, gate: Gate) -> None:
    """What one is given, another shows, follows and cancels."""
    path = tmp_path / "log.db"
    async with (
        open_sqlite_log(path) as one_log,
        open_sqlite_log(path) as other_log,
        client_of(log=one_log, data=tmp_path) as one,
        client_of(log=other_log, data=tmp_path) as other,
    ):
        first = await one.parse("a.md", MARKDOWN)
        second = await one.parse("b.md", MARKDOWN)
        await gate.reached.wait()
        listed = (await other.get("/jobs?sort_order=asc"))["items"]
        assert [job["id"] for job in listed] == [first["id"], second["id"]]
        assert (await other.ask("POST", f"/jobs/{first['id']}/cancel")).status == 202
        assert (await other.finished(first))["status"] == "cancelled"
        gate.open.set()
        job = await other.finished(second)
        assert job["status"] == "succeeded"
        result = await other.get(f"/parse/{job['result']['parse_result_id']}")
        assert result["job_id"] == second["id"]
        assert (await other.get("/files")) == (await one.get("/files"))


async def test_as_many_results_are_kept_as_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest makes room, and is not there any more."""
    monkeypatch.setattr(store, "MAX_FILES", 2)
    async with client_of(data=tmp_path) as client:
        start = {"source_document_id": await client.upload("a.md", MARKDOWN), "parameters": {}}
        ids = []
        for _ in range(3):
            job = await client.finished(await client.post("/parse", start))
            ids.append(job["result"]["parse_result_id"])
        statuses = [(await client.ask("GET", f"/parse/{id}")).status for id in ids]
        assert statuses == [404, 200, 200]
        answer = await client.ask("POST", f"/parse/{ids[0]}/rechunk", {"chunking_options": {}})
        assert answer.status == 404


@pytest.mark.parametrize("id", ["..", "%2e%2e", "proj_demo%2f..%2fproj_demo", "proj_", "PROJ_demo"])
async def test_an_id_is_never_a_path(id: str, tmp_path: Path) -> None:
    """What is not one of ours names nothing, on the disk either."""
    async with client_of(data=tmp_path / "data") as client:
        for path in (f"/v1/projects/{id}", f"/parse/{id}", f"/parse/pres_{id}"):
            assert (await client.ask("GET", path)).status == 404
        file = await client.upload("a.txt", b"a")
        for source_id in (f"file_{id}/../project", f"{file}/../project", f"{file}\0"):
            start = {"source_document_id": source_id, "parameters": {}}
            assert (await client.ask("POST", "/parse", start)).status == 404


async def test_there_are_no_more_projects_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused."""
    monkeypatch.setattr(store, "MAX_PROJECTS", 2)
    async with client_of() as client:
        await client.post("/v1/projects", {"name": "Mine"})
        assert (await client.ask("POST", "/v1/projects", {"name": "Mine"})).status == 507


async def test_it_can_be_mounted_below_a_path() -> None:
    """It asks for nothing that depends on where it is."""
    async with (
        open_app() as app,
        open_stream(
            app, "/dex/v1/projects/proj_demo/jobs", root_path="/dex", headers=dict(DEMO)
        ) as response,
    ):
        assert response.status == 200
        await response.read_body()


def test_the_description_contains_what_is_published() -> None:
    """Of the stream, word for word; but it says more of it, and of what content it really is."""
    published = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    for part in ("openapi", "info", "servers", "security", "tags"):
        assert DOCUMENT[part] == published[part]
    for kind, components in published["components"].items():
        for name, component in components.items():
            described = DOCUMENT["components"][kind][name]
            assert described | component == described
    ((path, item),) = published["paths"].items()
    operation, described = item["get"], DOCUMENT["paths"][path]["get"]
    assert described["description"].startswith(operation.pop("description"))
    assert DOCUMENT["paths"][path]["parameters"] == operation.pop("parameters")
    responses = operation.pop("responses")
    assert responses["200"].pop("content") == {"application/json": {"schema": {}}}
    assert set(described["responses"]["200"]["content"]) == {"text/event-stream"}
    for status, response in responses.items():
        assert described["responses"][status] | response == described["responses"][status]
    assert described | operation == described


def test_a_job_is_described_as_documented() -> None:
    """Its fields, which of them there must be, and what they may be."""
    path = "/v1/projects/{project_id}/jobs/{job_id}"
    item, updates = DOCUMENT["paths"][path], DOCUMENT["paths"][f"{path}/updates"]
    assert (item["get"]["summary"], item["get"]["tags"]) == ("Get Job", ["Jobs"])
    assert item["parameters"] == updates["parameters"]
    assert item["get"]["responses"]["422"] == updates["get"]["responses"]["422"]
    schemas = DOCUMENT["components"]["schemas"]
    job = schemas["Job"]
    assert job["description"] == "Job response model representing an asynchronous operation."
    assert job["required"] == ["id", "project_id", "operation", "status", "created_at"]
    assert list(job["properties"]) == [
        *("id", "project_id", "operation", "status", "created_at", "object", "source_id"),
        *("correlation_id", "started_at", "completed_at", "result", "progress", "error", "history"),
    ]
    assert {name: each.get("description") for name, each in job["properties"].items()} == {
        "id": "ID of the entity",
        "project_id": "ID of the project",
        "operation": "Operation type (e.g., 'parse')",
        "status": "Current job status",
        "created_at": "When the job was created",
        "object": None,
        "source_id": "Source document/file ID",
        "correlation_id": "Request correlation ID for tracing",
        "started_at": "When the job started processing",
        "completed_at": "When the job completed",
        "result": "Job result payload when completed",
        "progress": "Live progress payload (used by batch jobs)",
        "error": "Error message if job failed",
        "history": "Timeline of job execution events",
    }
    assert job["properties"]["status"]["enum"] == [
        *("pending", "running", "succeeded", "partially_succeeded", "failed", "cancelled"),
    ]
    assert job["properties"]["operation"]["enum"] == [
        *("parse", "batch_parse", "extract", "research", "vector_store", "chunk"),
        *("summarization", "create_index", "update_index"),
    ]
    assert job["properties"]["object"] == {"const": "job", "default": "job"}
    counters = ["total", "succeeded", "failed", "cancelled", "pending"]
    assert schemas["BatchCounters"]["required"] == counters
