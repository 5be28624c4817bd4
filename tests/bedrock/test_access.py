"""Who gets in, as whom, how often; and where that is."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from examples.bedrock.app import open_app
from examples.bedrock.gate import Account
from sselib import MemoryLog
from sselib.testing import advance, open_stream

from .service import (
    DEMO,
    DRAWING,
    FILE,
    HOST,
    OTHER,
    RATE_LIMITED,
    UNAUTHORIZED,
    Reply,
    Service,
    open_service,
    places,
)


def documented(reply: Reply) -> bytes:
    """Return the body with the request's id as in the documentation, having checked it."""
    request_id = reply.headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9A-Z]{26}", request_id)
    return reply.body.replace(request_id.encode(), b"req_01JABCD123")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk_demo"},
        {"authorization": "bearer  sk_demo"},
        {"x-api-key": "sk_demo"},
        {"authorization": "Bearer sk_wrong", "x-api-key": "sk_demo"},
        {"authorization": "Bearer sk_demo", "x-api-key": "sk_wrong"},
    ],
)
async def test_either_header_is_enough(service: Service, headers: dict[str, str]) -> None:
    """A key that is known, in one of the two."""
    assert (await service.call("GET", "/jobs", headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sk_wrong"},
        {"authorization": "Bearer demo"},
        {"authorization": "Bearer"},
        {"authorization": "sk_demo"},
        {"authorization": "Basic sk_demo"},
        {"x-api-key": "demo"},
        {"x-api-key": ""},
        {"x-api-key": "SK_DEMO"},
    ],
)
@pytest.mark.parametrize("path", ["/jobs", "/jobs/job_1/stream", "/nothing"])
async def test_without_a_key_everything_is_the_same(
    service: Service, path: str, headers: dict[str, str]
) -> None:
    """401, with the published body to the byte, whether there is such a thing or not."""
    reply = await service.call("GET", path, headers=headers)
    assert reply.status == 401
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["www-authenticate"] == "Bearer"
    assert documented(reply) == UNAUTHORIZED


async def test_a_key_begins_with_sk(tmp_path: Path) -> None:
    """One that does not could never be used, and is refused when the application is opened."""
    with pytest.RaisesGroup(
        pytest.RaisesExc(ValueError, match="begins with sk_"), flatten_subgroups=True
    ):
        async with open_app(directory=tmp_path, keys={"demo": Account("org", "prj")}):
            pass


async def test_a_key_has_so_many_requests(tmp_path: Path, mock_clock: MockClock) -> None:
    """The next is 429 with the published body, and says when to come back, and that is enough."""

    def clock() -> int:
        return round(mock_clock.current_time() * 1e9)

    async with open_service(tmp_path, rate_limit=1, clock=clock) as service:
        job = await service.submit()
        reply = await service.call("GET", "/jobs")
        assert reply.headers["x-ratelimit-limit"] == "1"
        assert reply.headers["x-ratelimit-remaining"] == "0"
        for path in ("/jobs", f"/jobs/{job.id}/stream", "/nothing"):
            reply = await service.call("GET", path)
            assert reply.status == 429
            assert documented(reply) == RATE_LIMITED
            assert reply.headers["retry-after"] == "60"
            assert reply.headers["x-ratelimit-remaining"] == "0"
        assert (await service.call("GET", "/jobs", headers=OTHER)).status == 200
        await advance(60)
        # A stream counts once, however long it is open.
        async with service.stream(job.id) as stream:
            assert stream.status == 200
            assert stream.headers["x-ratelimit-remaining"] == "0"
            await advance(60)
            assert (await service.call("GET", "/jobs")).status == 200


async def test_the_reset_is_when_all_requests_are_there_again(service: Service) -> None:
    """In seconds since the epoch, not before the present."""
    before = time.time()
    reply = await service.call("GET", "/jobs")
    assert before <= int(reply.headers["x-ratelimit-reset"]) <= before + 60


@pytest.mark.parametrize("version", ["2026-01-01", None])
async def test_the_version_of_the_api_may_be_named(service: Service, version: str | None) -> None:
    """The default is the one there is, and the response says it."""
    headers = DEMO if version is None else DEMO | {"x-api-version": version}
    reply = await service.call("GET", "/jobs", headers=headers)
    assert (reply.status, reply.headers["x-api-version"]) == (200, "2026-01-01")


@pytest.mark.parametrize("version", ["2025-01-01", "", "1"])
async def test_another_version_is_refused(service: Service, version: str) -> None:
    """400, and it names the one there is; also for a stream. Without a key it is 401."""
    job = await service.submit()
    for path in ("/jobs", f"/jobs/{job.id}/stream"):
        headers = {"x-api-version": version}
        reply = await service.call("GET", path, headers=DEMO | headers)
        assert (reply.status, reply.json["code"]) == (400, "BAD_REQUEST")
        assert reply.json["instance"] == path
        assert "2026-01-01" in reply.json["detail"]
        assert (await service.call("GET", path, headers=headers)).status == 401


