"""The file of a SQLite log: what is refused, how it is brought up to date, and its threads."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
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
    TopicFull,
    open_sqlite_log,
    open_topics,
)
from sselib.log import ORIGIN
from sselib.log.sqlite import file
from sselib.log.sqlite.worker import Worker


def entry(text: str, **says: Any) -> NewEntry:
    return NewEntry.of(ServerSentEvent(text), **says)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


# ---- what is opened ------------------------------------------------------------------------------


def make_table(path: Path) -> None:
    change(path, "CREATE TABLE stranger (x)")


def make_text(path: Path) -> None:
    path.write_text("This is no database, but somebody needs it.\n" * 50)


def make_newer(path: Path) -> None:
    trio.run(make_log, path)
    change(path, f"PRAGMA user_version = {len(file.STEPS) + 1}")


async def make_log(path: Path) -> None:
    async with open_sqlite_log(path):
        pass


@pytest.mark.parametrize(
    ("make", "reason"), [(make_table, "foreign"), (make_text, "foreign"), (make_newer, "newer")]
)
def test_a_file_that_we_cannot_use_is_refused_and_left_alone(
    path: Path, make: Callable[[Path], None], reason: str
) -> None:
    """It is named, with the reason, and not a byte of it changes."""
    make(path)
    before = path.read_bytes()
    with pytest.raises(InvalidLog) as caught:
        trio.run(make_log, path)
    assert (caught.value.log, caught.value.reason) == (str(path), reason)
    assert path.read_bytes() == before


async def test_where_no_file_can_be_is_an_error_of_its_own(tmp_path: Path) -> None:
    """A directory that is not there, and one in the place of the file."""
    for wrong in (tmp_path / "absent" / "log", tmp_path):
        with pytest.raises(LogUnavailable) as caught:
            await make_log(wrong)
        assert caught.value.log == str(wrong)


async def test_where_there_can_be_no_write_ahead_log_there_is_no_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not share memory, or a file in memory as here."""
    monkeypatch.setattr(file, "connect", lambda *_: sqlite3.connect(":memory:"))
    with pytest.raises(LogUnavailable, match="not possible there: memory"):
        await make_log(path)


@pytest.mark.parametrize(
    "options",
    [
        {"max_keys": 0},
        {"synchronous": "off"},
        {"poll": 0.0},
        {"path": ":memory:"},
        {"path": ""},
    ],
    ids=str,
)
async def test_options_are_checked_first(path: Path, options: dict[str, Any]) -> None:
    """Nothing is made for an option that is none."""
    with pytest.raises(ValueError, match=next(iter(options))):
        async with open_sqlite_log(**{"path": path, **options}):
            pass
    assert not path.exists()


async def test_a_page_has_at_least_one_entry_and_one_byte(path: Path) -> None:
    """Asking for less is an error."""
    async with open_sqlite_log(path) as log:
        for wrong in ({"limit": 0}, {"max_bytes": 0}):
            with pytest.raises(ValueError, match="at least 1"):
                await log.read("t", ORIGIN, **wrong)


async def test_bounds_may_be_lifted(path: Path) -> None:
    """None is no bound, of entries, bytes and keys; and those of another time may differ."""
    everything = Retention(entries=None, size=None)
    async with open_sqlite_log(path, retention=everything, max_keys=None) as log:
        await log.append("t", [entry(str(n), key=str(n)) for n in range(11_000)])
        await log.append("t", [entry("x")] * 2000)
    async with open_sqlite_log(path) as log:
        assert len((await log.snapshot("t")).entries) == 11_000
        with pytest.raises(TopicFull):
            await log.append("t", [entry("x", key="another")])
        page = await log.read("t", ORIGIN, limit=20_000, max_bytes=10_000_000)
        assert len(page.entries) == 11_000 + 2000


async def test_a_log_that_is_closed_is_one_file(path: Path) -> None:
    """The last to leave writes everything into it."""
    async with open_sqlite_log(path) as one, open_sqlite_log(path) as two:
        await one.append("t", [entry("1")])
        await two.append("t", [entry("2")])
    assert sorted(each.name for each in path.parent.iterdir()) == ["log", "log-lock"]
    (path.parent / "log").rename(path.parent / "moved ä")
    async with open_sqlite_log(path.parent / "moved ä") as log:
        assert len((await log.read("t", ORIGIN)).entries) == 2


# ---- versions ------------------------------------------------------------------------------------


