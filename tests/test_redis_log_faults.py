"""What is promised of a log on a Redis server when things break, on real servers and processes.

What is acknowledged is there once and in order, whoever is killed; what a server has lost is told
as a gap; nobody waits longer than it chose to, and nobody is left without a word.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from sselib import NewEntry, Retention, ServerSentEvent, SubscriptionLagged, open_topics
from sselib.errors import LogUnavailable
from sselib.log import ORIGIN, Entry, EntryId, EventLog, resume
from sselib.log.redis import RedisLog, RedisRefused, open_redis_log
from sselib.subscription import Subscription

from .redis_servers import PROGRAMS, RedisServer, free_port, publisher, redis_server

# Everything acknowledged is on disk.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
# Seconds. A deadline for what should take no time at all, on a machine that has other things to do.
SOON = 30.0

_prefixes = map("faults{}".format, count())


def entry(text: str, **says: Any) -> NewEntry:
    return NewEntry.of(ServerSentEvent(text), **says)


def text(found: Entry) -> str:
    return found.content.block.decode().removeprefix("data: ").rstrip("\n")


async def all_of(log: EventLog, topic: str) -> list[Entry]:
    """Read all that a topic has."""
    after, found = ORIGIN, list[Entry]()
    while True:
        page = await log.read(topic, after)
        found += page.entries
        if page.head is None or page.upto == page.head.last:
            return found
        after = page.upto


async def logged(word: str) -> None:
    """Wait until the library logs something that has this word."""
    found = trio.Event()

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if word in record.getMessage():
                found.set()

    listening = Listening()
    logging.getLogger("sselib").addHandler(listening)
    try:
        await found.wait()
    finally:
        logging.getLogger("sselib").removeHandler(listening)


@pytest.fixture(scope="module")
def program(require_program: Callable[..., str]) -> str:
    return require_program(*PROGRAMS)


@pytest.fixture(scope="module")
def server(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that stays, for tests that leave it as it is."""
    with redis_server(program, tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url


@asynccontextmanager
async def following(
    url: str, prefix: str, topic: str, **options: Any
) -> AsyncIterator[Subscription]:
    """Subscribe as another process does: over a log of its own, to all there will be."""
    async with (
        open_redis_log(url, prefix=prefix) as log,
        open_topics(log) as topics,
        topics.channel(topic).subscribe(replay="history", **options) as subscription,
    ):
        yield subscription


async def test_a_killed_server_costs_nothing_that_was_acknowledged(
    program: str, tmp_path: Path
) -> None:
    """Killed -9 twice while many publish: all there once, in order, to a subscriber elsewhere."""
    acknowledged: list[tuple[EntryId, str]] = []
    reached = {number: trio.Event() for number in (200, 600, 1000)}

    async def publish(log: EventLog, name: str) -> None:
        for number in range(100):
            said = f"{name} {number}"
            (id,) = await log.append("t", [entry(said)])
            acknowledged.append((id, said))
            if len(acknowledged) in reached:
                reached[len(acknowledged)].set()

    with redis_server(program, tmp_path, *DURABLE) as server:
        async with (
            open_redis_log(server.url, prefix="p") as log,
            following(server.url, "p", "t") as subscription,
            trio.open_nursery() as nursery,
        ):
            with trio.fail_after(SOON):
                for name in range(10):
                    nursery.start_soon(publish, log, str(name))
                for number in (200, 600):
                    await reached[number].wait()
                    server.kill()
                    await trio.to_thread.run_sync(server.start)
                await reached[1000].wait()
                events = [await subscription.receive() for _ in range(1000)]
    assert [(event.id, event.data) for event in events] == [
        (str(id), said) for id, said in sorted(acknowledged)
    ]


async def test_a_killed_publisher_leaves_whole_batches(url: str) -> None:
    """Killed -9 in the middle, what it began is there whole or not at all, and others go on."""
    prefix = next(_prefixes)
    async with publisher(url, prefix, "t", "killed", 1_000_000) as process:
        assert process.stdout is not None
        said = b""
        with trio.fail_after(SOON):
            while said.count(b"\n") < 100:
                said += await process.stdout.receive_some()
        process.kill()
        with trio.fail_after(SOON):
            async for data in process.stdout:
                said += data
    acknowledged = said.count(b"\n")
    async with open_redis_log(url, prefix=prefix, retention=Retention(entries=None)) as log:
        (id,) = await log.append("t", [entry("survivor")])
        found = await all_of(log, "t")
    assert found[-1].id == id
    # The publisher kept the newest thousand; the last of them ends a batch.
    last = int(text(found[-2]).split(" ")[1])
    assert last in {acknowledged - 1, acknowledged}
    written = [f"killed {number} {part}" for number in range(last + 1) for part in range(3)]
    assert [text(each) for each in found[:-1]] == written[-1000:]


async def test_two_processes_publish_to_one_topic(url: str) -> None:
    """All there once, in an order that is each publisher's own, live and afterwards."""
    prefix = next(_prefixes)
    async with (
        following(url, prefix, "t") as subscription,
        publisher(url, prefix, "t", "a", 100) as one,
        publisher(url, prefix, "t", "b", 100) as other,
    ):
        with trio.fail_after(SOON):
            events = [await subscription.receive() for _ in range(600)]
            assert await one.wait() == await other.wait() == 0
    for name in "ab":
        texts = [event.data for event in events if event.data.startswith(name)]
        assert texts == [f"{name} {number} {part}" for number in range(100) for part in range(3)]
    async with open_redis_log(url, prefix=prefix) as log:
        found = await all_of(log, "t")
    assert [(str(each.id), text(each)) for each in found] == [
        (event.id, event.data) for event in events
    ]


class Cutting(trio.abc.Stream):
    """A stream to a real server that breaks before a reply, when told to."""

    def __init__(self, stream: trio.abc.Stream, cuts: set[int]) -> None:
        self._stream = stream
        self._cuts = cuts
        self._writes = count()
        self._is_cut = False
        self._receiving = trio.CancelScope()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)
        if next(self._writes) in self._cuts:
            self._is_cut = True
            self._receiving.cancel()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._is_cut:
            with trio.CancelScope() as self._receiving:
                return await self._stream.receive_some(max_bytes)
        raise trio.BrokenResourceError("cut")

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_a_connection_that_is_cut_before_the_reply_doubles_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The append is repeated with the token it had, its caller's or one of the log's own."""
    connected = count()
    open_unix_socket = trio.open_unix_socket

    async def open_cutting(path: str) -> trio.abc.Stream:
        next(connected)
        return Cutting(await open_unix_socket(path), {2, 3, 4, 7, 9})

    monkeypatch.setattr(trio, "open_unix_socket", open_cutting)
    ids: list[EntryId] = []

    async def publish(log: EventLog, name: int) -> None:
        for number in range(20):
            token = f"{name} {number}" if name % 2 else None
            ids.extend(await log.append("t", [entry(f"{name} {number}")], token=token))

    async with open_redis_log(url, prefix=next(_prefixes)) as log:
        with trio.fail_after(SOON):
            async with trio.open_nursery() as nursery:
                for name in range(5):
                    nursery.start_soon(publish, log, name)
            found = await all_of(log, "t")
    assert next(connected) > 10
    assert [each.id for each in found] == sorted(ids)
    assert sorted(map(text, found)) == sorted(f"{a} {b}" for a in range(5) for b in range(20))


# ---- a tail that is lost -------------------------------------------------------------------------


class Failover:
    """Two servers and one address, which leads to the first until it is told otherwise."""

    def __init__(self, program: str, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.link = directory / "current.sock"
        self.old = RedisServer(program, directory / "old")
        self.new = RedisServer(program, directory / "new")
        for server in (self.old, self.new):
            server.port = free_port()
            server.options = ("--repl-diskless-sync-delay", "0")
            server.start()
        self.link.symlink_to(self.old.socket)
        self.url = f"unix://{self.link}"

    def copy(self) -> None:
        """Let the second have what the first has now, and nothing that comes later."""
        self.old.ask("SAVE")
        self.new.kill()
        (self.new.directory / "dump.rdb").write_bytes(
            (self.old.directory / "dump.rdb").read_bytes()
        )
        self.new.start()

    def replicate(self) -> None:
        """Have the second follow the first, and take over before what comes later reaches it."""
        self.new.ask("REPLICAOF", "127.0.0.1", str(self.old.port))
        self.new.until("sync: Finished with success")
        self.new.ask("REPLICAOF", "NO", "ONE")

    def turn(self) -> None:
        """Lose the first, and have the second take over."""
        self.old.kill()
        self.link.unlink()
        self.link.symlink_to(self.new.socket)
        self.old, self.new = self.new, self.old

    def close(self) -> None:
        self.old.kill()
        self.new.kill()


@pytest.fixture
def failover(program: str, tmp_path: Path) -> Iterator[Failover]:
    servers = Failover(program, tmp_path / "servers")
    yield servers
    servers.close()


async def outcome(log: EventLog, id: EntryId) -> str:
    found = await resume(log, "t", str(id))
    return found.reason or found.outcome


async def test_ids_of_a_lost_tail_are_told_from_all_others(failover: Failover) -> None:
    """Ahead until the log has come that far again, then rewritten; over two failovers."""
    async with open_redis_log(failover.url) as log:
        kept = [*await log.append("t", [entry("1")]), *await log.append("t", [entry("2")])]
        failover.copy()
        lost = [
            *await log.append("t", [entry("3"), entry("4")]),
            *await log.append("t", [entry("5")]),
        ]
        assert {await outcome(log, id) for id in kept + lost} == {"resumed"}
        failover.turn()
        assert [await outcome(log, id) for id in kept + lost] == ["resumed"] * 2 + ["ahead"] * 3
        kept += await log.append("t", [entry("6"), entry("7")])
        assert kept == sorted(kept)
        assert min(kept[2:]) > max(lost)
        assert {await outcome(log, id) for id in kept} == {"resumed"}
        assert {await outcome(log, id) for id in lost} == {"rewritten"}
        assert [text(each) for each in await all_of(log, "t")] == ["1", "2", "6", "7"]

        failover.new.start()
        failover.copy()
        more = await log.append("t", [entry("8", key="k", coalesce=True)])
        failover.turn()
        kept += await log.append("t", [entry("9", key="k", coalesce=True)])
        kept += await log.append("t", [entry("10", key="k", coalesce=True)])
        assert {await outcome(log, id) for id in kept} == {"resumed"}, "superseded is not lost"
        assert {await outcome(log, id) for id in lost + more} == {"rewritten"}
        await log.delete("t")
        await log.append("t", [entry("11")])
        assert {await outcome(log, id) for id in kept + lost + more} == {"foreign"}


async def test_a_replica_that_takes_over_begins_a_run(failover: Failover) -> None:
    """A real one, which was given the same replication id as the server that it followed."""
    async with open_redis_log(failover.url) as log:
        kept = await log.append("t", [entry("1")])
        await trio.to_thread.run_sync(failover.replicate)
        lost = await log.append("t", [entry("2"), entry("3")])
        failover.turn()
        assert {await outcome(log, id) for id in lost} == {"ahead"}
        kept += await log.append("t", [entry("4")])
        assert {await outcome(log, id) for id in kept} == {"resumed"}
        assert {await outcome(log, id) for id in lost} == {"rewritten"}
        assert [text(each) for each in await all_of(log, "t")] == ["1", "4"]


async def test_an_id_is_told_to_be_lost_whatever_the_clocks_say(failover: Failover) -> None:
    """Also if the clock of the server that takes over is behind, and the lost ids lie between."""
    now = 1_000_000
    async with open_redis_log(failover.url, clock=lambda: now) as log:
        kept = await log.append("t", [entry("1")])
        failover.copy()
        lost = []
        for _ in range(10):
            now += 1000
            lost += await log.append("t", [entry("lost")])
        failover.turn()
        now -= 20_000
        for _ in range(20):
            now += 700
            kept += await log.append("t", [entry("kept")])
        assert lost[0] < kept[-1]
        assert {await outcome(log, id) for id in lost} <= {"rewritten", "ahead"}
        assert {await outcome(log, id) for id in kept} == {"resumed"}


async def test_a_subscriber_who_has_seen_what_was_lost_is_told(failover: Failover) -> None:
    """At the first entry that follows: it lags, or joins anew, as it chose."""
    async with open_redis_log(failover.url) as log:
        await log.append("t", [entry("state 1", key="k")])
        failover.copy()
        async with (
            following(failover.url, "sselib", "t") as strict,
            following(failover.url, "sselib", "t", lag="restart") as lenient,
        ):
            with trio.fail_after(SOON):
                await log.append("t", [entry("state 2", key="k")])
                for subscription in (strict, lenient):
                    assert (await subscription.receive()).data == "state 1"
                    assert (await subscription.receive()).data == "state 2"
                failover.turn()
                await log.append("t", [entry("3")])
                with pytest.raises(SubscriptionLagged):
                    await strict.receive()
                texts: list[str] = []
                while texts[-1:] != ["3"]:
                    texts.append((await lenient.receive()).data)
                assert texts == ["state 1", "3"]
                assert lenient.outcome.outcome == "gap"


async def test_a_server_that_was_a_replica_for_a_while_has_lost_nothing(
    program: str, tmp_path: Path
) -> None:
    """Writers wait meanwhile, and ids from before are known."""
    with redis_server(program, tmp_path) as server:
        async with open_redis_log(server.url) as log:
            ids = await log.append("t", [entry("1"), entry("2", key="k")])
            server.ask("REPLICAOF", "127.0.0.1", "1")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(log.append, "t", [entry("3", key="k")])
                with trio.fail_after(SOON):
                    await logged("READONLY")
                server.ask("REPLICAOF", "NO", "ONE")
            ids += await log.append("t", [entry("4")])
            assert {await outcome(log, id) for id in ids} == {"resumed"}
            assert [text(each) for each in await all_of(log, "t")] == ["1", "2", "3", "4"]


# ---- servers that refuse, or do not answer -------------------------------------------------------


async def test_a_full_server_refuses_what_writes_and_answers_what_reads(
    program: str, tmp_path: Path
) -> None:
    """The publisher is told, nothing has changed, and deleting makes room."""
    with redis_server(program, tmp_path) as server:
        async with open_redis_log(server.url) as log:
            (id,) = await log.append("t", [entry("1", key="k")])
            server.ask("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(RedisRefused) as caught:
                await log.append("t", [entry("2", key="k")])
            assert caught.value.code == "OOM"
            assert [each.id for each in (await log.read("t", ORIGIN)).entries] == [id]
            assert [each.id for each in (await log.snapshot("t")).entries] == [id]
            await log.trim("t", Retention(entries=1))
            await log.delete("t")
            assert await log.topics() == []
            server.ask("CONFIG", "SET", "maxmemory", "0")
            await log.append("t", [entry("3")])


async def test_what_is_too_old_stays_readable_where_nothing_can_be_deleted(
    program: str, tmp_path: Path
) -> None:
    """A server that takes no writes keeps entries for longer, and hides nothing."""
    now = 1000
    with redis_server(program, tmp_path) as server:
        async with open_redis_log(server.url, retention=Retention(age=1), clock=lambda: now) as log:
            (id,) = await log.append("t", [entry("1")])
            server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
            now += 2000
            assert [each.id for each in (await log.read("t", ORIGIN)).entries] == [id]
            with pytest.raises(RedisRefused, match="NOREPLICAS"):
                await log.append("t", [entry("2")])
            server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
            page = await log.read("t", ORIGIN)
            assert (page.entries, page.head and page.head.floor) == ([], id)


async def test_scripts_that_a_server_has_forgotten_are_loaded_again(server: RedisServer) -> None:
    """By connecting anew, and nobody notices."""
    async with open_redis_log(server.url, prefix=next(_prefixes)) as log:
        await log.append("t", [entry("1")])
        server.ask("SCRIPT", "FLUSH")
        await log.append("t", [entry("2")])
        server.ask("SCRIPT", "FLUSH")
        assert [text(each) for each in await all_of(log, "t")] == ["1", "2"]


async def test_a_publisher_waits_no_longer_than_it_chose(program: str, tmp_path: Path) -> None:
    """A server that hangs: an error in time, and the append is repeated without doubling."""
    with redis_server(program, tmp_path) as server:
        async with open_redis_log(server.url) as log:
            await log.append("t", [entry("1")])
            assert server.process is not None
            os.kill(server.process.pid, signal.SIGSTOP)
            patience, log.patience = log.patience, 0.5
            changes: list[Callable[[], Any]] = [
                lambda: log.append("t", [entry("2")], token="2"),
                lambda: log.trim("t", Retention()),
                lambda: log.delete("t"),
            ]
            for change in changes:
                with trio.fail_after(SOON), pytest.raises(LogUnavailable, match=r"within 0.5 s"):
                    await change()
            os.kill(server.process.pid, signal.SIGCONT)
            log.patience = patience
            with trio.fail_after(SOON):
                # Trimming and deleting may have been done; what was told is that nobody knows.
                (id,) = await log.append("t", [entry("2")], token="2")
                assert await log.append("t", [entry("2")], token="2") == [id]
                found = [text(each) for each in await all_of(log, "t")]
            assert found.count("2") == 1


async def test_a_reader_waits_for_a_server_that_comes_back(program: str, tmp_path: Path) -> None:
    """However long that takes: who reads has nothing to lose, and a cancel scope if it has."""
    with redis_server(program, tmp_path, *DURABLE) as server:
        async with open_redis_log(server.url) as log:
            (id,) = await log.append("t", [entry("1")])
            server.kill()
            log.patience = 0.1
            with pytest.raises(LogUnavailable, match=r"within 0.1 s"):
                await log.append("t", [entry("2")])
            with trio.move_on_after(0.3) as scope:
                await log.read("t", ORIGIN)
            assert scope.cancelled_caught
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, server.start)
                with trio.fail_after(SOON):
                    assert (await log.read("t", ORIGIN)).entries[0].id == id


# ---- clocks and slow subscribers -----------------------------------------------------------------


async def test_processes_whose_clocks_disagree_share_one_order(url: str) -> None:
    """An hour before, an hour behind, stepping back: ids rise in the order of appending."""
    prefix, hour = next(_prefixes), 3_600_000
    now = hour
    async with (
        open_redis_log(url, prefix=prefix, clock=lambda: now) as one,
        open_redis_log(url, prefix=prefix, clock=lambda: now + hour) as other,
    ):
        ids = []
        for step in (0, 1, -hour, -1, 0, 3 * hour):
            now += step
            for log in (one, other):
                ids += await log.append("t", [entry("x"), entry("y")])
        assert ids == sorted(set(ids))
        assert [each.id for each in await all_of(other, "t")] == ids


@pytest.mark.parametrize("lag", ["close", "restart"])
async def test_a_subscriber_that_pauses_for_longer_than_the_retention_is_told(
    url: str, lag: str
) -> None:
    """It finds that it has lagged, or is told of the gap and begins with what there is now."""
    prefix = next(_prefixes)
    async with (
        open_redis_log(url, prefix=prefix, retention=Retention(entries=5)) as log,
        open_topics(log, window_entries=2) as topics,
    ):
        channel = topics.channel("t")
        await log.append("t", [entry("state", key="k")])
        async with channel.subscribe(lag=lag) as subscription:  # type: ignore[arg-type] # one of two
            with trio.fail_after(SOON):
                assert (await subscription.receive()).data == "state"
                for number in range(20):
                    await log.append("t", [entry(str(number))])
                texts: list[str] = []
                try:
                    while texts[-1:] != ["state"]:
                        texts.append((await subscription.receive()).data)
                    assert lag == "restart"
                    assert subscription.outcome.reason == "trimmed"
                except SubscriptionLagged as error:
                    assert (lag, error.reason) == ("close", "trimmed")  # noqa: PT017 # or none
                assert len(texts) < 20


async def test_a_log_that_is_closed_says_so(url: str) -> None:
    """To whoever waits in it, and to whoever comes later."""
    errors = []

    async def wait(log: RedisLog) -> None:
        try:
            while True:
                await log.head("t")
        except trio.ClosedResourceError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:  # noqa: SIM117 # the log goes first
        async with open_redis_log(url, prefix=next(_prefixes)) as log:
            nursery.start_soon(wait, log)  # noqa: ASYNC111 # it waits there when the log closes
            await log.append("t", [entry("1")])
    assert len(errors) == 1
    with pytest.raises(trio.ClosedResourceError):
        await log.append("t", [entry("2")])
    log.watch("t", lambda: None)()
