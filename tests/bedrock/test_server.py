"""The example as its users meet it: a process of its own, the documented clients, real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import requests

from ..processes import ROOT, Example
from .drawings import DOOR, WINDOW, plan, png
from .service import DEMO, FILE

PATIENCE = 20  # seconds

# As documented: lines that begin with "data: " are taken for JSON, and the loop ends with the body.
PYTHON_CLIENT = """
import json, requests, sys
response = requests.get(sys.argv[1], headers={"Authorization": "Bearer sk_demo"}, stream=True)
for line in response.iter_lines():
    if line.startswith(b"data: "):
        event = json.loads(line[6:])
        print(event["type"], event["status"], flush=True)
"""


@attrs.define(eq=False)
class Server:
    """A running example."""

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def send(self, method: str, path: str, **options: Any) -> Any:
        url = path if path.startswith("http") else self.url + path
        response = requests.request(method, url, headers=DEMO, timeout=PATIENCE, **options)
        assert response.ok, response.text
        return response.json()

    def upload(self, content: bytes) -> str:
        url = self.send("POST", "/files", json=FILE)["data"]["upload_url"]
        return str(self.send("PUT", url, data=content)["data"]["block_id"])

    def compare(self, old: bytes, new: bytes) -> str:
        body = {"old_id": self.upload(old), "new_id": self.upload(new), "type": "Block"}
        return str(self.send("POST", "/compare", json=body)["job_id"])


Start = Callable[..., Server]


@pytest.fixture(params=["hypercorn", "sselib"])
def start_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts the example, with further arguments, and waits until it is up."""
    with Example.starting("examples.bedrock", tmp_path) as start:

        def start_server(*arguments: str) -> Server:
            example = start("--server", request.param, *arguments)
            return Server(example.url, example.process)

        yield start_server


def large(box: tuple[int, int, int, int], scale: int = 8) -> bytes:
    """Return a drawing that takes a moment to compare, or at twice that scale some seconds."""
    return png(plan(box).resize((400 * scale, 300 * scale)))


