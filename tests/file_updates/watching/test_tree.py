"""What happens in real directories: the same operations, and the same story, from both mechanisms.

A watcher looks only while somebody receives. So whatever a test does to its files between two
receives is done as a whole before the next look, and what is said of it is certain.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from examples.file_updates.changes import (
    Change,
    DirectoryDeleted,
    DirectoryMoved,
    FileCreated,
    FileDeleted,
    FileFound,
    FileModified,
    FileMoved,
)
from examples.file_updates.watching import (
    Watcher,
)

from .listening import hears, hears_nothing, receive, receive_until, watch


def moved(src: Path, dest: Path) -> FileMoved:
    return FileMoved(src_path=str(src), dest_path=str(dest))


def dir_moved(src: Path, dest: Path) -> DirectoryMoved:
    return DirectoryMoved(src_path=str(src), dest_path=str(dest))


# ---- files ---------------------------------------------------------------------------------------


async def test_files(watcher: Watcher, root: Path) -> None:
    """Created, modified, touched, moved and deleted, each said once."""
    path = root / "x"
    await watch(watcher, root)
    path.write_text("1")
    await hears(watcher, FileCreated(str(path)))
    path.write_text("22")
    await hears(watcher, FileModified(str(path)))
    os.utime(path, (1, 1))
    await hears(watcher, FileModified(str(path)))
    path.rename(root / "y")
    await hears(watcher, moved(path, root / "y"))
    (root / "y").unlink()
    await hears(watcher, FileDeleted(str(root / "y")))


async def test_reading_and_permissions_are_no_changes(watcher: Watcher, root: Path) -> None:
    """A file that was opened, read or given other permissions was not modified."""
    path = root / "x"
    path.write_text("1")
    await watch(watcher, root)
    path.read_text()
    path.chmod(0o600)
    path.open("a").close()
    await hears_nothing(watcher)


async def test_a_file_written_a_thousand_times_is_one_change(watcher: Watcher, root: Path) -> None:
    """Many writes between two looks are one modification; so are those of a file kept open."""
    path = root / "log"
    path.touch()
    await watch(watcher, root)
    with path.open("a", buffering=1) as log:
        for line in range(1000):
            log.write(f"{line}\n")
        await hears(watcher, FileModified(str(path)))
        log.write("one more\n")
        await hears(watcher, FileModified(str(path)))
    await hears_nothing(watcher)


async def test_a_file_that_is_created_and_kept_open_is_announced(
    watcher: Watcher, root: Path
) -> None:
    """A file that its writer does not close is told nevertheless."""
    await watch(watcher, root)
    with (root / "x").open("w") as file:
        await hears(watcher, FileCreated(str(root / "x")))
        file.write("more")
        file.flush()
        await hears(watcher, FileModified(str(root / "x")))


async def test_what_came_and_went_between_two_looks_is_not_said(
    watcher: Watcher, root: Path
) -> None:
    """Of files and directories made and deleted at once nothing is told, and nothing is left."""
    await watch(watcher, root)
    for _ in range(100):
        (root / "x").touch()
        (root / "x").unlink()
        (root / "d" / "e").mkdir(parents=True)
        (root / "d" / "e" / "y").touch()
        shutil.rmtree(root / "d")
    await hears_nothing(watcher)


async def test_an_editor_saves_by_renaming(watcher: Watcher, root: Path) -> None:
    """A new file renamed over the old one is a modification of it."""
    path, temporary = root / "doc", root / ".doc.swp"
    path.write_text("1")
    await watch(watcher, root)
    temporary.write_text("2")
    temporary.replace(path)
    await hears(watcher, FileModified(str(path)))


async def test_a_file_that_was_told_is_renamed_over_another(watcher: Watcher, root: Path) -> None:
    """The one that was there is modified, and the other one gone."""
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    await watch(watcher, root)
    (root / "a").replace(root / "b")
    await hears(watcher, FileDeleted(str(root / "a")), FileModified(str(root / "b")))


async def test_renames_in_a_row_are_one(watcher: Watcher, root: Path) -> None:
    """From the first name to the last one."""
    (root / "a").touch()
    await watch(watcher, root)
    (root / "a").rename(root / "b")
    (root / "b").rename(root / "c")
    await hears(watcher, moved(root / "a", root / "c"))


async def test_moves_out_of_the_tree_and_into_it(watcher: Watcher, root: Path) -> None:
    """What leaves is deleted, and what arrives is created: files, and directories file by file."""
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "x").touch()
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "y").touch()
    await watch(watcher, root)
    (root / "x").rename(outside / "x")
    await hears(watcher, FileDeleted(str(root / "x")))
    (root / "d").rename(outside / "d")
    await hears(
        watcher,
        FileDeleted(str(root / "d" / "e" / "y")),
        DirectoryDeleted(str(root / "d" / "e")),
        DirectoryDeleted(str(root / "d")),
    )
    (outside / "d" / "e" / "y").write_text("is not watched any more")
    await hears_nothing(watcher)
    (outside / "x").rename(root / "x")
    (outside / "d").rename(root / "d")
    await hears(watcher, FileCreated(str(root / "d" / "e" / "y")), FileCreated(str(root / "x")))
    (root / "d" / "e" / "y").write_text("is watched again")
    await hears(watcher, FileModified(str(root / "d" / "e" / "y")))


async def test_a_move_from_one_watch_to_another_is_a_move(watcher: Watcher, root: Path) -> None:
    """Files and directories keep what is known of them."""
    a, b = root / "a", root / "b"
    (a / "d").mkdir(parents=True)
    (a / "d" / "y").touch()
    (a / "x").touch()
    b.mkdir()
    await watch(watcher, a)
    await watch(watcher, b)
    (a / "x").rename(b / "x")
    (a / "d").rename(b / "d")
    await hears(watcher, dir_moved(a / "d", b / "d"), moved(a / "x", b / "x"))
    (b / "d" / "z").touch()
    await hears(watcher, FileCreated(str(b / "d" / "z")))


async def test_links_pipes_and_sockets_are_passed_over(watcher: Watcher, root: Path) -> None:
    """Only regular files are told, and no link is followed, whatever it leads to."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "x").touch()
    await watch(watcher, root)
    (root / "to-directory").symlink_to(outside)
    (root / "to-file").symlink_to(outside / "x")
    (root / "to-itself").symlink_to(root)
    (root / "nowhere").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    (outside / "y").touch()
    await hears_nothing(watcher)
    (root / "real").touch()
    (root / "to-directory").unlink()
    (root / "to-file").rename(root / "elsewhere")
    await hears(watcher, FileCreated(str(root / "real")))


