"""What becomes of watches and their directories, and all that is said of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from examples.file_updates import backend as backend_module
from examples.file_updates import work as work_module
from examples.file_updates.watching import AlreadyWatched, NotWatchable

from .conftest import SECONDS, indexed, named, using

# ---- watches -------------------------------------------------------------------------------------


async def test_a_watch_begins_with_its_first_look(root: Path) -> None:
    """Added, started, processing started, what was found is queued, completed, and the status."""
    (root / "a.txt").write_text("x")
    async with using(scan_cooldown=5) as client:
        said = await client.watch(root)
        path = {"path": str(root)}
        counts = {"total_items": 1, "cooling_down": 1, "ready": 0, "processing": 0}
        assert [each for each in said if each[0] != "queue_item_added"] == [
            ("watch_added", path),
            ("watch_started", path | {"recursive": True}),
            ("directory_processing_started", path),
            ("directory_processing_completed", path),
            ("status_update", {"queue": counts, "files_indexed": 0}),
        ]
        assert said[3][0] == "queue_item_added"


async def test_a_second_look_skips_what_is_known(tmp_path: Path, root: Path) -> None:
    """What has not changed is skipped; what is gone is deleted; what has changed is queued."""
    data = tmp_path / "data"
    same, changed, gone = (root / name for name in ("same.txt", "changed.txt", "gone.txt"))
    async with using(data=data) as client:
        await client.watch(root)
        for path in (same, changed, gone):
            path.write_text("A zebra.")
            os.utime(path, (1, 1))
            await client.until("queue_item_completed", file_path=str(path))
    changed.write_text("A lion.")
    gone.unlink()
    async with using(data=data, scan_cooldown=1) as client:
        said = await client.until("status_update")
        assert ("file_skipped", named(same) | {"reason": "already processed"}) in said
        queued = [
            (data["file_path"], data["action"])
            for opcode, data in said
            if opcode == "queue_item_added"
        ]
        assert queued == [(str(changed), "index"), (str(gone), "delete")]
        assert ("info", {"message": f"Watch restored: {root} (2 files)"}) in said
        await client.completed(2)
        assert await client.search("zebra") == [str(same)]
        assert await client.search("lion") == [str(changed)]


async def test_a_removed_watch_takes_everything_along(tmp_path: Path, root: Path) -> None:
    """Its items are removed, its files are not found any more; a restart does not bring it back."""
    data = tmp_path / "data"
    async with using(data=data) as client:
        await client.watch(root)
        await indexed(client, root / "a.txt")
        await client.ask("POST", "/api/queue/pause")
        (root / "b.txt").write_text("A zebra.")
        await client.until("queue_item_added")
        (job,) = (await client.get("/api/watch/jobs"))["jobs"]
        status, _ = await client.ask("DELETE", f"/api/watch/jobs/{job['id']}")
        assert status == 200
        said = await client.until("queue_item_removed")
        assert said[0] == ("watch_removed", {"path": str(root)})
        assert said[1][1]["file_path"] == str(root / "b.txt")
        assert await client.search("zebra") == []
        assert await client.get("/api/watch/jobs") == {"jobs": []}
    async with using(data=data) as client:
        assert await client.get("/api/status/") == {"jobs": 0}


async def test_a_watched_directory_that_disappears_is_an_error(root: Path) -> None:
    """It stays on the list, not active; its items go, and its files may come back."""
    async with using() as client:
        await client.watch(root)
        await indexed(client, root / "a.txt")
        await client.ask("POST", "/api/queue/pause")
        (root / "b.txt").write_text("A zebra.")
        await client.until("queue_item_added")
        away = root.rename(root.parent / "away")
        said = await client.until("queue_item_removed")
        assert said[0][0] == "error"
        assert str(root) in said[0][1]["message"]
        (job,) = (await client.get("/api/watch/jobs"))["jobs"]
        assert job["is_active"] is False
        assert await client.search("zebra") == [str(root / "a.txt")]
        away.rename(root)
        await client.watch(root)
        (again,) = (await client.get("/api/watch/jobs"))["jobs"]
        assert (again["id"], again["is_active"]) == (job["id"], True)
        await client.ask("DELETE", f"/api/watch/jobs/{job['id']}")
        await client.until("watch_removed")


async def test_a_lost_watch_can_be_removed(root: Path) -> None:
    """What its files said is forgotten then."""
    async with using() as client:
        await client.watch(root)
        await indexed(client, root / "a.txt")
        root.rename(root.parent / "away")
        await client.until("error")
        (job,) = (await client.get("/api/watch/jobs"))["jobs"]
        await client.ask("DELETE", f"/api/watch/jobs/{job['id']}")
        await client.until("watch_removed", path=str(root))
        assert await client.search("zebra") == []
        assert await client.get("/api/watch/jobs") == {"jobs": []}


async def test_a_watch_that_is_lost_at_a_restart_is_not_active(tmp_path: Path, root: Path) -> None:
    """Its files stay in the index, and its items are dropped."""
    data = tmp_path / "data"
    async with using(data=data) as client:
        await client.watch(root)
        await indexed(client, root / "a.txt")
        await client.ask("POST", "/api/queue/pause")
        (root / "b.txt").write_text("A zebra.")
        await client.until("queue_item_added")
    root.rename(root.parent / "away")
    async with using(data=data) as client:
        (job,) = (await client.get("/api/watch/jobs"))["jobs"]
        assert job["is_active"] is False
        assert (await client.get("/api/queue/status"))["total_items"] == 0
        assert await client.search("zebra") == [str(root / "a.txt")]


async def test_directories_of_the_command_line_may_be_watched_already(
    tmp_path: Path, root: Path
) -> None:
    """Those that were restored are no error; those that cannot be watched are one."""
    data = tmp_path / "data"
    async with using(root, data=data) as client:
        await client.until("status_update")
    async with using(root, data=data) as client:
        assert await client.get("/api/status") == {"jobs": 1}
    with pytest.raises(NotWatchable, match="missing"):
        async with using(tmp_path / "missing"):
            pass


async def test_a_directory_around_one_that_was_restored_is_an_error(
    tmp_path: Path, root: Path
) -> None:
    """It would be watched twice, in part; the error names both."""
    data = tmp_path / "data"
    async with using(root, data=data) as client:
        await client.until("status_update")
    with pytest.raises(AlreadyWatched) as caught:
        async with using(root.parent, data=data):
            pass
    assert str(root) in str(caught.value)
    assert str(root.parent) in str(caught.value)


async def test_a_watch_that_cannot_be_stored_is_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would not be there tomorrow is not begun today."""

    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError

    async with using() as client:
        backend = client.app._backend  # noqa: SLF001 # as the API does it
        with monkeypatch.context() as patch:
            patch.setattr(backend_module, "save_watch", fail)
            with pytest.raises(ZeroDivisionError):
                await backend.add_watch(str(root))
        assert await client.get("/api/status") == {"jobs": 0}
        assert not backend.covers(str(root / "a.txt"))
        await client.watch(root)


