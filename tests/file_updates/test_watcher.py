"""A watcher over real directories: the same operations, and the same story, from both mechanisms.

A watcher looks only while somebody receives. So whatever a test does to its files between two
receives is done as a whole before the next look, and what is said of it is certain.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from examples.file_updates.changes import (
    Change,
    DirectoryDeleted,
    DirectoryMoved,
    DirectoryProcessingCompleted,
    DirectoryProcessingStarted,
    FileCreated,
    FileDeleted,
    FileFound,
    FileModified,
    FileMoved,
    WatchAdded,
    WatchFailed,
    WatchRemoved,
    WatchStarted,
)
from examples.file_updates.watching import (
    AlreadyWatched,
    NotWatchable,
    NotWatched,
    Watch,
    Watcher,
)
from examples.file_updates.watching.hints import Hints, Polling

SECONDS = 20  # far more than anything here takes

MECHANISMS: dict[str, Callable[[], Hints]] = {"polling": partial(Polling, interval=0.001)}
if sys.platform == "linux":
    from examples.file_updates.watching.inotify import Inotify

    MECHANISMS["inotify"] = partial(Inotify, settle=0.001, open_file=0.05, check=0.05)


@pytest.fixture(params=sorted(MECHANISMS))
def hints(request: pytest.FixtureRequest) -> Callable[[], Hints]:
    """Each mechanism in turn, with short times."""
    return MECHANISMS[request.param]


@pytest.fixture
async def watcher(hints: Callable[[], Hints]) -> AsyncIterator[Watcher]:
    with Watcher(hints()) as watcher:
        yield watcher


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to watch, with its real path."""
    path = tmp_path.resolve() / "root"
    path.mkdir()
    return path


async def receive(watcher: Watcher, count: int) -> list[Change]:
    with trio.fail_after(SECONDS):
        return [await watcher.receive() for _ in range(count)]


async def receive_until(watcher: Watcher, last: Change) -> list[Change]:
    changes: list[Change] = []
    with trio.fail_after(SECONDS):
        while not changes or changes[-1] != last:
            changes.append(await watcher.receive())
    return changes


async def watch(watcher: Watcher, directory: Path, *, recursive: bool = True) -> list[Change]:
    """Add a directory and receive all that is said up to the end of the first look."""
    path = (await watcher.add(directory, recursive=recursive)).path
    return await receive_until(watcher, DirectoryProcessingCompleted(path))


async def hears(watcher: Watcher, *expected: Change) -> None:
    """See that exactly this is said, and nothing after it."""
    assert await receive(watcher, len(expected)) == list(expected)
    await hears_nothing(watcher)


async def hears_nothing(watcher: Watcher) -> None:
    """See that there is nothing to be said, by doing something and hearing of that alone."""
    marker = Path(watcher.watches[0].path, "marker")
    marker.touch()
    assert await receive(watcher, 1) == [FileCreated(str(marker))]
    marker.unlink()
    assert await receive(watcher, 1) == [FileDeleted(str(marker))]


def moved(src: Path, dest: Path) -> FileMoved:
    return FileMoved(src_path=str(src), dest_path=str(dest))


def dir_moved(src: Path, dest: Path) -> DirectoryMoved:
    return DirectoryMoved(src_path=str(src), dest_path=str(dest))


# ---- the life of a watch -------------------------------------------------------------------------


async def test_a_watch_begins_with_what_is_there(watcher: Watcher, root: Path) -> None:
    """Added, started, then every file between the start and the end of the first look, in order."""
    (root / "b").mkdir()
    (root / "b" / "x").touch()
    (root / "a").touch()
    assert await watch(watcher, root) == [
        WatchAdded(str(root)),
        WatchStarted(str(root), recursive=True),
        DirectoryProcessingStarted(str(root)),
        FileFound(str(root / "a")),
        FileFound(str(root / "b" / "x")),
        DirectoryProcessingCompleted(str(root)),
    ]
    assert watcher.watches == [Watch(str(root), recursive=True)]
    await hears_nothing(watcher)


