"""Where a watcher is told to look: what inotify says, what is made of it, and what it holds."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from examples.file_updates.changes import (
    DirectoryMoved,
    FileCreated,
    FileDeleted,
    FileModified,
    FileMoved,
    WatchFailed,
    WatchRemoved,
)
from examples.file_updates.watching import Watcher, open_watcher
from examples.file_updates.watching.hints import Hint, Polling

from .listening import SECONDS, hears, hears_nothing, receive, watch

if sys.platform != "linux":
    pytest.skip("inotify is of Linux", allow_module_level=True)

import inotify_simple  # type: ignore[import-untyped] # it ships no types

from examples.file_updates.watching.inotify import Inotify


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "root"
    path.mkdir()
    return path


@pytest.fixture
async def hints(root: Path) -> AsyncIterator[Inotify]:
    """Hints from one directory, with times that never pass in a test."""
    hints = Inotify(settle=0, open_file=1000, check=1000)
    hints.watch(str(root))
    yield hints
    hints.close()


@pytest.fixture
async def watcher() -> AsyncIterator[Watcher]:
    with Watcher(Inotify(settle=0.001, open_file=0.05, check=0.05)) as watcher:
        yield watcher


def kernel_watches() -> int:
    """Count the watches that the kernel keeps for this process."""
    found = 0
    for descriptor in Path("/proc/self/fdinfo").iterdir():
        try:
            found += descriptor.read_text().count("inotify wd:")
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


# ---- which is used -------------------------------------------------------------------------------


async def test_the_kernel_is_asked_unless_an_interval_is_given() -> None:
    """On Linux the default is inotify; an interval means polling, whatever it is."""
    with open_watcher() as watcher:
        assert watcher.mechanism == "inotify"
    for interval in (0, 0.5):
        with open_watcher(poll_interval=interval) as watcher:
            assert watcher.mechanism == "polling"


async def test_elsewhere_the_default_is_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no inotify, everything is read every two seconds."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with open_watcher() as watcher:
        assert watcher.mechanism == "polling"


@pytest.mark.parametrize("interval", [-1, float("nan")])
def test_an_interval_is_not_negative(interval: float) -> None:
    """Anything else is refused with the value."""
    with pytest.raises(ValueError, match=str(interval)):
        open_watcher(poll_interval=interval)


async def test_polling_waits_for_its_interval(autojump_clock: trio.testing.MockClock) -> None:
    """It hints at everything once per interval, and can be cancelled meanwhile."""
    polling = Polling(interval=2.5)
    began = trio.current_time()
    await polling.wait()
    assert trio.current_time() - began == 2.5
    assert polling.take() == Hint(everywhere=True)
    with trio.move_on_after(1) as scope:
        await polling.wait()
    assert scope.cancelled_caught


# ---- what is hinted at ---------------------------------------------------------------------------


async def test_a_written_file_is_hinted_at_when_it_is_closed(hints: Inotify, root: Path) -> None:
    """Not when it is created, not when it is written, and once for all of it."""
    with (root / "x").open("w") as file:
        assert hints.take() is None
        file.write("1")
        file.flush()
        assert hints.take() is None
    assert hints.take() == Hint(paths={str(root / "x"): False})
    assert hints.take() is None


async def test_a_file_that_stays_open_is_hinted_at_in_time(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    """It waits for its close no longer than it was told, counted from the first write."""
    hints = Inotify(settle=0, open_file=1, check=1000)
    hints.watch(str(root))
    with (root / "x").open("w"):
        assert hints.take() is None
        mock_clock.jump(0.75)
        (root / "y").touch()
        assert hints.take() == Hint(paths={str(root / "y"): False})
        mock_clock.jump(0.25)
        assert hints.take() == Hint(paths={str(root / "x"): False})
        mock_clock.jump(5)
        assert hints.take() is None
    hints.close()


async def test_the_roots_are_looked_at_when_nothing_happens(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    """Every so often there is a hint at nothing, which the roots are part of."""
    hints = Inotify(settle=0, check=5)
    assert hints.take() is None
    mock_clock.jump(5)
    assert hints.take() == Hint()
    assert hints.take() is None
    hints.close()


async def test_renames_are_hinted_at_as_pairs(hints: Inotify, root: Path) -> None:
    """From the first name to the last, unless something else has come under that name."""
    a, b, c = (str(root / name) for name in "abc")
    (root / "a").touch()
    hints.take()
    os.rename(a, b)
    os.rename(b, c)
    hint = hints.take()
    assert hint == Hint(paths={a: False, b: False, c: False}, renamed={c: a})
    os.rename(c, a)
    os.unlink(a)
    Path(a).touch()
    hint = hints.take()
    assert hint is not None
    assert hint.renamed == {}


async def test_a_new_directory_has_to_be_read(hints: Inotify, root: Path) -> None:
    """Made or moved in; and not if only its permissions changed."""
    (root / "d").mkdir()
    assert hints.take() == Hint(paths={str(root / "d"): True})
    (root / "d").chmod(0o700)
    assert hints.take() == Hint(paths={str(root / "d"): False})
    (root / "d").rename(root / "e")
    assert hints.take() == Hint(
        paths={str(root / "d"): False, str(root / "e"): True},
        renamed={str(root / "e"): str(root / "d")},
    )


async def test_half_a_rename_waits_for_its_other_half(
    hints: Inotify, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename whose halves are read one after the other is one all the same."""
    a, b = str(root / "a"), str(root / "b")
    (root / "a").touch()
    hints.take()
    os.rename(a, b)
    queue = deque(hints._inotify.read(timeout=0))  # noqa: SLF001 # the kernel tears nothing on demand
    monkeypatch.setattr(hints._inotify, "read", lambda timeout: [queue.popleft()] if queue else [])  # noqa: SLF001 # what the kernel says is made up
    assert hints.take() is None
    assert hints.take() == Hint(paths={a: False, b: False}, renamed={b: a})


