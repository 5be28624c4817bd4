"""The examples as processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent


@attrs.define(eq=False)
class Example:
    """A running example.

    Attributes:
        url: Where it answers, without a final slash.
        process: The process.
    """

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it at once, as an accident would."""
        self.process.kill()
        self.process.wait()


Start = Callable[..., Example]


@contextmanager
def starting(module: str, folder: Path) -> Iterator[Start]:
    """Give a function that starts the example, with further arguments, and waits until it is up."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, port: int = 0) -> Example:
        log = folder / f"log{len(started)}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "--port", str(port), *arguments],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(folder)},  # what it leaves when it is killed
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if url := re.search(r"http://[^\s/]+", line):
                return Example(url[0], process)
        raise AssertionError(f"it did not start: {log.read_text()}")

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