async def test_a_hard_link_is_a_file(watcher: Watcher, root: Path) -> None:
    """A second name of a file is created and deleted like any other."""
    (root / "a").write_text("a")
    await watch(watcher, root)
    os.link(root / "a", root / "b")
    await hears(watcher, FileCreated(str(root / "b")))
    (root / "a").unlink()
    await hears(watcher, FileDeleted(str(root / "a")))


async def test_hidden_files_are_files(watcher: Watcher, root: Path) -> None:
    """Names that begin with a dot are told: what to leave out is for others to decide."""
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").touch()
    assert FileFound(str(root / ".git" / "HEAD")) in await watch(watcher, root)
    (root / ".git" / "index").touch()
    await hears(watcher, FileCreated(str(root / ".git" / "index")))


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux only")
async def test_names_that_are_not_utf8(watcher: Watcher, root: Path) -> None:
    """Any name that the file system allows is told, and its path opens the file."""
    names = [b"\xff\xfe", b"new\nline", b"\xf0\x9f\xa6\x9a", b"d\x80/e\xff"]
    os.mkdir(os.path.join(os.fsencode(root), b"d\x80"))
    await watch(watcher, root)
    paths = sorted(os.path.join(str(root), os.fsdecode(name)) for name in names)
    for path in paths:
        Path(path).write_text("text")
    await hears(watcher, *map(FileCreated, paths))
    os.rename(os.path.join(os.fsencode(root), b"d\x80"), os.path.join(os.fsencode(root), b"\xfe"))
    await hears(watcher, dir_moved(root / "d\udc80", root / "\udcfe"))


# ---- directories ---------------------------------------------------------------------------------


async def test_files_made_at_once_in_new_directories(watcher: Watcher, root: Path) -> None:
    """Mkdir -p a/b/c with a file at every level each is told once, and is watched from then on."""
    await watch(watcher, root)
    deepest = root / "a" / "b" / "c"
    deepest.mkdir(parents=True)
    paths = [directory / "x" for directory in (root / "a", root / "a" / "b", deepest)]
    for path in paths:
        path.write_text("1")
    await hears(watcher, *sorted((FileCreated(str(path)) for path in paths), key=lambda c: c.path))
    (deepest / "x").write_text("2")
    await hears(watcher, FileModified(str(deepest / "x")))


async def test_a_renamed_directory_takes_all_that_is_below_along(
    watcher: Watcher, root: Path
) -> None:
    """One move for all of it, and what happens below is told under the new path."""
    inner = root / "d" / "e"
    inner.mkdir(parents=True)
    (inner / "x").touch()
    await watch(watcher, root)
    (root / "d").rename(root / "f")
    await hears(watcher, dir_moved(root / "d", root / "f"))
    (root / "f" / "e" / "x").write_text("x")
    (root / "f" / "e" / "y").touch()
    await hears(
        watcher,
        FileModified(str(root / "f" / "e" / "x")),
        FileCreated(str(root / "f" / "e" / "y")),
    )


