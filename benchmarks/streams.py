"""Start servers of event streams and clients for them, and measure: what four benchmarks share.

A server is a process on a core of its own, and so is its client, which is :file:`load.c` where
there is a C compiler, and else Python (:mod:`benchmarks.load`), which is no match for the fastest
servers: the report says so. Servers are measured one after the other, each started anew, so that
none has the other's work beside it.

CPU time is that of the server's process with all its threads, from /proc/PID/task/*/schedstat in
nanoseconds, and is what to compare; delays and wall times are worth something only beside those of
another row of the same run.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import attrs

from . import measuring
from .measuring import ABSENT, PEERS_DIRECTORY, ROOT, Report, Row
from .stream_events import MARK

HERE: Final = Path(__file__).parent
BURST: Final = 50  # connections that are made at once


@attrs.frozen
class Kind:
    """A server that can be measured.

    Attributes:
        title: What it is called in tables.
        command: Returns what starts it; ``None`` if it is not to be had here.
    """

    title: str
    command: Callable[[], Sequence[str] | None]


def _here(name: str) -> Callable[[], Sequence[str]]:
    return lambda: [sys.executable, "-m", "benchmarks.stream_servers", name]


def _peer(name: str, *packages: str) -> Callable[[], Sequence[str] | None]:
    def command() -> Sequence[str] | None:
        python = measuring.peers_python(packages)
        if all((python.parent.parent / f"{package}.installed").exists() for package in packages):
            return [str(python), "-m", "benchmarks.stream_peers", name]
        return None

    return command


@cache
def compiled(source: str) -> Path | None:
    """Compile a C program of this folder and return it; ``None`` if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = PEERS_DIRECTORY / Path(source).stem
    PEERS_DIRECTORY.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-o", str(program), str(HERE / source)]
    measuring.run(command).check_returncode()
    return program


def _send_loop() -> Sequence[str] | None:
    program = compiled("send_loop.c")
    return None if program is None else [str(program)]


def _node() -> Sequence[str] | None:
    node = shutil.which("node")
    return None if node is None else [node, str(HERE / "node_server.js")]


@cache
def _better_sse() -> Sequence[str] | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    folder = PEERS_DIRECTORY / "node"
    package = folder / "node_modules" / "better-sse"
    if not package.exists():
        print("installing better-sse for comparison", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
        if measuring.run([*command, "better-sse"]).returncode:
            return None
    return [node, str(HERE / "node_server.js"), str(package)]


KINDS: Final = {
    "c": Kind("send() loop in C", _send_loop),
    "sselib": Kind("sselib", _here("sselib")),
    "sselib-starlette": Kind("sselib, in Starlette", _here("sselib-starlette")),
    "sselib-hypercorn": Kind("sselib on Hypercorn", _here("sselib-hypercorn")),
    "node": Kind("node:http", _node),
    "better-sse": Kind("node, better-sse", _better_sse),
    "starlette": Kind("uvicorn, Starlette", _peer("starlette", "uvicorn[standard]", "starlette")),
    "sse-starlette": Kind(
        "uvicorn, sse-starlette",
        _peer("sse-starlette", "uvicorn[standard]", "starlette", "sse-starlette"),
    ),
}


@attrs.define(eq=False)
class Measured:
    """A server in its process, and the client that has streams open to it."""

    process: subprocess.Popen[str]
    client: subprocess.Popen[str]
    streams: int = 0
    busiest: float = 0.0  # the largest share of its core that the client used

    def cpu(self) -> float:
        """Return the CPU seconds that the server has used."""
        return _cpu_seconds(self.process.pid)

    def memory(self) -> int:
        """Return the KiB of memory that the server occupies."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() // 1024

    def open(self, streams: int, burst: int = BURST) -> float:
        """Open so many more streams and return the seconds that took."""
        self.streams += streams
        return self._ask(f"open {streams} {burst}")[0]

    def deliver(self, events: int, rate: float) -> list[float]:
        """Publish and read so many events; return seconds, and p50, p99 and all delays in ms."""
        before = _cpu_seconds(self.client.pid)
        self._tell(self.client, f"read {events * self.streams}")
        self.publish(events, rate)
        answer = self._answer()
        used = _cpu_seconds(self.client.pid) - before
        self.busiest = max(self.busiest, used / answer[0])
        return answer

    def publish(self, events: int, rate: float) -> None:
        """Have the server publish so many events."""
        self._tell(self.process, f"{events} {rate}")

    def mute(self) -> None:
        """Read nothing any more."""
        self._ask("mute")

    def _ask(self, line: str) -> list[float]:
        self._tell(self.client, line)
        return self._answer()

    def _tell(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        print(line, file=process.stdin, flush=True)

    def _answer(self) -> list[float]:
        assert self.client.stdout is not None
        line = self.client.stdout.readline()
        if not line:
            raise SystemExit("the load client gave up, for the reason above")
        return [float(word) for word in line.split()]


@contextmanager
def measured(kind: Kind, **environment: str) -> Iterator[Measured | None]:
    """Start a server and its client for an ``with``; give ``None`` if it is not to be had."""
    command = kind.command()
    if command is None:
        yield None
        return
    program = compiled("load.c")
    load = [sys.executable, "-m", "benchmarks.load"] if program is None else [str(program)]
    server_core, client_core = measuring.cores()
    print(f"{kind.title} ...", file=sys.stderr, flush=True)
    with _process(command, os.environ | environment) as process:
        os.sched_setaffinity(process.pid, {server_core})
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise SystemExit(f"{kind.title} did not start")
        with _process([*load, port, MARK], os.environ) as client:
            os.sched_setaffinity(client.pid, {client_core})
            yield Measured(process, client)


@contextmanager
def _process(
    command: Sequence[str], environment: dict[str, str] | os._Environ[str]
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
            yield process
        finally:
            process.kill()


def _cpu_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def chosen(names: Sequence[str]) -> list[Kind]:
    """Return the servers of these names; all if there are none."""
    return [KINDS[name] for name in names or KINDS]


def report(
    benchmark: str,
    found: dict[str, dict[str, float] | None],
    what: Sequence[tuple[str, str, str]],
    *,
    notes: Sequence[str] = (),
    settings: dict[str, float | str],
) -> Report:
    """Make a table of what was found: a column for each server, a row for each figure."""
    return Report(
        benchmark=benchmark,
        columns=list(found),
        rows=[
            Row(
                what=name,
                unit=unit,
                target=target,
                figures={
                    title: ABSENT if figures is None else figures[name]
                    for title, figures in found.items()
                    if figures is None or name in figures
                },
            )
            for name, unit, target in what
        ],
        notes=[
            *notes,
            *(
                ["There is no C compiler: the client is slow."]
                if compiled("load.c") is None
                else []
            ),
        ],
        settings=settings,
    )