async def test_half_a_rename_waits_no_longer_than_a_round(hints: Inotify, root: Path) -> None:
    """What was moved to where nobody watches is hinted at in the next round, without an event."""
    (root / "x").touch()
    hints.take()
    (root / "x").rename(root.parent / "x")
    assert hints.take() is None
    with trio.fail_after(SECONDS):
        await hints.wait()
    assert hints.take() == Hint(paths={str(root / "x"): False})


# ---- what comes of it ----------------------------------------------------------------------------


async def test_a_file_is_renamed_and_written_before_anybody_looks(
    watcher: Watcher, root: Path
) -> None:
    """The rename was seen, so that it is a move and a modification."""
    (root / "a").write_text("1")
    await watch(watcher, root)
    (root / "a").rename(root / "b")
    (root / "b").write_text("22")
    await hears(
        watcher,
        FileMoved(src_path=str(root / "a"), dest_path=str(root / "b")),
        FileModified(str(root / "b")),
    )


async def test_an_empty_directory_is_renamed_and_written_in_before_anybody_looks(
    watcher: Watcher, root: Path
) -> None:
    """The rename was seen, so that it is a move though nothing in the directory shows it."""
    (root / "d").mkdir()
    await watch(watcher, root)
    (root / "d").rename(root / "e")
    (root / "e" / "x").touch()
    await hears(
        watcher,
        DirectoryMoved(src_path=str(root / "d"), dest_path=str(root / "e")),
        FileCreated(str(root / "e" / "x")),
    )


async def test_the_queue_of_the_kernel_overflows(watcher: Watcher, root: Path) -> None:
    """What happened in the part that was lost is told, and the new directories are watched."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for name in ("a", "b"):
        (root / name).touch()
    (root / "old" / "below").mkdir(parents=True)
    await watch(watcher, root)
    for number in range(limit // 2 + 1):  # of equal events in a row the kernel keeps one
        os.utime(root / "a", (number, number))
        os.utime(root / "b", (number, number))
    (root / "new").mkdir()
    (root / "new" / "x").touch()
    (root / "old").rename(root / "moved")
    await hears(
        watcher,
        DirectoryMoved(src_path=str(root / "old"), dest_path=str(root / "moved")),
        FileModified(str(root / "a")),
        FileModified(str(root / "b")),
        FileCreated(str(root / "new" / "x")),
    )
    (root / "new" / "y").touch()
    (root / "moved" / "below" / "z").touch()
    await hears(
        watcher,
        FileCreated(str(root / "moved" / "below" / "z")),
        FileCreated(str(root / "new" / "y")),
    )


@pytest.mark.parametrize("when", ["first look", "later"])
async def test_no_watches_are_left(
    watcher: Watcher, root: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The watch fails and names the limit; it gives back what it had, and others go on."""
    other = root.parent / "other"
    other.mkdir()
    await watch(watcher, other)
    before = kernel_watches()
    add_watch = inotify_simple.INotify.add_watch

    def limited(self: object, path: str, mask: int) -> int:
        if kernel_watches() >= before + 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        watch: int = add_watch(self, path, mask)
        return watch

    if when == "later":
        await watch(watcher, root)
    else:
        await watcher.add(root)
        await receive(watcher, 3)
    (root / "a" / "b" / "c" / "d").mkdir(parents=True)
    monkeypatch.setattr(inotify_simple.INotify, "add_watch", limited)
    (change,) = await receive(watcher, 1)
    assert isinstance(change, WatchFailed)
    assert "fs.inotify.max_user_watches" in change.message
    assert kernel_watches() == before
    await hears_nothing(watcher)


