"""The example as its users meet it: a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

ROOT = Path(__file__).parent.parent.parent

# As much as a brief may hold, in as many sections: work for some time.
LONG = "".join(
    f"## Section {number}\n{'Words of this section, and [a link](#section-1). ' * 25}\n"
    for number in range(40)
)


@attrs.define(eq=False)
class Server:
    """A running example.

    Attributes:
        url: Where it answers, without a final slash.
        process: The process.
        said: What it printed when it was up.
    """

    url: str
    process: subprocess.Popen[str]
    said: list[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(self, path: str, body: object = None) -> Any:
        """Send a request with the demo token and return the JSON of its response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data, {"Authorization": "Bearer acc_demo"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def submit(self, brief: str = LONG, title: str = "Crumb") -> Any:
        """Submit a brief and return what is answered."""
        return self.ask("/briefs", {"title": title, "briefText": brief})

    def submit_behind(self, count: int, brief: str = LONG) -> Any:
        """Submit a brief that has to wait for so many others."""
        for number in range(count):
            self.submit(title=f"In front {number}")
        return self.submit(brief)

    def stop(self, seconds: float = 15) -> int:
        """Send SIGTERM and return the exit code, which must come within so many seconds."""
        self.process.terminate()
        return self.process.wait(timeout=seconds)


@contextmanager
def starting(folder: Path) -> Iterator[Callable[..., Server]]:
    """Give a function that starts the example, with further arguments, and waits until it is up."""
    started: list[Server] = []

    def start(*arguments: str, port: int = 0) -> Server:
        log = folder / f"log{len(started)}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "examples.guild", "--port", str(port), *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        server = Server("", process, [])
        started.append(server)
        assert process.stdout is not None
        for line in process.stdout:
            server.said.append(line.rstrip("\n"))
            if line.startswith("Then:"):
                server.url = server.said[0].split()[-1].rstrip("/")
                return server
        raise AssertionError(f"it did not start: {log.read_text()}")

    try:
        yield start
    finally:
        for server in started:
            server.process.kill()
            server.process.wait()
            assert server.process.stdout is not None
            server.process.stdout.close()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Give a function that starts servers of the test's own."""
    with starting(tmp_path) as start:
        yield start


@pytest.fixture(scope="module", params=["hypercorn", "sselib"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Give a server that the tests of a module share."""
    with starting(tmp_path_factory.mktemp("guild")) as start:
        yield start("--server", request.param)
