"""What happens to files, and all that is said of it, from the directory to the stream."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from examples.file_updates import backend as backend_module
from examples.file_updates import work as work_module
from examples.file_updates.pipeline import reading
from examples.file_updates.queue import MAX_RETRIES

from .conftest import FIELDS, INDEXED, SECONDS, STAGES, indexed, named, using


async def test_everything_that_is_documented_is_said(root: Path) -> None:
    """One story in which each of the 34 opcodes has its reason; its fields are checked as heard."""
    other = root.parent / "other"
    other.mkdir()
    async with using(cooldown=0.02) as client:
        await client.watch(root)
        await client.watch(other)
        (root / "d").mkdir()
        await indexed(client, root / "d" / "a.txt")
        (root / "d" / "a.txt").write_text("A lion.")
        await client.until("queue_item_completed")
        (root / "d" / "a.txt").rename(root / "d" / "b.txt")
        await client.until("file_moved")
        (root / "d").rename(root / "e")
        await client.until("directory_moved")
        shutil.rmtree(root / "e")
        await client.until("directory_deleted")
        (root / "a.bin").touch()
        await client.until("file_skipped", filename="a.bin")
        (root / "a.json").write_text("{")
        await client.until("queue_item_failed")
        await client.ask("POST", "/api/queue/pause")
        (root / "b.txt").touch()
        (_, item) = (await client.until("queue_item_added", file_path=str(root / "b.txt")))[-1]
        await client.ask("DELETE", f"/api/queue/items/{item['id']}")
        await client.ask("POST", "/api/queue/resume")
        rule = {"rule": "queue_size", "operator": "gt", "value": 9}
        for rules in ([rule], []):
            await client.ask("PUT", "/api/queue/scheduler", {"enabled": True, "rules": rules})
        other.rename(root.parent / "away")
        await client.until("error")
        for job in (await client.get("/api/watch/jobs"))["jobs"]:
            await client.ask("DELETE", f"/api/watch/jobs/{job['id']}")
        await client.until("watch_removed", path=str(root))
        await client.app.say_goodbye()
        await client.until("shutting_down")
    assert len(FIELDS) == 34
    assert {opcode for opcode, _ in client.heard} == FIELDS.keys()


# ---- one file ------------------------------------------------------------------------------------


async def test_a_new_file_goes_through_all_stages(root: Path) -> None:
    """Created, queued, and each stage, with exactly the documented data, in this order."""
    path = root / "a.txt"
    async with using() as client:
        await client.watch(root)
        path.write_text("A zebra has stripes.")
        said = await client.until("queue_item_completed")
        id = said[1][1]["id"]
        item = {"id": id, "file_path": str(path), "action": "index"}
        assert said == [
            ("file_created", {"path": str(path)}),
            ("queue_item_added", item | {"status": "cooling_down"}),
            ("queue_item_processing", item | {"status": "processing"}),
            *((stage, named(path)) for stage in STAGES),
            ("queue_item_completed", item | {"status": "completed"}),
        ]
        assert await client.search("zebra") == [str(path)]


@pytest.mark.parametrize(("function", "begun"), [("extract", 1), ("summarize", 3), ("embed", 5)])
async def test_a_stage_is_announced_when_it_begins_and_when_it_is_over(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str, begun: int
) -> None:
    """While one takes its time, it has begun and is not over, and requests are answered."""
    began, go_on = threading.Event(), threading.Event()
    do = getattr(work_module, function)

    def do_later(*arguments: object) -> object:
        began.set()
        go_on.wait(SECONDS)
        return do(*arguments)

    monkeypatch.setattr(work_module, function, do_later)
    async with using() as client:
        await client.watch(root)
        (root / "a.txt").write_text("A zebra has stripes.")
        await client.until("queue_item_processing")
        assert [(await client.update())[0] for _ in range(begun)] == STAGES[:begun]
        assert await trio.to_thread.run_sync(began.wait, SECONDS)
        assert (await client.get("/api/queue/status"))["processing"] == 1
        assert await client.search("zebra") == []
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            client.updates.receive_nowait()
        go_on.set()
        assert await client.opcodes_until("queue_item_completed") == INDEXED[1 + begun :]


async def test_what_is_announced_can_be_found(root: Path) -> None:
    """At the moment at which a file is said to be complete, a search finds it."""
    path = root / "a.txt"
    async with using() as client:
        await client.watch(root)
        path.write_text("A zebra has stripes.")
        await client.until("file_complete")
        assert await client.search("zebra") == [str(path)]


async def test_a_modified_file_is_indexed_anew(root: Path) -> None:
    """What it said before is not found any more."""
    path = root / "a.txt"
    async with using() as client:
        await client.watch(root)
        await indexed(client, path)
        path.write_text("A lion has none.")
        assert await client.opcodes_until("queue_item_completed") == [
            "file_modified",
            "queue_item_added",
            *INDEXED,
        ]
        assert await client.search("zebra") == []
        assert await client.search("lion") == [str(path)]


async def test_a_file_that_was_only_touched_is_skipped(root: Path) -> None:
    """It is read, and its content has not changed."""
    path = root / "a.txt"
    async with using() as client:
        await client.watch(root)
        await indexed(client, path)
        os.utime(path, (1, 1))
        said = await client.until("queue_item_completed")
        assert [opcode for opcode, _ in said] == [
            "file_modified",
            "queue_item_added",
            "queue_item_processing",
            "file_parsing",
            "file_parsed",
            "file_skipped",
            "queue_item_completed",
        ]
        assert said[5][1] == named(path) | {"reason": "content not changed"}
        assert await client.search("zebra") == [str(path)]


async def test_a_deleted_file_is_forgotten(root: Path) -> None:
    """An item with the action ``delete``, without stages."""
    path = root / "a.txt"
    async with using() as client:
        await client.watch(root)
        await indexed(client, path)
        path.unlink()
        said = await client.until("queue_item_completed")
        assert [(opcode, data.get("action")) for opcode, data in said] == [
            ("file_deleted", None),
            ("queue_item_added", "delete"),
            ("queue_item_processing", "delete"),
            ("queue_item_completed", "delete"),
        ]
        assert await client.search("zebra") == []


async def test_a_moved_file_is_not_read_again(root: Path) -> None:
    """An item with the action ``move``; the file is found under its new path."""
    path, there = root / "a.txt", root / "b.txt"
    async with using() as client:
        await client.watch(root)
        path.write_text("A zebra has stripes.")
        os.utime(path, (1, 1))  # else its stamp says nothing, and it is read
        await client.until("queue_item_completed")
        path.rename(there)
        said = await client.until("queue_item_completed")
        assert said[0] == ("file_moved", {"src_path": str(path), "dest_path": str(there)})
        assert [opcode for opcode, _ in said[1:]] == [
            "queue_item_added",
            "queue_item_processing",
            "file_skipped",
            "queue_item_completed",
        ]
        assert said[1][1]["file_path"] == str(path)
        assert said[1][1]["action"] == "move"
        assert said[3][1] == named(there) | {"reason": "already processed"}
        assert await client.search("zebra") == [str(there)]


async def test_a_file_that_is_moved_to_another_type_is_read_as_that(root: Path) -> None:
    """What was JSON is text now."""
    path, there = root / "a.txt", root / "a.json"
    async with using() as client:
        await client.watch(root)
        await indexed(client, path)
        path.rename(there)
        await client.until("file_failed", **named(there))
        # The system may tell of a move in two pieces: then the old name goes by itself.
        with trio.fail_after(30):
            while await client.search("zebra"):  # noqa: ASYNC110 # a search is a request: nothing sets an event
                await trio.lowlevel.checkpoint()


async def test_a_moved_directory_takes_its_files_along(root: Path) -> None:
    """Those in the index and those in the queue, each with an item of its own."""
    (root / "d" / "e").mkdir(parents=True)
    async with using() as client:
        await client.watch(root)
        await indexed(client, root / "d" / "a.txt")
        await indexed(client, root / "d" / "e" / "b.txt")
        await client.ask("POST", "/api/queue/pause")
        (root / "d" / "c.txt").write_text("A zebra in the queue.")
        await client.until("queue_item_added")
        (root / "d").rename(root / "f")
        said = await client.until("queue_item_added", file_path=str(root / "d/e/b.txt"))
        directory = {"src_path": str(root / "d"), "dest_path": str(root / "f")}
        assert ("directory_moved", directory) in said
        await client.ask("POST", "/api/queue/resume")
        await client.completed(2 + 3)
        there = [str(root / "f" / name) for name in ("a.txt", "c.txt", "e/b.txt")]
        assert sorted(await client.search("zebra")) == there


async def test_a_deleted_directory_is_told_after_its_files(root: Path) -> None:
    """And nothing of it remains in the index."""
    (root / "d").mkdir()
    async with using() as client:
        await client.watch(root)
        await indexed(client, root / "d" / "a.txt")
        shutil.rmtree(root / "d")
        said = await client.until("directory_deleted", path=str(root / "d"))
        assert said[0][0] == "file_deleted"
        await client.until("queue_item_completed")
        assert await client.search("zebra") == []


async def test_a_change_resets_the_cooldown(root: Path) -> None:
    """The item is updated; what is indexed is what is there in the end."""
    path = root / "a.txt"
    async with using(cooldown=1) as client:
        await client.watch(root)
        path.write_text("A lion.")
        await client.until("queue_item_added")
        path.write_text("A zebra.")
        said = await client.until("queue_item_completed")
        assert [opcode for opcode, _ in said][:2] == ["file_modified", "queue_item_updated"]
        assert said[1][1]["status"] == "cooling_down"
        assert await client.search("zebra") == [str(path)]
        assert await client.search("lion") == []


# ---- what is not indexed -------------------------------------------------------------------------


async def test_an_unsupported_file_is_skipped(root: Path) -> None:
    """Before anything is read, with the reason."""
    path = root / "a.bin"
    async with using() as client:
        await client.watch(root)
        path.write_bytes(b"\0")
        said = await client.until("queue_item_completed")
        assert said[3] == ("file_skipped", named(path) | {"reason": "unsupported type: .bin"})
        assert [opcode for opcode, _ in said[2:]] == [
            "queue_item_processing",
            "file_skipped",
            "queue_item_completed",
        ]


async def test_a_file_that_is_too_large_is_skipped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read, with the reason."""
    monkeypatch.setattr(work_module, "MAX_FILE_BYTES", 10)
    path = root / "a.txt"
    async with using() as client:
        await client.watch(root)
        path.write_bytes(b"x" * 11)
        said = await client.until("queue_item_completed")
        reason = "too large: 11 bytes, of at most 10"
        assert said[3] == ("file_skipped", named(path) | {"reason": reason})