async def test_a_directory_is_renamed_and_written_in_before_anybody_looks(
    watcher: Watcher, root: Path
) -> None:
    """The move comes first, then what happened under the new name."""
    (root / "d").mkdir()
    for name in "wxy":
        (root / "d" / name).touch()
    await watch(watcher, root)
    (root / "d").rename(root / "e")
    (root / "e" / "x").write_text("x")
    (root / "e" / "y").unlink()
    (root / "e" / "z").touch()
    await hears(
        watcher,
        dir_moved(root / "d", root / "e"),
        FileDeleted(str(root / "e" / "y")),
        FileModified(str(root / "e" / "x")),
        FileCreated(str(root / "e" / "z")),
    )


async def test_a_directory_is_renamed_and_another_takes_its_name(
    watcher: Watcher, root: Path
) -> None:
    """Both are watched under the names they have now."""
    (root / "d").mkdir()
    (root / "d" / "x").touch()
    await watch(watcher, root)
    (root / "d").rename(root / "e")
    (root / "d").mkdir()
    (root / "d" / "y").touch()
    said = await receive(watcher, 2)  # a name that is taken is no rename: x went, or e came
    assert said[0] in (
        FileDeleted(str(root / "d" / "x")),
        moved(root / "d" / "x", root / "e" / "x"),
    )
    assert FileCreated(str(root / "d" / "y")) in said
    await hears_nothing(watcher)
    (root / "d" / "y").write_text("y")
    (root / "e" / "x").write_text("x")
    await hears(watcher, FileModified(str(root / "d" / "y")), FileModified(str(root / "e" / "x")))


async def test_a_tree_is_deleted(watcher: Watcher, root: Path) -> None:
    """Its files are deleted, then its directories from the inside out; a new one starts afresh."""
    for directory in (root / "d", root / "d" / "e"):
        directory.mkdir()
        (directory / "x").touch()
    await watch(watcher, root)
    shutil.rmtree(root / "d")
    await hears(
        watcher,
        FileDeleted(str(root / "d" / "e" / "x")),
        FileDeleted(str(root / "d" / "x")),
        DirectoryDeleted(str(root / "d" / "e")),
        DirectoryDeleted(str(root / "d")),
    )
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "x").touch()
    await hears(watcher, FileCreated(str(root / "d" / "e" / "x")))


async def test_a_directory_is_deleted_and_made_anew_at_once(watcher: Watcher, root: Path) -> None:
    """The new one is watched, though it may have the name and the number of the old one."""
    (root / "d").mkdir()
    (root / "d" / "x").touch()
    await watch(watcher, root)
    shutil.rmtree(root / "d")
    (root / "d").mkdir()
    await hears(watcher, FileDeleted(str(root / "d" / "x")))
    (root / "d" / "y").touch()
    await hears(watcher, FileCreated(str(root / "d" / "y")))


async def test_a_file_becomes_a_directory_and_back(watcher: Watcher, root: Path) -> None:
    """What was there is deleted before what is there is created."""
    (root / "a").touch()
    await watch(watcher, root)
    (root / "a").unlink()
    (root / "a").mkdir()
    (root / "a" / "x").touch()
    await hears(watcher, FileDeleted(str(root / "a")), FileCreated(str(root / "a" / "x")))
    shutil.rmtree(root / "a")
    (root / "a").touch()
    await hears(
        watcher,
        FileDeleted(str(root / "a" / "x")),
        DirectoryDeleted(str(root / "a")),
        FileCreated(str(root / "a")),
    )


async def test_two_thousand_files_copied_at_once(watcher: Watcher, root: Path) -> None:
    """Each is created exactly once."""
    source = root.parent / "source"
    for number in range(2000):
        directory = source / str(number % 20)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_text(str(number))
    await watch(watcher, root)
    shutil.copytree(source, root / "copy")
    copies = sorted(str(path) for path in (root / "copy").glob("*/*"))
    assert len(copies) == 2000
    await hears(watcher, *map(FileCreated, copies))


async def test_two_thousand_files_copied_while_somebody_listens(
    watcher: Watcher, root: Path
) -> None:
    """Looks fall in the middle of it: each file is created exactly once all the same."""
    await watch(watcher, root)

    def write() -> None:
        for number in range(2000):
            directory = root / str(number % 20)
            directory.mkdir(exist_ok=True)
            (directory / str(number)).write_text(str(number))
        (root / "end").touch()

    changes: list[Change] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, write)
        changes = await receive_until(watcher, FileCreated(str(root / "end")))
    created = [change.path for change in changes if isinstance(change, FileCreated)]
    expected = [str(path) for path in root.rglob("*") if path.is_file()]
    assert sorted(created) == sorted(expected)
    # A file that was seen half written is modified by the other half.
    assert all(isinstance(change, FileCreated | FileModified) for change in changes)
