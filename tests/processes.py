"""The examples as processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import attrs

ROOT = Path(__file__).parent.parent


@attrs.define(eq=False)
class Example:
    """A running example.

    Attributes:
        url: Where it answers, without a final slash.
        process: The process.
        said: What it printed up to the line that says that it is up.
        folder: Where it may leave files.
    """

    url: str
    process: subprocess.Popen[str]
    said: list[str]
    folder: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self, seconds: float = 15) -> int:
        """Send SIGTERM and return the exit code, which must come within so many seconds."""
        self.process.terminate()
        return self.process.wait(timeout=seconds)

    def kill(self) -> None:
        """End it at once, as an accident would."""
        self.process.kill()
        self.process.wait()

    @classmethod
    @contextmanager
    def starting(
        cls, module: str, folder: Path, *always: str, is_up: str = "In a browser:"
    ) -> Iterator[Callable[..., Self]]:
        """Give a function that starts one, with further arguments, and waits until it is up.

        Args:
            module: The example.
            folder: Where it may leave files.
            always: Arguments that it gets each time.
            is_up: In the last line that it prints when it is up.
        """
        started: list[subprocess.Popen[str]] = []

        def start(*arguments: str, port: int = 0) -> Self:  # type: ignore[type-var] # it is that of starting()
            log = folder / f"log{len(started)}"
            with log.open("w") as errors:
                process = subprocess.Popen(
                    [sys.executable, "-m", module, "--port", str(port), *always, *arguments],
                    cwd=ROOT,
                    env={**os.environ, "TMPDIR": str(folder)},  # what it leaves when it is killed
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            started.append(process)
            assert process.stdout is not None
            said: list[str] = []
            for line in process.stdout:
                said.append(line.rstrip("\n"))
                if is_up in line:
                    url = re.search(r"http://[^\s/]+", "\n".join(said))
                    assert url is not None
                    return cls(url[0], process, said, folder)
            raise AssertionError(f"it did not start: {log.read_text()}")

        try:
            yield start
        finally:
            for process in started:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


Start = Callable[..., Example]
