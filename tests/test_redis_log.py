"""The log on a Redis server: as the memory log in all it does, and safe from its server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing
from hiredis import Reader
from hypothesis import given
from hypothesis import strategies as st

from sselib import (
    ChannelEnded,
    MemoryLog,
    NewEntry,
    Retention,
    ServerSentEvent,
    TopicFull,
    open_topics,
)
from sselib.log import ORIGIN, EntryId, EventLog, Head, check_append, redis
from sselib.log.redis import RedisLog, RedisRefused, open_redis_log
from sselib.log.redis._connection import Connection
from sselib.log.redis._server import Server

from .redis_servers import PROGRAMS, RedisServer, redis_server

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
        | st.tuples(st.just("clock"), st.integers(-60, 60) | st.sampled_from([10, 40, 41]))
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
        for limit, size in ((1, 1000), (2, 22), (1000, 1000)):
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


GONE = {"remove": True}


@pytest.mark.parametrize("live", [[], ["k"], ["j"]], ids=str)
@pytest.mark.parametrize(
    "batch",
    [
        [{"key": "k"}, {"key": "k"}],
        [{"key": "k"}, {"key": "k", **GONE}, {"key": "j"}],
        [{"key": "k", **GONE}, {"key": "k", **GONE}, {"key": "i"}],
        [{"key": "k"}, {"key": "j"}],
        [{"key": "k"}, {"key": "j"}, {"key": "k", **GONE}],
        [{"key": "k"}, {"key": "j"}, {"end": True, "clear": True}],
        [{"key": "k"}, {"key": "j"}, {"end": True}],
    ],
    ids=str,
)
async def test_a_batch_may_hold_the_keys_that_are_live_after_it(
    server: RedisServer, live: list[str], batch: list[dict[str, Any]]
) -> None:
    """A key counts once, whatever the batch does with it: as in memory."""
    memory = MemoryLog(max_keys=1)
    async with open_redis_log(server.url, prefix=next(_prefixes), max_keys=1) as log:
        found = []
        for each in (log, memory):
            if live:
                await each.append("t", [entry("0", key=key) for key in live])
            what = await outcome(
                each, ("append", "t", [entry("1", **says) for says in batch], None)
            )
            found.append(what if what is TopicFull else len(what))
    assert found[0] == found[1]


async def test_a_page_holds_something(server: RedisServer) -> None:
    """A limit that nothing is within is refused."""
    async with open_redis_log(server.url, prefix=next(_prefixes)) as log:
        for bounds in ({"limit": 0}, {"max_bytes": 0}):
            with pytest.raises(ValueError, match="at least 1"):
                await log.read("t", ORIGIN, **bounds)


async def test_tokens_to_be_forgotten_are_bounded(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program keeps of topics that it published to once is no more than so much."""
    monkeypatch.setattr(redis, "_OVER_TOPICS", 2)
    monkeypatch.setattr(redis, "_OVER_TOKENS", 3)
    async with open_redis_log(server.url, prefix=next(_prefixes)) as log:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(log.append, "t", [entry("x")])
        for number in range(10):
            await log.append(str(number), [entry("x")])
        kept = log._over  # noqa: SLF001 # nobody else sees what is not kept
        assert {topic: len(tokens) for topic, tokens in kept.items()} == {"8": 1, "9": 1}
        assert len(await log.topics()) == 11


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


async def say_how_far_it_is(url: str) -> None:
    async with open_redis_log(url, patience=5) as log, open_topics(log) as topics:
        channel = topics.channel("job 1")
        event = ServerSentEvent("40 %", event="progress")
        await channel.publish(event, key="progress", coalesce=True)


