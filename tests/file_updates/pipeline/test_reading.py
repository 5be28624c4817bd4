"""Reading files that may be anything."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from examples.file_updates.pipeline import reading
from examples.file_updates.pipeline.reading import NotAFile, look, read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def age(path: Path) -> None:
    """Have it written a minute ago."""
    written = path.stat().st_mtime - 60
    os.utime(path, (written, written))


def test_a_file_is_read_with_its_stamp(root: Path) -> None:
    """The stamp is the one that a look gives, until the file is changed."""
    path = root / "a"
    path.write_bytes(b"one")
    age(path)
    content, stamp = read(str(path))
    assert content == b"one"
    assert stamp.is_surely(look(str(path)))
    path.write_bytes(b"two")
    assert not stamp.is_surely(look(str(path)))


def test_a_stamp_that_is_too_fresh_says_nothing(root: Path) -> None:
    """What was written just now may be written again within the same tick of the clock."""
    path = root / "a"
    path.write_bytes(b"one")
    os.utime(path)
    stamp = look(str(path))
    assert stamp.is_fresh
    assert not stamp.is_surely(look(str(path)))


@pytest.mark.parametrize("kind", ["absent", "directory", "link", "pipe", "socket", "below a file"])
def test_what_is_no_file_is_not_read(root: Path, kind: str) -> None:
    """Neither followed nor waited for."""
    (root / "file").write_bytes(b"secret")
    path = root / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(root / "file")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "below a file":
        path = root / "file" / "x"
    with socket.socket(socket.AF_UNIX) as sock:
        if kind == "socket":
            directory = os.open(root, os.O_RDONLY)
            sock.bind(f"/proc/self/fd/{directory}/x")
            os.close(directory)
        for function in (look, read):
            with pytest.raises(NotAFile):
                function(str(path))


def test_a_directory_that_became_a_link_is_not_followed(root: Path) -> None:
    """What is watched is a tree, and not what somebody has its parts point to."""
    (root / "outside").mkdir()
    (root / "outside" / "a").write_bytes(b"secret")
    (root / "watched").mkdir()
    (root / "watched" / "d").symlink_to(root / "outside")
    for function in (look, read):
        with pytest.raises(NotAFile):
            function(str(root / "watched" / "d" / "a"))


def test_a_file_that_grew_is_not_read_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the limit is ever in memory."""
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 10)
    (root / "a").write_bytes(b"x" * 10)
    assert len(read(str(root / "a"))[0]) == 10
    (root / "a").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="larger than 10"):
        read(str(root / "a"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
def test_no_descriptor_is_left(root: Path) -> None:
    """Whatever came of it."""
    (root / "a").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a", ".", "absent", "absent/a", "a/a"):
        for function in (look, read):
            with contextlib.suppress(NotAFile):
                function(str(root / path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_other_errors_are_told(root: Path) -> None:
    """A name that no file can have is not an absent file."""
    for function in (look, read):
        with pytest.raises(OSError, match="File name too long"):
            function(str(root / ("x" * 300)))
