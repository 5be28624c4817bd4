"""What is special about Hypercorn: HTTP/2, TLS, its Config, and what it does by itself.

That it serves as every server does, test_servers shows.
"""

from __future__ import annotations

import copy
import logging
import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trustme
from hypercorn.config import Config
from hypercorn.trio import serve as serve_plainly

import sselib.hypercorn as server
from sselib import ServerSentEvent
from sselib.listening import Address
from sselib.registry import StreamRegistry
from sselib.stream import Receive, Scope, Send

from .servers import SOON, Application, connected, never_reading, serving

CONNECTED = b": connected\n\n"

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/hello")]
WEBSOCKET = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    *GET[1:],
    ("sec-websocket-version", "13"),
]
UPGRADE = (
    b"GET /hello HTTP/1.1\r\nhost: test\r\nconnection: upgrade, http2-settings\r\n"
    b"upgrade: h2c\r\nhttp2-settings: %s\r\n\r\n"
)


class HTTP2:
    """An HTTP/2 client for one request."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))

    async def knowing(self, headers: list[tuple[str, str]]) -> int:
        """Ask without being asked, and return the status."""
        self.http.initiate_connection()
        await self.stream.send_all(self.http.data_to_send())
        await self._until(h2.events.RemoteSettingsChanged, b"")  # before that, no WebSockets
        self.http.send_headers(1, headers, end_stream=headers is GET)
        return await self._status(b"")

    async def upgrading(self) -> int:
        """Ask in HTTP/1.1 for the upgrade, and return the status of the response after it."""
        settings = self.http.initiate_upgrade_connection()
        await self.stream.send_all(UPGRADE % (settings or b""))
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._some()
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        return await self._status(rest)

    async def _status(self, data: bytes) -> int:
        response = await self._until(h2.events.ResponseReceived, data)
        return int(dict(response.headers)[":status"])

    async def _until(self, kind: type[h2.events.Event], data: bytes) -> Any:
        while True:
            events = self.http.receive_data(data)
            await self.stream.send_all(self.http.data_to_send())
            for event in events:
                if isinstance(event, kind):
                    return event
            data = await self._some()

    async def _some(self) -> bytes:
        with trio.fail_after(SOON):
            data = await self.stream.receive_some(65_536)
        assert data
        return bytes(data)


class Certified:
    """A certificate for localhost, and clients that trust it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        self.certfile, self.keyfile = str(folder / "cert.pem"), str(folder / "key.pem")
        issued.private_key_pem.write_to_path(self.keyfile)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(self.certfile, append=True)
        self._authority = authority

    def config(self) -> Config:
        return Config.from_mapping(certfile=self.certfile, keyfile=self.keyfile)

    def client(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        context.set_alpn_protocols(list(protocols) or ["http/1.1"])
        return context


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return Certified(tmp_path_factory.mktemp("certificate"))


# ---- HTTP/2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [GET, WEBSOCKET, UPGRADE], ids=["known", "websocket", "upgrade"])
async def test_http2_gets_505_before_the_app_sees_it(how: Any) -> None:
    """By prior knowledge, for a WebSocket and by upgrade: Hypercorn lets it in, we do not."""
    app = Application()
    async with (
        serving(server, app) as served,
        connected(served.address) as client,
    ):
        http2 = HTTP2(client.stream)
        status = await (http2.upgrading() if how is UPGRADE else http2.knowing(how))
        assert status == 505
        assert app.seen == ["startup"]


@pytest.mark.parametrize("how", [GET, UPGRADE], ids=["known", "upgrade"])
async def test_http2_is_there_for_whoever_asks_for_it(how: Any) -> None:
    """With http2=True both ways lead to the application."""
    app = Application()
    async with (
        serving(server, app, http2=True) as served,
        connected(served.address) as client,
    ):
        http2 = HTTP2(client.stream)
        assert await (http2.upgrading() if how is UPGRADE else http2.knowing(how)) == 200
        assert app.seen[1] == "http 2 /hello"


@pytest.mark.parametrize(("http2", "chosen"), [(False, "http/1.1"), (True, "h2")])
async def test_tls_offers_http2_only_if_asked(
    certified: Certified, *, http2: bool, chosen: str
) -> None:
    """A browser that would like HTTP/2 is not offered it."""
    tls = certified.client("h2", "http/1.1")
    async with (
        serving(server, Application(), config=certified.config(), http2=http2) as served,
        connected(served.address, tls=tls) as client,
    ):
        assert isinstance(client.stream, trio.SSLStream)
        assert client.stream.selected_alpn_protocol() == chosen


async def test_http2_over_tls_without_asking_gets_505(certified: Certified) -> None:
    """A client that ignores what was agreed on gets no further."""
    app = Application()
    async with (
        serving(server, app, config=certified.config()) as served,
        connected(served.address, tls=certified.client()) as client,
    ):
        assert await HTTP2(client.stream).knowing(GET) == 505
        assert app.seen == ["startup"]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_http1_is_served(version: bytes) -> None:
    """Both versions of HTTP/1 reach the application."""
    app = Application()
    async with serving(server, app) as served, connected(served.address) as client:
        await client.stream.send_all(b"GET /x HTTP/%s\r\nhost: test\r\n\r\n" % version)
        with trio.fail_after(SOON):
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        assert app.seen == ["startup", f"http {version.decode()} /x"]


async def test_websockets_of_http1_reach_the_app() -> None:
    """They are not ours to refuse."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await send({"type": "lifespan.startup.complete"})
            await receive()

    async with serving(server, app) as served, connected(served.address) as client:
        await client.stream.send_all(
            b"GET /x HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        with trio.fail_after(SOON):
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 403 ")
    assert seen == ["lifespan", "websocket"]


# ---- TLS -----------------------------------------------------------------------------------------


async def test_streams_over_tls(certified: Certified) -> None:
    """Events arrive, and a drain says farewell, as without TLS."""
    app = Application()
    registry = StreamRegistry(drain_window=0.1)
    async with (
        serving(server, app, config=certified.config(), registry=registry) as served,
        connected(served.address, tls=certified.client()) as client,
    ):
        await client.get("/events")
        await client.read_until(CONNECTED)
        await app.channel.publish(ServerSentEvent("over TLS"))
        await client.read_until(b"data: over TLS\n\n")
        served.stop.set()
        assert (await client.read_all()).startswith(b"retry: ")
        with trio.fail_after(SOON):
            await served.over.wait()


@pytest.mark.parametrize("ending", ["drain", "cancel"])
async def test_tls_clients_that_do_not_read_do_not_hold_the_server(
    certified: Certified, ending: str
) -> None:
    """Neither a stalled body nor a handshake that does not go on."""
    app = Application()
    registry = StreamRegistry(drain_window=0.1)
    async with (
        serving(server, app, config=certified.config(), registry=registry) as served,
        never_reading(served.address, "/flood", tls=certified.client()) as stalled,
        connected(served.address) as silent,
    ):
        await app.until("stalled /flood")
        assert await getattr(served, ending)() < 2
        for client in (stalled, silent):
            stream: Any = client.stream
            client.stream = getattr(stream, "transport_stream", stream)
            await client.read_cut()


async def test_a_bad_certificate_is_said_before_anything_starts(tmp_path: Path) -> None:
    """The error is the file's, and nothing listens."""
    app = Application()
    config = Config.from_mapping(certfile=str(tmp_path / "no.pem"), keyfile=str(tmp_path / "no"))
    with pytest.raises(FileNotFoundError):
        await server.serve(app, config=config, unix_path=tmp_path / "socket")
    assert app.seen == []
    assert list(tmp_path.iterdir()) == []


# ---- the Config ----------------------------------------------------------------------------------


async def test_the_config_is_left_as_it_was(certified: Certified) -> None:
    """Neither its values nor the lists in it change, and it can be used again."""
    config = certified.config()
    config.server_names = ["test"]
    config.graceful_timeout = 60
    before = copy.deepcopy(vars(config))
    shared = {name: value for name, value in vars(Config).items() if isinstance(value, list)}
    shared_before = copy.deepcopy(shared)
    assert shared["alpn_protocols"] == ["h2", "http/1.1"]
    for _ in range(2):
        async with (
            serving(server, Application(), config=config) as served,
            connected(served.address, tls=certified.client()) as client,
        ):
            await client.get("/hello")
    assert vars(config) == before
    assert shared == shared_before


async def test_what_the_config_says_is_done() -> None:
    """Hypercorn's own settings count."""
    config = Config.from_mapping(
        include_server_header=False, server_names=["here"], accesslog=logging.getLogger("mine")
    )
    async with serving(server, Application(), config=config) as served:
        async with connected(served.address) as client:
            response = await client.get("/hello", host="here")
            assert b"server" not in dict(response.headers)
        async with connected(served.address) as client:
            assert (await client.get("/hello")).status_code == 404


@pytest.mark.parametrize(("asked", "least", "most"), [(0.2, 0.2, 0.9), (60.0, 0.9, 2.0)])
async def test_graceful_timeout_may_be_shorter_than_a_second(
    asked: float, least: float, most: float
) -> None:
    """A request without an answer is cut then, or a second after the drain at the latest."""
    app = Application()
    config = Config.from_mapping(graceful_timeout=asked)
    async with serving(server, app, config=config) as served, connected(served.address) as client:
        await client.ask("/hang")
        async with connected(served.address) as next_client:  # by now it is there
            await next_client.get("/hello")
        assert least <= await served.drain() < most


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("bind", ["0.0.0.0:80"], "not in the Config: bind"),
        ("insecure_bind", ["0.0.0.0:80"], "not in the Config: insecure_bind"),
        ("umask", 0o77, "not in the Config: umask"),
        ("user", 1000, "not in the Config: user"),
        ("group", 1000, "not in the Config: group"),
        ("quic_bind", ["0.0.0.0:443"], "HTTP/3 is not served: the Config has a quic_bind"),
    ],
)
async def test_where_to_listen_is_not_said_in_the_config(
    setting: str, value: Any, complaint: str
) -> None:
    """It would be ignored, so it is an error."""
    with pytest.raises(ValueError, match=complaint):
        await server.serve(Application(), config=Config.from_mapping({setting: value}))


