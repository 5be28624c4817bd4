"""What every server promises, over real sockets and as real processes.

The windows of drains are short here, and real: a server's own clock is the one that counts.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from sselib import ServerSentEvent
from sselib.listening import Address
from sselib.registry import StreamRegistry
from sselib.stream import ASGIApp, Receive, Scope, Send

from .servers import (
    SERVERS,
    SOON,
    Application,
    Client,
    Served,
    connected,
    load,
    never_reading,
    process,
    serving,
)

# From the end of the drain to the exit, seconds: one to the cut, and one for the machine.
TO_THE_EXIT = 2.0
CONNECTED = b": connected\n\n"
UNIX = "unix"
TCP = "tcp"

on_both = pytest.mark.parametrize("kind", [TCP, UNIX])


@pytest.fixture(params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(name: str) -> Any:
    return load(name)


def at(kind: str, folder: Path) -> dict[str, Any]:
    return {"unix_path": folder / "socket"} if kind == UNIX else {"port": 0}


def registry_with(window: float, **options: Any) -> StreamRegistry:
    return StreamRegistry(drain_window=window, **options)


async def get(served: Served, path: str) -> tuple[int, bytes]:
    async with connected(served.address) as client:
        response = await client.get(path)
        return response.status_code, await client.read_all()


async def streaming(client: Client) -> None:
    """Ask for the channel, and return when its first bytes are here."""
    response = await client.get("/events")
    assert response.status_code == 200
    await client.read_until(CONNECTED)


def group_of(message: str) -> pytest.RaisesGroup[Exception]:
    return pytest.RaisesGroup(pytest.RaisesExc(Exception, match=message), flatten_subgroups=True)


def descriptors() -> set[str]:
    return {link.name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


# ---- addresses -----------------------------------------------------------------------------------


async def test_port_0_is_reported_as_what_it_became(server: Any) -> None:
    """The server tells the real address, and answers there."""
    async with serving(server, Application(), port=0) as served:
        [address] = served.addresses
        assert address[0] == "127.0.0.1"
        assert address[1] != 0
        assert await get(served, "/hello") == (200, b"/hello")


async def test_a_unix_socket_is_there_while_it_serves(server: Any, tmp_path: Path) -> None:
    """The address is its path, which is gone afterwards."""
    path = tmp_path / "socket"
    async with serving(server, Application(), unix_path=path) as served:
        assert served.addresses == [str(path)]
        assert await get(served, "/hello") == (200, b"/hello")
        await served.drain()
    assert not path.exists()


async def test_sockets_that_are_given_are_served(server: Any) -> None:
    """A supervisor's sockets are taken over, each is served, and none is left open."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    names = [sock.getsockname() for sock in sockets]
    async with serving(server, Application(), sockets=sockets) as served:
        assert served.addresses == names
        assert [sock.fileno() for sock in sockets] == [-1, -1]
        for address in served.addresses:
            async with connected(address) as client:
                await client.get("/hello")
        await served.cancel()
    for address in names:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


async def test_a_listening_socket_of_others_too_stays_open(server: Any) -> None:
    """A cut shuts down connections alone: who shares the listening socket can go on with it."""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        app = Application()
        async with (
            serving(server, app, sockets=[shared.dup()]) as served,
            never_reading(served.address, "/flood") as stalled,
        ):
            await app.until("stalled /flood")
            await served.cancel()
            await stalled.read_cut()
        with socket.create_connection(shared.getsockname()):
            shared.accept()[0].close()


async def test_a_taken_port_is_said_before_anything_starts(server: Any) -> None:
    """It is an OSError that names the address, and the application was never called."""
    app = Application()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: ") as caught:
            await server.serve(app, port=port)
    assert caught.value.errno == errno.EADDRINUSE
    assert app.seen == []


async def test_two_servers_in_one_process(server: Any) -> None:
    """Each has its port and its end: stopping one, stalled clients and all, leaves the other."""
    app, other_app = Application(), Application()
    async with (
        serving(server, app, registry=registry_with(0.1)) as served,
        serving(server, other_app) as other,
        never_reading(served.address, "/flood") as stalled,
        connected(other.address) as client,
    ):
        await streaming(client)
        await app.until("stalled /flood")
        await served.drain()
        await stalled.read_cut()
        await other_app.channel.publish(ServerSentEvent("still here"))
        await client.read_until(b"data: still here\n\n")
        assert not other.over.is_set()
        assert await get(other, "/hello") == (200, b"/hello")


