"""Event sources and real servers: Hypercorn, and sockets that do what sockets do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from hypercorn.config import Config

from sselib import (
    Comment,
    EventSourceFailed,
    Interruption,
    ProxyRefused,
    RetryPolicy,
    ServerSentEvent,
    StreamPolicy,
    open_event_source,
)
from sselib.http1 import encode_chunk
from sselib.registry import StreamRegistry

from .scripted import AT_ONCE, NO_CONTENT, OPEN, in_memory, on_socket, redirect, stream, then_stay
from .servers import SERVERS, SOON, Application, load, serving

EVENT = b"id: 1\ndata: x\n\n"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Any:
    return load(request.param)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def soon() -> AsyncIterator[None]:
    with trio.fail_after(SOON):
        yield


# ---- servers of ASGI applications ----------------------------------------------------------------


async def test_events_of_a_server(server: Any) -> None:
    """What is published arrives, with its id, type and line breaks; the end is a good end."""
    app = Application()
    async with serving(server, app) as served, soon():
        comments: list[Comment] = []
        async with open_event_source(
            f"http://127.0.0.1:{served.address[1]}/events",
            policy=AT_ONCE,
            on_comment=comments.append,
        ) as source:
            await source.wait_open()
            ids = [
                await app.channel.publish(ServerSentEvent("a\nb", event="x")),
                await app.channel.publish(ServerSentEvent("ü"), end=True),
            ]
            events = [(event.event, event.data, event.id) async for event in source]
            assert events == [("x", "a\nb", ids[0]), ("message", "ü", ids[1])]
            assert source.ended_by == "no content"
            assert Comment("connected") in comments


async def test_a_server_that_is_replaced(server: Any) -> None:
    """What is published while there is no server comes from the next one at that address."""
    app = Application()
    interruptions: list[Interruption] = []
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with (
        soon(),
        open_event_source(
            f"http://127.0.0.1:{port}/events",
            policy=RetryPolicy(backoff=0.1, max_backoff=0.1, max_server_wait=0.1),
            on_interruption=interruptions.append,
        ) as source,
    ):
        async with serving(server, app, port=port) as served:
            await source.wait_open()
            await app.channel.publish(ServerSentEvent("one"))
            assert (await source.receive()).data == "one"
            await served.cancel()
        await app.channel.publish(ServerSentEvent("two"))
        async with serving(server, app, port=port):
            assert (await source.receive()).data == "two"
    assert {each.reason for each in interruptions} <= {"cut", "ended", "unreachable"}


async def test_a_server_that_drains(server: Any) -> None:
    """A server that drains says when to come back, and who does finds its successor."""
    app = Application()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"http://127.0.0.1:{port}/events"
    interruptions: list[Interruption] = []
    lost = trio.CancelScope()

    def tell(interruption: Interruption) -> None:
        interruptions.append(interruption)
        lost.cancel()

    policy = RetryPolicy(backoff=0.05, max_backoff=0.05)
    async with (
        soon(),
        open_event_source(url, policy=policy, on_interruption=tell) as source,
    ):
        registry = StreamRegistry(drain_window=0.3)
        async with serving(server, app, port=port, registry=registry) as served:
            await source.wait_open()
            await app.channel.publish(ServerSentEvent("one"))
            assert (await source.receive()).data == "one"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(served.drain)
                with lost:
                    await source.receive()
        assert interruptions[0].reason == "ended"
        assert source.reconnection_time is not None
        assert interruptions[0].wait is not None
        assert interruptions[0].wait >= source.reconnection_time / 1000
        await app.channel.publish(ServerSentEvent("two"))
        async with serving(server, app, port=port):
            assert (await source.receive()).data == "two"


async def test_heartbeats_keep_a_connection(server: Any) -> None:
    """Comments are a sign of life: a stream without events is not taken for dead."""
    app = Application(StreamPolicy(heartbeat=0.05))
    async with serving(server, app) as served, soon():
        beats: list[Comment] = []

        def beat(comment: Comment) -> None:
            beats.append(comment)
            if len(beats) > 5:
                scope.cancel()

        with trio.CancelScope() as scope:
            async with open_event_source(
                f"http://127.0.0.1:{served.address[1]}/events",
                policy=RetryPolicy(idle_timeout=15),
                on_comment=beat,
            ) as source:
                await source.receive()
        assert source.interruption is None


async def test_a_server_is_not_read_ahead(server: Any) -> None:
    """Nothing is read for who does not ask: a flood blocks its server and takes no memory here."""
    app = Application()
    async with (
        serving(server, app) as served,
        soon(),
        open_event_source(f"http://127.0.0.1:{served.address[1]}/flood", policy=AT_ONCE) as source,
    ):
        await source.wait_open()
        await app.until("stalled /flood")
        assert source.statistics().body_bytes <= 65_536


# ---- TLS -----------------------------------------------------------------------------------------


def certified(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_https_is_tls(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """An https URL is asked for by TLS, and the server has to be who it says."""
    tls = certified(authority, "localhost")
    async with (
        on_socket(stream(EVENT), tls=tls, host="localhost") as (server, open_source),
        soon(),
        open_source(ssl_context=trusting) as source,
    ):
        assert [event.data async for event in source] == ["x"]
        assert server.asked[0].headers["host"] == server.url.split("/")[2]


async def test_tls_of_a_server(
    server: Any, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    """TLS with a real server gives the events that there are."""
    app = Application()
    if server is load("hypercorn"):
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(key)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(cert, append=True)
        config = Config()
        config.certfile, config.keyfile = str(cert), str(key)
        tls: dict[str, Any] = {"config": config}
    else:
        tls = {"ssl_context": certified(authority, "localhost")}
    async with serving(server, app, **tls) as served, soon():
        url = f"https://localhost:{served.address[1]}/events"
        async with open_event_source(url, ssl_context=trusting, policy=AT_ONCE) as source:
            await source.wait_open()
            await app.channel.publish(ServerSentEvent("one"), end=True)
            assert [event.data async for event in source] == ["one"]


@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_a_wrong_certificate_is_the_end(
    authority: trustme.CA, trusting: ssl.SSLContext, wrong: str
) -> None:
    """A server that cannot show who it is fails for good; by default to the system's judges."""
    tls = certified(authority, "elsewhere" if wrong == "name" else "localhost")
    async with on_socket(stream(EVENT), tls=tls, host="localhost") as (server, open_source), soon():
        async with open_source(ssl_context=trusting if wrong == "name" else None) as source:
            with pytest.raises(EventSourceFailed) as caught:
                await source.receive()
        assert caught.value.reason == "certificate"
        assert server.asked == []


