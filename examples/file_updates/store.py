"""What outlives the process: watches, queue, index and settings, in one SQLite file.

- There is one connection that writes, used by one thread at a time, and one that only reads, so
  that a search holds up nobody. A lock beside the file keeps a second process out.
- What belongs together is written in one transaction: an item leaves the queue in the one that
  puts its file into the index. A killed process loses nothing that was committed; a loss of power
  may lose the last commits, after which the first look at each watch finds what is missing.
- Paths are stored as bytes, as the system has them: not every name is text.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import trio

from .queue import Item, Step
from .watching import Watch

FORMAT: Final = 1  # of the tables; a file of another one is not touched

_TABLES: Final = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE watches (
    id TEXT PRIMARY KEY, path BLOB NOT NULL UNIQUE, recursive INTEGER NOT NULL,
    is_active INTEGER NOT NULL, last_scan REAL, created_at REAL NOT NULL, updated_at REAL NOT NULL
);
CREATE TABLE queue (
    id TEXT PRIMARY KEY, file_path BLOB NOT NULL, action TEXT NOT NULL, dest_path BLOB,
    enqueued_at REAL NOT NULL, cooldown_expires_at REAL NOT NULL, retry_count INTEGER NOT NULL
);
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, status TEXT NOT NULL, reason TEXT NOT NULL,
    place TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    is_fresh INTEGER NOT NULL, digest BLOB NOT NULL, summary TEXT NOT NULL, embedding BLOB NOT NULL,
    indexed_at REAL NOT NULL
);
CREATE VIRTUAL TABLE texts USING fts5 (
    filename, summary, body, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (texts, row);
"""

T = TypeVar("T")
Connection: TypeAlias = sqlite3.Connection
Write: TypeAlias = Callable[[Connection], object]


class StoreError(Exception):
    """The file cannot be used; the message says which and why. Nothing in it was changed."""


@attrs.frozen(kw_only=True)
class StoredWatch:
    """A watch as the API lists it. Times are seconds since the epoch."""

    id: str
    path: str
    recursive: bool
    is_active: bool
    last_scan: float | None
    created_at: float
    updated_at: float


class Store:
    """The database, from Trio. Begin with :func:`open_store`."""

    def __init__(self, connection: Connection, reader: Connection) -> None:
        self._connection = connection
        self._reader = reader
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(1)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run a function in a transaction, in a thread.

        Raises:
            sqlite3.Error: It cannot be written; nothing was.

        Cancellation: before it begins, or not at all.
        """

        def run() -> T:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                return work(self._connection)

        return await trio.to_thread.run_sync(run, limiter=self._writing)

    async def query(self, work: Callable[[Connection], T]) -> T:
        """Run a function that reads what is committed, in a thread, beside what is being written.

        Cancellation: before it begins, or not at all.
        """
        return await trio.to_thread.run_sync(work, self._reader, limiter=self._reading)


@contextmanager
def open_store(path: str | os.PathLike[str]) -> Iterator[Store]:
    """Open the file, or make it, and give the store for as long as the ``with`` lasts.

    Raises:
        StoreError: It is another process's, no database of this program, or cannot be opened.
    """
    file = Path(path).absolute()
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(file.with_name(f"{file.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It holds what is in the files, so it is for their owner alone; SQLite makes the others
            # beside it alike.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
            connection = stack.enter_context(closing(_connect(file.as_uri())))
            _prepare(connection, file)
            reader = stack.enter_context(closing(_connect(f"{file.as_uri()}?mode=ro")))
        except BlockingIOError:
            raise StoreError(f"{file} is in use by another process") from None
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{file} cannot be used: {error}") from error
        yield Store(connection, reader)


def companions(path: str | os.PathLike[str]) -> frozenset[str]:
    """Return the paths of all files that a store at this path writes."""
    real = os.path.realpath(path)
    return frozenset(real + suffix for suffix in ("", "-wal", "-shm", "-journal", ".lock"))


def _connect(uri: str) -> Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _prepare(connection: Connection, file: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if found != FORMAT and (found or tables):
        raise StoreError(f"{file} is a database of another program or of another format ({found})")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if found != FORMAT:
        connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT")


# ---- settings ------------------------------------------------------------------------------------


def load_setting(connection: Connection, name: str, default: Any) -> Any:
    """Return a setting, or the default if it was never set."""
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return default if row is None else json.loads(row[0])


def save_setting(connection: Connection, name: str, value: Any) -> None:
    """Set a setting to a value of JSON."""
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))


# ---- watches -------------------------------------------------------------------------------------


def load_watches(connection: Connection) -> list[StoredWatch]:
    """Return all watches, oldest first."""
    rows = connection.execute(
        "SELECT id, path, recursive, is_active, last_scan, created_at, updated_at"
        " FROM watches ORDER BY created_at, rowid"
    )
    return [
        StoredWatch(
            id=row[0],
            path=os.fsdecode(row[1]),
            recursive=bool(row[2]),
            is_active=bool(row[3]),
            last_scan=row[4],
            created_at=row[5],
            updated_at=row[6],
        )
        for row in rows
    ]


def save_watch(connection: Connection, watch: Watch, *, id: str, now: float) -> None:
    """Store a watch; one that is known under its path keeps its id, and is active again."""
    connection.execute(
        "INSERT INTO watches VALUES (?, ?, ?, TRUE, NULL, ?, ?) ON CONFLICT (path) DO UPDATE"
        " SET recursive = excluded.recursive, is_active = TRUE, updated_at = excluded.updated_at",
        (id, os.fsencode(watch.path), watch.recursive, now, now),
    )


def end_watch(connection: Connection, path: str, *, now: float) -> None:
    """Note that a watch is not active any more."""
    connection.execute(
        "UPDATE watches SET is_active = FALSE, updated_at = ? WHERE path = ?",
        (now, os.fsencode(path)),
    )


def note_scan(connection: Connection, path: str, *, now: float) -> None:
    """Note that the first look at a watch is over."""
    connection.execute(
        "UPDATE watches SET last_scan = ?, updated_at = ? WHERE path = ?",
        (now, now, os.fsencode(path)),
    )


def delete_watch(connection: Connection, path: str) -> None:
    """Forget a watch."""
    connection.execute("DELETE FROM watches WHERE path = ?", (os.fsencode(path),))


# ---- the queue -----------------------------------------------------------------------------------


def load_queue(connection: Connection) -> list[Item]:
    """Return all items as they are to be restored."""
    rows = connection.execute(
        "SELECT id, file_path, action, dest_path, enqueued_at, cooldown_expires_at, retry_count"
        " FROM queue ORDER BY rowid"
    )
    return [
        Item(
            id=row[0],
            file_path=os.fsdecode(row[1]),
            action=row[2],
            dest_path=None if row[3] is None else os.fsdecode(row[3]),
            enqueued_at=row[4],
            cooldown_expires_at=row[5],
            retry_count=row[6],
        )
        for row in rows
    ]


def save_step(connection: Connection, step: Step) -> None:
    """Store what a step of the queue has changed."""
    item = step.item
    if not step.is_kept:
        connection.execute("DELETE FROM queue WHERE id = ?", (item.id,))
        return
    connection.execute(
        "INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            item.id,
            os.fsencode(item.file_path),
            item.action,
            None if item.dest_path is None else os.fsencode(item.dest_path),
            item.enqueued_at,
            item.cooldown_expires_at,
            item.retry_count,
        ),
    )