async def test_a_server_that_ends_in_time_cuts_nobody(server: Any) -> None:
    """Of two servers at one address, the one that ends without a cut leaves the other's clients."""
    app, other_app = Application(), Application()
    sockets = []
    address: Any = ("127.0.0.1", 0)
    for _ in range(2):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        address = sock.getsockname()
        sockets.append(sock)
    async with (
        serving(server, app, sockets=sockets[:1]) as served,
        serving(server, other_app, sockets=sockets[1:]),
    ):
        while True:  # until the kernel gives one to the other
            async with connected(address) as client:
                await streaming(client)
                if other_app.channel.statistics().subscribers:
                    await served.drain()
                    await other_app.channel.publish(ServerSentEvent("still here"))
                    await client.read_until(b"data: still here\n\n")
                    return


async def test_serving_touches_no_signals(server: Any) -> None:
    """While it serves, signals are handled as before."""
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    async with serving(server, Application()) as served:
        await get(served, "/hello")
        assert [signal.getsignal(number) for number in signal.valid_signals()] == before


# ---- the registry --------------------------------------------------------------------------------


async def test_an_app_is_wrapped_in_a_registry(server: Any) -> None:
    """Without being told, the server gives each request a registry with its limits."""
    app = Application()
    async with serving(server, app) as served, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(served.address)) for _ in range(101)]
        for client in clients[:100]:
            await streaming(client)
        assert (await clients[100].get("/events")).status_code == 429


@pytest.mark.parametrize("wrapped", [False, True])
async def test_the_registry_given_is_the_one_that_counts(server: Any, *, wrapped: bool) -> None:
    """It can be an argument or around the app already; then it is not wrapped again."""
    registry = registry_with(0.1)
    app = Application()
    options: dict[str, Any] = {} if wrapped else {"registry": registry}
    async with (
        serving(server, registry(app) if wrapped else app, **options) as served,
        connected(served.address) as client,
    ):
        await streaming(client)
        assert registry.statistics().streams == 1
        await served.drain()
    assert registry.statistics().ended == {"drained": 1}


async def test_two_registries_are_one_too_many(server: Any) -> None:
    """An app whose streams enter one registry cannot be drained by another."""
    with pytest.raises(ValueError, match="another registry"):
        await server.serve(StreamRegistry()(Application()), registry=StreamRegistry())


async def test_limits_on_the_wire(server: Any) -> None:
    """One stream too many is answered 429 or 503 with Retry-After; requests are not streams."""
    registry = StreamRegistry(
        max_streams=2,
        max_streams_per_client=1,
        client=lambda scope: dict(scope["headers"]).get(b"x-user"),
    )
    async with serving(server, Application(), registry=registry) as served, AsyncExitStack() as on:
        for user, status in [("ann", 200), ("ann", 429), ("bob", 200), ("eve", 503)]:
            client = await on.enter_async_context(connected(served.address))
            response = await client.get("/events", x_user=user)
            assert response.status_code == status
            if status != 200:
                headers = dict(response.headers)
                assert headers[b"retry-after"] == b"5"
                assert headers[b"content-type"] == b"text/plain; charset=utf-8"
                assert (await client.read_all()).startswith(b"too many streams")
        assert await get(served, "/hello") == (200, b"/hello")


async def test_kick_on_the_wire(server: Any) -> None:
    """A kicked client's stream is cut off, and nobody else's."""
    registry = StreamRegistry(client=lambda scope: dict(scope["headers"]).get(b"x-user"))
    app = Application()
    async with (
        serving(server, app, registry=registry) as served,
        connected(served.address) as ann,
        connected(served.address) as bob,
    ):
        for client, user in ((ann, "ann"), (bob, "bob")):
            await client.get("/events", x_user=user)
            await client.read_until(CONNECTED)
        assert registry.kick(b"ann") == 1
        with trio.fail_after(SOON):
            await ann.read_cut()
        await app.channel.publish(ServerSentEvent("x"))
        await bob.read_until(b"data: x\n\n")
        assert registry.statistics().ended == {"kicked": 1}


# ---- the drain -----------------------------------------------------------------------------------


