"""All examples in one process, as a newcomer meets them: on either server, over real sockets."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from ..bedrock.drawings import DOOR, WINDOW, plan, png
from ..processes import ROOT, Example

PATIENCE = 30  # seconds
SERVERS = ["hypercorn", "sselib"]
DEX = {"x-api-key": "dex_demo", "x-selected-account-id": "acct_demo"}
BEDROCK = {"authorization": "Bearer sk_demo"}
GUILD = {"authorization": "Bearer acc_demo"}


class Demo(Example):
    """A running demo."""

    @property
    def files_url(self) -> str:
        """Where file updates alone are."""
        return self.said[-1].split()[2].removesuffix("/api/updates")

    @property
    def directory(self) -> Path:
        """What is watched."""
        return self.folder / "watched"

    def ask(self, method: str, path: str, headers: dict[str, str], **options: Any) -> Any:
        """Send a request that is answered with JSON."""
        url = urljoin(self.url, path)
        response = requests.request(method, url, headers=headers, timeout=PATIENCE, **options)
        assert response.ok, response.text
        return response.json()

    def stream(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        """Open a stream."""
        url = urljoin(self.url, url)
        response = requests.get(url, headers=headers, stream=True, timeout=PATIENCE)
        assert response.headers["content-type"] == "text/event-stream"
        return response


def lines_of(response: requests.Response) -> Iterator[bytes]:
    """Return the lines of a stream, whose first one has come."""
    lines: Iterator[bytes] = response.iter_lines(chunk_size=1)
    assert next(lines) == b": connected"
    return lines


def data_of(lines: Iterator[bytes]) -> Iterator[Any]:
    """Yield the JSON of the data lines, as the documented clients do."""
    for line in lines:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts the demo with further arguments."""
    directory = tmp_path / "watched"
    directory.mkdir()
    always = ("--watch", str(directory), "--files-port", "0")
    with Demo.starting("examples.demo", tmp_path, *always, is_up="at their own port") as start:
        yield start


@pytest.mark.parametrize("server", SERVERS)
def test_each_page_is_there_with_all_that_it_needs(start: Start, server: str) -> None:
    """Under its name, with and without the slash behind it; what a page names is found."""
    demo = start("--server", server)
    index = requests.get(demo.url, timeout=PATIENCE)
    names = re.findall(r'<h2><a href="(\w+)/">', index.text)
    assert names == ["files", "dex", "bedrock", "guild"]
    for name in ["", *names]:
        page = requests.get(urljoin(demo.url, name), timeout=PATIENCE)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        for needed in re.findall(r'<(?:link|script)[^>]*(?:href|src)="([^"]+)"', page.text):
            if not needed.startswith("data:"):
                found = requests.get(urljoin(page.url, needed), timeout=PATIENCE)
                assert found.status_code == 200, found.url
    assert requests.get(urljoin(demo.url, "nothing"), timeout=PATIENCE).status_code == 404


@pytest.mark.parametrize("server", SERVERS)
def test_file_updates_are_at_both_their_places(start: Start, server: str) -> None:
    """The same update at the documented port and under the name; nothing else at that port."""
    demo = start("--server", server)
    streams = [
        lines_of(demo.stream("files/api/updates")),
        lines_of(demo.stream(f"{demo.files_url}/api/updates")),
    ]
    (demo.directory / "a.md").write_text("# Something new\n")
    for stream in streams:
        updates = data_of(stream)
        created = next(update for update in updates if update["opcode"] == "file_created")
        assert created["data"] == {"path": str(demo.directory / "a.md")}
        assert any(update["opcode"] == "file_complete" for update in updates)
    assert requests.get(f"{demo.files_url}/dex/", timeout=PATIENCE).status_code == 404
    found = demo.ask("POST", "files/api/search/", {}, json={"query": "something"})
    assert len(found["results"]) == 1


@pytest.mark.parametrize("server", SERVERS)
def test_dex_parses_a_document(start: Start, server: str) -> None:
    """From the upload to the chunks, and the stream to its end."""
    demo = start("--server", server)
    project = "dex/v1/projects/proj_demo"
    file = {"file": ("a.md", b"# One\n\nTwo three.\n")}
    uploaded = demo.ask("POST", f"{project}/files", DEX, files=file)
    parse = {"source_document_id": uploaded["id"], "parameters": {}}
    job = demo.ask("POST", f"{project}/parse", DEX, json=parse)
    body = demo.stream(f"{project}/jobs/{job['id']}/updates", DEX).content.decode()
    assert re.findall(r"^event: (\w+)$", body, re.MULTILINE)[-2:] == ["job_status", "done"]
    finished = demo.ask("GET", f"{project}/jobs/{job['id']}", DEX)
    assert finished["status"] == "succeeded"


