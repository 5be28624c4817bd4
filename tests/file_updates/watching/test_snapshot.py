"""Entries: what a time of modification can vouch for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from examples.file_updates.changes import FileModified
from examples.file_updates.watching.compare import compare
from examples.file_updates.watching.snapshot import MTIME_STEP_NS, entry_of, let_settle

LONG_AGO = 1_700_000_000_000_000_000  # nanoseconds


def test_a_write_that_leaves_the_time_as_it_was_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that was looked at within the step of its clock, the next look says so."""
    path = tmp_path / "file"
    path.write_bytes(b"1")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    monkeypatch.setattr(time, "time_ns", lambda: LONG_AGO + MTIME_STEP_NS)
    before = entry_of(str(path))
    path.write_bytes(b"2")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    monkeypatch.setattr(time, "time_ns", lambda: LONG_AGO + MTIME_STEP_NS + 1)
    after = entry_of(str(path))

    assert before is not None
    assert after is not None
    assert before.is_fresh
    assert not after.is_fresh
    assert compare({"file": before}, {"file": after}) == [FileModified("file")]
    assert compare({"file": after}, {"file": after}) == []


def test_a_file_is_looked_at_again_when_it_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write in the meantime is in what is found then; a directory is never fresh."""
    path = tmp_path / "file"
    path.write_bytes(b"1")
    mtime_ns = path.stat().st_mtime_ns
    monkeypatch.setattr(time, "time_ns", lambda: mtime_ns)
    found = {str(each): entry for each in (path, tmp_path) if (entry := entry_of(str(each)))}
    assert not found[str(tmp_path)].is_fresh

    def sleep(seconds: float) -> None:
        assert seconds == MTIME_STEP_NS / 1e9
        path.write_bytes(b"22")
        os.utime(path, ns=(LONG_AGO, LONG_AGO))

    monkeypatch.setattr(time, "sleep", sleep)
    let_settle(found)
    assert (found[str(path)].size, found[str(path)].is_fresh) == (2, False)


def test_what_is_no_longer_a_file_stays_as_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it went was after the look, and will be told."""
    path = tmp_path / "file"
    path.write_bytes(b"1")
    mtime_ns = path.stat().st_mtime_ns
    monkeypatch.setattr(time, "time_ns", lambda: mtime_ns)
    entry = entry_of(str(path))
    assert entry is not None
    assert entry.is_fresh
    found = {str(path): entry}
    monkeypatch.setattr(time, "sleep", lambda _: path.unlink())
    let_settle(found)
    assert not path.exists()
    assert found == {str(path): entry}