async def test_a_drain_on_the_wire(server: Any) -> None:
    """Goodbye, what is ready, a farewell, a proper end; and meanwhile the server answers on."""
    app = Application()

    async def say_goodbye() -> None:
        await app.channel.publish(ServerSentEvent("goodbye"))

    window = 2.0
    registry = registry_with(window, before_drain=say_goodbye)
    async with (
        serving(server, app, registry=registry) as served,
        connected(served.address) as client,
        never_reading(served.address, "/flood") as stalled,  # so that the drain is not over before
    ):
        await streaming(client)
        await app.until("stalled /flood")
        began = trio.current_time()
        served.stop.set()
        await client.read_until(b"data: goodbye\n\n")

        async with connected(served.address) as late:
            response = await late.get("/events")
            assert response.status_code == 200
            headers = dict(response.headers)
            assert headers[b"content-type"] == b"text/event-stream"
            assert headers[b"connection"] == b"close"
            left = window - (trio.current_time() - began)
            body = await late.read_all()
            [retry] = re.fullmatch(rb"retry: (\d+)\n\n", body).groups()  # type: ignore[union-attr] # None fails the test
            assert left * 1000 <= int(retry)
            assert await late.stream.receive_some() == b""
        assert await get(served, "/hello") == (200, b"/hello")
        assert not served.over.is_set()

        farewell = await client.read_all()
        left = window - (trio.current_time() - began)
        assert left > 0
        [retry] = re.fullmatch(rb"retry: (\d+)\n\n", farewell).groups()  # type: ignore[union-attr] # None fails the test
        assert left * 1000 <= int(retry)

        with trio.fail_after(SOON):
            await served.over.wait()
        assert window < trio.current_time() - began < window + TO_THE_EXIT
        with pytest.raises(ConnectionRefusedError):
            await get(served, "/hello")
        await stalled.read_cut()


async def test_a_drain_ends_with_the_streams(server: Any) -> None:
    """When the last client leaves, the server does not sit out the window."""
    app = Application()
    async with serving(server, app, registry=registry_with(SOON)) as served:
        async with connected(served.address) as client:
            await streaming(client)
            served.stop.set()
            async with connected(served.address) as late:  # the drain has begun
                await late.get("/events")
        assert await served.drain() < SOON / 2


async def test_requests_that_go_on_are_cut_a_second_after_the_drain(server: Any) -> None:
    """Neither a request without an answer nor a body without an end holds the exit."""
    app = Application()
    async with (
        serving(server, app, registry=registry_with(0.1)) as served,
        never_reading(served.address, "/download") as stalled,
        connected(served.address) as waiting,
        connected(served.address) as idle,
        connected(served.address) as half_a_request,
    ):
        await app.until("stalled /download")
        await waiting.ask("/hang")
        await idle.get("/hello")
        await idle.read_all()
        await half_a_request.stream.send_all(b"GET / HT")
        assert await served.drain() < TO_THE_EXIT
        for client in (stalled, waiting, idle, half_a_request):
            await client.read_cut()
    assert app.seen[-1] == "shutdown"


async def test_the_lifespan_is_around_the_streams(server: Any) -> None:
    """Startup before the first request, shutdown after the last stream is over."""
    app = Application()
    async with (
        serving(server, app, registry=registry_with(0.1)) as served,
        connected(served.address) as client,
    ):
        assert app.seen == ["startup"]
        await streaming(client)
        app.channel.publish_nowait(ServerSentEvent("x"))
        await served.drain()
        assert await app.news.receive() == "over /events"
    assert app.seen == ["startup", "http 1.1 /events", "shutdown"]