async def test_a_repeated_deletion_spares_a_topic_made_anew(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It deletes what was there when it was called, however often it has to be sent."""
    async with open_redis_log(server.url, prefix=next(_prefixes)) as log:
        await log.append("t", [entry("old")])
        head = await log.head("t")
        await log.delete("t")
        (id,) = await log.append("t", [entry("new")])

        async def as_it_was(topic: str) -> Head | None:
            await trio.lowlevel.checkpoint()
            return head

        monkeypatch.setattr(log, "head", as_it_was)
        await log.delete("t")
        assert [each.id for each in (await log.read("t", ORIGIN)).entries] == [id]


async def test_a_clock_before_the_epoch_gives_ids_nevertheless(server: RedisServer) -> None:
    """The earliest there are."""
    async with open_redis_log(server.url, prefix=next(_prefixes), clock=lambda: -5) as log:
        ids = await log.append("t", [entry("1"), entry("2")])
        assert [id[:2] for id in ids] == [(1, 0), (1, 1)]


async def test_an_entry_is_not_older_than_its_age(server: RedisServer) -> None:
    """At the very millisecond it stays, whoever looks; after it, it goes."""
    now = 1000
    prefix, retention = next(_prefixes), Retention(age=0.01)
    async with open_redis_log(
        server.url, prefix=prefix, retention=retention, clock=lambda: now
    ) as log:
        ids = await log.append("t", [entry("1")])
        now += 10
        assert [each.id for each in (await log.read("t", ORIGIN)).entries] == ids
        ids += await log.append("t", [entry("2")])
        await log.trim("t", retention)
        assert [each.id for each in (await log.read("t", ORIGIN)).entries] == ids
        now += 1
        assert [each.id for each in (await log.read("t", ORIGIN)).entries] == ids[1:]


async def test_a_million_entries_at_one_time_leave_their_run_no_further(
    server: RedisServer,
) -> None:
    """Then the time goes on by a millisecond: the next million belongs to another run."""
    prefix = next(_prefixes)
    async with open_redis_log(server.url, prefix=prefix, clock=lambda: 1000) as log:
        await log.append("t", [entry("1")])
        server.ask("HSET", f"{prefix}:{{t}}", "last", "1000-999998")
        ids = await log.append("t", [entry("2"), entry("3")])
        assert [id[:2] for id in ids] == [(1000, 999_999), (1001, 0)]
        assert await log.has("t", ids[0])
        assert await log.has("t", ids[1])


async def test_runs_before_the_floor_are_forgotten(server: RedisServer) -> None:
    """What a topic knows of the past is bounded, and its state from then can still be read."""
    prefix = next(_prefixes)
    retention = Retention(entries=1)
    async with open_redis_log(server.url, prefix=prefix, retention=retention) as log:
        ids = await log.append("t", [entry("state", key="k")])
        for number in range(20):
            server.ask("HSET", f"{prefix}:{{t}}", "reign", "another")
            ids += await log.append("t", [entry(str(number))])
        assert server.ask("HGET", f"{prefix}:{{t}}", "runs").count(";") == 2
        assert [await log.has("t", id) for id in ids] == [False] * 19 + [True] * 2
        page = await log.read("t", ids[0])
        assert [each.id for each in page.entries] == ids[-1:]
        assert page.head is not None
        assert page.head.floor == ids[-2]


async def test_what_the_docs_show(server: RedisServer) -> None:
    """What is published in one process is there for who joins in another."""
    await say_how_far_it_is(server.url)
    async with (
        open_redis_log(server.url) as log,
        open_topics(log) as topics,
        topics.channel("job 1").subscribe() as subscription,
    ):
        with trio.fail_after(20):
            assert (await subscription.receive()).data == "40 %"


# ---- answers that no script gives ----------------------------------------------------------------

INFO = "redis_version:7.0.15\r\nrole:master\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"


class Impostor(trio.abc.Stream):
    """A server that greets like one of the right kind, and then answers anything so."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._commands = Reader()
        self._said, self._told = trio.testing.memory_stream_one_way_pair()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._commands.feed(bytes(data))
        while command := self._commands.gets():
            said = {b"INFO": b"$%d\r\n%s\r\n" % (len(INFO), INFO.encode()), b"PING": b"+PONG\r\n"}
            greeting = {b"HELLO": b"%0\r\n", b"SELECT": b"+OK\r\n", b"SCRIPT": b"+sha\r\n"}
            await self._said.send_all((said | greeting).get(command[0], self._answer))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._told.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._told.aclose()


def answers() -> st.SearchStrategy[bytes]:
    """Any answers, and such as only just miss being right."""
    words = st.sampled_from(
        [
            *(
                b"",
                b"t",
                b"1-1",
                b"0-0",
                b"1-x",
                b"1-1 1-2",
                b"appended",
                b"ended",
                b"full",
                b"cut",
            ),
            *(b"whole", b"lost", b"absent", b"expired", b"k", b"1-1 k\ndata: x\n\n", b"\xff"),
        ]
    )
    leaves = st.one_of(
        words.map(lambda word: b"$%d\r\n%s\r\n" % (len(word), word)),
        st.sampled_from([b"_\r\n", b":1\r\n", b"-ERR no\r\n", b"#t\r\n", b",1.5\r\n", b"%0\r\n"]),
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=6).map(
            lambda items: b"*%d\r\n%s" % (len(items), b"".join(items))
        ),
        max_leaves=20,
    )


@given(answers())
def test_whatever_a_server_answers_only_our_error_comes_of_it(answer: bytes) -> None:
    """Each method returns what it promises, or says that the server does not."""

    async def run() -> None:
        async def open_stream() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            return Impostor(answer)

        server = Server(place="redis://impostor", open_stream=open_stream)
        commands, reads = (Connection(server.connect, place=server.place) for _ in range(2))
        log = RedisLog(commands, reads, prefix="p", patience=60, retention=Retention(age=1))
        methods: list[Callable[[], Awaitable[object]]] = [
            lambda: log.append("t", [entry("1")]),
            lambda: log.read("t", ORIGIN),
            lambda: log.snapshot("t"),
            lambda: log.head("t"),
            lambda: log.has("t", EntryId(1, 1, "t")),
            log.topics,
            lambda: log.trim("t", Retention()),
            lambda: log.delete("t"),
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commands.run)
            nursery.start_soon(reads.run)
            for method in methods:
                with suppress(RedisRefused, ChannelEnded, TopicFull):
                    await method()
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
