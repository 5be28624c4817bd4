"""Real servers for tests, and clients on bare sockets.

A server runs in the test's own Trio run (:func:`serving`) or as a process (:func:`process`). Which
one it is stands in :data:`SERVERS`, by the module that has its ``serve`` and ``run``: whatever is
promised of every server is tested once with each.

As a program, ``python -m tests.servers``, this is such a process. It prints where it listens as one
line of JSON, then what its signals and surroundings do to it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import resource
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import h11
import trio

from sselib import Comment, EventChannel, EventStream, ServerSentEvent, StreamPolicy
from sselib.listening import Address
from sselib.registry import StreamRegistry
from sselib.stream import ASGIApp, Receive, Scope, Send, SendEvent

SERVERS: Final = {"sselib": "sselib.server", "hypercorn": "sselib.hypercorn"}

# What a client that takes nothing is offered: more than the kernel keeps for it, many times.
FLOOD: Final = b"x" * 65_536
# Seconds in which a client that reads at all takes some of it.
STALLED: Final = 0.2
# Seconds. A deadline for what should take no time at all, on a machine that has other things to do.
SOON: Final = 20.0


def load(name: str) -> Any:
    """Return the module of a server: it has `serve` and `run`."""
    return importlib.import_module(SERVERS[name])


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nobody tells of: something that the kernel or a process does meanwhile."""
    with trio.fail_after(SOON):
        while not holds():  # noqa: ASYNC110 # as said
            await trio.sleep(0.005)


# ---- an application ------------------------------------------------------------------------------


