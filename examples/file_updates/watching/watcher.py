"""Directories watched, and what happens in them told in order to one listener.

The watcher has no task of its own: all its work is done inside :meth:`Watcher.receive`, by whoever
listens, so it never runs ahead of its listener. What happens meanwhile waits in the source of hints
(the kernel's queue, which is bounded), and if that overflows, the trees are read anew. A cancelled
listener leaves nothing half done: a look that was cut short is made good by looking everywhere.

One round: wait for a hint, look at what it names (in a thread: disks can be slow), compare it with
what was known, tell the difference.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import trio

from ..changes import (
    Change,
    DirectoryProcessingCompleted,
    DirectoryProcessingStarted,
    WatchAdded,
    WatchFailed,
    WatchRemoved,
    WatchStarted,
)
from .hints import Hint, Hints, Polling
from .tree import Tree, Watch, look

POLL_SECONDS = 2.0
"""Where the kernel gives no hints: 10,000 files cost a thread about 0.2 s in each round."""

T = TypeVar("T")


class WatchError(Exception):
    """The list of watches could not be changed as asked. Nothing was changed.

    Attributes:
        path: The directory in question.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class NotWatchable(WatchError):
    """What was to be watched is not there, is no directory, or cannot be read."""


class NotWatched(WatchError):
    """The directory is not on the list."""


class AlreadyWatched(WatchError):
    """The directory is watched, or is inside of one that is, or has one inside that is.

    Attributes:
        other: The watched directory that is in the way.
    """

    def __init__(self, path: str, message: str, other: str) -> None:
        super().__init__(path, message)
        self.other = other


def open_watcher(*, poll_interval: float | None = None) -> Watcher:
    """Give a watcher with an empty list, to be used in a ``with``.

    Args:
        poll_interval: Seconds between two looks at everything. None has the kernel say where to
            look if it can (Linux), and is :data:`POLL_SECONDS` elsewhere.

    Raises:
        ValueError: A negative interval.
        OSError: The system can give no more inotify instances.
    """
    if poll_interval is not None and not poll_interval >= 0:
        raise ValueError(f"poll_interval is seconds, 0 or more, not {poll_interval!r}")
    if poll_interval is None and sys.platform == "linux":
        from .inotify import Inotify  # noqa: PLC0415 # it can be imported on Linux only

        return Watcher(Inotify())
    return Watcher(Polling(interval=POLL_SECONDS if poll_interval is None else poll_interval))


