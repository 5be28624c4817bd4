"""Start servers and clients for them, and measure: what the benchmarks of servers share.

A server is a process on a core of its own, and so is its client, which is :file:`load.c` where
there is a C compiler, and else Python (:mod:`benchmarks.load`), which is no match for the fastest
servers: the report says so. Servers are measured one after the other, each started anew, so that
none has the other's work beside it.

CPU time is that of the server's processes with all their threads, from /proc/PID/task/*/schedstat
in nanoseconds, and is what to compare; delays and wall times are worth something only beside those
of another row of the same run. All get the same request, which asks for an event stream as browsers
do, and the same event type and data.

The publisher is in the server's process, and its work is counted with that of the server. With
nchan (:mod:`benchmarks.nchan`) it cannot be: nginx is published to by requests. So what makes
events is not counted there, and shares the client's core; what it costs nginx to take a request for
each event is counted, once for all streams; and a delay begins before that request.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

import attrs

from . import measuring, nchan
from .measuring import ABSENT, PEERS_DIRECTORY, Report, Row, program
from .stream_events import MARK

HERE: Final = Path(__file__).parent
BURST: Final = 50  # connections that are made at once
GRACE: Final = 10.0  # seconds that a server has to end of itself
LOAD: Final = [sys.executable, "-m", "benchmarks.load"]


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


def compiled(source: str) -> Path | None:
    """Compile a program of this folder and return it; ``None`` if there is no compiler."""
    compiler = program("go" if source.endswith(".go") else "cc")
    return None if compiler is None else _compiled(compiler, source)


@cache
def _compiled(compiler: str, source: str) -> Path:
    built = PEERS_DIRECTORY / Path(source).stem
    PEERS_DIRECTORY.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2"]
    if source.endswith(".go"):  # it optimizes as it is, and wants a place for what it made before
        command = ["env", f"GOCACHE={PEERS_DIRECTORY / 'go'}", compiler, "build"]
    measuring.run([*command, "-o", str(built), str(HERE / source)]).check_returncode()
    return built


def _built(source: str) -> Callable[[], Sequence[str] | None]:
    def command() -> Sequence[str] | None:
        built = compiled(source)
        return None if built is None else [str(built)]

    return command


def _node() -> Sequence[str] | None:
    node = program("node")
    return None if node is None else [node, str(HERE / "node_server.js")]


@cache
def _better_sse() -> Sequence[str] | None:
    node, npm = program("node"), program("npm")
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
    "c": Kind("send() loop in C", _built("send_loop.c")),
    "sselib": Kind("sselib", _here("sselib")),
    "sselib-starlette": Kind("sselib, in Starlette", _here("sselib-starlette")),
    "sselib-hypercorn": Kind("sselib on Hypercorn", _here("sselib-hypercorn")),
    "go": Kind("Go net/http", _built("go_server.go")),
    "nchan": Kind("nginx, nchan", nchan.command),
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
    """A server, and the client that has connections to it, each in a process of its own.

    Attributes:
        process: What obeys and publishes.
        pids: The server's processes.
        client: The client.
    """

    process: subprocess.Popen[str]
    pids: Sequence[int]
    client: subprocess.Popen[str]
    streams: int = 0
    busiest: float = 0.0  # the largest share of its core that the client used

    def cpu(self) -> float:
        """Return the CPU seconds that the server has used."""
        return sum(map(_cpu_seconds, self.pids))

    def memory(self) -> int:
        """Return the KiB of memory that the server occupies."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * resource.getpagesize() // 1024

    def files(self) -> int:
        """Return how many files and connections the server has open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids)

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

    def hold(self, connections: int, *, silent: bool) -> None:
        """Make so many connections that are idle; `silent` ones have not had a request either."""
        self._ask(f"hold {connections} {'silent' if silent else 'kept'}")

    def closed(self) -> int:
        """Return how many idle connections the server has closed."""
        return int(self._ask("closed")[1])

    def ask(self, requests: int) -> tuple[float, float]:
        """Make ordinary requests, one after the other; return the p50 and p99 of their ms."""
        _, p50, p99, _ = self._ask(f"ask {requests}")
        return p50, p99

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
def measured(
    kind: Kind, load: Sequence[str] | None = None, **environment: str
) -> Iterator[Measured | None]:
    """Start a server and its client for a ``with``; give ``None`` if it is not to be had.

    Args:
        kind: The server.
        load: What starts the client; ``None``: the fastest.
        environment: What the server's process finds in its environment besides.
    """
    command = kind.command()
    if command is None:
        yield None
        return
    if load is None:
        fastest = compiled("load.c")
        load = LOAD if fastest is None else [str(fastest)]
    server_core, client_core = measuring.cores()
    print(f"{kind.title} ...", file=sys.stderr, flush=True)
    with _process(command, server_core, os.environ | environment) as process:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        if not said:
            raise SystemExit(f"{kind.title} did not start")
        port, *pids = said
        if pids:  # then it is another's processes that serve
            os.sched_setaffinity(process.pid, {client_core})
        with _process([*load, port, MARK], client_core, os.environ) as client:
            yield Measured(process, [int(pid) for pid in pids] or [process.pid], client)


@contextmanager
def _process(
    command: Sequence[str], core: int, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run a program that the end of its input ends."""
    with measuring.pinned(command, core, environment) as process:
        try:
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
            yield process
        finally:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()


def _cpu_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def chosen(names: Sequence[str], among: Sequence[str] = tuple(KINDS)) -> list[Kind]:
    """Return the servers of these names, which are among those; all of those if there are none."""
    for name in names:
        if name not in among:
            raise SystemExit(f"no server {name!r} is measured here, but {', '.join(among)}")
    return [KINDS[name] for name in names or among]


def report(
    benchmark: str,
    found: Mapping[str, Mapping[str, float | str] | None],
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