async def test_a_file_that_fails_is_tried_again_and_then_fails_for_good(root: Path) -> None:
    """Each attempt is told, and the item goes back to cool down until there were four."""
    path = root / "a.json"
    async with using(cooldown=0.02) as client:
        await client.watch(root)
        path.write_text("{")
        said = await client.until("queue_item_failed")
        id = said[1][1]["id"]
        error = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
        failed = ("file_failed", named(path) | {"error": error})
        item = {"id": id, "file_path": str(path), "action": "index"}
        attempt = [
            ("queue_item_processing", item | {"status": "processing"}),
            ("file_parsing", named(path)),
            failed,
        ]
        again = ("queue_item_updated", item | {"status": "cooling_down"})
        assert said[2:] == [
            *[*attempt, again] * MAX_RETRIES,
            *attempt,
            ("queue_item_failed", item | {"error": error}),
        ]
        assert (await client.get("/api/files/stats"))["failed"] == 1
        path.write_text("{}")
        assert "file_complete" in await client.opcodes_until("queue_item_completed")


async def test_what_nobody_expected_is_a_failure_of_the_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in the pipeline fails the file, is logged whole, and stops nothing."""

    def fail(text: str) -> str:
        raise ZeroDivisionError

    async with using(cooldown=0.02) as client:
        await client.watch(root)
        with monkeypatch.context() as patch:
            patch.setattr(work_module, "summarize", fail)
            (root / "a.txt").write_text("x")
            await client.until("file_failed", error="ZeroDivisionError")
        await client.until("queue_item_completed")
        assert "Traceback" in caplog.text


async def test_a_file_that_is_gone_when_its_turn_comes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is skipped; the deletion has an item of its own, or the same."""
    path = root / "a.txt"

    def vanish(name: str) -> tuple[bytes, reading.Stamp]:
        path.unlink()
        return reading.read(name)

    async with using() as client:
        await client.watch(root)
        monkeypatch.setattr(work_module, "read", vanish)
        path.write_text("x")
        said = await client.until("queue_item_completed")
        assert said[-2] == ("file_skipped", named(path) | {"reason": "no longer there"})


