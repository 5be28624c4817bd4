"""What a watcher says: values, and nothing but values.

Every class is named as its event is named in the documented API (``FileMoved`` is ``file_moved``)
and has the fields of that event; :class:`FileFound` and :class:`WatchFailed` are ours. A path is
absolute and begins with the path of its watch. It is ``str`` as Python's file system functions give
it: bytes of a name that are not UTF-8 are lone surrogates (PEP 383), which open the file, but
cannot be encoded as they are.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class WatchAdded:
    """A directory is on the list of watches: the first that is said of it."""

    path: str


@attrs.frozen
class WatchStarted:
    """The watch stands. ``recursive``: so do those of all directories below."""

    path: str
    recursive: bool = attrs.field(kw_only=True)


@attrs.frozen
class WatchRemoved:
    """The directory was taken off the list: the last that is said of it."""

    path: str


@attrs.frozen
class WatchFailed:
    """The watch is over because it could not go on: the last that is said of it.

    The directory is gone, or cannot be read, or the system has no watches left. Nothing is said of
    the files that were known below it: they may be there again with the next mount.
    """

    path: str
    message: str = attrs.field(kw_only=True)


@attrs.frozen
class DirectoryProcessingStarted:
    """The first look at a new watch has begun."""

    path: str


@attrs.frozen
class FileFound:
    """The file was there when the watch began; only between the start and the end of that look."""

    path: str


@attrs.frozen
class DirectoryProcessingCompleted:
    """The first look is over: every file was a :class:`FileFound`, and changes follow from here."""

    path: str


@attrs.frozen
class FileCreated:
    """There is a file where none was: written, or moved in from where nobody watches."""

    path: str


@attrs.frozen
class FileModified:
    """The file was written to, touched, or replaced by another of the same name."""

    path: str


@attrs.frozen
class FileDeleted:
    """The file is gone: deleted, moved out of what is watched, or no longer to be read."""

    path: str


@attrs.frozen(kw_only=True)
class FileMoved:
    """The file has another path, at which there was none; its content is the same."""

    src_path: str
    dest_path: str


@attrs.frozen
class DirectoryDeleted:
    """The directory is gone; what was in it was said to be gone, or moved, before."""

    path: str


@attrs.frozen(kw_only=True)
class DirectoryMoved:
    """The directory has another path, and all that is below it too, of which nothing is said."""

    src_path: str
    dest_path: str


TreeChange = (
    FileCreated | FileModified | FileDeleted | FileMoved | DirectoryDeleted | DirectoryMoved
)
"""What can happen to the files of a tree."""

Change = (
    TreeChange
    | WatchAdded
    | WatchStarted
    | WatchRemoved
    | WatchFailed
    | DirectoryProcessingStarted
    | DirectoryProcessingCompleted
    | FileFound
)
"""All that a watcher says."""