async def test_a_file_in_process_when_its_watch_ends_is_not_indexed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is finished, and nothing of it remains."""
    began, go_on = threading.Event(), threading.Event()

    def wait(text: str) -> str:
        began.set()
        go_on.wait(SECONDS)
        return text

    async with using() as client:
        await client.watch(root)
        monkeypatch.setattr(work_module, "summarize", wait)
        (root / "a.txt").write_text("A zebra.")
        await trio.to_thread.run_sync(began.wait, SECONDS)
        (job,) = (await client.get("/api/watch/jobs"))["jobs"]
        await client.ask("DELETE", f"/api/watch/jobs/{job['id']}")
        await client.until("watch_removed")
        go_on.set()
        said = await client.until("queue_item_completed")
        assert said[-2] == (
            "file_skipped",
            named(root / "a.txt") | {"reason": "no longer watched"},
        )
        assert await client.search("zebra") == []


async def test_the_backend_says_nothing_of_its_own_files(root: Path) -> None:
    """A database inside of what is watched would be announced for ever."""
    async with using(data=root / "index.sqlite3") as client:
        await client.watch(root)
        await indexed(client, root / "a.txt")
        assert not [data for _, data in client.heard if "index.sqlite3" in str(data)]


async def test_names_that_are_no_text(root: Path) -> None:
    """They are indexed, shown replaced, and do no harm in any answer."""
    odd = os.path.join(os.fsencode(root), b"\xff<b>\n.txt")
    shown = f"{root}/\ufffd<b>\n.txt"
    async with using() as client:
        await client.watch(root)
        with open(odd, "w") as file:
            file.write("A zebra.")
        said = await client.until("queue_item_completed")
        assert said[0] == ("file_created", {"path": shown})
        assert said[-2] == (
            "file_complete",
            {"path": shown, "filename": "\ufffd<b>\n.txt"},
        )
        assert await client.search("zebra") == [shown]
        await client.ask("POST", "/api/queue/pause")
        os.rename(odd, odd + b"\xfe.txt")
        await client.until("queue_item_added")
        (item,) = (await client.get("/api/queue/items"))["items"]
        assert (item["file_path"], item["dest_path"]) == (shown, shown + "\ufffd.txt")


async def test_a_link_out_of_the_watched_directory_is_not_followed(root: Path) -> None:
    """Neither a file nor a directory of links is read."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("A zebra.")
    async with using() as client:
        await client.watch(root)
        (root / "link.txt").symlink_to(outside / "secret.txt")
        (root / "links").symlink_to(outside)
        await indexed(client, root / "a.txt", "A lion.")
        assert await client.search("zebra") == []
        assert not [data for _, data in client.heard if "secret" in str(data)]
