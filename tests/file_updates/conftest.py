"""The example as its users meet it: a process of its own, over a directory of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent.parent


@attrs.define(eq=False)
class Server:
    """A running example.

    Attributes:
        directory: The directory it watches.
        url: Where it answers, without a final slash.
        process: The process.
        log: The file that holds what it says on standard error.
    """

    directory: Path
    url: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self, seconds: float = 8) -> int:
        """Send SIGTERM and return the exit code, which must come within so many seconds."""
        self.process.terminate()
        return self.process.wait(timeout=seconds)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Give a function that starts the example, with further arguments, and waits until it is up."""
    directory = tmp_path / "watched"
    directory.mkdir()
    started: list[Server] = []

    def start(*arguments: str, port: int = 0) -> Server:
        log = tmp_path / f"log{len(started)}"
        command = [sys.executable, "-m", "examples.file_updates", "--watch", str(directory)]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, "--port", str(port), *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("In a terminal:"):
                url = line.split()[-1].removesuffix("/api/updates")
                started.append(Server(directory.resolve(), url, process, log))
                return started[-1]
        raise AssertionError(f"it did not start: {log.read_text()}")

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()