# ---- pauses --------------------------------------------------------------------------------------


async def test_a_paused_queue_is_filled_and_not_worked_on(tmp_path: Path, root: Path) -> None:
    """Pausing and resuming is told once; a pause outlives the process."""
    data = tmp_path / "data"
    async with using(data=data) as client:
        await client.watch(root)
        for _ in range(2):
            assert (await client.ask("POST", "/api/queue/pause"))[0] == 200
        (root / "a.txt").write_text("A zebra.")
        said = await client.until("queue_item_added")
        assert [opcode for opcode, _ in said] == [
            "queue_paused",
            "file_created",
            "queue_item_added",
        ]
        assert said[0][1] == {"source": "manual"}
    async with using(data=data) as client:
        status = await client.get("/api/queue/status")
        assert (status["paused"], status["manually_paused"]) == (True, True)
        assert (status["scheduler_paused"], status["total_items"]) == (False, 1)
        await client.until("status_update")
        for _ in range(2):
            await client.ask("POST", "/api/queue/resume")
        said = await client.until("queue_item_completed")
        assert [each for each in said if "resumed" in each[0]] == [
            ("queue_resumed", {"source": "manual"})
        ]
        assert await client.search("zebra") == [str(root / "a.txt")]


async def test_the_scheduler_pauses_the_queue_by_itself(root: Path) -> None:
    """Its pause is one of its own: resuming by hand is not enough, and its end is told."""
    rules = [{"rule": "queue_size", "operator": "gte", "value": 2}]
    schedule = {"enabled": True, "check_interval_seconds": 1, "rules": rules}
    async with using() as client:
        await client.watch(root)
        status, shown = await client.ask("PUT", "/api/queue/scheduler", schedule)
        assert (status, shown["conditions_met"]) == (200, False)
        said = await client.until("scheduler_paused")
        assert said[0] == ("info", {"message": "The rules of the scheduler were changed"})
        assert said[-1] == ("scheduler_paused", {})
        await client.ask("POST", "/api/queue/pause")
        await client.ask("POST", "/api/queue/resume")
        queue = await client.get("/api/queue/status")
        assert (queue["paused"], queue["scheduler_paused"]) == (True, True)
        (root / "a.txt").write_text("A zebra.")
        (root / "b.txt").write_text("A zebra.")
        said = await client.until("scheduler_resumed")
        assert "queue_item_processing" not in [opcode for opcode, _ in said]
        await client.until("queue_item_completed")


