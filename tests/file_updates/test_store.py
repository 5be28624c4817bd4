"""The database: what it keeps, whom it keeps out, and what a search finds in it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from examples.file_updates import index, store
from examples.file_updates.index import Row
from examples.file_updates.pipeline.embedding import embed
from examples.file_updates.pipeline.reading import Stamp
from examples.file_updates.pipeline.summary import summarize
from examples.file_updates.queue import Item, Step
from examples.file_updates.search import as_json, search
from examples.file_updates.store import StoreError, companions, open_store
from examples.file_updates.watching import Watch

ODD = "/d/\udcff"  # not UTF-8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite3"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an empty database."""
    with open_store(path), sqlite3.connect(path) as connection:
        yield connection
    connection.close()


def stamp(size: int = 1, place: str = "1:1") -> Stamp:
    return Stamp(place=place, size=size, mtime_ns=10**18, is_fresh=False)


def put(connection: sqlite3.Connection, path: str, body: str, **options: str) -> None:
    """Index a text as those do who process files."""
    row = Row(
        path=path,
        outcome="complete",
        stamp=stamp(len(body), **options),
        summary=summarize(body),
        indexed_at=1,
    )
    name = os.path.basename(path).replace("\udcff", "")
    index.put(connection, row, body=body, embedding=embed(f"{name}\n{body}").tobytes())


# ---- the file ------------------------------------------------------------------------------------


async def test_what_was_stored_is_there_again(path: Path) -> None:
    """Settings, watches and items, with paths that are no text, after the store was closed."""
    item = Item(
        id="1",
        file_path=ODD,
        action="move",
        dest_path=ODD + "x",
        enqueued_at=1.5,
        cooldown_expires_at=2.5,
        retry_count=2,
    )
    kept = Step(item=item, opcode=None, status="", is_kept=True)

    def write(connection: sqlite3.Connection) -> None:
        store.save_setting(connection, "paused", True)  # noqa: FBT003 # a value
        store.save_watch(connection, Watch("/d", recursive=False), id="w", now=5)
        store.note_scan(connection, "/d", now=6)
        store.save_step(connection, kept)

    with open_store(path) as opened:
        await opened.transact(write)
    with open_store(path) as opened:
        assert await opened.query(lambda c: store.load_setting(c, "paused", default=False)) is True
        assert await opened.query(lambda c: store.load_setting(c, "other", default=7)) == 7
        assert await opened.query(store.load_queue) == [item]
        (watch,) = await opened.query(store.load_watches)
        assert (watch.id, watch.path, watch.recursive, watch.is_active) == ("w", "/d", False, True)
        assert (watch.created_at, watch.last_scan, watch.updated_at) == (5, 6, 6)
        gone = Step(item=item, opcode=None, status="", is_kept=False)
        await opened.transact(lambda c: store.save_step(c, gone))
        assert await opened.query(store.load_queue) == []


def test_a_watch_keeps_its_id(connection: sqlite3.Connection) -> None:
    """One that failed and is wanted again is the same, and active."""
    store.save_watch(connection, Watch("/d", recursive=True), id="w", now=1)
    store.end_watch(connection, "/d", now=2)
    assert not store.load_watches(connection)[0].is_active
    store.save_watch(connection, Watch("/d", recursive=False), id="other", now=3)
    (watch,) = store.load_watches(connection)
    assert (watch.id, watch.is_active, watch.recursive) == ("w", True, False)
    store.delete_watch(connection, "/d")
    assert store.load_watches(connection) == []


async def test_a_transaction_that_fails_has_changed_nothing(path: Path) -> None:
    """And the next one goes on."""

    def fail(connection: sqlite3.Connection) -> None:
        store.save_setting(connection, "a", 1)
        raise ZeroDivisionError

    with open_store(path) as opened:
        with pytest.raises(ZeroDivisionError):
            await opened.transact(fail)
        await opened.transact(lambda c: store.save_setting(c, "b", 2))
        assert await opened.query(lambda c: store.load_setting(c, "a", default=None)) is None


async def test_a_search_does_not_wait_for_who_writes(path: Path) -> None:
    """It sees what was committed before."""
    with open_store(path) as opened, trio.fail_after(20):
        began, done = trio.Event(), trio.Event()

        def write(connection: sqlite3.Connection) -> None:
            store.save_setting(connection, "a", 1)
            trio.from_thread.run_sync(began.set)
            trio.from_thread.run(done.wait)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened.transact, write)
            await began.wait()
            assert await opened.query(lambda c: store.load_setting(c, "a", default=None)) is None
            done.set()
        assert await opened.query(lambda c: store.load_setting(c, "a", default=None)) == 1


