"""Which servers a Redis log can be on, and how it is let in: URLs, passwords, TLS, versions."""

from __future__ import annotations

import importlib
import re
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from sselib import NewEntry, Retention, ServerSentEvent
from sselib.errors import LogUnavailable
from sselib.log import ORIGIN
from sselib.log.redis import RedisRefused, _wire, open_redis_log
from sselib.log.redis._scripts import SCRIPTS
from sselib.log.redis._server import Server
from sselib.log.redis._wire import Lost

from .redis_servers import PROGRAMS, free_port, redis_server


def entry(text: str) -> NewEntry:
    return NewEntry.of(ServerSentEvent(text))


@pytest.fixture(scope="module")
def program(require_program: Callable[..., str]) -> str:
    return require_program(*PROGRAMS)


def test_without_hiredis_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed it is told how."""
    monkeypatch.setitem(sys.modules, "hiredis", None)
    with pytest.raises(ImportError, match=r"needs hiredis: pip install 'sselib\[redis\]'"):
        importlib.reload(_wire)


async def test_a_server_asks_for_a_password_and_a_database(program: str, tmp_path: Path) -> None:
    """With what stands in the URL a log works; without it, opening says what the server says."""
    options = (
        "--requirepass",
        "p@ss/word",
        "--user",
        *["me", "on", ">my:secret", "~mine*", "&mine*", "+@all"],
    )
    with redis_server(program, tmp_path, *options) as server:
        path = server.socket
        for url in (f"unix://:p%40ss%2Fword@{path}?db=3", f"unix://me:my%3Asecret@{path}"):
            async with open_redis_log(url, prefix="mine") as log:
                await log.append("a", [entry("1")])
                assert await log.topics() == ["a"]
                woken = trio.Event()
                log.watch("a", woken.set)
                with trio.fail_after(20):
                    await woken.wait()
        async with open_redis_log(f"unix://:p%40ss%2Fword@{path}?db=4", prefix="mine") as log:
            assert await log.topics() == []
        for url, answer in (
            (f"unix://{path}", "NOAUTH"),
            (f"unix://:guess@{path}", "WRONGPASS"),
            (f"unix://me:guess@{path}", "WRONGPASS"),
            (f"unix://:p%40ss%2Fword@{path}?db=99", "ERR"),
        ):
            with pytest.raises(RedisRefused, match=answer) as caught:
                async with open_redis_log(url):
                    raise AssertionError
            assert caught.value.code == answer
            assert caught.value.log == f"unix://{path}"
        async with open_redis_log(f"unix://me:my%3Asecret@{path}", prefix="yours") as log:
            with pytest.raises(RedisRefused, match="NOPERM"):
                await log.append("a", [entry("1")])


RIGHTS = """
app on >secret ~sselib ~sselib:* &sselib:*
+@read +@write +@connection -@dangerous
+evalsha +script|load +publish +subscribe +unsubscribe +info +time
"""


async def test_the_rights_in_the_docs_are_enough(program: str, tmp_path: Path) -> None:
    """A user who has no others can do all that a log does."""
    with redis_server(program, tmp_path) as server:
        assert server.ask("ACL", "SETUSER", *RIGHTS.split()) == "+OK\r\n"
        url = f"unix://app:secret@{server.socket}"
        async with open_redis_log(url, retention=Retention(entries=2, age=60)) as log:
            woken = trio.Event()
            unwatch = log.watch("t", woken.set)
            with trio.fail_after(20):
                await woken.wait()
            unwatch()
            for key in ("a", "b", "a"):
                (id,) = await log.append("t", [NewEntry.of(ServerSentEvent("x"), key=key)])
            await log.append("t", [entry("1"), entry("2")])
            assert await log.has("t", id)
            assert len((await log.snapshot("t")).entries) == 2
            assert len((await log.read("t", ORIGIN)).entries) == 4
            await log.trim("t", Retention(entries=1))
            assert await log.topics() == ["t"]
            await log.delete("t")
            assert await log.head("t") is None


async def test_a_server_is_reached_over_tcp_and_tls(program: str, tmp_path: Path) -> None:
    """Encrypted, its certificate is checked: an unknown authority is refused."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    files = {name: tmp_path / name for name in ("key", "certificate", "authority")}
    certificate.private_key_pem.write_to_path(files["key"])
    certificate.cert_chain_pems[0].write_to_path(files["certificate"])
    authority.cert_pem.write_to_path(files["authority"])
    port, tls_port = free_port(), free_port()
    options = (
        *("--tls-port", str(tls_port), "--tls-auth-clients", "no"),
        *("--tls-key-file", str(files["key"]), "--tls-cert-file", str(files["certificate"])),
        *("--tls-ca-cert-file", str(files["authority"])),
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with redis_server(program, tmp_path / "redis", *options, port=port):
        async with (
            open_redis_log(f"redis://localhost:{port}/1") as plain,
            open_redis_log(f"rediss://localhost:{tls_port}/1", ssl_context=context) as secure,
        ):
            (id,) = await secure.append("a", [entry("x" * 1_000_000)])
            (found,) = (await plain.read("a", ORIGIN)).entries
            assert found.id == id
            assert (await secure.read("a", ORIGIN)).entries == [found]
        with pytest.raises(RedisRefused, match="CERTIFICATE_VERIFY_FAILED"):
            async with open_redis_log(f"rediss://localhost:{tls_port}/1"):
                raise AssertionError


async def test_what_a_lost_connection_has_not_sent_is_never_sent() -> None:
    """It is reset: what was called is sent again on the next one, and nowhere else."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        stream = await Server.of(f"redis://127.0.0.1:{port}").open_stream()
        async with await listener.accept() as server:
            await trio.aclose_forcefully(stream)
            with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):
                await server.receive_some()


@pytest.mark.parametrize(
    ("url", "place", "user", "password", "database"),
    [
        ("redis://host", "redis://host:6379/0", "", "", 0),
        ("redis://host:1/2", "redis://host:1/2", "", "", 2),
        ("redis://[::1]:7/", "redis://[::1]:7/0", "", "", 0),
        ("rediss://u%40:p%2F@host", "rediss://host:6379/0", "u@", "p/", 0),
        ("redis://:p@host/15", "redis://host:6379/15", "", "p", 15),
        ("unix:///a/b.sock", "unix:///a/b.sock", "", "", 0),
        ("unix://u:p@/a/b.sock?db=3", "unix:///a/b.sock", "u", "p", 3),
    ],
)
def test_a_url_says_where_and_who(
    url: str, place: str, user: str, password: str, database: int
) -> None:
    """And what the server is called in messages."""
    server = Server.of(url)
    assert (server.place, server.user, server.password) == (place, user, password)
    assert server.database == database


def test_a_password_is_shown_nowhere() -> None:
    """Neither by what was read, nor by what could not be."""
    assert "x1" not in repr(Server.of("redis://me:x1@host"))
    for place in (
        *("me:x1@host/x", "me:x1@host?x=1", ":x1/y2@host", ":x1?y2@host"),
        *(":x1#y2@host", ":[x1@host", ":x1\u2100y2@host", "me@x1:@host"),
    ):
        for scheme in ("redis://", "unix://", ""):
            with pytest.raises(ValueError, match="URL") as caught:
                Server.of(scheme + place)
            assert not re.search("x1|y2", str(caught.value))


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://host", "redis, rediss or unix"),
        ("host:6379", "redis, rediss or unix"),
        ("redis://", "must have a host"),
        ("redis:///1", "must have a host"),
        ("redis://host/one", "must be a number"),
        ("redis://host/1/2", "must be a number"),
        ("redis://host/\u0661", "must be a number"),
        ("redis://host?db=1", "unknown options"),
        ("redis://host#1", "unknown options"),
        ("redis://host:port", "[Pp]ort"),
        ("redis://user@host", "must have a password"),
        ("unix://host/path", "absolute path"),
        ("unix://", "absolute path"),
        ("unix:///path?db=x", "must be a number"),
    ],
)
def test_a_wrong_url_is_refused(url: str, rule: str) -> None:
    """By the rule that it breaks."""
    with pytest.raises(ValueError, match=rule):
        Server.of(url)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"max_keys": 0}, "max_keys"),
        ({"patience": 0}, "patience"),
        ({"patience": float("nan")}, "patience"),
        ({"prefix": "a{b"}, "braces"),
        ({"ssl_context": ssl.create_default_context()}, "rediss"),
    ],
    ids=["keys", "patience", "nan", "prefix", "tls"],
)
async def test_a_wrong_option_is_refused(options: dict[str, Any], rule: str) -> None:
    """Before anybody is connected to."""
    with pytest.raises(ValueError, match=rule):
        async with open_redis_log("redis://host", **options):
            raise AssertionError


INFO = "redis_version:7.0.15\r\nrole:master\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"


async def greeted(info: str, *, hello: bytes = b"%0\r\n") -> None:
    """Greet a server that says this of itself."""
    here, there = trio.testing.memory_stream_pair()

    async def open_stream() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return here

    server = Server(place="redis://test", open_stream=open_stream)
    said = [hello, b"+OK\r\n", b"$%d\r\n%s\r\n" % (len(info), info.encode())]
    await there.send_all(b"".join([*said, b"+sha\r\n" * len(SCRIPTS)]))
    await there.send_eof()
    await server.connect()


async def test_a_server_that_can_hold_a_log_is_taken() -> None:
    """One of the right version, which would evict if it had a bound, but has none."""
    await greeted(INFO)
    await greeted(INFO.replace("7.0.15", "8.2.1").replace("allkeys-lru", "volatile-lru"))


@pytest.mark.parametrize(
    ("old", "new", "error", "why"),
    [
        ("7.0.15", "6.2.14", RedisRefused, "VERSION '6.2.14'"),
        ("redis_version", "version", RedisRefused, "VERSION ''"),
        ("7.0.15", "9" * 5000, RedisRefused, "VERSION '999"),
        ("maxmemory:0", "maxmemory:100", RedisRefused, "allkeys-lru would evict"),
        ("role:master", "role:master\r\ncluster_enabled:1", RedisRefused, "CLUSTER"),
        ("role:master", "role:slave", Lost, "is a replica"),
    ],
)
async def test_a_server_that_cannot_hold_a_log_is_not(
    old: str, new: str, error: type[Exception], why: str
) -> None:
    """For good if it is of the wrong kind, for now if it is a replica."""
    with pytest.raises(error, match=why):
        await greeted(INFO.replace(old, new))


@pytest.mark.parametrize(
    ("hello", "error", "why"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", Lost, "LOADING"),
        (b"-ERR unknown command 'HELLO'\r\n", RedisRefused, "unknown command"),
        (b"", Lost, "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n", Lost, "does not speak RESP"),
        (b"%1\r\n*0\r\n+map\r\n", Lost, "does not speak RESP: unhashable"),
    ],
)
async def test_what_answers_a_greeting_in_another_way_is_left(
    hello: bytes, error: type[Exception], why: str
) -> None:
    """For now or for good, and nothing remains open."""
    with pytest.raises(error, match=why):
        await greeted(INFO, hello=hello)


async def test_a_program_waits_for_its_server_at_start(program: str, tmp_path: Path) -> None:
    """Which of the two is started first does not matter, within the patience."""
    with redis_server(program, tmp_path) as server:
        server.kill()

        async def use(*, task_status: trio.TaskStatus[None]) -> None:
            async with open_redis_log(server.url) as log:
                assert await log.topics() == []
                task_status.started()

        async with trio.open_nursery() as nursery:
            with trio.fail_after(30):
                nursery.start_soon(trio.to_thread.run_sync, server.start)
                await nursery.start(use)


async def test_a_server_that_is_never_there_is_told(autojump_clock: object) -> None:
    """When the patience is over, with the reason."""
    with pytest.raises(LogUnavailable, match=r"nowhere/.*no answer within 3 s: .*No such"):
        async with open_redis_log("unix:///nowhere/redis.sock", patience=3):
            raise AssertionError
    assert trio.current_time() == 3
