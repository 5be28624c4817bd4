"""Two processes of an example over one log: what one runs, the other lists, streams and cancels.

The same is true of one process over a log in memory, which is asked both times then.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
import requests

from .bedrock.drawings import DOOR, WINDOW, plan, png
from .processes import Example
from .redis_servers import PROGRAMS, redis_server

PATIENCE = 30  # seconds
SERVERS = ("hypercorn", "sselib")

DEX = {"x-api-key": "dex_demo", "x-selected-account-id": "acct_demo"}
BEDROCK = {"authorization": "Bearer sk_demo"}
GUILD = {"authorization": "Bearer acc_demo"}
FILE = {"project_id": "prj_demo", "filename": "a.png", "content_type": "image/png"}
DEX_PROJECT = "/v1/projects/proj_demo"


@attrs.define(eq=False)
class Server:
    """One process of an example."""

    url: str
    headers: dict[str, str]
    process: subprocess.Popen[str]

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Send a request that is answered with JSON."""
        response = self.send(method, path, **options)
        assert response.ok, response.text
        return response.json()

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request, also to what another process has said is at its own URL."""
        url = self.url + re.sub("https?://[^/]+", "", path)
        headers = self.headers | options.pop("headers", {})
        return requests.request(method, url, headers=headers, timeout=PATIENCE, **options)

    def lines(self, path: str) -> Iterator[bytes]:
        """Open a stream, and return its lines behind the first, which has come."""
        response = requests.get(
            self.url + path, headers=self.headers, stream=True, timeout=PATIENCE
        )
        assert response.status_code == 200, response.text
        lines: Iterator[bytes] = response.iter_lines(chunk_size=1)
        assert next(lines) == b": connected"
        return lines


def data_of(lines: Iterator[bytes]) -> list[Any]:
    """Read a stream to its end, and return its data."""
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def log(
    request: pytest.FixtureRequest, tmp_path: Path, require_program: Callable[..., str]
) -> Iterator[str]:
    """Give a log, as `--log` takes it."""
    if request.param == "memory":
        yield "memory"
        return
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'log.db'}"
        return
    with redis_server(require_program(*PROGRAMS), tmp_path / "redis") as server:
        yield server.url


Start = Callable[..., Server]


@pytest.fixture
def start(log: str, tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts a process of an example, or finds the one that there can be."""
    servers: list[Server] = []
    shared = () if log == "memory" else ("--reuse-port", "--data", str(tmp_path / "data"))
    with ExitStack() as stack:

        def start(name: str, headers: dict[str, str], *options: str) -> Server:
            if log == "memory" and servers:
                return servers[0]
            place = tmp_path / f"process{len(servers)}"
            place.mkdir()
            start_process = stack.enter_context(Example.starting(f"examples.{name}", place))
            example = start_process(
                *("--log", log, "--server", SERVERS[len(servers) % 2]), *shared, *options
            )
            servers.append(Server(example.url, headers, example.process))
            return servers[-1]

        yield start


def test_a_dex_batch_is_cancelled_through_another_process(start: Start) -> None:
    """It is found in the list there, streamed to its end, and its children with it."""
    here, there = start("dex", DEX), start("dex", DEX)
    text = b"# A chapter\n\nSome words that are to be parsed.\n\n" * 4000
    documents = [
        here.ask("POST", f"{DEX_PROJECT}/files", files={"file": (f"{n}.md", text)})["id"]
        for n in range(20)
    ]
    batch = {"source_document_ids": documents, "parameters": {}}
    job = here.ask("POST", f"{DEX_PROJECT}/parse/batch", json=batch)
    path = f"{DEX_PROJECT}/jobs/{job['id']}"

    listed = there.ask("GET", f"{DEX_PROJECT}/jobs?operation=batch_parse")
    assert [each["id"] for each in listed["items"]] == [job["id"]]
    updates = there.lines(f"{path}/updates")
    there.ask("POST", f"{path}/cancel")
    assert data_of(updates)[-1] == {"job_id": job["id"], "status": "cancelled"}
    for server in (here, there):
        finished = server.ask("GET", path)
        assert finished["status"] == "cancelled"
        assert finished["progress"]["pending"] == 0


