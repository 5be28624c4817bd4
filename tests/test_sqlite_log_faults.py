"""What is promised of a SQLite log when things break, with real processes and a real disk.

What is acknowledged is there once and in order, whoever is killed; what cannot be stored is
acknowledged to nobody; what was lost is told as a gap.
"""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from sselib import (
    InvalidLog,
    LogUnavailable,
    NewEntry,
    Retention,
    ServerSentEvent,
    SQLiteLog,
    SubscriptionLagged,
    open_sqlite_log,
    open_topics,
)
from sselib.log import ORIGIN, EventLog, resume
from sselib.log.sqlite import file
from sselib.log.sqlite.file import Synchronous

from .sqlite_publisher import EVERYTHING, publisher

SOON = 50.0  # Seconds, for what should take one at most, on a machine with other things to do.


def entry(text: str, **says: Any) -> NewEntry:
    return NewEntry.of(ServerSentEvent(text), **says)


async def texts(log: EventLog, topic: str) -> list[str]:
    """Read all that a topic has."""
    after, found = ORIGIN, list[str]()
    while True:
        page = await log.read(topic, after)
        found += [each.content.block.decode()[6:].rstrip("\n") for each in page.entries]
        if page.head is None or page.upto == page.head.last:
            return found
        after = page.upto


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def test_what_is_acknowledged_survives_every_kill(path: Path) -> None:
    """Two processes publish to one topic until they are killed, twice; a third follows it all."""
    acknowledged: set[str] = set()
    followed: list[str] = []

    async def collect(process: trio.Process, enough: trio.Event) -> None:
        assert process.stdout is not None
        said = b""
        async for data in process.stdout:
            said += data
            if said.count(b"\n") >= 40:
                enough.set()
        acknowledged.update(line.decode() for line in said.split(b"\n")[:-1])

    async def publish_and_be_killed(round_number: int) -> None:
        async with (
            publisher(path, "t", f"a{round_number}") as a,
            publisher(path, "t", f"b{round_number}") as b,
            trio.open_nursery() as nursery,
        ):
            enough = [trio.Event(), trio.Event()]
            for process, event in zip((a, b), enough, strict=True):
                nursery.start_soon(collect, process, event)
            for event in enough:
                await event.wait()
            for process in (a, b):
                os.kill(process.pid, signal.SIGKILL)
        assert (a.returncode, b.returncode) == (-signal.SIGKILL, -signal.SIGKILL)

    with trio.fail_after(SOON):
        async with (
            open_sqlite_log(path, retention=EVERYTHING) as log,
            open_topics(log, window_entries=20) as topics,
            topics.channel("t").subscribe(replay="history") as events,
        ):

            async def follow() -> None:
                followed.extend([event.data async for event in events])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                for round_number in range(2):
                    await publish_and_be_killed(round_number)
                await log.append("t", [entry("end", end=True)])
            stored = await texts(log, "t")
    assert followed == stored
    *rest, last = stored
    assert last == "end"
    assert len(acknowledged) >= 2 * 2 * 40
    assert acknowledged <= set(rest)
    of_task: dict[str, list[int]] = {}
    for text in rest:
        name, _, number = text.partition(" ")
        of_task.setdefault(name, []).append(int(number))
    for numbers in of_task.values():  # in order, nothing twice, and batches whole
        assert numbers == list(range(len(numbers)))
        assert len(numbers) % 2 == 0
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@contextmanager
def few_pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the file have no more pages than a few: to SQLite, a full disk."""
    connect = file.connect

    def connect_limited(path: Path, mode: Any) -> sqlite3.Connection:
        db = connect(path, mode)
        db.execute("PRAGMA max_page_count = 60")
        return db

    with monkeypatch.context() as patch:
        patch.setattr(file, "connect", connect_limited)
        yield


@contextmanager
def small_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no file of this process grow beyond some bytes: writing fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limited", [few_pages, small_files])
async def test_a_full_disk_reaches_every_publisher_and_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, limited: Callable[..., Any]
) -> None:
    """Nothing is acknowledged that is not stored, reading goes on, and writing when it can."""
    acknowledged: list[str] = []
    failed: list[str] = []

    async def publish(log: SQLiteLog, name: str) -> None:
        for number in range(40):
            text = f"{name} {number} " + "x" * 1000
            try:
                await log.append("t", [entry(text)])
            except LogUnavailable as error:
                failed.append(error.log)
                return
            acknowledged.append(text)

    with limited(monkeypatch):
        async with open_sqlite_log(path, retention=EVERYTHING) as log:
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(publish, log, str(number))
            assert failed == [str(path)] * 20
            stored = await texts(log, "t")
            assert sorted(stored) == sorted(acknowledged)
            assert stored
    async with open_sqlite_log(path, retention=EVERYTHING) as log:
        assert await texts(log, "t") == stored
        await log.append("t", [entry("more")])
        assert await texts(log, "t") == [*stored, "more"]


async def test_an_append_that_sqlite_refuses_fails_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its group are stored, and nothing of it is."""
    connect = file.connect

    def connect_limited(path: Path, mode: Any) -> sqlite3.Connection:
        db = connect(path, mode)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)
        return db

    monkeypatch.setattr(file, "connect", connect_limited)
    failed: list[str] = []

    async def publish(log: SQLiteLog, name: str, size: int) -> None:
        try:
            await log.append(name, [entry("small", key="k"), entry("x" * size)])
        except LogUnavailable:
            failed.append(name)

    async with open_sqlite_log(path, retention=EVERYTHING) as log:
        async with trio.open_nursery() as nursery:
            with file.turn(path):  # What is asked for meanwhile is one group.
                for name, size in (("before", 10), ("large", 60_000), ("after", 10)):
                    nursery.start_soon(publish, log, name, size)
                    await trio.testing.wait_all_tasks_blocked()
        assert failed == ["large"]
        assert await log.topics() == ["after", "before"]
        await log.append("large", [entry("1", key="k")])
        assert await texts(log, "large") == ["1"]