async def test_logging_is_left_to_the_program(caplog: pytest.LogCaptureFixture) -> None:
    """Without a Config Hypercorn logs as usual, through no handler of its own."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError(scope["type"])

    before = list(logging.getLogger("hypercorn.error").handlers)
    async with serving(server, app) as served, connected(served.address) as client:
        assert (await client.get("/hello")).status_code == 500
    assert logging.getLogger("hypercorn.error").handlers == before
    assert "LookupError: http" in caplog.text


async def test_a_server_that_has_had_enough_requests_ends() -> None:
    """Hypercorn's max_requests ends it, too, whatever the clients do."""
    app = Application()
    config = Config.from_mapping(max_requests=1)
    async with (
        serving(server, app, config=config) as served,
        never_reading(served.address, "/flood"),
        connected(served.address) as client,
    ):
        await app.until("stalled /flood")
        await client.get("/hello")
        with trio.fail_after(SOON):
            await served.over.wait()


# ---- Hypercorn by itself -------------------------------------------------------------------------


async def test_a_registry_on_plain_hypercorn() -> None:
    """In a nursery of the user's the registry alone brings limits and the drain."""
    app, stop = Application(), trio.Event()
    registry = StreamRegistry(drain_window=0.1, max_streams=1)
    config = Config.from_mapping(bind="127.0.0.1:0", errorlog=None)
    async with trio.open_nursery() as nursery:
        serve: Any = partial(
            serve_plainly,
            cast("Any", registry(app)),
            config,
            shutdown_trigger=registry.drained_after(stop.wait),
        )
        [url] = await nursery.start(serve)
        host, _, port = url.removeprefix("http://").partition(":")
        address: Address = (host, int(port))
        async with connected(address) as client, connected(address) as refused:
            await client.get("/events")
            await client.read_until(CONNECTED)
            assert (await refused.get("/events")).status_code == 503
            stop.set()
            assert (await client.read_all()).startswith(b"retry: ")
    assert registry.statistics().ended == {"drained": 1}


# ---- the import ----------------------------------------------------------------------------------


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    return (done.stdout + done.stderr).strip()


def test_sselib_needs_no_hypercorn() -> None:
    """Importing the library imports no server."""
    assert (
        python("import sselib, sselib.registry, sys; print('hypercorn' in sys.modules)") == "False"
    )


WITHOUT = """
import sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == %(name)r:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Finder())
import sselib.hypercorn
"""


def test_without_hypercorn_the_import_names_the_extra() -> None:
    """One clear error says what to install."""
    said = python(WITHOUT % {"name": "hypercorn"})
    assert said.splitlines()[-1] == (
        "ImportError: sselib.hypercorn needs Hypercorn: pip install 'sselib[hypercorn]'"
    )
    assert "During handling" not in said


def test_a_broken_hypercorn_is_not_called_a_missing_one() -> None:
    """What else an import may lack is said as it is."""
    said = python(WITHOUT % {"name": "priority"})
    assert said.splitlines()[-1] == "ModuleNotFoundError: No module named 'priority'"
