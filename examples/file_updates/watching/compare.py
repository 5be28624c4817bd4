"""What must have happened between two snapshots.

Told as a story that a listener can follow step by step: directories move, then files move, then
what is gone is deleted (files first, inner directories before outer ones), then files are created
and modified. Each step makes sense after those before it, and after the last one the listener knows
``after``. Equal snapshots give equal stories. A file that was fresh when it was looked at, and is
looked at again, is told as modified: once too often is harmless, and never is not.

A move is believed if the inode is the same, and something else says so too, since file systems give
the number of a deleted file to the next one made: either nothing was written (same size and time;
of a directory, its own or of anything in it), or somebody saw the rename. A move is told only into
a place that is free. So a temporary file renamed over a document, as editors save, is a modified
document; log files that all move up by one are moves, the last one first.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

from ..changes import (
    DirectoryDeleted,
    DirectoryMoved,
    FileCreated,
    FileDeleted,
    FileModified,
    FileMoved,
    TreeChange,
)
from .snapshot import Entry, Snapshot, is_inside

NOTHING: Mapping[str, str] = MappingProxyType({})


def compare(
    before: Snapshot, after: Snapshot, renamed: Mapping[str, str] = NOTHING
) -> list[TreeChange]:
    """Tell what turns ``before`` into ``after``.

    Args:
        before: The entries that were known.
        after: The entries that are there now.
        renamed: Renames that were seen, from new path to old path: evidence, believed only where
            the snapshots agree.

    Returns:
        The changes, in the order in which they can be applied. A new directory is not a change of
        its own; nor is that the list of files in a directory is another one.
    """
    known = dict(before)  # what a listener knows who has heard the story so far
    story: list[TreeChange] = []
    story += _moves_of_directories(known, after, renamed)
    story += _moves_of_files(known, after, renamed)
    gone = [path for path in known if not _same_kind(known[path], after.get(path))]
    story += [FileDeleted(path) for path in sorted(gone) if not known[path].is_dir]
    story += [DirectoryDeleted(path) for path in sorted(gone, reverse=True) if known[path].is_dir]
    for path, entry in sorted(after.items()):
        old = known.get(path)
        if entry.is_dir:
            continue
        if old is None or old.is_dir:
            story.append(FileCreated(path))
        elif old.stamp != entry.stamp or old.is_fresh:
            story.append(FileModified(path))
    return story


def _same_kind(one: Entry, other: Entry | None) -> bool:
    return other is not None and one.is_dir == other.is_dir


def _moves_of_directories(
    known: dict[str, Entry], after: Snapshot, renamed: Mapping[str, str]
) -> list[TreeChange]:
    """Tell the moves of directories, and apply them to ``known``."""
    origins = {
        entry.place: path
        for path, entry in known.items()
        if entry.is_dir and not _same_kind(entry, after.get(path))
    }
    story: list[TreeChange] = []
    # In this order a directory arrives before what arrives in it.
    for dest in sorted(path for path, entry in after.items() if entry.is_dir):
        src = origins.get(after[dest].place)
        if src is None or is_inside(dest, src) or not _is_free(dest, known):
            continue
        if not _is_moved_directory(known, after, renamed, src, dest):
            continue
        story.append(DirectoryMoved(src_path=src, dest_path=dest))
        for path in [path for path in known if path == src or is_inside(path, src)]:
            moved = dest + path[len(src) :]
            entry = known[moved] = known.pop(path)
            if origins.get(entry.place) == path:
                del origins[entry.place]
                if (there := after.get(moved)) is None or there.place != entry.place:
                    origins[entry.place] = moved  # it went on from there
    return story


def _is_moved_directory(
    known: Snapshot, after: Snapshot, renamed: Mapping[str, str], src: str, dest: str
) -> bool:
    return renamed.get(dest) == src or any(
        entry.stamp == old.stamp
        for path, entry in after.items()
        if path == dest or is_inside(path, dest)
        if (old := known.get(src + path[len(dest) :])) is not None
    )


def _moves_of_files(
    known: dict[str, Entry], after: Snapshot, renamed: Mapping[str, str]
) -> list[TreeChange]:
    """Tell the moves of files, and apply them to ``known``."""
    left = {path for path in known if _is_other_file(known[path], after.get(path))}
    come = sorted(path for path in after if _is_other_file(after[path], known.get(path)))
    ahead: dict[str, str] = {}
    for dest in come:
        src = renamed.get(dest)
        if src in left and known[src].place == after[dest].place:
            left.remove(src)
            ahead[dest] = src
    origins: defaultdict[tuple[int, int, int, int], list[str]] = defaultdict(list)
    for path in sorted(left, reverse=True):
        origins[known[path].stamp].append(path)
    for dest in come:
        if dest not in ahead and (paths := origins.get(after[dest].stamp)):
            ahead[dest] = paths.pop()
    story: list[TreeChange] = []
    while free := [dest for dest in ahead if _is_free(dest, known)]:
        for dest in free:
            src = ahead.pop(dest)
            story.append(FileMoved(src_path=src, dest_path=dest))
            known[dest] = known.pop(src)
    return story


def _is_free(path: str, known: Snapshot) -> bool:
    """Whether something can be moved to ``path``: nothing is there, and no file in its way."""
    if path in known:
        return False
    while (parent := os.path.dirname(path)) != path:
        path = parent
        if (entry := known.get(path)) is not None:
            return entry.is_dir
    return True


def _is_other_file(one: Entry, other: Entry | None) -> bool:
    return not one.is_dir and (other is None or other.is_dir or other.stamp != one.stamp)