async def test_watches_are_given_back(watcher: Watcher, root: Path) -> None:
    """Of directories that are deleted, moved out, replaced, or of a watch that is removed."""
    other = root.parent / "other"
    other.mkdir()
    await watch(watcher, other)
    before = kernel_watches()
    for name in ("a", "b", "c"):
        (root / name / "below").mkdir(parents=True)
    await watch(watcher, root)
    assert kernel_watches() == before + 7
    shutil.rmtree(root / "a")
    (root / "b").rename(root.parent / "b")
    (root / "c").rename(root.parent / "c")
    (root / "c").mkdir()
    said = await receive(watcher, 5)
    assert len(said) == 5
    await hears_nothing(watcher)
    assert kernel_watches() == before + 2
    watcher.remove(str(root))
    await hears(watcher, WatchRemoved(str(root)))
    assert kernel_watches() == before


async def test_every_event_comes_late_and_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far the hints are behind what is there, what is told leads to what is there."""
    queue: deque[inotify_simple.Event] = deque()
    read = inotify_simple.INotify.read

    def read_one(self: object, timeout: int) -> list[inotify_simple.Event]:
        queue.extend(read(self, timeout=timeout))
        return [queue.popleft()] if queue else []

    monkeypatch.setattr(inotify_simple.INotify, "read", read_one)
    with Watcher(Inotify(settle=0, open_file=0, check=0)) as watcher:
        await watch(watcher, root)
        (root / "a" / "b").mkdir(parents=True)
        (root / "a" / "b" / "x").write_text("1")
        (root / "a").rename(root / "c")
        (root / "c" / "b").rename(root / "b")
        (root / "c" / "b").mkdir()
        (root / "c" / "b" / "y").write_text("2")
        (root / "b" / "x").rename(root / "c" / "b" / "z")
        (root / "b").rmdir()
        known: set[str] = set()
        with trio.fail_after(SECONDS):
            while True:
                match await watcher.receive():
                    case FileCreated(path):
                        assert path not in known
                        known.add(path)
                    case FileDeleted(path):
                        known.remove(path)
                    case FileMoved(src_path=src, dest_path=dest):
                        known.remove(src)
                        known.add(dest)
                    case change:
                        raise AssertionError(change)
                if known == {str(root / "c" / "b" / name) for name in "yz"}:
                    break
        await hears_nothing(watcher)


# ---- the descriptor ------------------------------------------------------------------------------


async def test_waiting_is_woken_by_an_event_and_by_closing(hints: Inotify, root: Path) -> None:
    """An event ends the wait; a close ends it with an error; a cancelled wait loses nothing."""
    with trio.move_on_after(0):
        await hints.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hints.wait)
        await trio.testing.wait_all_tasks_blocked()
        (root / "x").touch()
    assert hints.take() == Hint(paths={str(root / "x"): False})

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await hints.wait()

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            hints.close()
            hints.close()


async def test_a_descriptor_is_closed_once(root: Path) -> None:
    """Closed again, it leaves alone whoever has its number by then."""
    hints = Inotify()
    number = hints._inotify.fileno()  # noqa: SLF001 # numbers are what this is about
    hints.close()
    with (root / "x").open("w") as file:
        assert file.fileno() == number
        hints.close()
        file.write("still open")


async def test_no_more_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the system gives no more is an error of opening, and not a reason to poll untold."""

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(inotify_simple, "INotify", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        open_watcher()
