"""Clients against the real server: the script that comes with it, curl, and a signal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from ..processes import ROOT, Example

HEADERS = ["-H", "x-api-key: dex_demo", "-H", "x-selected-account-id: acct_demo"]


@attrs.frozen
class Server:
    """The example as a process of its own."""

    process: subprocess.Popen[str]
    url: str

    @property
    def project(self) -> str:
        return f"{self.url}/v1/projects/proj_demo"


@pytest.fixture(params=["hypercorn", "sselib"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Start the example on a free port."""
    with Example.starting("examples.dex", tmp_path) as start:
        example = start("--server", request.param)
        yield Server(example.process, example.url)


def test_the_client_follows_a_job_to_its_end(server: Server, tmp_path: Path) -> None:
    """Each event is printed as it comes, then what became of the document."""
    document = tmp_path / "a.md"
    document.write_text("# One\ntext\n# Two\ntext\n")
    command = [sys.executable, "-m", "examples.dex.client", str(document), server.project]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    *lines, status, end, chunks = done.stdout.splitlines()
    assert status.split() == ["job_status", "succeeded"]
    assert end.split() == ["done", "succeeded"]
    assert chunks == "1 chunks"
    closed = {line.split()[1] for line in lines if line.endswith(" SUCCESS")}
    assert closed >= {"parse", "load_document", "parse_blocks", "parse_section", "chunk"}


def test_curl_gets_along(
    server: Server, tmp_path: Path, require_program: Callable[..., str]
) -> None:
    """Upload, start, follow, ask: with nothing but the two headers."""

    def curl(path: str, *options: str) -> str:
        command = [require_program("curl"), "-sS", "-N", *HEADERS, *options, server.project + path]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    document = tmp_path / "a.csv"
    document.write_text("name,size\na,1\n")
    file: dict[str, Any] = json.loads(curl("/files", "-F", f"file=@{document}"))
    start = json.dumps({"source_document_id": file["id"], "parameters": {}})
    job = json.loads(curl("/parse", "--json", start))
    updates = curl(f"/jobs/{job['id']}/updates")
    *_, last, rest = updates.split("\n\n")
    assert updates.startswith(": connected\n\nevent: ")
    assert last.splitlines()[1:] == [
        "event: done",
        f'data: {{"job_id":"{job["id"]}","status":"succeeded"}}',
    ]
    assert rest == ""
    id = last.splitlines()[0].removeprefix("id: ")
    again = curl(f"/jobs/{job['id']}/updates", "-H", f"Last-Event-ID: {id}", "-w", "%{http_code}")
    assert again == "204"


def test_a_signal_ends_it(server: Server) -> None:
    """SIGTERM, and the process is over by itself."""
    server.process.terminate()
    assert server.process.wait(timeout=15) == 0