@pytest.mark.parametrize("server", SERVERS)
def test_bedrock_compares_two_drawings(start: Start, server: str) -> None:
    """The URLs that it hands out lead back under its name."""
    demo = start("--server", server)
    blocks = []
    for drawing in (plan(DOOR), plan(WINDOW)):
        file = {"project_id": "prj_demo", "filename": "a.png", "content_type": "image/png"}
        upload = demo.ask("POST", "bedrock/files", BEDROCK, json=file)["data"]
        uploaded = demo.ask("PUT", upload["upload_url"], BEDROCK, data=png(drawing))
        blocks.append(uploaded["data"]["block_id"])
    body = {"old_id": blocks[0], "new_id": blocks[1], "type": "Block"}
    job_id = demo.ask("POST", "bedrock/compare", BEDROCK, json=body)["job_id"]
    *_, last = data_of(lines_of(demo.stream(f"bedrock/jobs/{job_id}/stream", BEDROCK)))
    assert last["status"] == "COMPLETED"
    overlay_id = last["results"]["overlay"]["overlay_id"]
    overlay = demo.ask("GET", f"bedrock/overlays/{overlay_id}", BEDROCK)["data"]
    picture = requests.get(overlay["uri"], headers=BEDROCK, timeout=PATIENCE)
    assert picture.content.startswith(b"\x89PNG")


@pytest.mark.parametrize("server", SERVERS)
def test_guild_builds_a_site(start: Start, server: str) -> None:
    """Its ``sseUrl`` is whole, and leads to the stream."""
    demo = start("--server", server)
    brief = {"title": "Brook", "briefText": "# Brook\n\nA cafe by the brook, with a garden.\n"}
    submitted = demo.ask("POST", "guild/briefs", GUILD, json=brief)
    assert submitted["sseUrl"].startswith(urljoin(demo.url, "guild/projects/"))
    *_, last = data_of(lines_of(demo.stream(submitted["sseUrl"], GUILD)))
    assert last == {"status": "done", "progress": 1, "currentStep": "Complete"}


@pytest.mark.parametrize("server", SERVERS)
def test_jobs_are_there_after_a_kill(start: Start, server: str, tmp_path: Path) -> None:
    """With a directory for its data, what was finished is found by the next process."""
    data = str(tmp_path / "data")
    first = start("--server", server, "--data", data)
    brief = {"title": "Brook", "briefText": "# Brook\n\nA cafe by the brook, with a garden.\n"}
    submitted = first.ask("POST", "guild/briefs", GUILD, json=brief)
    assert list(data_of(lines_of(first.stream(submitted["sseUrl"], GUILD))))
    first.process.kill()
    first.process.wait()

    second = start("--server", server, "--data", data)
    path = urlsplit(submitted["sseUrl"]).path.lstrip("/")
    assert list(data_of(lines_of(second.stream(path, GUILD)))) == [
        {"status": "done", "progress": 1, "currentStep": "Complete"}
    ]


@pytest.mark.parametrize("server", SERVERS)
def test_it_is_gone_soon_after_a_signal(start: Start, server: str) -> None:
    """Streams of file updates are told, and no client can hold it."""
    demo = start("--server", server)
    updates = lines_of(demo.stream("files/api/updates"))
    with socket.create_connection(("127.0.0.1", urlsplit(demo.url).port or 0)) as silent:
        silent.sendall(b"GET /files/api/updates HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        silent.sendall(b"Accept: text/event-stream\r\n\r\n")
        assert silent.recv(12) == b"HTTP/1.1 200"
        began = time.monotonic()
        demo.process.send_signal(signal.SIGTERM)
        assert [update["opcode"] for update in data_of(updates)][-1] == "shutting_down"
        assert demo.process.wait(timeout=PATIENCE) == 0
        assert time.monotonic() - began < PATIENCE


def test_it_says_what_it_cannot(start: Start) -> None:
    """One line each: a port that is taken, a host that is not this machine alone."""
    demo = start()
    port = str(urlsplit(demo.url).port)
    command = [sys.executable, "-m", "examples.demo", "--files-port", "0"]
    taken = subprocess.run(
        [*command, "--port", port], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert taken.returncode == 1
    assert taken.stderr == (
        f"cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another by --port\n"
    )
    open_to_all = subprocess.run(
        [*command, "--host", "0.0.0.0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert open_to_all.returncode == 2
    assert "not a loopback address" in open_to_all.stderr