class Application:
    """What there is to ask for, and what happened to it.

    `/events` is the channel, `/flood` a stream and `/download` a body without end, to whoever takes
    them; `/hang` answers nothing; whatever else is asked for is answered with its path.

    Attributes:
        channel: What `/events` streams.
        seen: The requests, and the moments of the lifespan.
        news: Receives "stalled /path" when the client of an endless body takes no more of it, and
            "over /path" when a request is over.
    """

    def __init__(self, policy: StreamPolicy | None = None) -> None:
        self.channel = EventChannel()
        self.policy = policy or StreamPolicy()
        self.seen: list[str] = []
        self._tell, self.news = trio.open_memory_channel[str](math.inf)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.seen.append(f"{scope['type']} {scope['http_version']} {scope['path']}")
        try:
            await self._answer(scope, receive, send)
        finally:
            self._tell.send_nowait(f"over {scope['path']}")

    async def until(self, *news: str) -> None:
        """Wait until all these have happened, from now on."""
        awaited = Counter(news)
        while awaited:
            with trio.fail_after(SOON):
                awaited -= Counter([await self.news.receive()])

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"]:
            case "/events":
                stream = EventStream(self.channel, policy=self.policy, replay="live")
                await stream(scope, receive, send)
            case "/flood":
                await EventStream(self._flood)(scope, receive, send)
            case "/download":
                await self._download(receive, send)
            case "/hang":
                await trio.sleep_forever()
            case path:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": path.encode()})

    async def _live(self, receive: Receive, send: Send) -> None:
        for moment in ("startup", "shutdown"):
            await receive()
            self.seen.append(moment)
            await send({"type": f"lifespan.{moment}.complete"})

    async def _flood(self, send: SendEvent) -> None:
        await self._without_end("/flood", partial(send, Comment(FLOOD.decode())))

    async def _download(self, receive: Receive, send: Send) -> None:
        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        body = {"type": "http.response.body", "body": FLOOD, "more_body": True}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_gone)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await self._without_end("/download", partial(send, body))

    async def _without_end(self, path: str, send: Callable[[], Awaitable[None]]) -> None:
        async def watch() -> None:
            with going_on:
                await trio.sleep_forever()
            await self._tell.send(f"stalled {path}")

        going_on = trio.CancelScope(deadline=trio.current_time() + STALLED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            while True:
                await send()
                await trio.lowlevel.checkpoint()  # what is sent to nobody takes no time at all
                going_on.deadline = trio.current_time() + STALLED


# ---- in the test's own Trio run ------------------------------------------------------------------


@attrs.define(eq=False)
class Served:
    """A server that runs in this test."""

    addresses: list[Address]
    stop: trio.Event
    over: trio.Event
    scope: trio.CancelScope

    @property
    def address(self) -> Address:
        return self.addresses[0]

    async def drain(self) -> float:
        """Have it drain, and return how many seconds that took."""
        return await self._ended_by(self.stop.set)

    async def cancel(self) -> float:
        """Cancel it, and return how many seconds that took."""
        return await self._ended_by(self.scope.cancel)

    async def _ended_by(self, end: Callable[[], None]) -> float:
        began = trio.current_time()
        end()
        with trio.fail_after(SOON):
            await self.over.wait()
        return trio.current_time() - began


@asynccontextmanager
async def serving(server: Any, app: ASGIApp, **options: Any) -> AsyncIterator[Served]:
    """Serve during the `async with`, on a free port unless told otherwise."""
    if not {"unix_path", "sockets", "port"} & options.keys():
        options["port"] = 0
    stop, over, scope = trio.Event(), trio.Event(), trio.CancelScope()

    async def serve(  # noqa: ASYNC128 # the server calls it
        task_status: trio.TaskStatus[list[Address]],
    ) -> None:
        with scope:
            await server.serve(app, shutdown_trigger=stop.wait, task_status=task_status, **options)
        over.set()

    async with trio.open_nursery() as nursery:
        with trio.fail_after(SOON):
            addresses = await nursery.start(serve)
        yield Served(addresses, stop, over, scope)
        nursery.cancel_scope.cancel()


# ---- clients -------------------------------------------------------------------------------------


class Client:
    """An HTTP/1.1 client on one connection, which reads when it is told to."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._body = b""

    async def ask(self, path: str, **headers: str) -> None:
        """Send a request, and read nothing."""
        given = {"host": "test"} | {name.replace("_", "-"): headers[name] for name in headers}
        request = h11.Request(method="GET", target=path, headers=list(given.items()))
        data = self._http.send(request) or b""
        await self.stream.send_all(data + (self._http.send(h11.EndOfMessage()) or b""))

    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        version: bytes = b"1.1",
    ) -> h11.Response:
        """Send a request of any kind, and read the head of its response."""
        given = [("host", "test"), *headers.items()]
        if body:
            given.append(("content-length", str(len(body))))
        request = h11.Request(method=method, target=path, headers=given)
        data = self._http.send(request) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(data.replace(b"HTTP/1.1\r\n", b"HTTP/%b\r\n" % version, 1))
        response = await self._next()
        assert isinstance(response, h11.Response)
        return response

    async def get(self, path: str, **headers: str) -> h11.Response:
        """Send a request, and read the head of its response."""
        await self.ask(path, **headers)
        response = await self._next()
        assert isinstance(response, h11.Response)
        return response

    async def read_until(self, mark: bytes) -> bytes:
        """Read the body up to and with the mark."""
        while mark not in self._body:
            data = await self._next()
            assert isinstance(data, h11.Data), f"{mark!r} was not in {self._body!r}"
            self._body += data.data
        before, mark, self._body = self._body.partition(mark)
        return before + mark

    async def read_some(self) -> bytes:
        """Read the next piece of the body."""
        data = await self._next()
        assert isinstance(data, h11.Data)
        return bytes(data.data)

    async def read_all(self) -> bytes:
        """Read what is left of the body, to its proper end."""
        while isinstance(data := await self._next(), h11.Data):
            self._body += data.data
        assert isinstance(data, h11.EndOfMessage)
        body, self._body = self._body, b""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        return body

    async def read_cut(self) -> None:
        """Read to where the connection breaks or ends, in the middle of a body."""
        try:
            while True:
                if not await self.stream.receive_some(65_536):
                    return
        except trio.BrokenResourceError:
            return

    async def _next(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            with trio.fail_after(SOON):
                data = await self.stream.receive_some(65_536)
            self._http.receive_data(bytes(data))
        return event


@asynccontextmanager
async def connected(
    address: Address, *, buffer: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Client]:
    """Connect; with a `buffer`, to a kernel that keeps no more than these bytes unread."""
    is_unix = isinstance(address, str)
    sock = trio.socket.socket(trio.socket.AF_UNIX if is_unix else trio.socket.AF_INET)
    stream: trio.abc.Stream = trio.SocketStream(sock)
    if tls is not None:
        stream = trio.SSLStream(stream, tls, server_hostname="localhost", https_compatible=True)
    async with stream:
        if buffer is not None:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, buffer)
        with trio.fail_after(SOON):
            await sock.connect(address)
            if isinstance(stream, trio.SSLStream):
                await stream.do_handshake()
        yield Client(stream)


@asynccontextmanager
async def never_reading(
    address: Address, path: str, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Client]:
    """Ask for a body and then read nothing."""
    async with connected(address, buffer=4096, tls=tls) as client:
        await client.ask(path)
        yield client


# ---- as a process --------------------------------------------------------------------------------


@attrs.define(eq=False)
class Running:
    """A server that runs as a process of its own."""

    process: trio.Process
    _output: bytes = b""

    async def line(self) -> str:
        """Read the next line that it printed."""
        assert self.process.stdout is not None
        while b"\n" not in self._output:
            with trio.fail_after(SOON):
                data = await self.process.stdout.receive_some()
            assert data, f"it ended after {self._output!r}"
            self._output += data
        line, _, self._output = self._output.partition(b"\n")
        return line.decode()

    async def until(self, *lines: str) -> None:
        """Read lines until these were among them."""
        awaited = Counter(lines)
        while awaited:
            awaited -= Counter([await self.line()])

    async def rest(self) -> list[str]:
        """Read what else it prints to its end, by lines."""
        assert self.process.stdout is not None
        with trio.fail_after(SOON):
            async for data in self.process.stdout:
                self._output += data
        lines, self._output = self._output.decode().splitlines(), b""
        return lines

    async def address(self) -> Address:
        address = json.loads(await self.line())[0]
        return address if isinstance(address, str) else (address[0], address[1])

    async def exit(self) -> float:
        """Wait for its end, and return the seconds from now."""
        began = trio.current_time()
        with trio.fail_after(SOON):
            await self.process.wait()
        return trio.current_time() - began


@asynccontextmanager
async def process(name: str, *arguments: str, **options: Any) -> AsyncIterator[Running]:
    """Run this module as a program with a server of that name; kill it if it is still there."""
    command = [sys.executable, "-m", "tests.servers", name, *arguments]
    start = partial(
        trio.run_process,
        command,
        stdout=subprocess.PIPE,
        check=False,
        cwd=Path(__file__).parent.parent,
        **options,
    )
    async with trio.open_nursery() as nursery:
        running = Running(await nursery.start(start))
        try:
            yield running
        finally:
            running.process.kill()


@asynccontextmanager
async def _surrounded(app: Application, registry: StreamRegistry) -> AsyncIterator[ASGIApp]:
    """Publish all the time, and say when the surroundings come and go."""
    print("opened", flush=True)

    async def publish() -> None:
        while True:
            app.channel.publish_nowait(ServerSentEvent("x" * 1000))
            await trio.sleep(0.01)

    async def tell() -> None:
        async for news in app.news:
            print(news, flush=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        nursery.start_soon(tell)
        try:
            yield registry(app)
        finally:
            print(f"closed after {' '.join(app.seen)}", flush=True)
            nursery.cancel_scope.cancel()


def main() -> None:
    """Be a server that publishes, and prints what happens."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("--window", type=float, default=0.5)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--unix-path")
    parser.add_argument("--max-files", type=int)
    arguments = parser.parse_args()
    if arguments.max_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (arguments.max_files, arguments.max_files))
        for accepting in map(logging.getLogger, ("sselib", "trio.serve_listeners")):
            accepting.propagate = False
            accepting.addFilter(lambda _: print("no more files", flush=True) is not None)

    async def say_goodbye() -> None:
        await trio.lowlevel.checkpoint()
        print("draining", flush=True)

    registry = StreamRegistry(drain_window=arguments.window, before_drain=say_goodbye)
    load(arguments.server).run(
        _surrounded(Application(), registry),
        port=arguments.port,
        unix_path=arguments.unix_path,
        started=lambda addresses: print(json.dumps(addresses), flush=True),
    )
    print("returned", flush=True)


if __name__ == "__main__":
    main()
