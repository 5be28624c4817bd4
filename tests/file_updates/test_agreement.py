"""The index, the queue and the stream in agreement: over a tree of real files, and over kills."""

from __future__ import annotations

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

from .conftest import Client, Server, using

Start = Callable[..., Server]

COUNT = 2000


def real_files(count: int) -> Iterator[Path]:
    """The smaller ones of the standard library's own sources, and of what is installed here."""
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    found = {path for root in roots for path in root.rglob("*.py") if path.is_file()}
    by_size = sorted((path.stat().st_size, path) for path in found)
    return (path for size, path in by_size if size > 200)


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
    done = sum(opcode == "queue_item_completed" for opcode, _ in client.heard)
    while done < changes or listener.queued:
        opcode, data = await client.update()
        listener.hear(opcode, data)
        done += opcode == "queue_item_completed"


def indexed_in(data: Path) -> dict[str, str]:
    with closing(sqlite3.connect(data)) as connection:
        rows = connection.execute(
            "SELECT path, body FROM files JOIN texts ON texts.rowid = files.id"
        )
        return {os.fsdecode(path): body for path, body in rows}


@pytest.mark.timeout(240)  # seconds; there is much to do for a machine that has other things to do
async def test_two_thousand_real_files_are_followed(tmp_path: Path, root: Path) -> None:
    """Copied, moved, edited and deleted: index, queue and stream agree with the disk, each time."""
    data = tmp_path / "data"
    for number, path in zip(range(COUNT), real_files(COUNT), strict=False):
        directory = root / f"d{number % 40}"
        directory.mkdir(exist_ok=True)
        shutil.copyfile(path, directory / f"{number}-{path.name}")
    chance = random.Random(1)
    listener = Listener()

    async def agree() -> None:
        there = files_below(root)
        assert listener.indexed == there
        assert (await client.get("/api/queue/status"))["total_items"] == 0
        assert (await client.get("/api/files/stats"))["indexed"] == len(there)

    async with using(data=data) as client:
        for opcode, said in await client.watch(root):
            listener.hear(opcode, said)
        await rest(client, listener, changes=COUNT)
        await agree()

        before = sorted(root.rglob("*.py"))
        chosen = chance.sample([path for path in before if path.parent.name != "d0"], 120)
        for path in chosen[:40]:
            path.unlink()
        for path in chosen[40:80]:
            with path.open("a") as file:
                file.write("# a zebra was here\n")
        for number, path in enumerate(chosen[80:]):
            path.rename(root / f"moved{number}.py")
        moved = len(list((root / "d0").iterdir()))
        (root / "d0").rename(root / "elsewhere")
        await rest(client, listener, changes=COUNT + 120 + moved)
        await agree()
        found = await client.search("zebra was here", limit=200)
        assert {str(path) for path in chosen[40:80]} <= set(found)
    texts = indexed_in(data)
    assert texts.keys() == files_below(root)
    for name in chance.sample(sorted(texts), 50):
        assert texts[name].encode() == Path(name).read_bytes()


# ---- kill -9 -------------------------------------------------------------------------------------


def completed(data: Path) -> int:
    """How many files the database has, seen from outside."""
    try:
        with closing(sqlite3.connect(f"file:{data}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM files").fetchone()[0])
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
    wait_for(lambda: server.ask("GET", "/api/queue/status")["total_items"] == count)
    for goal in (0, 40, 120, 200):
        if goal == 40:
            server.ask("POST", "/api/queue/resume")
        wait_for(lambda goal=goal: completed(data) >= goal)  # type: ignore[misc] # it is bound
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        with closing(sqlite3.connect(data)) as connection:
            queued = connection.execute("SELECT file_path FROM queue").fetchall()
            known = connection.execute("SELECT path FROM files").fetchall()
        assert len(known) < count
        there = {os.fsencode(path) for path in files_below(server.directory)}
        assert {path for (path,) in queued + known} == there
        server = start_server(*options)
    wait_for(lambda: completed(data) >= count)
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
