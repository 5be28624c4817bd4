"""The clients of the API's documentation against the real server, and clients that misbehave."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Server

Start = Callable[..., Server]

# As documented, but for the port.
PYTHON_CLIENT = """
import requests
import json
response = requests.get(
'http://localhost:60534/api/updates',
headers={'Accept': 'text/event-stream'},
stream=True
)
for line in response.iter_lines():
    if line:
        decoded = line.decode('utf-8')
        if decoded.startswith('data: '):
            event = json.loads(decoded[6:])
            print(f"[{event['opcode']}] {event['data']}")
"""


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a client and give it; it is killed at the end."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def wait_for_subscribers(server: Server, count: int) -> None:
    """Wait until so many connections to the server are established."""
    port = f":{server.port:04X}"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        fields = [line.split() for line in lines]
        if sum(f[1].endswith(port) and f[3] == "01" for f in fields) >= count:
            return
        os.sched_yield()
    raise AssertionError("no client connected")


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip("\n")


def test_curl_prints_the_documented_bytes(
    start_server: Start, require_program: Callable[..., str]
) -> None:
    """The documented command prints each update as an event, and ends when the server stops."""
    server = start_server()
    url = f"http://localhost:{server.port}/api/updates"
    curl = [require_program("curl"), "-sN", "-H", "Accept: text/event-stream", url]
    with running(curl) as client:
        lines = lines_of(client)
        assert [next(lines), next(lines)] == [": connected", ""]
        path = server.directory / "file.txt"
        path.touch()
        assert next(lines) == "event: update"
        expected = f'{{"opcode": "file_created", "data": {{"path": "{path}"}}}}'
        assert [next(lines), next(lines)] == [f"data: {expected}", ""]
        assert next(lines) == "event: update"
        assert next(lines).startswith('data: {"opcode": "queue_item_added", "data": {"id": "')
        assert next(lines) == ""
        assert server.stop() == 0
        assert list(lines) == [
            "event: update",
            'data: {"opcode": "shutting_down", "data": {}}',
            "",
        ]
        assert client.wait() == 0  # the body has a proper end


def test_the_documented_python_client_prints_opcodes_and_data(start_server: Start) -> None:
    """A loop over lines that begin with ``data: `` gets each update."""
    pytest.importorskip("requests")
    server = start_server()
    script = PYTHON_CLIENT.replace("60534", str(server.port))
    with running([sys.executable, "-c", script]) as client:
        lines = lines_of(client)
        assert client.stdout is not None
        pattern = re.compile(r"\[file_created\] \{'path': '(.*)'\}")
        number = 0
        while not select.select([client.stdout], [], [], 0.05)[0]:  # it is still connecting
            number += 1
            (server.directory / f"{number}.txt").touch()
        found = pattern.fullmatch(next(lines))
        assert found is not None
        assert Path(found[1]).parent == server.directory


def test_the_process_is_gone_soon_after_a_signal_whatever_its_clients_do(
    start_server: Start,
) -> None:
    """A client that never reads delays neither the others nor the exit."""
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.sendall(
            b"GET /api/updates HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )
        wait_for_subscribers(server, 1)
        name = "x" * 200
        for number in range(3000):
            (server.directory / f"{name}{number}").touch()
        started = time.monotonic()
        assert server.stop(seconds=2 + 2) == 0
        assert time.monotonic() - started < 2 + 2


def test_a_killed_server_leaves_its_port_to_the_next(start_server: Start) -> None:
    """After kill -9 with an open stream a new process listens at once."""
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /api/updates HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        assert start_server(port=server.port).port == server.port


def test_the_defaults_are_those_of_the_documentation() -> None:
    """The port, the seconds between two keepalives, and those for which a file cools down."""
    command = [sys.executable, "-m", "examples.file_updates", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = " ".join(done.stdout.split())
    assert "listen on this port; 0 for any (60534)" in said
    assert "send a comment after this long without an update (15.0)" in said
    assert "index a file when it has not changed for this long (60.0)" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "not a loopback address"),
        (["--keepalive", "0"], "positive"),
        (["--cooldown", "nan"], "positive"),
        (["--watch", "/does/not/exist"], "/does/not/exist"),
        (["--data", "/does/not/exist"], "/does/not/exist"),
    ],
)
def test_wrong_arguments_are_an_error_that_names_them(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Nothing is served, and the reason is one line on standard error."""
    command = [
        sys.executable,
        "-m",
        "examples.file_updates",
        "--watch",
        str(tmp_path),
        "--port",
        "0",
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
