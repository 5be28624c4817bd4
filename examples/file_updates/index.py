"""The index: a row for each file that was looked at, and the text of those that could be read.

A row says what became of the file when it had this stamp: ``complete``, ``skipped`` or ``failed``.
So a file that has not changed since is known without being read. Functions here run in a
transaction of :class:`.store.Store`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

import attrs

from .pipeline.reading import Stamp
from .store import Connection
from .text import printable

Outcome: TypeAlias = Literal["complete", "skipped", "failed"]

_COLUMNS: Final = (
    "path, status, reason, place, size, mtime_ns, is_fresh, digest, summary, indexed_at"
)


@attrs.frozen(kw_only=True)
class Row:
    """What is known of a file.

    Attributes:
        path: Where it is.
        outcome: What became of it.
        reason: Why, if it was skipped or has failed.
        stamp: What it looked like then.
        digest: The hash of its text.
        summary: Its summary.
        indexed_at: When that was, in seconds since the epoch.
    """

    path: str
    outcome: Outcome
    reason: str = ""
    stamp: Stamp
    digest: bytes = b""
    summary: str = ""
    indexed_at: float

    def holds_for(self, stamp: Stamp) -> bool:
        """Whether a file with this stamp needs no second look."""
        return self.outcome != "failed" and self.stamp.is_surely(stamp)


def find(connection: Connection, path: str) -> Row | None:
    """Return what is known of a file."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM files WHERE path = ?",  # noqa: S608 # the columns are ours
        (os.fsencode(path),),
    ).fetchone()
    return None if found is None else row_of(found)


def row_of(found: tuple[Any, ...]) -> Row:
    """Return the row for a tuple of the columns."""
    path, status, reason, place, size, mtime_ns, is_fresh, digest, summary, indexed_at = found
    return Row(
        path=os.fsdecode(path),
        outcome=status,
        reason=reason,
        stamp=Stamp(place=place, size=size, mtime_ns=mtime_ns, is_fresh=bool(is_fresh)),
        digest=digest,
        summary=summary,
        indexed_at=indexed_at,
    )


def put(connection: Connection, row: Row, *, body: str = "", embedding: bytes = b"") -> None:
    """Store what became of a file; of its text, if it is complete, nothing else remains."""
    delete(connection, row.path)
    connection.execute(
        f"INSERT INTO files ({_COLUMNS}, embedding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 # the columns are ours
        (
            os.fsencode(row.path),
            row.outcome,
            row.reason,
            row.stamp.place,
            row.stamp.size,
            row.stamp.mtime_ns,
            row.stamp.is_fresh,
            row.digest,
            row.summary,
            row.indexed_at,
            embedding,
        ),
    )
    if row.outcome == "complete":
        connection.execute(
            "INSERT INTO texts (rowid, filename, summary, body)"
            " VALUES (last_insert_rowid(), ?, ?, ?)",
            (_filename(row.path), row.summary, body),
        )


def restamp(connection: Connection, path: str, stamp: Stamp) -> None:
    """Note that a file of this stamp has the content that is known."""
    connection.execute(
        "UPDATE files SET place = ?, size = ?, mtime_ns = ?, is_fresh = ? WHERE path = ?",
        (stamp.place, stamp.size, stamp.mtime_ns, stamp.is_fresh, os.fsencode(path)),
    )


def move(connection: Connection, src: str, dest: str) -> None:
    """Give what is known of a file another path, in place of what was known there."""
    delete(connection, dest)
    connection.execute(
        "UPDATE texts SET filename = ? WHERE rowid = (SELECT id FROM files WHERE path = ?)",
        (_filename(dest), os.fsencode(src)),
    )
    connection.execute(
        "UPDATE files SET path = ? WHERE path = ?", (os.fsencode(dest), os.fsencode(src))
    )


def delete(connection: Connection, path: str) -> None:
    """Forget a file."""
    name = os.fsencode(path)
    connection.execute(
        "DELETE FROM texts WHERE rowid = (SELECT id FROM files WHERE path = ?)", (name,)
    )
    connection.execute("DELETE FROM files WHERE path = ?", (name,))


def delete_all(connection: Connection, paths: Iterable[str]) -> None:
    """Forget several files."""
    for path in paths:
        delete(connection, path)


def paths_below(connection: Connection, directory: str) -> list[str]:
    """Return the paths of the known files below a directory."""
    rows = connection.execute(
        "SELECT path FROM files WHERE path > ? AND path < ? ORDER BY path", span(directory)
    )
    return [os.fsdecode(path) for (path,) in rows]


def span(directory: str) -> tuple[bytes, bytes]:
    """Return two byte strings between which all paths below a directory are, and no others."""
    name = os.fsencode(directory).rstrip(b"/")
    return name + b"/", name + b"0"  # the character after the slash


def count(connection: Connection) -> int:
    """Return how many files can be searched for."""
    query = "SELECT count(*) FROM files WHERE status = 'complete'"
    return int(connection.execute(query).fetchone()[0])


def statistics(connection: Connection) -> dict[str, Any]:
    """Return what is known of how many files."""
    outcomes: Counter[str] = Counter()
    extensions: Counter[str] = Counter()
    size = 0
    for path, status, bytes_ in connection.execute("SELECT path, status, size FROM files"):
        outcomes[status] += 1
        if status == "complete":
            size += bytes_
            extensions[os.path.splitext(os.fsdecode(path))[1].lower()] += 1
    return {
        "total_files": outcomes.total(),
        "indexed": outcomes["complete"],
        "skipped": outcomes["skipped"],
        "failed": outcomes["failed"],
        "total_size": size,
        "by_extension": dict(sorted(extensions.items())),
    }


def _filename(path: str) -> str:
    return printable(os.path.basename(path))
