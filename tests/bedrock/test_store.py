"""Files and overlays on disk."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from examples.bedrock.ids import new_id
from examples.bedrock.shared import Shared, open_shared
from examples.bedrock.store import Draft, File, Overlay, StorageFull, Store, UploadConflict

from ..processes import ROOT
from .service import places


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    """Give what is shared in an empty directory."""
    with open_shared(tmp_path) as shared:
        yield shared


def pieces(*content: bytes) -> Callable[[], Awaitable[bytes]]:
    """Return what gives these pieces and then the end."""
    left = list(content)

    async def receive() -> bytes:
        await trio.lowlevel.checkpoint()
        return left.pop(0) if left else b""

    return receive


async def announced(store: Store, project_id: str = "prj_1", *, seconds: float = 60) -> File:
    return await store.announce(
        project_id, filename="plan.png", content_type="image/png", seconds=seconds
    )


async def uploaded(store: Store, content: bytes, project_id: str = "prj_1") -> File:
    return await store.upload(await announced(store, project_id), pieces(content))


def overlay(draft: Draft, project_id: str = "prj_1", *, size: int = 7) -> Overlay:
    return Overlay(
        id=new_id("ovl"),
        project_id=project_id,
        job_id="job_1",
        block_a_id="blk_1",
        block_b_id="blk_2",
        score=0.5,
        summary={"added_area": 3},
        changes=[{"category": "added"}],
        created_at="2026-01-01T00:00:00.000Z",
        size=size,
        place=draft.path.name,
    )


async def test_an_upload_makes_a_block(shared: Shared, tmp_path: Path) -> None:
    """Its content is what came, in however many pieces."""
    store = Store(shared)
    file = await announced(store)
    assert (file.size, await store.block(file.block_id)) == (None, None)
    file = await store.upload(file, pieces(b"ab", b"c"))
    assert await store.block(file.block_id) == file
    assert store.content(file).read_bytes() == b"abc"
    assert file.size == 3
    for other in (file.id, file.block_id.replace("blk", "ovl"), "", "blk_", "blk_../x"):
        assert await store.block(other) is None


async def test_the_first_complete_upload_counts(shared: Shared, tmp_path: Path) -> None:
    """A second one is refused, whether it comes later or was under way."""
    store = Store(shared)
    file = await announced(store)

    async def slow() -> bytes:
        if await store.file(file.id) == file:
            await store.upload(file, pieces(b"first"))
            return b"second"
        return b""

    with pytest.raises(UploadConflict):
        await store.upload(file, slow)
    uploaded = await store.file(file.id)
    assert uploaded is not None
    for known in (file, uploaded):
        with pytest.raises(UploadConflict):
            await store.upload(known, pieces(b"third"))
    assert store.content(uploaded).read_bytes() == b"first"
    assert places(tmp_path) == [uploaded.place]


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_nothing_is_kept_of_an_upload_that_breaks_off(
    shared: Shared, tmp_path: Path, how: str
) -> None:
    """The file still waits for its upload, and nothing of the first one counts."""
    store = Store(shared, max_project_bytes=10)
    file = await announced(store)
    scope = trio.CancelScope()
    sent = [b"12345678"]

    async def breaking() -> bytes:
        if sent:
            return sent.pop()
        if how == "fails":
            raise OSError("gone")
        scope.cancel()
        await trio.sleep_forever()
        raise AssertionError

    with scope:
        if how == "fails":
            with pytest.raises(OSError, match="gone"):
                await store.upload(file, breaking)
        else:
            await store.upload(file, breaking)
    assert places(tmp_path) == []
    assert (await store.upload(file, pieces(b"1234567890"))).size == 10


async def test_a_project_stores_so_many_bytes_and_no_more(shared: Shared, tmp_path: Path) -> None:
    """Files under way count; what is deleted, or another project's, does not."""
    store = Store(shared, max_project_bytes=10)
    file = await uploaded(store, b"123456")
    second = await announced(store)
    with pytest.raises(StorageFull):
        await store.upload(second, pieces(b"1234", b"5"))
    await uploaded(store, b"1234567890", "prj_2")
    async with store.draft("prj_1") as draft:
        with pytest.raises(StorageFull):
            await store.keep(draft, overlay(draft, size=5))
    await store.delete(file)
    await store.delete(file)
    assert (await store.upload(second, pieces(b"1234567890"))).size == 10
    with pytest.raises(StorageFull):
        await uploaded(store, b"1")


async def test_a_project_has_so_many_objects_and_no_more(shared: Shared, tmp_path: Path) -> None:
    """Files and overlays together; the last that is announced can be uploaded."""
    store = Store(shared, max_project_objects=2)
    async with store.draft("prj_1") as draft:
        await store.keep(draft, overlay(draft))
    file = await uploaded(store, b"1")
    with pytest.raises(StorageFull):
        await announced(store)
    async with store.draft("prj_1") as draft:
        with pytest.raises(StorageFull):
            await store.keep(draft, overlay(draft))
    await announced(store, "prj_2")
    await store.delete(file)
    await announced(store)