def comparison(server: Server, uploads: Server | None = None, *, scale: int = 14) -> str:
    """Have two drawings compared, which takes some seconds at this scale, and return the job's id.

    They are announced to the one process, and uploaded to the other.
    """
    blocks = []
    for box in (DOOR, WINDOW):
        upload = server.ask("POST", "/files", json=FILE)["data"]["upload_url"]
        drawing = png(plan(box).resize((400 * scale, 300 * scale)))
        uploaded = (uploads or server).ask("PUT", upload, data=drawing)
        blocks.append(uploaded["data"]["block_id"])
    body = {"old_id": blocks[0], "new_id": blocks[1], "type": "Block"}
    return str(server.ask("POST", "/compare", json=body)["job_id"])


def test_bedrock_processes_are_one_service(start: Start) -> None:
    """A file announced by one is uploaded to the other; its pictures are found by either.

    A request is carried out once, whichever is asked again.
    """
    here, there = start("bedrock", BEDROCK), start("bedrock", BEDROCK)
    job_id = comparison(here, there, scale=1)
    assert data_of(there.lines(f"/jobs/{job_id}/stream"))[-1]["status"] == "COMPLETED"
    (overlay,) = here.ask("GET", "/overlays")["data"]
    assert there.send("GET", overlay["uri"], headers={"authorization": ""}).status_code == 200

    key = {"idempotency-key": "key"}
    first = here.send("POST", "/files", json=FILE, headers=key)
    again = there.send("POST", "/files", json=FILE, headers=key)
    assert (first.content, first.status_code) == (again.content, again.status_code)
    statuses = [each.headers["idempotency-status"] for each in (first, again)]
    assert statuses == ["miss", "hit"]
    other = there.send("POST", "/files", json=FILE | {"filename": "b.png"}, headers=key)
    assert other.status_code == 409

    path = f"/overlays/{overlay['id']}"
    assert there.send("DELETE", path).status_code == 204
    assert [each.send("GET", path).status_code for each in (here, there)] == [404, 404]


def test_a_bedrock_key_has_so_many_requests_over_all_processes(start: Start) -> None:
    """What one allowed, the other counts."""
    here, there = (start("bedrock", BEDROCK, "--rate-limit", "1") for _ in range(2))
    answers = [each.send("GET", "/jobs") for each in (here, there, here)]
    assert [each.status_code for each in answers] == [200, 429, 429]
    assert int(answers[1].headers["retry-after"]) <= 60


def test_a_bedrock_job_is_cancelled_through_another_process(start: Start) -> None:
    """The same of a comparison that runs."""
    here, there = start("bedrock", BEDROCK), start("bedrock", BEDROCK)
    job_id = comparison(here)

    assert [each["id"] for each in there.ask("GET", "/jobs")["data"]] == [job_id]
    lines = there.lines(f"/jobs/{job_id}/stream")
    there.ask("POST", f"/jobs/{job_id}/cancel")
    assert data_of(lines)[-1]["status"] == "CANCELED"
    for server in (here, there):
        assert server.ask("GET", f"/jobs/{job_id}")["data"]["status"] == "CANCELED"


def test_a_guild_project_is_watched_through_another_process(start: Start) -> None:
    """It is found in the list there, and its stream begins with where it is and ends when done."""
    here, there = start("guild", GUILD), start("guild", GUILD)
    brief = {"title": "Brook", "briefText": "# Brook\n\nA cafe by the brook, with a garden.\n"}
    project_id = here.ask("POST", "/briefs", json=brief)["projectId"]

    done = {"status": "done", "progress": 1, "currentStep": "Complete"}
    assert data_of(there.lines(f"/projects/{project_id}/sse"))[-1] == done
    assert there.ask("GET", f"/projects/{project_id}/status") == done


@pytest.mark.parametrize("log", ["sqlite"], indirect=True)  # the lease is waited for: 15 seconds
def test_a_job_whose_process_was_killed_is_ended_by_another(start: Start) -> None:
    """Once it has not been heard of for a while; who streams it from there is told."""
    here, there = start("bedrock", BEDROCK), start("bedrock", BEDROCK)
    job_id = comparison(here)
    lines = there.lines(f"/jobs/{job_id}/stream")
    here.process.kill()
    last = data_of(lines)[-1]
    assert (last["status"], last["error"]["code"]) == ("FAILED", "interrupted")