async def test_without_a_trigger_only_cancelling_ends_it(server: Any) -> None:
    """No trigger is no drain; cancelled, it is over."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            [address] = await nursery.start(partial(server.serve, Application(), port=0))
            async with connected(address) as client:
                await streaming(client)
                scope.cancel()
                await client.read_cut()
    assert scope.cancelled_caught
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_a_failing_trigger_ends_the_server_with_its_error(server: Any) -> None:
    """Its error comes out, and streams and stalled clients do not keep it in."""
    app = Application()
    fail = trio.Event()

    async def trigger() -> None:
        await fail.wait()
        raise LookupError("no such signal")

    with group_of("no such signal"):
        async with trio.open_nursery() as nursery:
            serve = partial(server.serve, app, port=0, shutdown_trigger=trigger)
            [address] = await nursery.start(serve)
            async with never_reading(address, "/flood"):
                await app.until("stalled /flood")
                fail.set()
                with trio.fail_after(SOON):
                    await trio.sleep_forever()


# ---- clients that do not read --------------------------------------------------------------------


@on_both
async def test_a_client_that_never_reads_disturbs_nobody(
    server: Any, kind: str, tmp_path: Path
) -> None:
    """Publisher and other clients go on at their pace, and the stalled stream keeps one batch."""
    app = Application()
    async with (
        serving(server, app, **at(kind, tmp_path)) as served,
        connected(served.address) as reader,
        never_reading(served.address, "/events"),
        never_reading(served.address, "/flood"),
        never_reading(served.address, "/download"),
    ):
        await streaming(reader)
        await app.until("stalled /flood", "stalled /download")
        for number in range(2000):  # 16 MB: no kernel keeps that for a client
            await app.channel.publish(ServerSentEvent(f"{number} " + "x" * 8000))
            if number % 50 == 49:
                await reader.read_until(b"data: %d " % number)
        statistics = app.channel.statistics()
        assert statistics.subscribers == 2
        assert statistics.window_bytes < 2_000_000


@on_both
@pytest.mark.parametrize("path", ["/flood", "/download"])
async def test_cancelling_stops_at_once_with_stalled_clients(
    server: Any, kind: str, path: str, tmp_path: Path
) -> None:
    """No send to a client that does not read keeps a cancelled server."""
    app = Application()
    before = descriptors()
    async with (
        serving(server, app, **at(kind, tmp_path)) as served,
        never_reading(served.address, path) as one,
        never_reading(served.address, path) as two,
    ):
        await app.until(f"stalled {path}", f"stalled {path}")
        assert await served.cancel() < 1
        await one.read_cut()
        await two.read_cut()
    assert descriptors() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
async def test_a_stalled_client_is_let_go_after_the_write_timeout(server: Any) -> None:
    """Its connection is reset and its stream ends, in little more than that time."""
    app, registry = Application(), StreamRegistry()
    async with (
        serving(server, app, registry=registry, write_timeout=1.0) as served,
        never_reading(served.address, "/flood"),
        never_reading(served.address, "/download"),
        connected(served.address) as reader,
    ):
        await streaming(reader)
        await app.until("stalled /flood", "stalled /download")
        began = trio.current_time()
        await app.until("over /flood", "over /download")
        assert 0.5 < trio.current_time() - began < 5
        assert registry.statistics().ended == {"disconnected": 1}
        await app.channel.publish(ServerSentEvent("still here"))  # idle is not stalled
        await reader.read_until(b"data: still here\n\n")


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
async def test_a_slow_client_survives_the_default_write_timeout(server: Any) -> None:
    """16 KB/s, which a timeout of a second resets, goes on under the default."""
    cut = trio.Event()

    async def read_slowly(address: Any, enough: Callable[[], bool]) -> int:
        async with connected(address, buffer=4096) as client:
            await client.ask("/flood")
            count = 0
            while not enough():
                await trio.sleep(1 / 16)  # the slowness itself
                data = await client.stream.receive_some(1024)
                assert data
                count += len(data)
        return count

    async def until_cut(address: Any) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await read_slowly(address, lambda: False)
        cut.set()

    async with (
        serving(server, Application(), write_timeout=1.0) as hasty,
        serving(server, Application()) as patient,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(until_cut, hasty.address)
        with trio.fail_after(SOON):
            assert await read_slowly(patient.address, cut.is_set) > 10_000
        more = trio.current_time() + 1.5  # as long again
        assert await read_slowly(patient.address, lambda: trio.current_time() > more) > 10_000


# ---- failures at the start -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"write_timeout": 0}, "write_timeout must be"),
        ({"write_timeout": float("nan")}, "write_timeout must be"),
        ({"write_timeout": 100_000}, "write_timeout must be"),
        ({"port": 65_536}, "port must be from 0 to 65535: 65536"),
        ({"sockets": []}, "at least one"),
        ({"sockets": [], "unix_path": "x"}, "not both"),
    ],
)
async def test_arguments_without_sense_are_refused(
    server: Any, options: dict[str, Any], complaint: str
) -> None:
    """Each is an error at once, which says what is wrong."""
    with pytest.raises(ValueError, match=complaint):
        await server.serve(Application(), **options)


async def fail_startup(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def test_a_failed_startup_surfaces(server: Any, tmp_path: Path) -> None:
    """The error names the reason, nobody is told that it has started, nothing stays open."""
    before = descriptors()
    told: list[object] = []

    class Status:
        def started(self, value: object = None) -> None:
            told.append(value)

    for place in ({"port": 0}, {"unix_path": tmp_path / "socket"}):
        with group_of("no database"):
            await server.serve(fail_startup, task_status=Status(), **place)
    gc.collect()
    assert told == []
    assert descriptors() == before
    assert list(tmp_path.iterdir()) == []


async def test_a_cancelled_startup_leaves_nothing(server: Any) -> None:
    """Cancelled while the application starts, it closes the sockets that it had opened."""
    before = descriptors()
    starting = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        starting.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(server.serve, app, port=0))
        await starting.wait()
        assert len(descriptors()) > len(before)
        nursery.cancel_scope.cancel()
    gc.collect()
    assert descriptors() == before


async def test_a_lifespan_that_breaks_later_ends_the_server(server: Any) -> None:
    """The error comes out, though a client that does not read is there."""
    breaks = trio.Event()
    app = Application()

    async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await send({"type": "lifespan.startup.complete"})
        await breaks.wait()
        await send({"type": "lifespan.shutdown.failed", "message": "the watcher died"})

    with group_of("the watcher died"):
        async with trio.open_nursery() as nursery:
            [address] = await nursery.start(partial(server.serve, breaking, port=0))
            async with never_reading(address, "/flood"):
                await app.until("stalled /flood")
                breaks.set()
                with trio.fail_after(SOON):
                    await trio.sleep_forever()


async def test_no_strangers_descriptor_is_closed(server: Any) -> None:
    """What takes over the numbers of the closed listeners is still open after the server's end."""
    before = descriptors()
    app = Application()
    strangers: list[int] = []

    async with (
        serving(server, app, registry=registry_with(0.1)) as served,
        never_reading(served.address, "/flood"),
    ):
        await app.until("stalled /flood")
        served.stop.set()
        with suppress(ConnectionError):  # which says that the listener is closed
            while True:
                async with connected(served.address):
                    pass
        while not strangers or strangers[-1] < 100:
            strangers.append(os.open(os.devnull, os.O_RDONLY))
        assert not served.over.is_set()  # the cut is still to come
        with trio.fail_after(SOON):
            await served.over.wait()
    for _ in range(2):
        gc.collect()
    for number in strangers:
        os.close(number)  # or it was closed by somebody else
    assert descriptors() == before


