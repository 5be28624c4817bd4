"""What a tree looks like: entries by path, read from the disk or remembered.

- Only regular files and directories are entries. Links, pipes, sockets and devices are not: who
  opens what was announced shall not be led out of the tree, nor wait at a pipe for ever.
- A directory that may not be read has an entry and nothing below it.
- A directory is watched before it is listed, so that what comes later is either in the list or in
  the hints, and never in neither.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import attrs

EXHAUSTED = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing of a directory, but that the system can give no more (inotify says of its
watches that no space is left): taken for "cannot be read", they would delete what is there."""

VANISHED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors of a directory that is no longer one: whatever took its place is told of in its turn."""


MTIME_STEP_NS = 10_000_000
"""Nanoseconds by which the time of a file moves on, at most: Linux takes it from a clock that ticks
between 100 and 1,000 times a second."""


@attrs.frozen
class Entry:
    """One file or directory as ``lstat`` shows it.

    ``is_fresh``: a file was written so shortly before this look that a write after it may have
    left the same time. So an equal stamp says nothing at the next look.
    """

    mode: int
    dev: int
    ino: int
    size: int
    mtime_ns: int
    is_fresh: bool = False

    @property
    def is_dir(self) -> bool:
        """Whether this is a directory; if not, it is a regular file."""
        return stat.S_ISDIR(self.mode)

    @property
    def place(self) -> tuple[int, int]:
        """What a rename keeps. The number of what was deleted is given to something new at once."""
        return self.dev, self.ino

    @property
    def access(self) -> tuple[int, int, int]:
        """What must be the same for what is known below a directory to hold good."""
        return self.dev, self.ino, self.mode

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        """What a rename keeps and a write does not."""
        return self.dev, self.ino, self.size, self.mtime_ns


Snapshot = Mapping[str, Entry]
"""Entries by absolute path."""


def entry_of(path: str) -> Entry | None:
    """What is at ``path``; None if it is nothing, nothing that counts, or out of reach."""
    now = time.time_ns()
    try:
        # Not DirEntry.stat(), which leaves out the inode on Windows and costs the same elsewhere.
        found = os.lstat(path)
    except OSError:
        return None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return None
    is_fresh = stat.S_ISREG(found.st_mode) and abs(now - found.st_mtime_ns) <= MTIME_STEP_NS
    return Entry(
        found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, is_fresh
    )


def is_inside(path: str, directory: str) -> bool:
    """Whether ``path`` is somewhere below ``directory``, by name."""
    return path != directory and path.startswith(os.path.join(directory, ""))


def walk(
    top: str,
    *,
    recursive: bool,
    required: bool,
    watch: Callable[[str], None],
    check: Callable[[], None],
) -> tuple[dict[str, Entry], dict[str, OSError]]:
    """Read what is below a directory, in a thread.

    Args:
        top: The directory to begin with.
        recursive: Whether to go below the first level.
        required: Whether it is an error if ``top`` itself cannot be listed.
        watch: Called with each directory before it is listed.
        check: Called for each entry, to raise if nobody waits for the result any more.

    Returns:
        The entries below ``top``, and the directories that are there but cannot be listed.

    Raises:
        OSError: The system can give no more (:data:`EXHAUSTED`), or ``top`` was required.
    """
    found: dict[str, Entry] = {}
    unreadable: dict[str, OSError] = {}
    ahead = [top]
    while ahead:
        directory = ahead.pop()
        try:
            watch(directory)
            with os.scandir(directory) as listing:
                for item in listing:
                    check()
                    entry = entry_of(item.path)
                    if entry is None:
                        continue
                    found[item.path] = entry
                    if entry.is_dir and recursive:
                        ahead.append(item.path)
        except OSError as error:
            if error.errno in EXHAUSTED or (required and directory == top):
                raise
            if error.errno not in VANISHED:
                unreadable[directory] = error
    return found, unreadable


def let_settle(found: dict[str, Entry]) -> None:
    """Wait for the files that are fresh to be so no longer, and look at them again, in a thread.

    One that is still being written stays fresh. What is no longer a file will be hinted at.
    """
    fresh = [path for path, entry in found.items() if entry.is_fresh]
    if fresh:
        time.sleep(MTIME_STEP_NS / 1e9)
    for path in fresh:
        entry = entry_of(path)
        if entry is not None and not entry.is_dir:
            found[path] = entry


class Index:
    """A snapshot that is kept up to date: entries by path, and what each directory holds."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._children: defaultdict[str, set[str]] = defaultdict(set)

    def get(self, path: str) -> Entry | None:
        """The entry at ``path``, if one is known."""
        return self._entries.get(path)

    def subtree(self, path: str) -> dict[str, Entry]:
        """What is known at ``path`` and below."""
        known: dict[str, Entry] = {}
        ahead = [path]
        while ahead:
            path = ahead.pop()
            if (entry := self._entries.get(path)) is not None:
                known[path] = entry
            ahead += self._children.get(path, ())
        return known

    def replace(self, gone: Iterable[str], come: Snapshot) -> None:
        """Forget the paths ``gone``, then remember ``come``."""
        for path in gone:
            del self._entries[path]
            parent = os.path.dirname(path)
            self._children[parent].discard(path)
            if not self._children[parent]:
                del self._children[parent]
        for path, entry in come.items():
            self._entries[path] = entry
            self._children[os.path.dirname(path)].add(path)
