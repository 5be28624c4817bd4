"""The clients of the API's documentation against the real server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from ..processes import ROOT
from .conftest import Server

Start = Callable[..., Server]
Require = Callable[..., str]

DONE = {"status": "done", "progress": 1, "currentStep": "Complete"}
STATUSES = ("parsing", "decomposing", "executing", "done")

# As documented, but for the host.
WATCH_JOB = """
async function watchJob(projectId, token) {
const res = await fetch(
`https://api.guild.city/projects/${projectId}/sse`,
{ headers: { Authorization: `Bearer ${token}` } }
)
const reader = res.body.getReader()
const decoder = new TextDecoder()
while (true) {
const { done, value } = await reader.read()
if (done) break
const text = decoder.decode(value)
for (const line of text.split('\\n')) {
if (line.startsWith('data: ')) {
const data = JSON.parse(line.slice(6))
console.log(data.status, data.progress)
}
}
}
}
"""


def in_order(statuses: list[str]) -> bool:
    """Return whether it executed, and each status came after those before it."""
    return "executing" in statuses and statuses == sorted(statuses, key=STATUSES.index)


@pytest.mark.parametrize("name", ["hypercorn", "sselib"])
def test_curl_prints_what_happens_and_ends(
    start_server: Start, require_program: Require, name: str
) -> None:
    """The documented command, begun while the project waits, sees it from its first step on."""
    server = start_server("--server", name)
    url = server.submit_behind(25)["sseUrl"]
    command = [require_program("curl"), "-sN", url, "-H", "Authorization: Bearer acc_demo"]
    done = subprocess.run(
        [*command, "-H", "Accept: text/event-stream"],
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
    )
    first, *blocks, rest = done.stdout.split("\n\n")
    assert (first, rest) == (": connected", "")
    states = [json.loads(block.removeprefix("data: ")) for block in blocks]
    assert blocks[0] == 'data: {"status":"parsing","progress":0.1,"currentStep":"Analyzing brief"}'
    # It is a real client of a busy server: what lasted too short a time for it is skipped.
    assert blocks[-1] == 'data: {"status":"done","progress":1,"currentStep":"Complete"}'
    assert in_order([state["status"] for state in states])


def test_the_fetch_client_prints_states_and_returns(
    server: Server, require_program: Require
) -> None:
    """Its loop, which splits each piece on line ends, meets whole events and a proper end."""
    id = server.submit_behind(25)["projectId"]
    script = WATCH_JOB.replace("https://api.guild.city", server.url)
    script += f"watchJob('{id}', 'acc_demo').then(() => console.log('over'))"
    done = subprocess.run(
        [require_program("node"), "-e", script],
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "parsing 0.1"
    assert lines[-2:] == ["done 1", "over"]
    assert in_order([line.split()[0] for line in lines[:-1]])


def test_who_polls_sees_the_same_states(server: Server) -> None:
    """Asked again and again, until it is done."""
    id = server.submit()["projectId"]
    states = [server.ask(f"/projects/{id}/status")]
    while states[-1]["status"] in ("parsing", "decomposing", "executing"):
        states.append(server.ask(f"/projects/{id}/status"))
    assert states[-1] == DONE
    progress = [state["progress"] for state in states]
    assert progress == sorted(progress)


def test_the_commands_that_it_prints_work(server: Server, require_program: Require) -> None:
    """The first submits the sample brief, and what it answers can be followed."""
    require_program("jq")
    curl = require_program("curl")
    command = server.said[1].removeprefix("In a terminal: ")
    answer = subprocess.run(
        command, shell=True, capture_output=True, check=True, text=True, timeout=20
    )
    url = json.loads(answer.stdout)["sseUrl"]
    follow = server.said[2].removeprefix("Then:").strip().replace("(the sseUrl)", url)
    stream = subprocess.run(
        follow.replace("curl", f"{curl} -s", 1),
        shell=True,
        capture_output=True,
        check=True,
        text=True,
        timeout=20,
    )
    assert stream.stdout.endswith(
        'data: {"status":"done","progress":1,"currentStep":"Complete"}\n\n'
    )


def test_the_process_is_gone_soon_after_a_signal(
    start_server: Start, require_program: Require
) -> None:
    """Streams end properly, without a word that is not documented, and work is given up."""
    server = start_server()
    url = server.submit_behind(50)["sseUrl"]
    command = [require_program("curl"), "-sN", url, "-H", "Authorization: Bearer acc_demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == ": connected\n"
        assert server.stop() == 0
        assert client.wait(timeout=10) == 0
        assert "retry" not in client.stdout.read()


def test_a_killed_server_leaves_its_port_to_the_next(start_server: Start) -> None:
    """After kill -9 with an open stream a new process listens at once; it knows no projects."""
    server = start_server()
    id = server.submit_behind(20)["projectId"]
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            f"GET /projects/{id}/sse HTTP/1.1\r\nHost: x\r\n"
            "Authorization: Bearer acc_demo\r\n\r\n".encode()
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        assert start_server(port=server.port).ask("/projects") == {"projects": []}


def test_processes_that_share_a_folder_are_one_server(start_server: Start, tmp_path: Path) -> None:
    """Whichever of two on one port is asked, it knows all projects, their streams and sites."""
    arguments = ("--data", str(tmp_path / "data"), "--reuse-port")
    server = start_server(*arguments)
    start_server(*arguments, port=server.port)
    ids = [server.submit("A bakery.\n")["projectId"] for _ in range(8)]
    for id in ids:
        headers = {"Authorization": "Bearer acc_demo"}
        url = f"{server.url}/projects/{id}/sse"
        stream = requests.get(url, headers=headers, timeout=20)
        *_, last = stream.text.rstrip().split("\n\n")
        assert json.loads(last.removeprefix("data: ")) == DONE
        site = requests.get(server.ask(f"/projects/{id}")["siteUrl"], timeout=20)
        assert "<h1>Crumb</h1>" in site.text
    assert {each["id"] for each in server.ask("/projects")["projects"]} == set(ids)


def test_tokens_and_the_public_url_are_options(start_server: Start) -> None:
    """What is handed out begins with the one; only those who have the other are let in."""
    server = start_server(
        *("--public-url", "https://api.guild.example/v1", "--token", "acc_demo", "--token", "acc_2")
    )
    url = server.submit("A bakery.\n")["sseUrl"]
    assert url.startswith("https://api.guild.example/v1/projects/prj_")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x"], "invalid int value"),
        (["--token", "secret"], "acc_"),
        (["--public-url", "guild.example"], "http"),
        (["--host", "256.0.0.1", "--port", "0"], "256.0.0.1"),
    ],
)
def test_wrong_arguments_are_an_error_that_names_them(arguments: list[str], message: str) -> None:
    """Nothing is served, and the reason is one line on standard error."""
    command = [sys.executable, "-m", "examples.guild", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=20
    )
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
