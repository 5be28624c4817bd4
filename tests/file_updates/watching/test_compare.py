"""The story between two snapshots: cases by name, and the law that it leads to the second."""

from __future__ import annotations

import stat
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.file_updates.changes import (
    DirectoryDeleted,
    DirectoryMoved,
    FileCreated,
    FileDeleted,
    FileModified,
    FileMoved,
    TreeChange,
)
from examples.file_updates.watching.compare import compare
from examples.file_updates.watching.snapshot import Entry, is_inside


def file(ino: int, size: int = 0, mtime: int = 0) -> Entry:
    return Entry(stat.S_IFREG | 0o644, 1, ino, size, mtime)


def folder(ino: int, mtime: int = 0) -> Entry:
    return Entry(stat.S_IFDIR | 0o755, 1, ino, 4096, mtime)


def dir_moved(src: str, dest: str) -> DirectoryMoved:
    return DirectoryMoved(src_path=src, dest_path=dest)


def moved(src: str, dest: str) -> FileMoved:
    return FileMoved(src_path=src, dest_path=dest)


CASES: dict[str, tuple[dict[str, Entry], dict[str, Entry], list[TreeChange]]] = {
    "nothing happened": ({"/a": file(1)}, {"/a": file(1)}, []),
    "created": ({}, {"/a": file(1)}, [FileCreated("/a")]),
    "deleted": ({"/a": file(1)}, {}, [FileDeleted("/a")]),
    "grown": ({"/a": file(1)}, {"/a": file(1, size=1)}, [FileModified("/a")]),
    "same size written": ({"/a": file(1)}, {"/a": file(1, mtime=1)}, [FileModified("/a")]),
    "replaced by a copy": ({"/a": file(1)}, {"/a": file(2)}, [FileModified("/a")]),
    "permissions changed": (
        {"/a": file(1)},
        {"/a": Entry(stat.S_IFREG | 0o600, 1, 1, 0, 0)},
        [],
    ),
    "renamed": ({"/a": file(1)}, {"/b": file(1)}, [moved("/a", "/b")]),
    "number given to a new file": (
        {"/a": file(1)},
        {"/b": file(1, mtime=1)},
        [FileDeleted("/a"), FileCreated("/b")],
    ),
    "saved by renaming a known file over it": (
        {"/doc": file(1), "/tmp": file(2)},
        {"/doc": file(2)},
        [FileDeleted("/tmp"), FileModified("/doc")],
    ),
    "saved, with the old version kept": (
        {"/doc": file(1)},
        {"/doc": file(2), "/doc~": file(1)},
        [moved("/doc", "/doc~"), FileCreated("/doc")],
    ),
    "logs move up by one": (
        {"/log": file(1), "/log.1": file(2)},
        {"/log": file(3), "/log.1": file(1), "/log.2": file(2)},
        [moved("/log.1", "/log.2"), moved("/log", "/log.1"), FileCreated("/log")],
    ),
    "two files swapped": (
        {"/a": file(1), "/b": file(2)},
        {"/a": file(2), "/b": file(1)},
        [FileModified("/a"), FileModified("/b")],
    ),
    "hard link made": ({"/a": file(1)}, {"/a": file(1), "/b": file(1)}, [FileCreated("/b")]),
    "one of two hard links renamed": (
        {"/a": file(1), "/b": file(1)},
        {"/b": file(1), "/c": file(1)},
        [moved("/a", "/c")],
    ),
    "empty directory made": ({}, {"/d": folder(1)}, []),
    "directory written in": ({"/d": folder(1)}, {"/d": folder(1, mtime=1)}, []),
    "tree deleted": (
        {"/d": folder(1), "/d/e": folder(2), "/d/e/x": file(3), "/d/y": file(4)},
        {},
        [
            FileDeleted("/d/e/x"),
            FileDeleted("/d/y"),
            DirectoryDeleted("/d/e"),
            DirectoryDeleted("/d"),
        ],
    ),
    "directory renamed": (
        {"/d": folder(1), "/d/e": folder(2), "/d/e/x": file(3)},
        {"/f": folder(1), "/f/e": folder(2), "/f/e/x": file(3)},
        [dir_moved("/d", "/f")],
    ),
    "directory renamed and written in": (
        {"/d": folder(1), "/d/x": file(2), "/d/y": file(3)},
        {"/f": folder(1, mtime=1), "/f/x": file(2), "/f/y": file(3, size=1), "/f/z": file(4)},
        [dir_moved("/d", "/f"), FileModified("/f/y"), FileCreated("/f/z")],
    ),
    "directory renamed, and one inside of it": (
        {"/d": folder(1), "/d/e": folder(2), "/d/e/x": file(3)},
        {"/f": folder(1), "/f/g": folder(2), "/f/g/x": file(3)},
        [dir_moved("/d", "/f"), dir_moved("/f/e", "/f/g")],
    ),
    "inner directory becomes the outer one": (
        {"/d": folder(1), "/d/e": folder(2), "/d/e/x": file(3)},
        {"/e": folder(2), "/e/d": folder(1), "/e/x": file(3)},
        [dir_moved("/d/e", "/e"), dir_moved("/d", "/e/d")],
    ),
    "number given to a new directory": (
        {"/d": folder(1), "/d/x": file(2)},
        {"/f": folder(1, mtime=9), "/f/x": file(3, mtime=9)},
        [FileDeleted("/d/x"), DirectoryDeleted("/d"), FileCreated("/f/x")],
    ),
    "file taken out of a deleted directory": (
        {"/d": folder(1), "/d/x": file(2)},
        {"/x": file(2)},
        [moved("/d/x", "/x"), DirectoryDeleted("/d")],
    ),
    "file becomes a directory": (
        {"/a": file(1)},
        {"/a": folder(2), "/a/x": file(3)},
        [FileDeleted("/a"), FileCreated("/a/x")],
    ),
    "file moved into a directory where a file was": (
        {"/a": file(1), "/b": file(2)},
        {"/a": folder(3), "/a/b": file(2)},
        [FileDeleted("/a"), FileDeleted("/b"), FileCreated("/a/b")],
    ),
    "directory becomes a file": (
        {"/d": folder(1), "/d/x": file(2)},
        {"/d": file(3)},
        [FileDeleted("/d/x"), DirectoryDeleted("/d"), FileCreated("/d")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    """Each of the things that happen in a tree is told as expected, and in this order."""
    before, after, story = CASES[name]
    assert compare(before, after) == story


def test_a_rename_that_was_seen_needs_no_other_evidence() -> None:
    """What was written to since it was renamed is still a move, if that was seen."""
    before = {"/a": file(1), "/d": folder(2)}
    after = {"/b": file(1, size=5, mtime=5), "/e": folder(2, mtime=5), "/e/x": file(3)}
    assert compare(before, after, {"/b": "/a", "/e": "/d"}) == [
        dir_moved("/d", "/e"),
        moved("/a", "/b"),
        FileModified("/b"),
        FileCreated("/e/x"),
    ]


def test_a_rename_that_was_seen_is_not_believed_against_the_snapshots() -> None:
    """A rename of something that was replaced meanwhile is no move."""
    before = {"/a": file(1), "/d": folder(2), "/d/x": file(3)}
    after = {"/b": file(7), "/e": folder(8), "/e/x": file(9)}
    assert compare(before, after, {"/b": "/a", "/e": "/d"}) == [
        FileDeleted("/a"),
        FileDeleted("/d/x"),
        DirectoryDeleted("/d"),
        FileCreated("/b"),
        FileCreated("/e/x"),
    ]


def test_the_order_in_which_snapshots_were_read_is_not_seen() -> None:
    """The same snapshots in another order of their entries give the same story."""
    for before, after, story in CASES.values():
        assert compare(dict(reversed(before.items())), dict(reversed(after.items()))) == story


def follow(
    before: Mapping[str, Entry], after: Mapping[str, Entry], story: list[TreeChange]
) -> None:
    """Do what the story says, step by step, and see that each step can be done and leads there."""
    known = dict(before)
    for change in story:
        match change:
            case DirectoryMoved(src_path=src, dest_path=dest):
                assert known[src].is_dir
                assert_free(known, dest)
                assert not is_inside(dest, src)
                for path in [path for path in known if path == src or is_inside(path, src)]:
                    known[dest + path[len(src) :]] = known.pop(path)
            case FileMoved(src_path=src, dest_path=dest):
                assert not known[src].is_dir
                assert_free(known, dest)
                known[dest] = known.pop(src)
            case FileDeleted(path):
                assert not known.pop(path).is_dir
            case DirectoryDeleted(path):
                assert known.pop(path).is_dir
                assert not any(is_inside(other, path) for other in known)
            case FileCreated(path):
                assert_free(known, path)
                known[path] = after[path]
            case FileModified(path):
                assert not known[path].is_dir
                known[path] = after[path]
    directories = {path for path, entry in known.items() if entry.is_dir}
    assert directories <= {path for path, entry in after.items() if entry.is_dir}
    assert {path: entry.stamp for path, entry in known.items() if not entry.is_dir} == {
        path: entry.stamp for path, entry in after.items() if not entry.is_dir
    }


def assert_free(known: Mapping[str, Entry], path: str) -> None:
    assert path not in known
    assert not any(is_inside(path, other) for other, entry in known.items() if not entry.is_dir)


NUMBERS = st.integers(0, 5)
ENTRIES = st.builds(file, NUMBERS, st.integers(0, 1)) | st.builds(
    folder, NUMBERS, st.integers(0, 1)
)
PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(
    lambda names: "/".join(["", *names])
)


@st.composite
def snapshots(draw: st.DrawFn) -> dict[str, Entry]:
    """Draw a tree whose inode numbers make little sense."""
    tree: dict[str, Entry] = {}
    for path, entry in draw(st.dictionaries(PATHS, ENTRIES, max_size=8)).items():
        parents = [path[:at] for at in range(1, len(path)) if path[at] == "/"]
        if path not in tree and all(tree.get(parent, entry).is_dir for parent in parents):
            for parent in parents:
                tree.setdefault(parent, folder(draw(NUMBERS)))
            tree[path] = entry
    return {
        path: entry
        for path, entry in tree.items()
        if entry.is_dir or not any(is_inside(other, path) for other in tree)
    }


@given(snapshots(), snapshots(), st.dictionaries(PATHS, PATHS, max_size=3))
def test_the_story_leads_from_any_snapshot_to_any_other(
    before: dict[str, Entry], after: dict[str, Entry], renamed: dict[str, str]
) -> None:
    """Each step can be done, the last one gives what is there now, and so with any evidence."""
    follow(before, after, compare(before, after))
    follow(before, after, compare(before, after, renamed))


@given(snapshots())
def test_no_change_no_story(tree: dict[str, Entry]) -> None:
    """Of a tree in which nothing happened nothing is said."""
    assert compare(tree, dict(tree)) == []


STEPS = st.tuples(st.sampled_from(["write", "move", "delete", "make"]), PATHS, PATHS)


@given(snapshots(), st.lists(STEPS, max_size=6))
def test_the_story_of_real_operations(
    tree: dict[str, Entry], steps: list[tuple[str, str, str]]
) -> None:
    """Moves, writes and deletions one after another, with numbers used again, can be followed."""
    before = dict(tree)
    after = dict(before)
    renamed: dict[str, str] = {}
    for clock, (step, path, dest) in enumerate(steps, start=2):
        entry = after.get(path)
        below = [other for other in after if other == path or is_inside(other, path)]
        room = dest not in after and not is_inside(dest, path)
        parent = dest.rpartition("/")[0]
        home = not parent or (parent in after and after[parent].is_dir)
        if step == "make" and room and home:
            used = {entry.ino for entry in after.values()}
            after[dest] = file(min(set(range(99)) - used), mtime=clock)
        elif entry is None:
            continue
        elif step == "write" and not entry.is_dir:
            after[path] = file(entry.ino, entry.size, clock)
        elif step == "delete":
            for other in below:
                del after[other]
        elif step == "move" and room and home:
            for other in below:
                after[dest + other[len(path) :]] = after.pop(other)
            renamed[dest] = renamed.pop(path, path)
    follow(before, after, compare(before, after))
    follow(before, after, compare(before, after, renamed))
