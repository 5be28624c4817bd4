"""The bytes of each update, as the API documents them."""

from __future__ import annotations

import pytest

from examples.file_updates.changes import (
    Change,
    DirectoryDeleted,
    DirectoryMoved,
    DirectoryProcessingCompleted,
    DirectoryProcessingStarted,
    FileCreated,
    FileDeleted,
    FileFound,
    FileModified,
    FileMoved,
    WatchAdded,
    WatchFailed,
    WatchRemoved,
    WatchStarted,
)
from examples.file_updates.updates import update, update_of
from sselib import encode

MOVE = {"src_path": "/d/a", "dest_path": "/d/b"}
MOVED = '{"src_path": "/d/a", "dest_path": "/d/b"}'


@pytest.mark.parametrize(
    ("change", "opcode", "data"),
    [
        (FileCreated("/d/a"), "file_created", '{"path": "/d/a"}'),
        (FileModified("/d/a"), "file_modified", '{"path": "/d/a"}'),
        (FileDeleted("/d/a"), "file_deleted", '{"path": "/d/a"}'),
        (FileMoved(**MOVE), "file_moved", MOVED),
        (DirectoryDeleted("/d"), "directory_deleted", '{"path": "/d"}'),
        (DirectoryMoved(**MOVE), "directory_moved", MOVED),
        (WatchAdded("/d"), "watch_added", '{"path": "/d"}'),
        (
            WatchStarted("/d", recursive=True),
            "watch_started",
            '{"path": "/d", "recursive": true}',
        ),
        (WatchRemoved("/d"), "watch_removed", '{"path": "/d"}'),
        (DirectoryProcessingStarted("/d"), "directory_processing_started", '{"path": "/d"}'),
        (DirectoryProcessingCompleted("/d"), "directory_processing_completed", '{"path": "/d"}'),
        (WatchFailed("/d", message="it is gone"), "error", '{"message": "it is gone"}'),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_change_is_announced_with_the_documented_bytes(
    change: Change, opcode: str, data: str
) -> None:
    """Every change has its opcode and exactly the documented fields, spaced as documented."""
    event = update_of(change)
    assert (
        encode(event)
        == f'event: update\ndata: {{"opcode": "{opcode}", "data": {data}}}\n\n'.encode()
    )


def test_the_documented_example_is_made_byte_by_byte() -> None:
    """The block that the documentation shows."""
    event = update("file_parsing", path="/path/to/file.txt", filename="file.txt")
    assert encode(event) == (
        b"event: update\n"
        b'data: {"opcode": "file_parsing", "data": {"path": "/path/to/file.txt",'
        b' "filename": "file.txt"}}\n\n'
    )


def test_an_opcode_without_fields_has_empty_data() -> None:
    """``data`` is there even if the opcode has no fields."""
    assert encode(update("shutting_down")) == (
        b'event: update\ndata: {"opcode": "shutting_down", "data": {}}\n\n'
    )


def test_a_file_that_was_there_before_is_no_update() -> None:
    """What the first look finds has not happened, and has no event."""
    with pytest.raises(TypeError, match="/d/a"):
        update_of(FileFound("/d/a"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\ud800", "\ufffd"),
        ("\udcff.txt", "\ufffd.txt"),
        ("grün.txt", "grün.txt"),
        ("a\nb", "a\nb"),
        ("☃", "☃"),
    ],
)
def test_a_file_name_is_shown_as_text(name: str, shown: str) -> None:
    """A name whose bytes are not UTF-8 is announced with those replaced; others as they are."""
    event = update_of(FileCreated(name))
    assert event.json()["data"]["path"] == shown