async def test_a_process_that_was_stopped_in_its_turn_holds_up_nobody_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishers are told, readers do not notice, and it goes on when the other does."""
    async with open_sqlite_log(path) as log:
        await log.append("t", [entry("1")])
        with file.turn(path), monkeypatch.context() as patch:
            patch.setattr(file, "PATIENCE", 0.05)
            with pytest.raises(LogUnavailable, match="another process"):
                await log.append("t", [entry("2")])
            with pytest.raises(LogUnavailable, match="another process"):
                await log.delete("t")
            assert await texts(log, "t") == ["1"]
            with pytest.raises(LogUnavailable, match="another process"):
                async with open_sqlite_log(path):
                    pass
        await log.append("t", [entry("3")])
        assert await texts(log, "t") == ["1", "3"]


async def test_a_subscriber_that_paused_for_longer_than_retention_is_told(path: Path) -> None:
    """Where it is, when it comes back, and when it wants to go on at any price."""
    async with (
        open_sqlite_log(path, retention=Retention(entries=10), poll=0.001) as log,
        open_topics(log, window_entries=3) as topics,
    ):
        channel = topics.channel("t")
        with trio.fail_after(SOON):
            (first,) = await log.append("t", [entry("first")])
            async with (
                channel.subscribe(replay="history") as closing_one,
                channel.subscribe(replay="history", lag="restart") as going_on,
            ):
                assert (await closing_one.receive()).id == str(first)
                assert (await going_on.receive()).id == str(first)
                for number in range(30):
                    await log.append("t", [entry(str(number))])
                    await channel.pull()
                with pytest.raises(SubscriptionLagged):
                    await closing_one.receive()
                assert [(await going_on.receive()).data for _ in range(10)] == [
                    str(number) for number in range(20, 30)
                ]
                assert going_on.outcome.reason == "trimmed"
        assert (await resume(log, "t", str(first))).reason == "trimmed"


async def test_a_machine_that_went_down_has_topics_of_new_tags(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its last appends may be lost; then a client that holds an id of them finds out."""
    boot = path.with_name("boot_id")
    monkeypatch.setattr(file, "BOOT_ID", boot)
    synchronous: Synchronous
    for synchronous, reason in (("full", None), ("normal", "foreign")):
        boot.write_text("before\n")
        async with open_sqlite_log(path, synchronous=synchronous) as log:
            (id,) = await log.append("t", [entry("1")])
        async with open_sqlite_log(path) as log:  # The weaker of the two counts.
            assert (await resume(log, "t", str(id))).outcome == "resumed"
        boot.write_text("after\n")
        async with open_sqlite_log(path) as log:
            assert (await resume(log, "t", str(id))).reason == reason
            (next_id,) = await log.append("t", [entry("2")])
            assert next_id[:2] > id[:2]
    boot.unlink()  # Where nothing tells, it may have been down each time.
    async with open_sqlite_log(path, synchronous="normal") as log:
        (id,) = await log.append("t", [entry("3")])
    async with open_sqlite_log(path, synchronous="normal") as log:
        assert (await resume(log, "t", str(id))).reason == "foreign"


async def test_a_file_that_is_damaged_is_refused_or_found_out(path: Path) -> None:
    """When it is opened, or when what is damaged is read; and no answer is made up."""
    async with open_sqlite_log(path, retention=EVERYTHING) as log:
        await log.append("t", [entry("x" * 200)] * 500)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(InvalidLog) as caught:
        async with open_sqlite_log(path):
            pass
    assert caught.value.reason == "corrupt"

    damaged = bytearray(whole)
    for page in range(len(whole) // 4096 // 2, len(whole) // 4096):
        damaged[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(damaged)
    async with open_sqlite_log(path, retention=EVERYTHING) as log:
        with pytest.raises(InvalidLog) as caught:
            await texts(log, "t")
        assert caught.value.reason == "corrupt"
        assert await log.topics() == ["t"]


async def test_a_text_that_is_none_is_damage_like_any_other(path: Path) -> None:
    """In what we have stored, and in what SQLite says of it."""
    async with open_sqlite_log(path) as log:
        await log.append("t", [entry("x", key="a key")])
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"a key", b"\xff key"))
    async with open_sqlite_log(path) as log:
        with pytest.raises(InvalidLog) as found:
            await log.snapshot("t")
    path.write_bytes(whole.replace(b"CREATE TABLE log", b"CREATE TABL\xff log"))
    with pytest.raises(InvalidLog) as refused:
        async with open_sqlite_log(path):
            pass
    assert found.value.reason == refused.value.reason == "corrupt"
