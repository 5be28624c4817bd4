"""A watcher over real directories, with both mechanisms: its list, its failures, its tasks."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from examples.file_updates.changes import (
    Change,
    DirectoryMoved,
    DirectoryProcessingCompleted,
    DirectoryProcessingStarted,
    FileCreated,
    FileDeleted,
    FileFound,
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
from examples.file_updates.watching.hints import Hints

from .listening import SECONDS, hears, hears_nothing, receive, receive_until, watch

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
    await hears(watcher, DirectoryMoved(src_path=str(root / "d"), dest_path=str(root / "f")))


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
            nursery.start_soon(receive_until, watcher, DirectoryProcessingCompleted(str(root)))
            await trio.testing.wait_all_tasks_blocked()
            await watcher.add(root)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_until, watcher, WatchRemoved(str(root)))
            await trio.testing.wait_all_tasks_blocked()
            watcher.remove(str(root))


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
async def test_no_more_open_files(watcher: Watcher, root: Path, later: bool) -> None:  # noqa: FBT001 # a parameter of the test
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


async def test_changes_are_received_several_at_a_time(watcher: Watcher, root: Path) -> None:
    """What is ready comes along, in order and no more than was asked for."""
    for name in "abc":
        (root / name).touch()
    await watcher.add(root)
    await receive(watcher, 3)
    with trio.fail_after(SECONDS):
        assert await watcher.receive_some(2) == [FileFound(str(root / name)) for name in "ab"]
        assert await watcher.receive_some(9) == [
            FileFound(str(root / "c")),
            DirectoryProcessingCompleted(str(root)),
        ]


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


async def test_a_watch_is_removed_while_its_look_fails(
    watcher: Watcher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends once: it was removed."""
    await watcher.add(root)
    await receive(watcher, 3)
    gate = Gate(monkeypatch)
    said: list[Change] = []

    async def listen() -> None:
        said.extend(await receive(watcher, 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await gate.reached.wait()
        watcher.remove(str(root))
        root.rmdir()
        gate.open()
    assert said == [WatchRemoved(str(root))]


async def test_closed_in_the_middle_of_a_look(
    hints: Callable[[], Hints], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread stops, and what it needs is given back only then, exactly once."""
    source = hints()
    closed: list[bool] = []
    monkeypatch.setattr(source, "close", lambda close=source.close: (closed.append(True), close()))  # type: ignore[func-returns-value] # two steps in one
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
