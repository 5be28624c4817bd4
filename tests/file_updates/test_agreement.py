"""The index, the queue and the stream in agreement: over a tree of real files, and over kills."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from examples.file_updates.work import WORKERS

from .conftest import Client, Server, using

Start = Callable[..., Server]

COUNT = 10_000  # files in a tree
LIVE = COUNT // 20  # of them: what may be completed at most until all that is asked is answered

# What is asked at once, again and again, while they are indexed: what reads, and what changes.
QUESTIONS: list[tuple[str, str, Any]] = [
    ("GET", "/api/status/", None),
    ("GET", "/api/watch/jobs", None),
    ("GET", "/api/queue/items?limit=50", None),
    ("GET", "/api/queue/scheduler", None),
    ("PUT", "/api/queue/scheduler", {}),
    ("POST", "/api/queue/resume", None),
    ("GET", "/api/files/stats", None),
    ("POST", "/api/search/", {"query": "zebra", "limit": 10}),
]

# Files of each type by their number, no two alike.
KINDS: dict[str, Callable[[int], str]] = {
    ".txt": "The herd of place {0} has {0} zebras.\nThey graze by the river.\n".format,
    ".md": "# Place {0}\n\nA *herd* of {0} zebras, as [told](http://there/{0}).\n".format,
    ".html": "<title>Place {0}</title><p>A herd of {0} zebras &amp; more.</p>".format,
    ".csv": "place,zebras\n{0},{0}\nthere,none\n".format,
    ".json": lambda number: json.dumps({"place": number, "zebras": [number, f"and {number}"]}),
    ".py": "def zebras_of_place_{0}() -> int:\n    return {0}\n".format,
}


def real_files(count: int) -> Iterator[Path]:
    """The smaller ones of the standard library's own sources, and of what is installed here."""
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    found = {path for root in roots for path in root.rglob("*.py") if path.is_file()}
    by_size = sorted((path.stat().st_size, path) for path in found)
    return (path for size, path in by_size if size > 200)