async def test_every_response_names_its_request(service: Service) -> None:
    """Success, error, stream, and what needs no key: each has an id of its own."""
    job = await service.submit()
    paths = ["/jobs", "/nothing", "/openapi.json", "/uploads/x", f"/jobs/{job.id}"]
    ids = [(await service.call("GET", path)).headers["x-request-id"] for path in paths]
    ids.append((await service.call("GET", "/jobs", headers={})).headers["x-request-id"])
    async with service.stream(job.id) as stream:
        ids.append(stream.headers["x-request-id"])
    assert len(set(ids)) == 7
    assert all(re.fullmatch(r"req_[0-9A-Z]{26}", id) for id in ids)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/jobs/", 404),
        ("POST", "/jobs", 405),
        ("DELETE", "/jobs/job_1/stream", 405),
    ],
)
async def test_what_there_is_not_is_a_problem_in_json(
    service: Service, method: str, path: str, status: int
) -> None:
    """Unknown paths and methods are answered like everything else."""
    reply = await service.call(method, path)
    assert (reply.status, reply.json["status"]) == (status, status)
    if status == 405:
        assert "GET" in reply.headers["allow"]


async def test_a_bug_is_a_problem_that_tells_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 without the exception, which goes to the server."""

    async def broken() -> Any:
        raise RuntimeError("the secret")

    monkeypatch.setattr(service.runner, "list", broken)
    with pytest.raises(RuntimeError, match="the secret"):  # noqa: PT012 # raised at the end
        async with open_stream(service.app, "/jobs", headers=DEMO) as stream:
            assert stream.status == 500
            problem = json.loads(await stream.read_body())
            assert problem["code"] == "INTERNAL_ERROR"
            assert problem["request_id"] == stream.headers["x-request-id"]
            assert "secret" not in str(problem)


async def test_urls_lead_to_where_the_application_is_mounted(service: Service) -> None:
    """Under a root path, and as the client calls the host; signatures hold there too."""
    root = "/bedrock"
    reply = await service.call("POST", f"{root}/files", json=FILE, root_path=root)
    url = reply.data["upload_url"]
    assert url.startswith(f"{HOST}{root}/uploads/file_")
    path = url.removeprefix(HOST)
    reply = await service.call("PUT", path, body=DRAWING, headers={}, root_path=root)
    assert reply.status == 200
    block_id = reply.data["block_id"]
    body = {"old_id": block_id, "new_id": block_id, "type": "Block"}
    reply = await service.call("POST", f"{root}/compare", json=body, root_path=root)
    job = await service.finished(reply.json["job_id"])
    overlay_id = job["results"]["overlay"]["overlay_id"]
    reply = await service.call("GET", f"{root}/overlays/{overlay_id}", root_path=root)
    path = reply.data["uri"].removeprefix(HOST)
    assert (await service.call("GET", path, headers={}, root_path=root)).status == 200
    reply = await service.call("GET", f"{root}/openapi.json", headers={}, root_path=root)
    assert reply.json["servers"] == [{"url": f"{HOST}{root}"}]
    reply = await service.call(
        "GET", f"{root}/jobs", headers=DEMO | {"x-api-version": "1"}, root_path=root
    )
    assert reply.json["instance"] == "/jobs"


async def test_the_host_is_what_the_client_calls_it(service: Service) -> None:
    """A request without one is told the server's own name."""
    for host, expected in (("drawings.example", "drawings.example"), (None, "127.0.0.1:8000")):
        headers: dict[str, Any] = DEMO | {"host": host}
        async with open_stream(service.app, "/openapi.json", headers=headers) as stream:
            document = json.loads(await stream.read_body())
        assert document["servers"] == [{"url": f"http://{expected}"}]


async def test_the_application_opens_with_all_it_needs() -> None:
    """Its own log and directory, the demo key, and the documented limit."""
    async with open_app() as app, open_stream(app, "/jobs", headers=DEMO) as stream:
        assert stream.status == 200
        assert stream.headers["x-ratelimit-limit"] == "60"
        await stream.read_body()


async def test_the_application_takes_a_log_and_a_directory(tmp_path: Path) -> None:
    """Jobs are found on a log that is given, and files in the directory."""
    log = MemoryLog()
    for _ in range(2):
        async with open_app(log=log, directory=tmp_path) as app:
            body = json.dumps(FILE).encode()
            async with open_stream(app, "/files", method="POST", headers=DEMO, body=body) as stream:
                url = json.loads(await stream.read_body())["data"]["upload_url"]
            path = url.removeprefix(HOST)
            async with open_stream(app, path, method="PUT", body=DRAWING) as stream:
                assert stream.status == 200
                await stream.read_body()
    assert len(places(tmp_path)) == 2
    assert await log.topics("bedrock/") == []


async def test_other_scopes_pass_through(service: Service) -> None:
    """A server that runs the lifespan gets its answer."""
    sent: list[str] = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        await trio.lowlevel.checkpoint()
        return messages.pop(0)

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message["type"])

    await service.app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