async def test_what_is_not_uploaded_in_time_is_forgotten(shared: Shared, tmp_path: Path) -> None:
    """It makes room for another, and its upload is refused."""
    store = Store(shared, max_project_objects=1)
    late = await announced(store, seconds=-1)
    await announced(store)
    with pytest.raises(UploadConflict):
        await store.upload(late, pieces(b"1"))


async def test_another_process_finds_what_was_kept(shared: Shared, tmp_path: Path) -> None:
    """Records, contents, pictures and their sizes, at once; what one deletes is gone for both."""
    store = Store(shared)
    with open_shared(tmp_path) as also_shared:
        other = Store(also_shared, max_project_bytes=15)
        file = await uploaded(store, b"content")
        async with store.draft("prj_1") as draft:
            (draft.path / "overlay.png").write_bytes(b"picture")
            kept = overlay(draft)
            await store.keep(draft, kept)
        assert await other.file(file.id) == file
        assert await other.overlay(kept.id) == kept
        assert await other.overlays("prj_1", before=None, limit=9) == [kept]
        assert other.content(file).read_bytes() == b"content"
        assert other.picture(kept, "overlay").read_bytes() == b"picture"
        with pytest.raises(StorageFull):
            await uploaded(other, b"12")
        await other.delete(file)
        assert await store.block(file.block_id) is None
        await uploaded(other, b"12")


async def test_an_upload_under_way_counts_in_another_process(
    shared: Shared, tmp_path: Path
) -> None:
    """So two cannot fill a project twice; what one has given up is free for the other."""
    store = Store(shared, max_project_bytes=10)
    with open_shared(tmp_path) as also_shared:
        other = Store(also_shared, max_project_bytes=10)
        first, second = await announced(store), await announced(other)
        sent = [b"123456"]

        async def breaking() -> bytes:
            if sent:
                return sent.pop()
            with pytest.raises(StorageFull):
                await other.upload(second, pieces(b"12345"))
            raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            await store.upload(first, breaking)
        assert (await other.upload(second, pieces(b"1234567890"))).size == 10


async def test_what_a_killed_process_was_filling_is_removed(shared: Shared, tmp_path: Path) -> None:
    """By whoever stores next: its lock is gone with it, and its bytes do not count."""
    script = """
import os, signal, sys, trio
from pathlib import Path
from examples.bedrock.shared import open_shared
from examples.bedrock.store import Store

async def main():
    with open_shared(Path(sys.argv[1])) as shared:
        store = Store(shared)
        file = await store.announce("prj_1", filename="x", content_type="image/png", seconds=60)
        sent = [b"12345678"]

        async def receive():
            if sent:
                return sent.pop()
            os.kill(os.getpid(), signal.SIGKILL)

        await store.upload(file, receive)

trio.run(main)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert len(places(tmp_path)) == 1
    store = Store(shared, max_project_bytes=10)
    file = await uploaded(store, b"1234567890")
    assert places(tmp_path) == [file.place]


async def test_overlays_are_listed_by_pages(shared: Shared) -> None:
    """The newest first, those of one project; files are no overlays."""
    store = Store(shared)
    ids = []
    for project_id in ("prj_1", "prj_1", "prj_2", "prj_1"):
        await uploaded(store, b"1", project_id)
        async with store.draft(project_id) as draft:
            kept = overlay(draft, project_id)
            await store.keep(draft, kept)
        ids += [kept.id] if project_id == "prj_1" else []
    ids.sort(reverse=True)  # those of one millisecond have no order of their own
    seen: list[str] = []
    while page := await store.overlays("prj_1", before=seen[-1] if seen else None, limit=2):
        seen += [each.id for each in page]
    assert seen == ids


async def test_what_is_deleted_is_gone(shared: Shared, tmp_path: Path) -> None:
    """In the records and on disk; for good."""
    store = Store(shared)
    file = await uploaded(store, b"content")
    async with store.draft("prj_1") as draft:
        kept = overlay(draft)
        await store.keep(draft, kept)
    await store.delete(file)
    await store.delete(kept)
    assert places(tmp_path) == []
    assert await store.block(file.block_id) is None
    assert await store.overlay(kept.id) is None


async def test_an_object_is_of_one_kind(shared: Shared) -> None:
    """The id of an overlay is none of a file, nor the other way round."""
    store = Store(shared)
    file = await announced(store)
    async with store.draft("prj_1") as draft:
        kept = overlay(draft)
        await store.keep(draft, kept)
    assert await store.file(kept.id) is None
    assert await store.overlay(file.id) is None


async def test_a_deleted_file_cannot_be_brought_back_by_its_upload(
    shared: Shared, tmp_path: Path
) -> None:
    """An upload that was under way is refused at its end."""
    store = Store(shared)
    file = await announced(store)
    sent = [b"content"]

    async def deleting() -> bytes:
        await store.delete(file)
        return sent.pop() if sent else b""

    with pytest.raises(UploadConflict):
        await store.upload(file, deleting)
    assert places(tmp_path) == []