def make_files(root: Path, count: int) -> None:
    """Make a tree of files that are all different: a fifth of them real, the others written."""
    for number in range(40):
        (root / f"d{number}").mkdir()
    real = real_files(count // 5)
    for number, (kind, text) in zip(range(count), itertools.cycle(KINDS.items()), strict=False):
        path = root / f"d{number % 40}" / f"{number}"
        if number % 5 == 0 and (source := next(real, None)):
            shutil.copyfile(source, path.with_suffix(".py"))
        else:
            path.with_suffix(kind).write_text(text(number))


def files_below(root: Path) -> set[str]:
    return {str(path) for path in root.rglob("*") if path.is_file()}


class Listener:
    """What somebody knows who only hears the stream."""

    def __init__(self) -> None:
        self.indexed: set[str] = set()
        self.queued: dict[str, str] = {}

    def hear(self, opcode: str, data: dict[str, Any]) -> None:
        match opcode:
            case "queue_item_added":
                assert data["id"] not in self.queued
                self.queued[data["id"]] = data["status"]
            case "queue_item_updated" | "queue_item_processing":
                assert data["id"] in self.queued
                self.queued[data["id"]] = data["status"]
            case "queue_item_completed" | "queue_item_removed":
                del self.queued[data["id"]]
            case "queue_item_failed" | "file_failed":
                raise AssertionError(data)
            case "file_complete":
                self.indexed.add(data["path"])
            case "file_deleted":
                self.indexed.discard(data["path"])
            case "file_moved":
                if data["src_path"] in self.indexed:
                    self.indexed.remove(data["src_path"])
                    self.indexed.add(data["dest_path"])
            case "directory_moved":
                below = data["src_path"] + "/"
                for path in [path for path in self.indexed if path.startswith(below)]:
                    self.indexed.remove(path)
                    self.indexed.add(data["dest_path"] + path[len(below) - 1 :])


async def rest(client: Client, listener: Listener, *, changes: int) -> None:
    """Wait until so many items are done in all and nothing is queued."""
    while client.done < changes or listener.queued:
        listener.hear(*await client.update())


def indexed_in(data: Path) -> dict[str, str]:
    with closing(sqlite3.connect(data)) as connection:
        rows = connection.execute(
            "SELECT path, body FROM files JOIN texts ON texts.rowid = files.id"
        )
        return {os.fsdecode(path): body for path, body in rows}


async def ask_everything(client: Client) -> None:
    """Ask all questions at once, and see that none waits long: for a few of the files only."""

    async def ask(method: str, path: str, content: Any) -> None:
        status, _ = await client.ask(method, path, content)
        assert status == 200

    before = await client.get("/api/queue/status")
    async with trio.open_nursery() as nursery:
        for question in QUESTIONS:
            nursery.start_soon(ask, *question)
    after = await client.get("/api/queue/status")
    assert before["total_items"] - after["total_items"] <= LIVE
    assert before["processing"] <= WORKERS


@pytest.mark.timeout(300)  # seconds; there is much to do for a machine that has other things to do
async def test_ten_thousand_files_are_followed_and_hold_up_nobody(
    tmp_path: Path, root: Path
) -> None:
    """Indexed while others are answered; then moved, edited and deleted.

    Each time index, queue and stream agree with the disk; and the listener, who may fall behind a
    thousand updates and no more, has heard them all.
    """
    data = tmp_path / "data"
    make_files(root, COUNT)
    chance = random.Random(1)
    listener = Listener()

    async def agree() -> None:
        there = files_below(root)
        assert listener.indexed == there
        assert (await client.get("/api/queue/status"))["total_items"] == 0
        assert (await client.get("/api/files/stats"))["indexed"] == len(there)

    async with using(data=data, scan_cooldown=0.05) as client:
        await client.ask("POST", "/api/queue/pause")
        for opcode, said in await client.watch(root):
            listener.hear(opcode, said)
        assert len(listener.queued) == COUNT
        await client.ask("POST", "/api/queue/resume")
        for goal in range(0, COUNT, LIVE):
            while client.done < goal:
                listener.hear(*await client.update())
            await ask_everything(client)
        await rest(client, listener, changes=COUNT)
        await agree()

        before = sorted(root.rglob("*.*"))
        editable = [path for path in before if path.suffix in (".py", ".txt")]
        chosen = chance.sample([path for path in editable if path.parent.name != "d0"], 120)
        for path in chosen[:40]:
            path.unlink()
        for path in chosen[40:80]:
            with path.open("a") as file:
                file.write("# a zebra was here\n")
        for number, path in enumerate(chosen[80:]):
            path.rename(root / f"moved{number}{path.suffix}")
        moved = len(list((root / "d0").iterdir()))
        (root / "d0").rename(root / "elsewhere")
        await rest(client, listener, changes=COUNT + 120 + moved)
        await agree()
        found = await client.search("zebra was here", limit=200)
        assert {str(path) for path in chosen[40:80]} <= set(found)
    texts = indexed_in(data)
    assert texts.keys() == files_below(root)
    for name in chance.sample(sorted(texts), 50):
        if name.endswith((".txt", ".py")):
            assert texts[name].encode() == Path(name).read_bytes()


# ---- kill -9 -------------------------------------------------------------------------------------


def stored(data: Path, what: str) -> int:
    """How many files the database has in a table, seen from outside."""
    try:
        with closing(sqlite3.connect(f"file:{data}?mode=ro", uri=True)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.timeout(240)  # seconds, as above
def test_a_kill_loses_no_queued_file(start_server: Start, tmp_path: Path) -> None:
    """Killed in the midst of indexing, again and again: each file is queued or known, or both.

    In the end all are known, and what they say.
    """
    data, count = tmp_path / "data", 300
    options = ("--data", str(data), "--cooldown", "0.05")
    server = start_server(*options)
    server.ask("POST", "/api/queue/pause")
    for number, path in zip(range(count), real_files(count), strict=False):
        shutil.copyfile(path, server.directory / f"{number}-{path.name}")
    # The server counts a file that it has seen, but what it has stored is what outlives it.
    wait_for(lambda: stored(data, "queue") == count)
    for goal in (0, 40, 120, 200):
        if goal == 40:
            server.ask("POST", "/api/queue/resume")
        wait_for(lambda goal=goal: stored(data, "files") >= goal)  # type: ignore[misc] # it is bound
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        with closing(sqlite3.connect(data)) as connection:
            queued = connection.execute("SELECT file_path FROM queue").fetchall()
            known = connection.execute("SELECT path FROM files").fetchall()
        assert len(known) < count
        there = {os.fsencode(path) for path in files_below(server.directory)}
        assert {path for (path,) in queued + known} == there
        server = start_server(*options)
    wait_for(lambda: stored(data, "files") >= count)
    assert server.stop() == 0
    assert indexed_in(data).keys() == files_below(server.directory)


async def test_what_was_queued_is_done_without_a_first_look(tmp_path: Path, root: Path) -> None:
    """An item of the queue goes on after a restart, as what it was."""
    data = tmp_path / "data"
    async with using(data=data) as client:
        await client.watch(root)
        await client.ask("POST", "/api/queue/pause")
        (root / "a.txt").write_text("A zebra.")
        (_, _, (_, item)) = await client.until("queue_item_added")
    async with using(data=data, scan_cooldown=60) as client:
        (restored,) = (await client.get("/api/queue/items"))["items"]
        assert restored["id"] == item["id"]
        await client.until("status_update")
        await client.ask("POST", "/api/queue/resume")
        said = await client.until("queue_item_completed", id=item["id"])
        assert [opcode for opcode, _ in said][:2] == ["queue_resumed", "queue_item_processing"]