# ---- as a process --------------------------------------------------------------------------------


@asynccontextmanager
async def stalled_process(
    name: str, kind: str, folder: Path, *arguments: str
) -> AsyncIterator[tuple[Any, Client]]:
    """A process with a reading client and three that never read: a channel, a flood, a download."""
    place = ["--unix-path", str(folder / "socket")] if kind == UNIX else []
    async with process(name, *place, *arguments) as running:
        assert await running.line() == "opened"
        address = await running.address()
        async with (
            connected(address) as reader,
            never_reading(address, "/events"),
            never_reading(address, "/flood"),
            never_reading(address, "/download"),
        ):
            await streaming(reader)
            await reader.read_until(b"data: x")
            await running.until("stalled /flood", "stalled /download")
            yield running, reader


@on_both
async def test_sigterm_ends_the_process_whatever_the_clients_do(
    name: str, kind: str, tmp_path: Path
) -> None:
    """It is gone within the window and two seconds, code 0, with a farewell to who listens."""
    window = 0.5
    async with stalled_process(name, kind, tmp_path, "--window", str(window)) as (running, reader):
        running.process.send_signal(signal.SIGTERM)
        assert b"retry: " in await reader.read_all()
        assert await running.exit() < window + TO_THE_EXIT
        assert running.process.returncode == 0
        lines = await running.rest()
        assert Counter(line for line in lines if line.startswith("over")) == {
            "over /download": 1,
            "over /events": 2,
            "over /flood": 1,
        }
        assert lines[-2].startswith("closed after startup http 1.1 /")
        assert lines[-2].endswith("shutdown")
        assert lines[-1] == "returned"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_process_at_once(
    name: str, tmp_path: Path, number: signal.Signals
) -> None:
    """Its surroundings are closed first, and its exit code says which signal it was."""
    async with stalled_process(name, UNIX, tmp_path, "--window", "1000") as (running, _):
        running.process.send_signal(number)
        await running.until("draining")
        running.process.send_signal(number)
        assert await running.exit() < TO_THE_EXIT
        assert running.process.returncode == 128 + number
        assert any(line.startswith("closed after") for line in await running.rest())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("signals", "window"), [(1, "0.5"), (2, "1000")])