async def test_who_only_reads_cannot_write(path: Path) -> None:
    """There is one connection that writes."""
    with open_store(path) as opened, pytest.raises(sqlite3.OperationalError, match="readonly"):
        await opened.query(lambda c: store.save_setting(c, "a", 1))


def test_a_second_process_is_kept_out(path: Path) -> None:
    """It is told that the file is in use; when the first is gone, it is welcome."""
    script = f"from {store.__name__} import open_store\nwith open_store({str(path)!r}): print('in')"

    def attempt() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with open_store(path):
        refused = attempt()
    assert "in use by another process" in refused.stderr
    assert attempt().stdout == "in\n"


@pytest.mark.parametrize("kind", ["text", "other", "later", "directory", "nowhere"])
def test_what_is_not_ours_is_left_alone(path: Path, kind: str) -> None:
    """No file that is no database of this program and format is touched."""
    if kind == "text":
        path.write_text("my diary" * 1000)
    elif kind == "directory":
        path.mkdir()
    elif kind == "nowhere":
        path = path / "below" / "nothing"
    else:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE mine (a)" if kind == "other" else "PRAGMA user_version = 9")
        other.close()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=path.name), open_store(path):
        pass
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_all_files_that_are_written_are_known(path: Path) -> None:
    """Those beside the database too: whoever watches the directory must not hear of them."""
    with open_store(path) as opened:
        await opened.transact(lambda c: store.save_setting(c, "a", 1))
        assert {str(each) for each in path.parent.iterdir()} <= companions(path)


async def test_the_files_are_their_owners_alone(path: Path) -> None:
    """They hold the text of files that may be private."""
    with open_store(path) as opened:
        await opened.transact(lambda c: store.save_setting(c, "a", 1))
        written = [each for each in path.parent.iterdir() if each.suffix != ".lock"]
        assert {each.stat().st_mode & 0o777 for each in written} == {0o600}


# ---- the index -----------------------------------------------------------------------------------


def test_a_row_is_found_as_it_was_put(connection: sqlite3.Connection) -> None:
    """Also under a path that is no text, and again after it was put anew."""
    for reason in ("one", "two"):
        row = Row(path=ODD, outcome="skipped", reason=reason, stamp=stamp(), indexed_at=3)
        index.put(connection, row)
        assert index.find(connection, ODD) == row
    assert index.find(connection, "/d") is None
    assert index.count(connection) == 0


def test_a_row_holds_for_the_same_file(connection: sqlite3.Connection) -> None:
    """Unless the file has changed, or was looked at too soon, or has failed."""
    row = Row(path="/a", outcome="skipped", stamp=stamp(), indexed_at=3)
    assert row.holds_for(stamp())
    assert not row.holds_for(stamp(2))
    failed = Row(path="/a", outcome="failed", stamp=stamp(), indexed_at=3)
    assert not failed.holds_for(stamp())
    index.put(connection, row)
    index.restamp(connection, "/a", stamp(2))
    found = index.find(connection, "/a")
    assert found is not None
    assert found.holds_for(stamp(2))


def test_a_file_that_cannot_be_read_any_more_cannot_be_found(
    connection: sqlite3.Connection,
) -> None:
    """Its old text goes with the new row."""
    put(connection, "/a.txt", "zebra")
    index.put(connection, Row(path="/a.txt", outcome="failed", stamp=stamp(), indexed_at=3))
    assert search(connection, "zebra") == []


def test_the_paths_below_a_directory(connection: sqlite3.Connection) -> None:
    """Those in it, not those beside it, whatever comes before and after in the order of bytes."""
    for path in ("/d", "/d/a", "/d/b/c", "/d-/x", "/d0", "/da", ODD):
        put(connection, path, "x")
    assert index.paths_below(connection, "/d") == ["/d/a", "/d/b/c", ODD]
    assert len(index.paths_below(connection, "/")) == 7


def test_the_statistics(connection: sqlite3.Connection) -> None:
    """Files by what became of them, and the indexed ones by extension."""
    put(connection, "/a.txt", "12345")
    put(connection, "/b.TXT", "123")
    for outcome, path in (("skipped", "/c.bin"), ("failed", "/d.json")):
        row = Row(path=path, outcome=outcome, stamp=stamp(), indexed_at=3)  # type: ignore[arg-type] # both are
        index.put(connection, row)
    assert index.statistics(connection) == {
        "total_files": 4,
        "indexed": 2,
        "skipped": 1,
        "failed": 1,
        "total_size": 8,
        "by_extension": {".txt": 2},
    }