async def test_a_file_made_while_the_first_look_is_announced_is_found_once(
    watcher: Watcher, root: Path
) -> None:
    """A file made between "started" and the look is found, and not created as well."""
    await watcher.add(root)
    await receive(watcher, 3)
    (root / "a").touch()
    await hears(watcher, FileFound(str(root / "a")), DirectoryProcessingCompleted(str(root)))


async def test_a_file_made_after_the_first_look_is_created(watcher: Watcher, root: Path) -> None:
    """What happens after the look, though its end has not been received yet, is a change."""
    (root / "a").touch()
    await watcher.add(root)
    await receive(watcher, 4)
    (root / "b").touch()
    await hears(watcher, DirectoryProcessingCompleted(str(root)), FileCreated(str(root / "b")))


async def test_a_path_is_told_without_links(watcher: Watcher, root: Path) -> None:
    """A directory named through a link is watched under its real path."""
    link = root.parent / "link"
    link.symlink_to(root)
    assert (await watcher.add(link)).path == str(root)
    with pytest.raises(AlreadyWatched):
        await watcher.add(root)


async def test_relative_paths_become_absolute(
    watcher: Watcher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is taken from the current directory."""
    monkeypatch.chdir(root.parent)
    assert (await watcher.add("root")).path == str(root)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "No such file or directory"),
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("nul\0", "null"),
        ("n" * 300, "File name too long"),
    ],
)
async def test_what_cannot_be_watched_is_refused(
    watcher: Watcher, root: Path, name: str, reason: str
) -> None:
    """The error names the directory and the reason, and nothing was added."""
    (root / "file").touch()
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(NotWatchable, match=reason) as caught:
        await watcher.add(f"{root}/{name}")
    assert caught.value.path == f"{root}/{name}"
    assert watcher.watches == []
    await watch(watcher, root)
    await hears_nothing(watcher)


async def test_the_empty_path_is_not_the_current_directory(watcher: Watcher) -> None:
    """An empty path names nothing."""
    with pytest.raises(NotWatchable):
        await watcher.add("")


async def test_nothing_is_watched_twice(watcher: Watcher, root: Path) -> None:
    """The same directory, one inside, and one around are refused; the error names the first."""
    middle = root / "middle"
    (middle / "inside").mkdir(parents=True)
    await watcher.add(middle)
    for directory in (middle, middle / "inside", root):
        with pytest.raises(AlreadyWatched) as caught:
            await watcher.add(directory)
        assert caught.value.path == str(directory)
        assert caught.value.other == str(middle)
        assert str(directory) in str(caught.value)
    assert [watch.path for watch in watcher.watches] == [str(middle)]


async def test_a_name_that_begins_alike_is_not_inside(watcher: Watcher, root: Path) -> None:
    """/root and /root-2 have nothing to do with each other."""
    other = root.with_name("root-2")
    other.mkdir()
    await watch(watcher, root)
    await watch(watcher, other)
    (other / "x").touch()
    await hears(watcher, FileCreated(str(other / "x")))


async def test_without_recursion_the_first_level_is_watched(watcher: Watcher, root: Path) -> None:
    """Files in the directory are told, and what becomes of directories in it; nothing below."""
    (root / "d").mkdir()
    (root / "d" / "x").touch()
    said = await watch(watcher, root, recursive=False)
    assert said[1] == WatchStarted(str(root), recursive=False)
    assert len(said) == 4
    (root / "d" / "y").touch()
    (root / "e").mkdir()
    (root / "e" / "z").touch()
    await hears_nothing(watcher)
    (root / "d").rename(root / "f")
    await hears(watcher, dir_moved(root / "d", root / "f"))


async def test_a_watch_inside_of_one_that_is_not_recursive(watcher: Watcher, root: Path) -> None:
    """Both are told what is theirs, and the end of the inner one leaves the outer one alone."""
    inner = root / "inner"
    inner.mkdir()
    await watch(watcher, root, recursive=False)
    await watch(watcher, inner)
    (inner / "x").touch()
    await hears(watcher, FileCreated(str(inner / "x")))
    watcher.remove(str(inner))
    await hears(watcher, WatchRemoved(str(inner)))
    (inner / "y").touch()
    await hears_nothing(watcher)


async def test_a_removed_watch_says_so_and_no_more(watcher: Watcher, root: Path) -> None:
    """What was ready comes first, then the removal; other watches go on."""
    (root / "a").mkdir()
    (root / "b").mkdir()
    await watch(watcher, root / "a")
    await watch(watcher, root / "b")
    (root / "b" / "1").touch()
    (root / "b" / "2").touch()
    assert await receive(watcher, 1) == [FileCreated(str(root / "b" / "1"))]
    watcher.remove(str(root / "b"))
    (root / "b" / "3").touch()
    await hears(watcher, FileCreated(str(root / "b" / "2")), WatchRemoved(str(root / "b")))
    assert [watch.path for watch in watcher.watches] == [str(root / "a")]


async def test_a_watch_can_be_removed_before_anything_was_said(
    watcher: Watcher, root: Path
) -> None:
    """It is announced and removed, without a look, and can be added again."""
    await watcher.add(root)
    watcher.remove(str(root))
    again = await watch(watcher, root)
    assert [type(change) for change in again] == [
        WatchAdded,
        WatchStarted,
        DirectoryProcessingStarted,
        WatchRemoved,
        WatchAdded,
        WatchStarted,
        DirectoryProcessingStarted,
        DirectoryProcessingCompleted,
    ]
    await hears_nothing(watcher)


async def test_only_what_is_watched_can_be_removed(watcher: Watcher, root: Path) -> None:
    """A directory that is not on the list is an error that names it."""
    with pytest.raises(NotWatched) as caught:
        watcher.remove(str(root))
    assert caught.value.path == str(root)


async def test_a_watch_is_added_and_removed_while_somebody_waits(
    watcher: Watcher, root: Path
) -> None:
    """The task that waits for changes learns of both at once."""
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                receive_until, watcher, DirectoryProcessingCompleted(str(root))
            )
            await trio.testing.wait_all_tasks_blocked()
            await watcher.add(root)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_until, watcher, WatchRemoved(str(root)))
            await trio.testing.wait_all_tasks_blocked()
            watcher.remove(str(root))


# ---- what happens to files -----------------------------------------------------------------------


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


# ---- what happens to directories -----------------------------------------------------------------


async def test_files_made_at_once_in_new_directories(watcher: Watcher, root: Path) -> None:
    """mkdir -p a/b/c with a file at every level: each is told once, and is watched from then on."""
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
    assert said[0] in (FileDeleted(str(root / "d" / "x")), moved(root / "d" / "x", root / "e" / "x"))
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


# ---- what fails ----------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory that everybody can reach, and a user whom permissions bind."""
    directory = Path(tempfile.mkdtemp()).resolve()
    uid = os.geteuid()
    if uid == 0:
        os.chown(directory, 65534, -1)
        os.seteuid(65534)
    yield directory
    os.seteuid(uid)
    for path in directory.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(directory)


async def test_a_directory_that_cannot_be_read_is_passed_over(
    watcher: Watcher, unprivileged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once and leaves the rest alone; when it can be read, its files are created."""
    root, locked = unprivileged, unprivileged / "locked"
    locked.mkdir()
    (locked / "x").touch()
    locked.chmod(0)
    (root / "a").touch()
    with caplog.at_level(logging.WARNING):
        assert FileFound(str(root / "a")) in await watch(watcher, root)
        await hears_nothing(watcher)
        await hears_nothing(watcher)
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot read {str(locked)!r}: Permission denied"
    ]
    locked.chmod(0o700)
    await hears(watcher, FileCreated(str(locked / "x")))
    (locked / "y").touch()
    await hears(watcher, FileCreated(str(locked / "y")))
    locked.chmod(0)
    await hears(watcher, FileDeleted(str(locked / "x")), FileDeleted(str(locked / "y")))


async def test_a_root_that_cannot_be_read_is_refused(watcher: Watcher, unprivileged: Path) -> None:
    """Neither without the right to list it, nor without the right to enter it."""
    for mode in (0, stat.S_IRUSR, stat.S_IXUSR):
        unprivileged.chmod(mode)
        with pytest.raises(NotWatchable, match="Permission denied"):
            await watcher.add(unprivileged)
    unprivileged.chmod(0o700)


async def test_a_root_that_can_no_longer_be_read(watcher: Watcher, unprivileged: Path) -> None:
    """The watch fails, with the reason."""
    root = unprivileged / "root"
    root.mkdir()
    await watch(watcher, root)
    root.chmod(0)
    (change,) = await receive(watcher, 1)
    assert isinstance(change, WatchFailed)
    assert "Permission denied" in change.message


@pytest.mark.parametrize("how", ["deleted", "moved away", "above moved away", "file instead"])
async def test_a_root_that_disappears(watcher: Watcher, root: Path, how: str) -> None:
    """The watch fails and is off the list; others go on, and it can be added again."""
    gone, other = root / "above" / "gone", root / "other"
    gone.mkdir(parents=True)
    other.mkdir()
    (gone / "x").touch()
    await watch(watcher, other)
    await watch(watcher, gone)
    if how == "moved away":
        gone.rename(root / "elsewhere")
    elif how == "above moved away":
        gone.parent.rename(root / "elsewhere")
    else:
        shutil.rmtree(gone)
    if how == "file instead":
        gone.touch()
    (change,) = await receive(watcher, 1)
    assert isinstance(change, WatchFailed)
    assert change.path == str(gone)
    assert str(gone) in change.message
    assert [watch.path for watch in watcher.watches] == [str(other)]
    await hears_nothing(watcher)
    gone.unlink(missing_ok=True)
    gone.mkdir(parents=True)
    await watch(watcher, gone)
    (gone / "y").touch()
    await hears(watcher, FileCreated(str(gone / "y")))


async def test_a_root_that_disappears_before_the_first_look(watcher: Watcher, root: Path) -> None:
    """It was added and started, and then it failed."""
    await watcher.add(root)
    root.rmdir()
    said = await receive(watcher, 4)
    assert [type(change) for change in said[:3]] == [
        WatchAdded,
        WatchStarted,
        DirectoryProcessingStarted,
    ]
    assert isinstance(said[3], WatchFailed)
    assert watcher.watches == []


async def test_a_root_that_is_replaced_is_watched_on(watcher: Watcher, root: Path) -> None:
    """The watch is one of a path: another directory under it is compared with the first."""
    watched = root / "watched"
    watched.mkdir()
    (watched / "x").touch()
    await watch(watcher, watched)
    watched.rename(root / "elsewhere")
    watched.mkdir()
    (watched / "y").touch()
    await hears(watcher, FileDeleted(str(watched / "x")), FileCreated(str(watched / "y")))
    (root / "elsewhere" / "x").write_text("is not watched any more")
    await hears_nothing(watcher)


@pytest.mark.parametrize("later", [False, True], ids=["first look", "later"])
async def test_no_more_open_files(watcher: Watcher, root: Path, later: bool) -> None:  # noqa: FBT001
    """A lack of descriptors does not look like a deletion: the watch fails, with the reason."""
    if later:
        await watch(watcher, root)
    else:
        await watcher.add(root)
        await receive(watcher, 3)

    def scandir(path: str) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    (root / "d").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.scandir", scandir)
        (change,) = await receive(watcher, 1)
    assert isinstance(change, WatchFailed)
    assert "Too many open files" in change.message


# ---- tasks ---------------------------------------------------------------------------------------


async def test_one_task_receives_at_a_time(watcher: Watcher) -> None:
    """A second one is told so, and the first goes on."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await watcher.receive()
        nursery.cancel_scope.cancel()


async def test_a_closed_watcher(watcher: Watcher, root: Path) -> None:
    """After the end of its block it gives nothing, takes nothing, and may be closed again."""
    await watcher.add(root)
    watcher.close()
    await watcher.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await watcher.receive()
    with pytest.raises(trio.ClosedResourceError):
        await watcher.add(root)


async def test_closing_wakes_who_receives(watcher: Watcher, root: Path) -> None:
    """A task that waits for a change is told that there will be none."""
    await watch(watcher, root)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await watcher.receive()

            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            watcher.close()


async def test_receiving_and_adding_are_checkpoints(watcher: Watcher, root: Path) -> None:
    """Both yield, whether or not there is anything to wait for."""
    with trio.testing.assert_checkpoints():
        await watcher.add(root)
    for _ in range(4):
        with trio.testing.assert_checkpoints():
            await watcher.receive()
    with trio.testing.assert_checkpoints():
        await watcher.aclose()


async def test_a_cancelled_add_adds_nothing(watcher: Watcher, root: Path) -> None:
    """The list is as it was."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await watcher.add(root)
    assert scope.cancelled_caught
    assert watcher.watches == []


async def test_a_cancelled_receive_loses_nothing(watcher: Watcher, root: Path) -> None:
    """Cancelled while it waits, and with a change ready: the next call gives what is next."""
    await watch(watcher, root)
    with trio.move_on_after(0):
        await watcher.receive()
    (root / "x").touch()
    (root / "y").touch()
    assert await receive(watcher, 1) == [FileCreated(str(root / "x"))]
    with trio.CancelScope() as scope:
        scope.cancel()
        await watcher.receive()
    await hears(watcher, FileCreated(str(root / "y")))


class Gate:
    """Holds looks, in their thread, before they list a directory, until it is opened."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reached = trio.Event()
        self._opened = threading.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._scandir = os.scandir
        patch.setattr("os.scandir", self._hold)

    def open(self) -> None:
        self._opened.set()

    def _hold(self, path: str) -> object:
        if not self._opened.is_set():
            self._token.run_sync_soon(self.reached.set)
            self._opened.wait(SECONDS)
        return self._scandir(path)


@pytest.mark.parametrize("when", ["first look", "later"])
async def test_a_look_that_is_cancelled_is_made_good(
    watcher: Watcher, root: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Cancelled while its thread is at work, a receive loses neither files nor changes."""
    (root / "a").touch()
    if when == "first look":
        await watcher.add(root)
        await receive(watcher, 3)
    else:
        await watch(watcher, root)
        (root / "d").mkdir()
        (root / "d" / "x").touch()
    gate = Gate(monkeypatch)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.receive)
            await gate.reached.wait()
            nursery.cancel_scope.cancel()
            gate.open()
    if when == "first look":
        await hears(watcher, FileFound(str(root / "a")), DirectoryProcessingCompleted(str(root)))
    else:
        await hears(watcher, FileCreated(str(root / "d" / "x")))


async def test_a_look_goes_on_when_its_watch_is_removed(
    watcher: Watcher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed, and added again, in the middle of the first look: each is told in its turn."""
    await watcher.add(root)
    await receive(watcher, 3)
    gate = Gate(monkeypatch)
    said: list[Change] = []

    async def listen() -> None:
        said.extend(await receive_until(watcher, WatchRemoved(str(root))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await gate.reached.wait()
        watcher.remove(str(root))
        gate.open()
        await watcher.add(root)
    assert said == [DirectoryProcessingCompleted(str(root)), WatchRemoved(str(root))]
    assert len(await receive_until(watcher, DirectoryProcessingCompleted(str(root)))) == 4
    (root / "x").touch()
    await hears(watcher, FileCreated(str(root / "x")))


async def test_closed_in_the_middle_of_a_look(
    hints: Callable[[], Hints], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread stops, and what it needs is given back only then, exactly once."""
    source = hints()
    closed: list[bool] = []
    monkeypatch.setattr(source, "close", lambda close=source.close: (closed.append(True), close()))
    watcher = Watcher(source)
    (root / "x").touch()
    await watcher.add(root)
    await receive(watcher, 3)
    gate = Gate(monkeypatch)

    async def listen() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await watcher.receive()

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await gate.reached.wait()
            watcher.close()
            assert closed == []
            gate.open()
    assert closed == [True]


async def test_the_loop_stays_live_while_ten_thousand_files_are_read(
    watcher: Watcher, root: Path
) -> None:
    """Other tasks run on between the start and the end of the first look."""
    for number in range(10_000):
        os.mknod(root / str(number))
    await watcher.add(root)
    await receive(watcher, 3)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        assert await receive(watcher, 1) == [FileFound(str(root / "0"))]
        nursery.cancel_scope.cancel()
    assert turns > 100
    assert len(await receive_until(watcher, DirectoryProcessingCompleted(str(root)))) == 10_000


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
async def test_nothing_is_left_open(hints: Callable[[], Hints], root: Path) -> None:
    """A hundred watchers later, opened, cancelled and closed, no descriptor is left."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def once() -> None:
        with Watcher(hints()) as watcher:
            await watch(watcher, root)
            with trio.move_on_after(0):
                await watcher.receive()

    await once()
    before = descriptors()
    for _ in range(100):
        await once()
    assert descriptors() == before


# ---- everything at once --------------------------------------------------------------------------


class Mirror:
    """What somebody knows of a tree who does what the watcher says, and reads what it names."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | None] = {}

    def follow(self, change: Change) -> None:
        match change:
            case FileFound(path) | FileCreated(path):
                assert path not in self.files
                self.read(path)
            case FileModified(path):
                assert path in self.files
                self.read(path)
            case FileDeleted(path):
                del self.files[path]
            case FileMoved(src_path=src, dest_path=dest):
                assert dest not in self.files
                self.files[dest] = self.files.pop(src)
            case DirectoryMoved(src_path=src, dest_path=dest):
                for path in [path for path in self.files if path.startswith(f"{src}/")]:
                    self.files[dest + path[len(src) :]] = self.files.pop(path)
            case DirectoryDeleted(path):
                assert not any(other.startswith(f"{path}/") for other in self.files)
            case _:
                raise AssertionError(change)

    def read(self, path: str) -> None:
        try:
            self.files[path] = Path(path).read_bytes()
        except OSError:
            self.files[path] = None  # gone or moved already, which will be said


def act_at_random(roots: list[Path], *, seed: int, steps: int) -> None:
    """Make, write, move, replace and delete files and directories, whether or not they are there."""
    chance = random.Random(seed)

    def somewhere() -> Path:
        names = [chance.choice("abc") for _ in range(chance.randint(1, 4))]
        return chance.choice(roots).joinpath(*names)

    actions: list[Callable[[Path, Path], object]] = [
        lambda path, _: path.mkdir(parents=True),
        lambda path, _: path.write_bytes(chance.randbytes(chance.randint(0, 3))),
        lambda path, _: path.write_bytes(chance.randbytes(2)),
        lambda path, _: (path.mkdir(parents=True), (path / "a").write_bytes(b"new")),
        lambda path, other: path.replace(other),
        lambda path, other: path.replace(other),
        lambda path, other: path in other.parents or shutil.copytree(path, other),
        lambda path, _: path.unlink(),
        lambda path, _: shutil.rmtree(path),
    ]
    for _ in range(steps):
        with contextlib.suppress(OSError, shutil.Error):
            chance.choice(actions)(somewhere(), somewhere())


def files_below(roots: list[Path]) -> dict[str, bytes]:
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("seed", range(3))
async def test_a_mirror_of_restless_trees(watcher: Watcher, root: Path, seed: int) -> None:
    """Whoever follows what is said of two trees in upheaval ends up with what is there."""
    mirror = Mirror()
    roots = [root / "one", root / "two"]
    for directory in roots:
        directory.mkdir()
        await watch(watcher, directory)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:

            async def act() -> None:
                await trio.to_thread.run_sync(
                    partial(act_at_random, roots, seed=seed, steps=3000)
                )
                (roots[0] / "end").touch()

            nursery.start_soon(act)
            while str(roots[0] / "end") not in mirror.files:
                mirror.follow(await watcher.receive())
        there = files_below(roots)
        while mirror.files != there:
            mirror.follow(await watcher.receive())
    await hears_nothing(watcher)