async def test_clients_that_take_all_descriptors_do_not_hold_the_process(
    name: str, signals: int, window: str
) -> None:
    """A process that may open no more files still finds its connections, and ends."""
    async with (
        process(name, "--window", window, "--max-files", "64") as running,
        AsyncExitStack() as clients,
    ):
        assert await running.line() == "opened"
        address = await running.address()
        for _ in range(70):
            await clients.enter_async_context(never_reading(address, "/flood"))
        await running.until("no more files")
        running.process.send_signal(signal.SIGTERM)
        await running.until("draining")
        if signals == 2:
            running.process.send_signal(signal.SIGTERM)
        assert await running.exit() < 0.5 + TO_THE_EXIT


async def test_a_taken_port_is_one_line_for_the_user(name: str) -> None:
    """The process says what is wrong in one line, and exits with 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with process(name, "--port", str(port), stderr=subprocess.PIPE) as running:
            await running.exit()
            assert running.process.returncode == 1
            assert running.process.stderr is not None
            said = await running.process.stderr.receive_some()
            lines = await running.rest()
    assert said.decode() == (
        f"cannot listen on 127.0.0.1 port {port}: {os.strerror(errno.EADDRINUSE)}\n"
    )
    assert lines == ["opened", "closed after "]


# ---- run, in this process ------------------------------------------------------------------------


@pytest.fixture
def _signals_as_before() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


run_here = pytest.mark.usefixtures("_signals_as_before")


@run_here
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_serves_until_a_signal(server: Any, number: signal.Signals) -> None:
    """It tells where it listens, returns after the signal, and leaves the signals as they were."""
    told: list[Any] = []

    def started(addresses: list[Address]) -> None:
        told.append(addresses)
        signal.raise_signal(number)

    seen: list[str] = []
    server.run(lifespan_only(seen), port=0, started=started)
    [[(host, _)]] = told
    assert host == "127.0.0.1"
    assert seen == ["startup", "shutdown"]


@run_here
def test_run_opens_the_surroundings_around_the_server(server: Any) -> None:
    """What the context manager opens is there before the application starts, and after it ends."""
    seen: list[str] = []

    @asynccontextmanager
    async def surroundings() -> AsyncIterator[ASGIApp]:
        await trio.lowlevel.checkpoint()
        seen.append("opened")
        yield lifespan_only(seen)
        await trio.lowlevel.checkpoint()
        seen.append("closed")

    server.run(surroundings(), port=0, started=lambda _: signal.raise_signal(signal.SIGTERM))
    assert seen == ["opened", "startup", "shutdown", "closed"]


@run_here
def test_a_signal_before_there_is_a_server_counts(server: Any) -> None:
    """The server starts, drains and ends; nothing dies of the signal."""
    seen: list[str] = []

    @asynccontextmanager
    async def surroundings() -> AsyncIterator[ASGIApp]:
        signal.raise_signal(signal.SIGTERM)
        await trio.lowlevel.checkpoint()
        yield lifespan_only(seen)
        seen.append("closed")

    server.run(surroundings(), port=0)
    assert seen == ["startup", "shutdown", "closed"]


@run_here
def test_a_second_signal_cancels_what_hangs(server: Any) -> None:
    """An application that does not come to its end is cancelled, and its surroundings closed."""
    seen: list[str] = []

    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    @asynccontextmanager
    async def surroundings() -> AsyncIterator[ASGIApp]:
        await trio.lowlevel.checkpoint()
        try:
            yield hanging
        finally:
            seen.append("closed")

    with pytest.raises(SystemExit) as caught:
        server.run(surroundings(), port=0, started=lambda _: signal.raise_signal(signal.SIGTERM))
    assert caught.value.code == 128 + signal.SIGINT
    assert seen == ["closed"]


@run_here
@pytest.mark.parametrize("when", ["opening", "closing"])
def test_what_fails_around_the_server_is_raised_as_it_is(server: Any, when: str) -> None:
    """An error of the surroundings comes out of run by itself, in no group."""

    @asynccontextmanager
    async def surroundings() -> AsyncIterator[ASGIApp]:
        await trio.lowlevel.checkpoint()
        if when == "opening":
            raise FileNotFoundError("no such log")
        yield lifespan_only([])
        raise FileNotFoundError("no such log")

    with pytest.raises(FileNotFoundError, match="no such log"):
        server.run(surroundings(), port=0, started=lambda _: signal.raise_signal(signal.SIGTERM))


@run_here
def test_what_stops_the_server_comes_out_of_run(server: Any) -> None:
    """A failed startup is no silent end."""
    with group_of("no database"):
        server.run(fail_startup, port=0)


def lifespan_only(seen: list[str]) -> ASGIApp:
    app = Application()
    app.seen = seen
    return app
