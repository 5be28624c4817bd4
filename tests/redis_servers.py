"""Redis or Valkey servers for tests: real processes, each with a directory of its own.

They log to a pipe, and are ready when they say so there.

As a program, `python -m tests.redis_servers URL PREFIX TOPIC NAME COUNT`, this is a publisher: it
appends that many batches of three entries, and prints a line for each that is acknowledged.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from sselib import NewEntry, ServerSentEvent

PROGRAMS: Final = ("redis-server", "valkey-server")


@attrs.define(eq=False)
class RedisServer:
    """A server that can be killed and started again on what it has written.

    Attributes:
        program: The path of redis-server or valkey-server.
        directory: Its own: its data and its socket are there.
        options: Further options, as on its command line.
        port: Its TCP port; 0 for none.
    """

    program: str
    directory: Path
    options: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, and return when it serves."""
        self.directory.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [
                *(self.program, "--dir", str(self.directory), "--port", str(self.port)),
                *("--unixsocket", str(self.socket), "--save", "", *self.options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            self.until("eady to accept connections")
        except AssertionError:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill it as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def until(self, words: str) -> None:
        """Read what it logs up to a line with these words."""
        assert self.process is not None
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if words in line:
                return
        raise AssertionError(f"it ended: {''.join(said)}")

    def ask(self, *command: str) -> str:
        """Send one command on a connection of its own, and return the first bytes of the reply."""
        assert self.process is not None
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.socket))
            parts = [f"${len(part.encode())}\r\n{part}\r\n" for part in command]
            sock.sendall(f"*{len(parts)}\r\n{''.join(parts)}".encode())
            return sock.recv(65_536).decode()


@contextmanager
def redis_server(
    program: str, directory: Path, *options: str, port: int = 0
) -> Iterator[RedisServer]:
    """Run a server during the `with`. It keeps nothing on disk unless the options say so."""
    server = RedisServer(program, directory, options, port)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def publisher(
    url: str, prefix: str, topic: str, name: str, count: int
) -> AsyncIterator[trio.Process]:
    """Run this module as a program that publishes; kill it if it is still there."""
    command = [sys.executable, "-m", "tests.redis_servers", url, prefix, topic, name, str(count)]
    root = Path(__file__).parent.parent
    start = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False, cwd=root)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(start)
        try:
            yield process
        finally:
            process.kill()


async def publish(url: str, prefix: str, topic: str, name: str, count: int) -> None:
    # Whoever only starts servers needs no hiredis.
    from sselib.log.redis import open_redis_log  # noqa: PLC0415 # as above

    async with open_redis_log(url, prefix=prefix) as log:
        for number in range(count):
            texts = [f"{name} {number} {part}" for part in range(3)]
            await log.append(topic, [NewEntry.of(ServerSentEvent(text)) for text in texts])
            print(number, flush=True)


if __name__ == "__main__":
    _, url, prefix, topic, name, batches = sys.argv
    trio.run(publish, url, prefix, topic, name, int(batches))