async def test_a_server_without_tls_is_no_https_server(trusting: ssl.SSLContext) -> None:
    """A broken handshake is a network error like others."""
    async with on_socket(NO_CONTENT, host="localhost") as (server, _), soon():
        async with open_event_source(
            server.url.replace("http", "https"),
            ssl_context=trusting,
            policy=RetryPolicy(max_failures=0),
        ) as source:
            with pytest.raises(EventSourceFailed) as caught:
                await source.receive()
        assert caught.value.reason == "gave up"
        assert source.interruption is not None
        assert source.interruption.reason == "unreachable"


async def test_nothing_leads_out_of_tls(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """A redirect from https to http fails for good; one from http to https is followed."""
    tls = certified(authority, "localhost")
    answers = redirect("http://localhost:1/"), stream(EVENT)
    async with (
        soon(),
        on_socket(*answers, tls=tls, host="localhost") as (safe, open_safe),
        on_socket(redirect(safe.url)) as (_, open_plain),
    ):
        async with open_safe(ssl_context=trusting) as source:
            with pytest.raises(EventSourceFailed, match="from https to http") as caught:
                await source.receive()
        assert caught.value.reason == "redirect"
        async with open_plain(ssl_context=trusting) as source:
            assert (await source.receive()).data == "x"


# ---- sockets -------------------------------------------------------------------------------------


async def test_a_connection_that_is_reset() -> None:
    """A reset in the middle of an event is a lost connection, and the stream goes on behind it."""

    async def reset(peer: trio.abc.Stream) -> None:
        assert isinstance(peer, trio.SocketStream)
        await peer.send_all(OPEN + encode_chunk(EVENT + b"data: lost")[:-6])
        await seen.wait()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    seen = trio.Event()
    async with on_socket(reset, stream(b"data: y\n\n")) as (server, open_source), soon():
        async with open_source() as source:
            assert (await source.receive()).data == "x"
            seen.set()
            assert (await source.receive()).data == "y"
            assert source.interruption is not None
            assert source.interruption.reason == "cut"
        assert [each.last_event_id for each in server.asked] == [None, "1"]


async def test_a_unix_socket(tmp_path: Path) -> None:
    """`connect` leads wherever the caller likes; the URL still says what is asked for."""
    path = str(tmp_path / "socket")
    app = Application()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        assert (host, port) == ("app.local", 80)
        return await trio.open_unix_socket(path)

    async with (
        serving(load("hypercorn"), app, unix_path=path),
        soon(),
        open_event_source("http://app.local/events", connect=connect) as source,
    ):
        await source.wait_open()
        await app.channel.publish(ServerSentEvent("one"))
        assert (await source.receive()).data == "one"


async def test_ipv6() -> None:
    """A host that is an IPv6 address is reached, and named in brackets."""
    app = Application()
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    async with (
        serving(load("hypercorn"), app, host="::1") as served,
        soon(),
        open_event_source(f"http://[::1]:{served.address[1]}/events") as source,
    ):
        await source.wait_open()


async def test_a_name_that_nobody_has() -> None:
    """A name that cannot be looked up is a network error like others, and says so."""
    policy = RetryPolicy(max_failures=0)
    async with open_event_source("http://sselib.invalid/", policy=policy) as source:
        with pytest.raises(EventSourceFailed, match=r"sselib\.invalid"):
            await source.receive()


# ---- proxies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_a_proxy_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Where the environment says to use a proxy, nothing is asked past it, and one is told."""
    monkeypatch.setenv(variable, "http://proxy.test:3128")
    async with on_socket(stream(EVENT)) as (server, open_source):
        with pytest.raises(ProxyRefused, match=variable.lower()) as caught:
            async with open_source():
                pass
        assert (caught.value.variable, caught.value.url) == (variable.lower(), server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with open_source() as source:
            assert (await source.receive()).data == "x"


async def test_a_proxy_for_another_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for https is none for http, but a redirect to https is refused then."""
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    async with on_socket(redirect("https://test/")) as (_, open_source), open_source() as source:
        for _ in range(2):
            with pytest.raises(ProxyRefused, match="https_proxy"):
                await source.receive()
        assert source.state == "closed"


async def test_whoever_connects_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `connect` given, proxies are that function's affair."""
    monkeypatch.setenv("all_proxy", "http://proxy.test:3128")
    async with (
        on_socket(stream(EVENT)) as (_, open_source),
        open_source(connect=trio.open_tcp_stream) as source,
    ):
        assert (await source.receive()).data == "x"
    async with in_memory(then_stay(stream(EVENT))) as (_, open_source), open_source() as source:
        assert (await source.receive()).data == "x"