async def test_the_scheduler_is_obeyed_after_a_restart(tmp_path: Path, root: Path) -> None:
    """Before anything is processed."""
    data = tmp_path / "data"
    schedule = {"enabled": True, "rules": [{"rule": "queue_size", "operator": "gt", "value": 9}]}
    async with using(data=data) as client:
        await client.ask("PUT", "/api/queue/scheduler/", schedule)
    async with using(data=data) as client:
        assert (await client.get("/api/queue/status"))["scheduler_paused"] is True
        shown = await client.get("/api/queue/scheduler")
        assert shown["rules"] == [{**schedule["rules"][0], "enabled": True}]  # type: ignore[index] # it is a list


# ---- the end -------------------------------------------------------------------------------------


async def test_the_goodbye_is_the_last_word(root: Path) -> None:
    """What happens after it is not told any more."""
    async with using(root) as client:
        await client.until("status_update")
        await client.app.say_goodbye()
        await client.ask("POST", "/api/queue/pause")
        assert await client.update() == ("shutting_down", {})
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            client.updates.receive_nowait()


async def test_a_database_that_cannot_be_written_ends_the_backend(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and then everything ends, since what is in memory would be lost tomorrow."""

    def full(*args: object, **options: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def fill() -> None:
        async with using(root) as client:
            await client.until("status_update")
            monkeypatch.setattr(backend_module, "save_step", full)
            (root / "a.txt").write_text("x")
            message = "The index cannot be written: database or disk is full"
            await client.until("error", message=message)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401 # of each task that wrote
        await fill()
    assert caught.group_contains(sqlite3.OperationalError, match="full")


async def test_the_loop_stays_live_while_many_files_are_indexed(root: Path) -> None:
    """A request is answered in the midst of it, and all files are indexed."""
    count = 200
    for number in range(count):
        (root / f"{number}.txt").write_text(f"The zebra of number {number} has stripes.\n" * 20)
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.01)
            turns += 1

    async with using() as client, trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await client.watch(root)
        await client.completed(count // 2)
        status = await client.get("/api/queue/status")
        assert 0 < status["total_items"] <= count // 2
        await client.completed(count)
        nursery.cancel_scope.cancel()
        assert turns > 10
        assert (await client.get("/api/files/stats"))["indexed"] == count


async def test_nothing_is_left_behind_without_a_file_of_data(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary database goes with the application."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    async with using(root) as client:
        await client.until("status_update")
        assert list(place.iterdir())
    assert not list(place.iterdir())