def test_the_client_compares_two_drawings(start_server: Start, tmp_path: Path) -> None:
    """It uploads them, follows the job, and prints progress and changes as they come."""
    server = start_server()
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_bytes(large(DOOR))
    new.write_bytes(large(WINDOW))
    command = [sys.executable, "examples/bedrock/client.py", server.url, str(old), str(new)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    end = lines.index("[completed] COMPLETED")
    assert all(line.startswith(("[status] ", "[progress] ")) for line in lines[:end])
    changes = [line.split(",")[0] for line in lines[end + 1 :]]
    assert changes == [
        "medium: Added in an area of 328 x 200 pixels",
        "medium: Removed in an area of 127 x 250 pixels",
    ]


def test_the_client_says_why_a_comparison_failed(start_server: Start, tmp_path: Path) -> None:
    """On standard error, with an exit code."""
    server = start_server()
    path = tmp_path / "old.png"
    path.write_bytes(b"no picture")
    command = [sys.executable, "examples/bedrock/client.py", server.url, str(path), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not a PNG file" in done.stderr
    assert "[failed] FAILED" in done.stdout


def test_the_documented_loop_reads_a_stream(start_server: Start) -> None:
    """It ends by itself, because the server ends the body after the terminal event."""
    server = start_server()
    url = f"{server.url}/jobs/{server.compare(large(DOOR), large(WINDOW))}/stream"
    command = [sys.executable, "-c", PYTHON_CLIENT, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    lines = done.stdout.splitlines()
    assert lines[-1] == "overlay.generate COMPLETED"
    assert set(lines[:-1]) <= {"overlay.generate PENDING", "overlay.generate RUNNING"}
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert again.stdout.splitlines() == ["overlay.generate COMPLETED"]


@pytest.mark.parametrize("kind", ["hypercorn", "sselib"])
def test_curl_prints_the_stream(
    start_server: Start, require_program: Callable[..., str], kind: str
) -> None:
    """The documented bytes, over a real connection of either server, with a proper end."""
    server = start_server("--server", kind)
    job_id = server.compare(large(DOOR), large(WINDOW))
    url = f"{server.url}/jobs/{job_id}/stream"
    curl = [require_program("curl"), "-sSN", "-H", "Authorization: Bearer sk_demo", url]
    done = subprocess.run(curl, capture_output=True, check=True, timeout=PATIENCE)
    blocks = done.stdout.split(b"\n\n")
    assert blocks[0] == b": connected"
    assert blocks[-1] == b""
    start = f'data: {{"job_id":"{job_id}","type":"overlay.generate","status":"COMPLETED"'.encode()
    event, data = blocks[-2].split(b"\n")
    assert event == b"event: completed"
    assert data.startswith(start)
    score = json.loads(data[6:])["results"]["overlay"]["score"]
    overlay = server.send("GET", "/overlays")["data"][0]
    assert overlay["score"] == score
    picture = requests.get(overlay["uri"], timeout=PATIENCE)
    assert picture.content.startswith(b"\x89PNG")


def test_the_limit_is_a_flag(start_server: Start) -> None:
    """The third request of two is refused."""
    server = start_server("--rate-limit", "2")
    seen = [requests.get(f"{server.url}/jobs", headers=DEMO, timeout=PATIENCE) for _ in range(3)]
    assert [response.status_code for response in seen] == [200, 200, 429]
    assert seen[2].headers["Retry-After"] in {"29", "30"}


def test_files_survive_in_a_directory(start_server: Start, tmp_path: Path) -> None:
    """Another process over the same one can compare what the first was given."""
    directory = tmp_path / "new" / "store"
    server = start_server("--data", str(directory))
    old, new = server.upload(png(plan(DOOR))), server.upload(png(plan(WINDOW)))
    server.process.terminate()
    assert server.process.wait(PATIENCE) == 0
    server = start_server("--data", str(directory), "--end-ids")
    body = {"old_id": old, "new_id": new, "type": "Block"}
    job_id = server.send("POST", "/compare", json=body)["job_id"]
    url = f"{server.url}/jobs/{job_id}/stream"
    with requests.get(url, headers=DEMO, stream=True, timeout=PATIENCE) as response:
        body_bytes = response.content
    (last,) = [line[4:] for line in body_bytes.decode().splitlines() if line.startswith("id: ")]
    headers = DEMO | {"Last-Event-ID": last}
    assert requests.get(url, headers=headers, timeout=PATIENCE).status_code == 204


def test_processes_that_share_a_directory_are_one_server(
    start_server: Start, tmp_path: Path
) -> None:
    """Whichever of two on one port is asked, and when one is killed the other has all of it."""
    arguments = ("--data", str(tmp_path / "data"), "--reuse-port", "--rate-limit", "1000")
    server = start_server(*arguments)
    other = start_server(*arguments, "--port", str(server.port))
    key = {"Idempotency-Key": "key-1"}
    url = f"{server.url}/files"
    announced = {
        requests.post(url, json=FILE, headers=DEMO | key, timeout=PATIENCE).content
        for _ in range(16)
    }
    assert len(announced) == 1
    jobs = [server.compare(png(plan(DOOR)), png(plan(WINDOW))) for _ in range(4)]
    for job_id in jobs:
        stream = requests.get(f"{url[:-6]}/jobs/{job_id}/stream", headers=DEMO, timeout=PATIENCE)
        assert b"event: completed" in stream.content
    overlays = server.send("GET", "/overlays")["data"]
    assert {each["job_id"] for each in overlays} == set(jobs)
    other.process.kill()
    other.process.wait()
    for overlay in overlays:
        assert requests.get(overlay["uri"], timeout=PATIENCE).content.startswith(b"\x89PNG")
    again = requests.post(url, json=FILE, headers=DEMO | key, timeout=PATIENCE)
    assert {again.content} == announced


@pytest.mark.parametrize("name", ["bedrock", "demo"])
def test_a_directory_that_cannot_be_used_is_an_error_that_says_so(
    tmp_path: Path, name: str
) -> None:
    """Nothing is served, and what is there is left alone."""
    mine = tmp_path / "bedrock" if name == "demo" else tmp_path
    mine.mkdir(exist_ok=True)
    (mine / "bedrock.db").write_text("what is that?" * 100)
    command = [sys.executable, "-m", f"examples.{name}", "--port", "0", "--data", str(tmp_path)]
    command += ["--files-port", "0"] if name == "demo" else []
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert done.stderr.endswith(f"{mine / 'bedrock.db'}: file is not a database\n")
    assert (mine / "bedrock.db").read_text().startswith("what is that?")


def test_a_port_is_shared_with_a_directory(tmp_path: Path) -> None:
    """Without one it is refused, with the reason: a client would find its files by chance."""
    command = [sys.executable, "-m", "examples.bedrock", "--port", "0", "--reuse-port", "--log"]
    refused = subprocess.run(
        [*command, f"sqlite:{tmp_path / 'log'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr == "--reuse-port needs a directory that the processes share: --data DIR\n"


def test_jobs_survive_a_server_that_is_killed(start_server: Start, tmp_path: Path) -> None:
    """What it had finished is there, and what it had not is told to have been interrupted."""
    server = start_server("--data", str(tmp_path / "store"))
    done = server.compare(png(plan(DOOR)), png(plan(WINDOW)))
    with requests.get(
        f"{server.url}/jobs/{done}/stream", headers=DEMO, stream=True, timeout=PATIENCE
    ) as response:
        end = response.content.split(b"\n\n")[-2]
    running = server.compare(large(DOOR, 16), large(WINDOW, 16))
    with requests.get(
        f"{server.url}/jobs/{running}/stream", headers=DEMO, stream=True, timeout=PATIENCE
    ) as response:
        assert b"event: progress" in response.iter_lines()
        server.process.kill()
        server.process.wait()
    server = start_server("--data", str(tmp_path / "store"))
    url = f"{server.url}/jobs/{done}/stream"
    with requests.get(url, headers=DEMO, stream=True, timeout=PATIENCE) as response:
        assert response.content == b": connected\n\n" + end + b"\n\n"
    # Whoever ran it is known to be gone when its lease has run out, and the stream says so.
    url = f"{server.url}/jobs/{running}/stream"
    with requests.get(url, headers=DEMO, stream=True, timeout=2 * PATIENCE) as response:
        assert b"event: failed" in response.content
    job = server.send("GET", f"/jobs/{running}")["data"]
    assert (job["status"], job["error"]["code"]) == ("FAILED", "interrupted")


def test_the_process_is_gone_soon_after_a_signal(start_server: Start) -> None:
    """Streams are ended without a word that is not documented, and what runs is interrupted."""
    server = start_server()
    job_id = server.compare(large(DOOR), large(WINDOW))
    url = f"{server.url}/jobs/{job_id}/stream"
    with (
        socket.create_connection(("127.0.0.1", server.port)) as silent,
        requests.get(url, headers=DEMO, stream=True, timeout=PATIENCE) as response,
    ):
        silent.sendall(
            f"GET /jobs/{job_id}/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: sk_demo\r\n\r\n".encode()
        )
        assert next(response.iter_lines()) == b": connected"
        os.kill(server.process.pid, signal.SIGTERM)
        assert b"retry:" not in response.content
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--rate-limit", "0"], "not a positive number"), (["--rate-limit", "x"], "not a positive")],
)
def test_wrong_arguments_are_an_error_that_names_them(arguments: list[str], message: str) -> None:
    """Nothing is served, and the reason is one line on standard error."""
    command = [sys.executable, "-m", "examples.bedrock", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
