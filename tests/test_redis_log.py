"""The log on a Redis server: as the memory log in all it does, on a real server."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from hypothesis import given
from hypothesis import strategies as st

from sselib import ChannelEnded, MemoryLog, NewEntry, Retention, ServerSentEvent, TopicFull
from sselib.errors import LogUnavailable
from sselib.log import ORIGIN, EntryId, EventLog, check_append
from sselib.log.redis import RedisRefused, open_redis_log
from sselib.log.redis._scripts import SCRIPTS
from sselib.log.redis._server import Server
from sselib.log.redis._wire import Lost

from .redis_servers import PROGRAMS, RedisServer, free_port, redis_server

_prefixes = map("test{}".format, count())


def entry(text: str, **says: Any) -> NewEntry:
    return NewEntry.of(ServerSentEvent(text), **says)


@pytest.fixture(scope="module")
def program(require_program: Callable[..., str]) -> str:
    return require_program(*PROGRAMS)


@pytest.fixture(scope="module")
def server(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(program, tmp_path_factory.mktemp("redis")) as running:
        yield running


# ---- the same as in memory -----------------------------------------------------------------------

TOPICS = ["a", "a}", ""]


def programs() -> st.SearchStrategy[list[tuple[Any, ...]]]:
    says: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.just({}),
        st.fixed_dictionaries(
            {"key": st.sampled_from(["", "k", "\ud800\n"])},
            optional={"coalesce": st.just(value=True)},
        ),
        st.fixed_dictionaries({"key": st.sampled_from(["", "k"]), "remove": st.just(value=True)}),
    )
    ends = st.fixed_dictionaries({"end": st.just(value=True), "clear": st.booleans()})
    topic = st.sampled_from([*TOPICS[:1] * 4, *TOPICS])
    entries = st.tuples(st.lists(says, max_size=3), st.just(()) | st.just(()) | st.tuples(ends))
    token = st.none() | st.sampled_from("tu")
    append = st.tuples(
        st.just("append"), topic, entries.map(lambda pair: [*pair[0], *pair[1]]), token
    )
    return st.lists(
        append
        | append
        | append
        | st.tuples(st.just("trim"), topic, retentions())
        | st.tuples(st.just("clock"), st.integers(-60, 60))
        | st.tuples(st.just("delete"), topic),
        min_size=1,
        max_size=30,
    )


def retentions() -> st.SearchStrategy[Retention]:
    return st.builds(
        Retention,
        entries=st.none() | st.integers(1, 4),
        size=st.none() | st.integers(8, 60),
        age=st.none() | st.sampled_from([0.01, 0.0405]),
    )


async def outcome(log: EventLog, step: tuple[Any, ...]) -> Any:
    """Do it, and return what it leads to, without tags."""
    match step:
        case ("append", topic, entries, token):
            try:
                return [id[:2] for id in await log.append(topic, entries, token=token)]
            except ChannelEnded as error:
                return EntryId.parse(error.end_id)[:2]  # type: ignore[index] # it is one
            except (TopicFull, ValueError) as error:
                return type(error)
        case ("trim", topic, retention):
            await log.trim(topic, retention)
        case ("delete", topic):
            await log.delete(topic)
    return None


async def everything(log: EventLog, topic: str, ids: set[tuple[int, int]]) -> Any:
    """Return all that a log says of a topic, without tags."""
    head = await log.head(topic)
    if head is None:
        return await log.snapshot(topic), await log.read(topic, ORIGIN)
    snapshot = await log.snapshot(topic)
    tag = head.last.tag
    assert snapshot.head == head
    found: list[Any] = [head.floor[:2], head.last[:2], head.end and head.end[:2]]
    found.append([(each.id[:2], each.content) for each in snapshot.entries])
    found.append(snapshot.end and (snapshot.end.id[:2], snapshot.end.content))
    for id in sorted(ids):
        whole = EntryId(*id, tag)
        if head.floor <= whole <= head.last:
            found.append(await log.has(topic, whole))
        found.append(await log.has(topic, EntryId(*id, "other")))
        for limit, size in ((1, 1000), (2, 20), (1000, 1000)):
            page = await log.read(topic, whole, limit=limit, max_bytes=size)
            assert page.head == head
            found.append([(each.id[:2], each.content) for each in page.entries])
            found.append(page.upto[:2])
    return found


@given(programs(), retentions(), st.none() | st.integers(1, 2))
async def test_it_does_what_the_memory_log_does(
    server: RedisServer,
    program: list[tuple[Any, ...]],
    retention: Retention,
    max_keys: int | None,
) -> None:
    """Whatever is appended, trimmed and deleted, with whatever bounds, at whatever time."""
    now = 1000
    memory = MemoryLog(retention=retention, max_keys=max_keys, clock=lambda: now)
    ids: set[tuple[int, int]] = {(0, 0)}
    async with open_redis_log(
        server.url,
        prefix=next(_prefixes),
        retention=retention,
        max_keys=max_keys,
        clock=lambda: now,
    ) as log:
        for number, step in enumerate(program):
            if step[0] == "clock":
                now += step[1]
            elif step[0] == "append":
                entries = [entry(f"{number}.{each}", **says) for each, says in enumerate(step[2])]
                step = (*step[:2], entries, step[3])  # noqa: PLW2901 # as it can be done
            ours = await outcome(log, step)
            if ours is ValueError:  # It looks at what it is given before it looks at tokens.
                with pytest.raises(ValueError, match=r"append|end"):
                    check_append(step[2], retention)
            else:
                assert ours == await outcome(memory, step)
            if step[0] == "append" and isinstance(ours, list):
                ids.update(ours)
            for topic in TOPICS:
                assert await everything(log, topic, ids) == await everything(memory, topic, ids)
            assert await log.topics() == await memory.topics()


async def test_a_topic_remembers_a_thousand_tokens(server: RedisServer) -> None:
    """At least the newest so many; and its own are forgotten with the next append."""
    async with open_redis_log(server.url, prefix="tokens") as log:
        ids = [
            await log.append("a", [entry(str(number))], token=str(number)) for number in range(2500)
        ]
        for number in range(1500, 2500):
            assert await log.append("a", [entry("again")], token=str(number)) == ids[number]
        assert await log.append("a", [entry("new")], token="0") > ids[-1]
        for _ in range(10):
            await log.append("b", [entry("x")])
        assert server.ask("HLEN", "sselib:{b}:tokens") == ":0\r\n"
        assert server.ask("HLEN", "tokens:{b}:tokens") == ":1\r\n"


# ---- servers, and who may use them ---------------------------------------------------------------


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
    assert "secret" not in repr(Server.of("redis://me:secret@host"))
    for url in ("redis://me:secret@host/x", "redis://me:secret@host?secret=1", "me:secret@host"):
        with pytest.raises(ValueError, match="URL") as caught:
            Server.of(url)
        assert "secret" not in str(caught.value).replace("options: ['secret']", "")


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


async def greeted(info: str | bytes, **answers: bytes) -> None:
    """Greet a server that says this of itself."""
    here, there = trio.testing.memory_stream_pair()

    async def open_stream() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return here

    server = Server(place="redis://test", open_stream=open_stream)
    info = info.encode() if isinstance(info, str) else info
    said = [b"%0\r\n", b"+OK\r\n", b"$%d\r\n%s\r\n" % (len(info), info)]
    await there.send_all(b"".join([*said, b"+sha\r\n" * len(SCRIPTS)]))
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
