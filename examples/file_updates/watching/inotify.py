"""Hints from Linux: one inotify descriptor, one watch for each directory.

- A watch belongs to an inode and follows it through renames; its path here is the one under which
  the directory was last watched. A rename is hinted at by the parents as a directory that may be
  new, and reading it watches every directory below under its new path.
- A file that is being written is looked at when it is closed, or after a second if it stays open: a
  thousand writes are one hint, and a created file is complete when it is announced, as a rule.
- The two halves of a rename are paired by their cookie. A first half without its second waits for
  it one round longer, so that a move is not torn apart by a read that came between.
- When the kernel's queue has overflowed, the hint is "everywhere".
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Collection, Iterable
from typing import ClassVar

import inotify_simple  # type: ignore[import-untyped] # it ships no types
import trio
from inotify_simple import flags

from .hints import Hint

SETTLE_SECONDS = 0.1
"""How long hints gather before a look: a person calls it "at once", and an editor's save, an
unpacked archive or a build are told as what they came to, not as every step."""

OPEN_FILE_SECONDS = 1.0
"""How long a file that is being written waits for its close: a log that is never closed is
announced about once a second."""

CHECK_SECONDS = 5.0
"""How often the roots are looked at without any hint: nobody says so when a directory *above* a
root is renamed."""

MASK = (
    flags.CREATE
    | flags.DELETE
    | flags.MODIFY
    | flags.CLOSE_WRITE
    | flags.ATTRIB  # the time of a file set; a directory made readable
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
    | flags.DONT_FOLLOW
    | flags.EXCL_UNLINK
)
BEING_WRITTEN = flags.CREATE | flags.MODIFY | flags.ATTRIB


class Inotify:
    """Hints from the kernel. Opens the descriptor, and closes it in :meth:`close`.

    Args:
        settle: Seconds for which hints gather before a look.
        open_file: Seconds that a file being written waits for its close.
        check: Seconds between looks at the roots when nothing happens.

    Raises:
        OSError: The system can give no more inotify instances (``fs.inotify.max_user_instances``).
    """

    name: ClassVar[str] = "inotify"
    # A thread left behind would add its watches to whatever has the descriptor's number by then.
    may_outlive: ClassVar[bool] = False

    def __init__(
        self,
        *,
        settle: float = SETTLE_SECONDS,
        open_file: float = OPEN_FILE_SECONDS,
        check: float = CHECK_SECONDS,
    ) -> None:
        self._settle = settle
        self._open_file = open_file
        self._check = check
        self._check_due = trio.current_time() + check
        self._inotify = inotify_simple.INotify(nonblocking=True)
        self._paths: dict[int, str] = {}  # by watch descriptor
        self._watches: dict[str, int] = {}
        self._departed: dict[int, str] = {}  # first halves of renames, by cookie
        self._being_written: set[str] = set()
        self._written_due = math.inf

    async def wait(self) -> None:
        """Wait for an event of the kernel or the next date, then for as long as hints gather.

        Cancellation: loses nothing; what came is kept by the kernel.
        """
        due = -math.inf if self._departed else min(self._written_due, self._check_due)
        with trio.move_on_at(due):
            await trio.lowlevel.wait_readable(self._inotify)
        await trio.sleep(self._settle)

    def take(self) -> Hint | None:
        """Read all that the kernel has."""
        paths: dict[str, bool] = {}
        renamed: dict[str, str] = {}
        everywhere = False
        overdue = list(self._departed)

        def look(path: str, *, new_directory: bool = False) -> None:
            paths[path] = paths.get(path, False) or new_directory
            self._being_written.discard(path)

        for watch, mask, cookie, name in self._inotify.read(timeout=0):
            directory = self._paths.get(watch)
            if mask & flags.Q_OVERFLOW:
                everywhere = True
            elif directory is None:
                continue  # forgotten while this was in the queue
            elif mask & flags.IGNORED:
                del self._paths[watch]  # the kernel has let go of it
                self._watches.pop(directory, None)
            elif not name:
                look(directory)
            else:
                path = os.path.join(directory, name)
                is_dir = bool(mask & flags.ISDIR)
                if mask & (flags.CREATE | flags.DELETE | flags.MOVED_TO):
                    renamed.pop(path, None)  # whatever it was, it is something else now
                if mask & flags.MOVED_FROM:
                    self._departed[cookie] = path
                elif mask & flags.MOVED_TO:
                    look(path, new_directory=is_dir)
                    if (src := self._departed.pop(cookie, None)) is not None:
                        look(src)
                        renamed[path] = renamed.pop(src, src)
                elif is_dir or not mask & BEING_WRITTEN:
                    look(path, new_directory=is_dir and bool(mask & flags.CREATE))
                elif path not in paths:
                    self._being_written.add(path)
        for cookie in overdue:
            if (src := self._departed.pop(cookie, None)) is not None:
                look(src)

        now = trio.current_time()
        if not self._being_written:
            self._written_due = math.inf
        elif self._written_due == math.inf:
            self._written_due = now + self._open_file
        elif self._written_due <= now:
            paths |= dict.fromkeys(self._being_written, False)
            self._being_written.clear()
            self._written_due = math.inf
        if not (paths or everywhere or self._check_due <= now):
            return None
        self._check_due = now + self._check
        return Hint(paths=paths, renamed=renamed, everywhere=everywhere)

    def watch(self, directory: str) -> None:
        """Watch a directory under this path, or go on to watch it."""
        try:
            watch = self._inotify.add_watch(directory, MASK)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                message = "no inotify watches are left (fs.inotify.max_user_watches)"
                raise OSError(errno.ENOSPC, message, directory) from None
            raise
        if self._watches.get(directory, watch) != watch:
            self.forget([directory])  # another one had this path
        self._paths[watch] = directory
        self._watches[directory] = watch

    def directories(self) -> Collection[str]:
        """The directories that are watched."""
        return self._watches.keys()

    def forget(self, directories: Iterable[str]) -> None:
        """Watch these no longer, unless they are watched under another path by now."""
        for directory in directories:
            watch = self._watches.pop(directory, None)
            if watch is not None and self._paths.get(watch) == directory:
                del self._paths[watch]
                with contextlib.suppress(OSError):  # the kernel has let go of it already
                    self._inotify.rm_watch(watch)

    def close(self) -> None:
        """Close the descriptor; a task in :meth:`wait` gets :class:`trio.ClosedResourceError`."""
        if not self._inotify.closed:
            trio.lowlevel.notify_closing(self._inotify)
            self._inotify.close()
