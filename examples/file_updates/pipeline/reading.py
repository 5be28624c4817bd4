"""Reading a file that may be replaced by anything while it is read.

Nothing is followed: each part of the path is opened by itself and must not be a link, so that what
is read is inside of the directory that was named, and not what somebody has it point to. Pipes and
devices are not files, and are not waited for.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

MAX_FILE_BYTES: Final = 5 * 2**20  # text of this size fills a thousand pages
# Nanoseconds. Times of files come from a clock that ticks 100 to 1,000 times a second: one written
# just before it is looked at may be written again without a change of its time.
TICK_NS: Final = 20_000_000

_DIRECTORY: Final = os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_PATH", os.O_RDONLY)
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


# Nothing is there; a file is where a directory was; a link; a socket.
_ABSENT: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO))


class NotAFile(Exception):
    """There is no regular file at the path, or a link on the way."""


@attrs.frozen(kw_only=True)
class Stamp:
    """What tells one content of a file from another, as far as can be told without reading it.

    Attributes:
        place: Device and inode.
        size: In bytes.
        mtime_ns: When it was written, in nanoseconds.
        is_fresh: That was so shortly before the look that the time says nothing.
    """

    place: str
    size: int
    mtime_ns: int
    is_fresh: bool

    def is_surely(self, other: Stamp) -> bool:
        """Whether the content is surely the same."""
        return not self.is_fresh and attrs.evolve(other, is_fresh=False) == self


def look(path: str) -> Stamp:
    """Return the stamp of the file at a path.

    Raises:
        NotAFile: There is none.
        OSError: It cannot be looked at.
    """
    with _opened_directory(os.path.dirname(path)) as directory:
        try:
            found = os.stat(os.path.basename(path), dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            raise _not_a_file(path, error) from None
    return _stamp(path, found)


def read(path: str) -> tuple[bytes, Stamp]:
    """Return what is in a file, and its stamp from before it was read.

    Raises:
        NotAFile: There is none.
        ValueError: It has grown above :data:`MAX_FILE_BYTES`.
        OSError: It cannot be read.
    """
    with _opened_directory(os.path.dirname(path)) as directory:
        try:
            descriptor = os.open(os.path.basename(path), _FILE, dir_fd=directory)
        except OSError as error:
            raise _not_a_file(path, error) from None
    try:
        stamp = _stamp(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
    return content, stamp


@contextmanager
def _opened_directory(path: str) -> Iterator[int]:
    descriptor = os.open("/", _DIRECTORY)
    try:
        for name in filter(None, path.split("/")):
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=descriptor)
            except OSError as error:
                raise _not_a_file(path, error) from None
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _not_a_file(path: str, error: OSError) -> Exception:
    return NotAFile(path) if error.errno in _ABSENT else error


def _stamp(path: str, found: os.stat_result) -> Stamp:
    if not stat.S_ISREG(found.st_mode):
        raise NotAFile(path)
    return Stamp(
        place=f"{found.st_dev}:{found.st_ino}",
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        is_fresh=abs(time.time_ns() - found.st_mtime_ns) < TICK_NS,
    )