# ---- search --------------------------------------------------------------------------------------


@pytest.fixture
def library(connection: sqlite3.Connection) -> sqlite3.Connection:
    put(connection, "/d/whales.txt", "The whale is a mammal. It dives for an hour.")
    put(connection, "/d/sea.txt", "Many fishes, and once a whale, live in the sea.")
    put(connection, "/e/money.txt", "The stock exchange closed higher. " * 20)
    put(connection, "/e/größe.txt", "Maße und Gewichte")
    return connection


def found(connection: sqlite3.Connection, question: str, **options: object) -> list[str]:
    return [each.row.path for each in search(connection, question, **options)]  # type: ignore[arg-type] # they are


def test_files_with_the_words_are_found_best_first(library: sqlite3.Connection) -> None:
    """A word in the name counts most; scores are from 0 to 1 and fall."""
    results = search(library, "whale")
    assert [each.row.path for each in results] == ["/d/whales.txt", "/d/sea.txt"]
    assert 1 >= results[0].score > results[1].score > 0
    assert "whale" in results[0].excerpt


def test_a_word_may_be_unfinished_and_without_its_marks(library: sqlite3.Connection) -> None:
    """The last word is a beginning; case and diacritics do not matter."""
    assert found(library, "WHA")[0] == "/d/whales.txt"
    assert found(library, "grosse") != ["/e/größe.txt"]
    assert found(library, "grö")[0] == "/e/größe.txt"
    assert found(library, "gro")[0] == "/e/größe.txt"


def test_files_that_are_near_are_found_without_the_words(library: sqlite3.Connection) -> None:
    """Not all of the words, nor as they are written: what has something of them is found."""
    assert found(library, "diving mammals, whales") == ["/d/whales.txt"]
    assert found(library, "zebra") == []


def test_a_search_in_a_directory(library: sqlite3.Connection) -> None:
    """Only what is below it."""
    assert found(library, "whale", directory="/e") == []
    assert found(library, "stock", directory="/e") == ["/e/money.txt"]
    assert found(library, "whale", directory="/") == ["/d/whales.txt", "/d/sea.txt"]
    assert found(library, "whale", limit=1) == ["/d/whales.txt"]


@pytest.mark.parametrize(
    "question",
    [
        '"',
        "whale AND",
        "NEAR(",
        "filename:",
        "*",
        "^",
        "a OR b",
        "-whale",
        "(",
        "'; DROP TABLE",
        "\0",
        "\ud800",
    ],
)
def test_nothing_in_a_question_is_an_operator(library: sqlite3.Connection, question: str) -> None:
    """It is searched for as words, or finds nothing."""
    search(library, question)
    search(library, question * 100)
    assert found(library, "whale")


def test_a_moved_file_is_found_under_its_new_name(library: sqlite3.Connection) -> None:
    """And not under the old one; what was there before is gone."""
    index.move(library, "/d/whales.txt", "/e/money.txt")
    assert found(library, "whale") == ["/e/money.txt", "/d/sea.txt"]
    assert found(library, "stock") == []
    names = {name for (name,) in library.execute("SELECT filename FROM texts")}
    assert names == {"money.txt", "sea.txt", "größe.txt"}


def test_a_deleted_file_is_not_found(library: sqlite3.Connection) -> None:
    """Its text is gone with it."""
    index.delete(library, "/d/whales.txt")
    assert found(library, "whale") == ["/d/sea.txt"]
    index.delete_all(library, ["/d/sea.txt", "/not/there"])
    assert found(library, "whale") == []
    assert library.execute("SELECT count(*) FROM texts").fetchone() == (2,)


def test_a_result_as_the_api_shows_it(library: sqlite3.Connection) -> None:
    """What is known of the file, and how well it answers."""
    (result,) = search(library, "stock", limit=1)
    shown = as_json(result)
    assert shown["relevance_score"] == result.score
    assert shown["file"] == {
        "id": result.id,
        "path": "/e/money.txt",
        "filename": "money.txt",
        "extension": ".txt",
        "size": 680,
        "modified_at": 1e9,
        "indexed_at": 1,
        "summary": "The stock exchange closed higher.",
        "excerpt": result.excerpt,
    }
