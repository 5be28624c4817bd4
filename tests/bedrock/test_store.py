"""Files and overlays on disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from examples.bedrock.ids import new_id
from examples.bedrock.store import File, Overlay, StorageFull, Store, UploadConflict


def pieces(*content: bytes) -> Callable[[], Awaitable[bytes]]:
    """Return what gives these pieces and then the end."""
    left = list(content)

    async def receive() -> bytes:
        await trio.lowlevel.checkpoint()
        return left.pop(0) if left else b""

    return receive


def announced(store: Store, project_id: str = "prj_1", *, seconds: float = 60) -> File:
    return store.announce(
        project_id, filename="plan.png", content_type="image/png", seconds=seconds
    )


async def uploaded(store: Store, content: bytes, project_id: str = "prj_1") -> File:
    return await store.upload(announced(store, project_id), pieces(content))


def overlay(project_id: str = "prj_1", *, size: int = 7) -> Overlay:
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
    )


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_an_upload_makes_a_block(tmp_path: Path) -> None:
    """Its content is what came, in however many pieces."""
    store = Store(tmp_path)
    file = announced(store)
    assert (file.size, store.block(file.block_id)) == (None, None)
    file = await store.upload(file, pieces(b"ab", b"c"))
    assert store.block(file.block_id) == file
    assert store.content(file).read_bytes() == b"abc"
    assert file.size == 3
    for other in (file.id, file.block_id.replace("blk", "ovl"), "", "blk_", "blk_../x"):
        assert store.block(other) is None


async def test_the_first_complete_upload_counts(tmp_path: Path) -> None:
    """A second one is refused, whether it comes later or was under way."""
    store = Store(tmp_path)
    file = announced(store)

    async def slow() -> bytes:
        if file.id in store.files and store.files[file.id].size is None:
            await store.upload(file, pieces(b"first"))
            return b"second"
        return b""

    with pytest.raises(UploadConflict):
        await store.upload(file, slow)
    with pytest.raises(UploadConflict):
        await store.upload(file, pieces(b"third"))
    assert store.content(store.files[file.id]).read_bytes() == b"first"
    assert names(tmp_path) == [file.id]


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_nothing_is_kept_of_an_upload_that_breaks_off(tmp_path: Path, how: str) -> None:
    """The file still waits for its upload, and nothing of the first one counts."""
    store = Store(tmp_path, max_project_bytes=10)
    file = announced(store)
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
    assert names(tmp_path) == []
    assert (await store.upload(file, pieces(b"1234567890"))).size == 10


async def test_a_project_stores_so_many_bytes_and_no_more(tmp_path: Path) -> None:
    """Files under way count; what is deleted, or another project's, does not."""
    store = Store(tmp_path, max_project_bytes=10)
    file = await uploaded(store, b"123456")
    second = announced(store)
    with pytest.raises(StorageFull):
        await store.upload(second, pieces(b"1234", b"5"))
    await uploaded(store, b"1234567890", "prj_2")
    with store.draft("prj_1") as draft, pytest.raises(StorageFull):
        store.keep(draft, overlay(size=5))
    store.delete(file)
    store.delete(file)
    assert (await store.upload(second, pieces(b"1234567890"))).size == 10
    with pytest.raises(StorageFull):
        await uploaded(store, b"1")


async def test_a_project_has_so_many_objects_and_no_more(tmp_path: Path) -> None:
    """Files and overlays together; the last that is announced can be uploaded."""
    store = Store(tmp_path, max_project_objects=2)
    with store.draft("prj_1") as draft:
        store.keep(draft, overlay())
    file = await uploaded(store, b"1")
    with pytest.raises(StorageFull):
        announced(store)
    with store.draft("prj_1") as draft, pytest.raises(StorageFull):
        store.keep(draft, overlay())
    announced(store, "prj_2")
    store.delete(file)
    announced(store)


async def test_what_is_not_uploaded_in_time_is_forgotten(tmp_path: Path) -> None:
    """It makes room for another, and its upload is refused."""
    store = Store(tmp_path, max_project_objects=1)
    late = announced(store, seconds=-1)
    announced(store)
    with pytest.raises(UploadConflict):
        await store.upload(late, pieces(b"1"))


async def test_another_process_finds_what_was_kept(tmp_path: Path) -> None:
    """Records, contents, pictures and their sizes; what was not complete is removed."""
    store = Store(tmp_path)
    file = await uploaded(store, b"content")
    announced(store)
    with store.draft("prj_1") as draft:
        (draft.path / "overlay.png").write_bytes(b"picture")
        kept = overlay()
        store.keep(draft, kept)
    (tmp_path / f".{new_id('draft')}").mkdir()
    (tmp_path / "something else").mkdir()
    again = Store(tmp_path, max_project_bytes=15)
    assert again.files == {file.id: file}
    assert again.overlays == {kept.id: kept}
    assert again.content(file).read_bytes() == b"content"
    assert again.picture(kept, "overlay").read_bytes() == b"picture"
    assert names(tmp_path) == sorted([file.id, kept.id, "something else"])
    with pytest.raises(StorageFull):
        await uploaded(again, b"12")


async def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    """In memory and on disk; for good."""
    store = Store(tmp_path)
    file = await uploaded(store, b"content")
    with store.draft("prj_1") as draft:
        kept = overlay()
        store.keep(draft, kept)
    store.delete(file)
    store.delete(kept)
    assert names(tmp_path) == []
    assert store.block(file.block_id) is None
    again = Store(tmp_path)
    assert (again.files, again.overlays) == ({}, {})


async def test_a_deleted_file_cannot_be_brought_back_by_its_upload(tmp_path: Path) -> None:
    """An upload that was under way is refused at its end."""
    store = Store(tmp_path)
    file = announced(store)
    sent = [b"content"]

    async def deleting() -> bytes:
        store.delete(file)
        return sent.pop() if sent else b""

    with pytest.raises(UploadConflict):
        await store.upload(file, deleting)
    assert names(tmp_path) == []