async def test_an_older_file_is_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what it has; who knows only the older version is told from then on."""
    async with open_sqlite_log(path) as older:
        (id,) = await older.append("t", [entry("1")])
        known = file.STEPS
        monkeypatch.setattr(
            file, "STEPS", (*known, "CREATE TABLE more (x);\nCREATE TABLE most (x)")
        )
        async with open_sqlite_log(path) as newer:
            assert [each.id for each in (await newer.read("t", ORIGIN)).entries] == [id]
        monkeypatch.setattr(file, "STEPS", known)
        for question in (older.append("t", [entry("2")]), older.head("t")):
            with pytest.raises(InvalidLog) as caught:
                await question
            assert caught.value.reason == "newer"
    with pytest.raises(InvalidLog, match="version is 2"):
        await make_log(path)


async def test_an_upgrade_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its steps or none."""
    await make_log(path)
    with monkeypatch.context() as patch:
        patch.setattr(file, "STEPS", (*file.STEPS, "CREATE TABLE more (x);\nCREATE TABLE log (x)"))
        with pytest.raises(LogUnavailable, match="already exists"):
            await make_log(path)
    await make_log(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM sqlite_schema WHERE name = 'more'").fetchall() == []


# ---- its threads ---------------------------------------------------------------------------------


async def test_an_append_that_is_cancelled_before_it_began_never_does(path: Path) -> None:
    """One that has begun goes on; repeated with its token, it says so."""
    begun = trio.Event()
    go_on = threading.Event()

    def slow_clock() -> int:  # called in the middle of an append
        trio.from_thread.run_sync(begun.set)
        go_on.wait()
        return 1000

    async def append(log: SQLiteLog, text: str) -> None:
        await log.append("t", [entry(text)], token=text)

    async with open_sqlite_log(path, clock=slow_clock) as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(append, log, "begun")
            await begun.wait()
            nursery.start_soon(append, log, "not begun")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        go_on.set()
        (id,) = await log.append("t", [entry("begun")], token="begun")
        (later,) = await log.append("t", [entry("later")])
        assert [each.id for each in (await log.read("t", ORIGIN)).entries] == [id, later]


async def test_what_was_asked_before_leaving_is_stored(path: Path) -> None:
    """And who waits for it outside is told."""
    async with trio.open_nursery() as nursery, open_sqlite_log(path) as log:
        with file.turn(path):
            for number in range(5):
                nursery.start_soon(log.append, "t", [entry(str(number))])  # noqa: ASYNC111 # closing under them is what is tried
            await trio.testing.wait_all_tasks_blocked()
    async with open_sqlite_log(path) as log:
        assert len((await log.read("t", ORIGIN)).entries) == 5


def busy_threads() -> set[str]:
    """Return what threads run: Trio names them for it, and idle ones otherwise."""
    return {thread.name.partition(" ")[0] for thread in threading.enumerate()}


async def test_leaving_by_an_error_or_a_cancel_leaves_no_thread(path: Path) -> None:
    """And the error is the one that was raised."""
    with pytest.RaisesGroup(ZeroDivisionError):
        async with open_sqlite_log(path):
            1 / 0  # noqa: B018 # it raises
    with trio.CancelScope() as scope:
        async with open_sqlite_log(path) as log:
            log.watch("t", lambda: None)
            await log.append("t", [entry("1")])
            await log.topics()
            assert busy_threads() >= {"_write", "_read"}
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not busy_threads() & {"_write", "_read", "_follow"}
    with pytest.raises(trio.ClosedResourceError):
        await log.head("t")


async def test_an_error_that_nobody_foresaw_is_the_callers(path: Path) -> None:
    """It is not the log's, which goes on."""

    def broken_clock() -> int:
        return 10**30 if broken else 1000

    broken = True
    async with open_sqlite_log(path, clock=broken_clock) as log:
        with pytest.raises(OverflowError):
            await log.append("t", [entry("1")])
        broken = False
        assert await log.topics() == []
        await log.append("t", [entry("1")])
        with pytest.raises(AttributeError):
            await log.head(7)  # type: ignore[arg-type] # what is tested
        assert await log.topics() == ["t"]


async def test_a_thread_that_breaks_takes_the_log_with_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits is told, and nobody waits for ever."""
    told: list[type[Exception]] = []

    async def ask(log: SQLiteLog) -> None:
        try:
            await log.append("t", [entry("1")])
        except trio.ClosedResourceError as error:
            told.append(type(error))

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(pytest.RaisesGroup(KeyError)):
            async with open_sqlite_log(path) as log:
                with file.turn(path):
                    for _ in range(3):
                        nursery.start_soon(ask, log)  # noqa: ASYNC111 # it outlives it
                        await trio.testing.wait_all_tasks_blocked()
                    monkeypatch.setattr(file, "check", broken)
                await trio.sleep_forever()
    assert told == [trio.ClosedResourceError] * 3


async def test_what_another_process_makes_of_the_file_reaches_who_only_listens(path: Path) -> None:
    """A file that cannot be read any more ends the log of who follows it, not in silence."""
    with pytest.RaisesGroup(pytest.RaisesGroup(pytest.RaisesGroup(LogUnavailable))):
        async with open_sqlite_log(path, poll=0.001) as log:
            log.watch("t", lambda: None)
            change(path, "DROP TABLE log")
            await trio.sleep_forever()


async def test_a_watcher_is_not_woken_twice_by_what_this_process_did(path: Path) -> None:
    """Nor by what happens to other topics; but by what another process does, each time."""
    woken: list[str] = []
    async with (
        open_sqlite_log(path, poll=0.001) as log,
        open_sqlite_log(path, poll=0.001) as other,
        open_topics(log) as topics,
    ):
        unwatch = [log.watch(topic, lambda topic=topic: woken.append(topic)) for topic in "ab"]  # type: ignore[misc] # the default binds the name
        await log.append("a", [entry("1")])
        assert "a" in woken
        async with topics.channel("c").subscribe() as events:
            await log.append("c", [entry("own")])
            assert (await events.receive()).data == "own"
            await other.append("c", [entry("another's")])
            # It has come by way of the file, so what was before it has as well.
            assert (await events.receive()).data == "another's"
        # Once more at most, which is when the file was first looked at: before, between or after.
        assert woken.count("a") <= 2
        assert woken.count("b") <= 1
        del woken[:]
        told = trio.Event()
        unwatch.append(log.watch("b", told.set))
        await other.append("b", [entry("1")])
        with trio.fail_after(30):
            await told.wait()
        assert woken == ["b"]
        for each in unwatch:
            each()
            each()


async def test_the_write_ahead_log_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when there is always somebody who reads."""
    monkeypatch.setattr(file, "MAX_WAL_BYTES", 100_000)
    monkeypatch.setattr(file, "_WAIT_FOR_READERS", 30_000)  # who may be slow
    sizes = []
    async with open_sqlite_log(path, synchronous="normal") as log, trio.open_nursery() as nursery:

        async def read() -> None:
            while True:
                await log.read("t", ORIGIN)

        for _ in range(3):
            nursery.start_soon(read)
        for _ in range(60):
            await log.append("t", [entry("x" * 10_000)])
            sizes.append(Path(f"{path}-wal").stat().st_size)
        nursery.cancel_scope.cancel()
    assert max(sizes) < 200_000


async def test_who_reads_for_long_holds_up_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write-ahead log grows meanwhile, and is cut when it can be."""
    monkeypatch.setattr(file, "MAX_WAL_BYTES", 100_000)
    async with open_sqlite_log(path, synchronous="normal") as log:
        await log.append("t", [entry("0")])
        with closing(sqlite3.connect(path, isolation_level=None)) as tool:
            tool.execute("BEGIN")
            before = tool.execute("SELECT count(*) FROM entry").fetchall()
            with trio.fail_after(50):
                for _ in range(50):
                    await log.append("t", [entry("x" * 10_000)])
            assert tool.execute("SELECT count(*) FROM entry").fetchall() == before
            assert Path(f"{path}-wal").stat().st_size > 200_000
            tool.execute("COMMIT")
        await log.append("t", [entry("x")])
        assert Path(f"{path}-wal").stat().st_size < 100_000


async def test_a_new_file_is_made_once(path: Path) -> None:
    """However many processes come to it at the same moment."""

    async def publish(number: int) -> None:
        async with open_sqlite_log(path) as log:
            await log.append("t", [entry(str(number))])

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(publish, number)
    async with open_sqlite_log(path) as log:
        assert len((await log.read("t", ORIGIN)).entries) == 8


async def test_what_is_committed_is_acknowledged_whatever_comes_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the write-ahead log could not be cut is no error of the append."""

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(file, "shorten_wal", fail)
    async with open_sqlite_log(path) as log:
        (id,) = await log.append("t", [entry("1")])
        assert [each.id for each in (await log.read("t", ORIGIN)).entries] == [id]


async def test_a_worker_does_what_it_was_asked_before_it_was_closed() -> None:
    """Except for what nobody waits for any more; and nothing after that."""
    done: list[list[int]] = []

    def loop(worker: Worker[int]) -> None:
        while (batch := worker.next_batch()) is not None:
            for call in batch:
                call.result = call.work(7)
            done.append([call.result for call in batch])
            worker.answer(batch)

    worker = Worker(loop)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as impatient:
            impatient.start_soon(worker.do, lambda given: given * 1000)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        for factor in (1, 2):
            nursery.start_soon(worker.do, lambda given, factor=factor: given * factor)
            await trio.testing.wait_all_tasks_blocked()
        worker.close()
        await worker.run()
    assert done == [[7, 14]]
    with pytest.raises(trio.ClosedResourceError):
        await worker.do(lambda given: given)


async def test_no_more_files_may_be_open_is_no_end_of_the_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn needs a descriptor; who asks then is told, and later it works again."""

    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    async with open_sqlite_log(path) as log:
        with monkeypatch.context() as patch:
            patch.setattr("sselib.log.sqlite.file.os.open", refuse)
            with pytest.raises(LogUnavailable, match="Too many open files"):
                await log.append("t", [entry("1")])
        await log.append("t", [entry("2")])
        assert len((await log.read("t", ORIGIN)).entries) == 1


async def test_old_tokens_are_forgotten(path: Path) -> None:
    """The oldest, when there are a thousand newer ones."""
    async with open_sqlite_log(path, synchronous="normal") as log:
        (first,) = await log.append("t", [entry("x")], token="first")

        async def publish(token: str) -> None:
            await log.append("t", [entry("x")], token=token)

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(publish, str(number))
        assert await log.append("t", [entry("x")], token="first") != [first]