class Watcher(trio.abc.ReceiveChannel[Change]):
    """A list of watched directories, and the channel of what happens in them.

    Any task may change the list; one at a time may receive. What is said of a watch: added,
    started, processing started, the files found, processing completed, then changes, and at last
    that it was removed or has failed. A move from one watch to another is a move. What came to
    nothing between two looks, such as a temporary file, is not said.
    """

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._trees: dict[str, Tree] = {}
        self._orders: deque[Callable[[], None]] = deque()  # changes of the list, to be told
        self._unread: list[Tree] = []  # announced, and not looked at yet
        self._watched: list[Tree] = []
        self._ready: deque[Change] = deque()
        self._missed = False  # a hint was taken, and not looked at
        self._receiving = False
        self._in_thread = False
        self._closed = False
        self._idle = trio.CancelScope()  # of the task that waits for hints
        # Of its own, so that a disk that hangs holds up nobody else; and looks never overlap.
        self._limiter = trio.CapacityLimiter(1)

    @property
    def mechanism(self) -> str:
        """What says where to look: ``"inotify"`` or ``"polling"``."""
        return self._hints.name

    @property
    def watches(self) -> list[Watch]:
        """The list, oldest first."""
        return [tree.watch for tree in self._trees.values()]

    async def add(self, directory: str | os.PathLike[str], *, recursive: bool = True) -> Watch:
        """Put a directory on the list. The rest of it happens while changes are received.

        Args:
            directory: Its path; links in it are resolved.
            recursive: Whether to watch all directories below too. Links are not followed.

        Raises:
            NotWatchable: It is not there, is no directory, or cannot be read.
            AlreadyWatched: It would be watched twice, in whole or in part.
            trio.ClosedResourceError: The watcher was closed.

        Cancellation: the list is as it was.
        """
        path = await trio.to_thread.run_sync(_real_directory, directory, abandon_on_cancel=True)
        if self._closed:
            raise trio.ClosedResourceError
        watch = Watch(path, recursive=recursive)
        for other in self.watches:
            if path == other.path:
                message = f"Directory {path!r} is already being watched"
            elif other.lists(path):
                message = f"Directory {path!r} is already being watched as a part of {other.path!r}"
            elif watch.lists(other.path):
                message = f"Directory {path!r} contains {other.path!r}, which is being watched"
            else:
                continue
            raise AlreadyWatched(path, message, other.path)
        tree = self._trees[path] = Tree(watch)
        self._order(partial(self._announce, tree))
        return watch

    def remove(self, path: str) -> None:
        """Take a directory off the list, at once. What is ready to be received still comes.

        Args:
            path: As :attr:`watches` has it. It need not exist any more.

        Raises:
            NotWatched: It is not on the list.
        """
        if path not in self._trees:
            raise NotWatched(path, f"Directory {path!r} is not being watched")
        tree = self._trees.pop(path)
        self._order(partial(self._dismiss, tree, WatchRemoved(path)))

    async def receive(self) -> Change:
        """Wait for the next change.

        Raises:
            trio.BusyResourceError: Another task is receiving.
            trio.ClosedResourceError: The watcher was closed, before or meanwhile.

        Cancellation: no change is lost. A look that was under way is begun anew by the next call,
        and then looks everywhere.
        """
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this watcher")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while not self._closed:
                while self._orders and not self._ready:
                    self._orders.popleft()()
                if self._ready:
                    return self._ready.popleft()
                if self._unread:
                    await self._look_first(self._unread[0])
                elif self._missed:
                    await self._look(Hint(everywhere=True))
                else:
                    with trio.CancelScope() as self._idle:
                        await self._hints.wait()
                    if not self._idle.cancelled_caught and (hint := self._hints.take()) is not None:
                        await self._look(hint)
            raise trio.ClosedResourceError
        finally:
            self._receiving = False

    async def receive_some(self, most: int) -> list[Change]:
        """Wait for the next change, and give it with those that are ready behind it.

        Args:
            most: How many to give at most, 1 or more.

        Raises:
            trio.BusyResourceError, trio.ClosedResourceError: As :meth:`receive`.

        Cancellation: no change is lost.
        """
        changes = [await self.receive()]
        while self._ready and len(changes) < most:
            changes.append(self._ready.popleft())
        return changes

    def close(self) -> None:
        """Watch nothing any more; again is no harm."""
        self._closed = True
        self._idle.cancel()
        if not self._in_thread:
            self._hints.close()

    async def aclose(self) -> None:
        """Close. Cancellation: it is closed all the same."""
        self.close()
        await trio.lowlevel.checkpoint()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        self._idle.cancel()

    def _announce(self, tree: Tree) -> None:
        path, recursive = tree.watch.path, tree.watch.recursive
        self._ready.append(WatchAdded(path))
        self._ready.append(WatchStarted(path, recursive=recursive))
        self._ready.append(DirectoryProcessingStarted(path))
        self._unread.append(tree)

    def _dismiss(self, tree: Tree, last: WatchRemoved | WatchFailed) -> None:
        for trees in (self._unread, self._watched):
            if tree in trees:
                trees.remove(tree)
        self._hints.forget([path for path in self._hints.directories() if tree.watch.lists(path)])
        self._ready.append(last)

    def _fail(self, tree: Tree, error: OSError) -> None:
        path = tree.watch.path
        if self._trees.get(path) is tree:
            del self._trees[path]
            message = f"Directory {path!r} is no longer being watched: {error.strerror}"
            self._dismiss(tree, WatchFailed(path, message=message))

    async def _look_first(self, tree: Tree) -> None:  # noqa: ASYNC910 # the thread is waited for
        read = partial(tree.first_look, watch=self._hints.watch, check=self._check)
        try:
            tree.known, files = await self._run_in_thread(read)
        except OSError as error:
            self._fail(tree, error)
        else:
            self._unread.remove(tree)
            self._watched.append(tree)
            self._ready.extend(files)
            self._ready.append(DirectoryProcessingCompleted(tree.watch.path))

    async def _look(self, hint: Hint) -> None:
        self._missed = True
        sight = await self._run_in_thread(
            partial(look, self._watched, hint, watch=self._hints.watch, check=self._check)
        )
        self._missed = False
        self._ready.extend(sight.changes)
        for tree, news in sight.news.items():
            tree.known.replace(news.gone, news.come)
            self._hints.forget(news.gone_directories)
        for tree, error in sight.failures.items():
            self._fail(tree, error)

    async def _run_in_thread(self, function: Callable[[], T]) -> T:
        self._in_thread = True
        try:
            return await trio.to_thread.run_sync(
                function, abandon_on_cancel=self._hints.may_outlive, limiter=self._limiter
            )
        finally:
            self._in_thread = False
            if self._closed:
                self._hints.close()

    def _check(self) -> None:
        """Stop a look, in its thread, that nobody waits for any more."""
        trio.from_thread.check_cancelled()
        if self._closed:
            raise trio.ClosedResourceError


def _real_directory(directory: str | os.PathLike[str]) -> str:
    """Give the absolute path, without links, of a directory that can be read."""
    name = os.fspath(directory)
    try:
        if not name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        path = os.path.realpath(name, strict=True)
        os.scandir(path).close()
        os.lstat(os.path.join(path, os.curdir))  # what is in it can be looked at, too
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise NotWatchable(name, f"Directory {name!r} cannot be watched: {reason}") from error
    return path
