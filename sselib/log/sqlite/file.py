"""The file of a SQLite log: how it is opened, what is in it, and who may write to it.

A file says what it is before anything of it is changed: SQLite's ``application_id`` is ours, and
``user_version`` counts the steps of :data:`STEPS` that it has been through. One that lacks steps
is brought up to date; one that has more was written by a later version and is left alone.

**Writers take turns.** SQLite lets several processes write to one file, but until its version
3.51.3 it could corrupt the file when one committed just while another copied the write-ahead log
into it (https://sqlite.org/wal.html#walresetbug). So whoever writes holds a lock of ours around
the whole of it: the commit, and the copying that goes with one. Readers have connections that can
do neither, and need no turn; and when the file is closed SQLite copies only if nobody else has it
open. The lock is ``flock`` on a file of its own beside the other: the kernel lets it go when its
holder dies, and SQLite's own locks, which are the process's and end when any descriptor of the
file is closed, are not touched.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Literal

from ...errors import InvalidLog, LogUnavailable

Synchronous = Literal["normal", "full"]

# Seconds that a writer waits for its turn, and a statement for a lock of SQLite's. A turn takes
# milliseconds; who waits so long has met a process that was stopped in the middle of one.
PATIENCE: Final = 5.0
_TRY_EVERY: Final = 0.001

# Above this many bytes the write-ahead log is cut. SQLite starts it anew from about 4 MiB on, but
# only if nobody happens to read from it; so for once wait for readers, that many milliseconds. Ours
# need less. While some other program reads for longer, it grows.
MAX_WAL_BYTES: Final = 64 * 1024 * 1024
_WAIT_FOR_READERS: Final = 20

APPLICATION_ID: Final = 0x7373656C  # "ssel"

# Where Linux says which run of the machine this is.
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

# How a file fails; the last: by a text that is none.
FAILURES: Final = (sqlite3.Error, OSError, UnicodeDecodeError)

# What of a topic an entry belongs to.
HISTORY: Final = 0
STATE: Final = 1
END: Final = 2

STEPS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE log (          -- one row
        changes INTEGER,        -- counts the transactions that changed something
        deleted INTEGER,        -- in which of them a topic was last deleted
        boot TEXT,              -- the run of the machine in which it was last opened,
        may_lose INTEGER        -- and whether a sudden end of that run may have cost its tail
    );
    CREATE TABLE topic (
        number INTEGER PRIMARY KEY,
        name BLOB NOT NULL UNIQUE,
        tag TEXT NOT NULL,
        last_ms INTEGER NOT NULL, last_seq INTEGER NOT NULL,
        floor_ms INTEGER NOT NULL, floor_seq INTEGER NOT NULL,
        ended INTEGER NOT NULL,
        entries INTEGER NOT NULL, size INTEGER NOT NULL,   -- of the history
        keys INTEGER NOT NULL,                             -- of the state
        tokens INTEGER NOT NULL,                           -- that there ever were
        changed INTEGER NOT NULL                           -- log.changes when it was last changed
    );
    CREATE INDEX topic_changed ON topic (changed);
    CREATE TABLE entry (
        topic INTEGER NOT NULL,
        ms INTEGER NOT NULL, seq INTEGER NOT NULL,
        place INTEGER NOT NULL,  -- 0: history, 1: state, 2: end
        key BLOB, says INTEGER NOT NULL,
        block BLOB NOT NULL,
        PRIMARY KEY (topic, ms, seq)
    ) WITHOUT ROWID;
    CREATE INDEX entry_history ON entry (topic, ms, seq) WHERE place = 0;
    CREATE UNIQUE INDEX entry_key ON entry (topic, key) WHERE place = 1;
    CREATE TABLE token (
        topic INTEGER NOT NULL, token BLOB NOT NULL, number INTEGER NOT NULL,
        ms INTEGER NOT NULL, seq INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (topic, token)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX token_number ON token (topic, number);
    INSERT INTO log VALUES (0, 0, '', 0);
    """,
)


def explained(path: Path, error: Exception) -> Exception:
    """Return what an error means to whoever uses the log."""
    if not isinstance(error, FAILURES):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest are details
    if code == sqlite3.SQLITE_NOTADB:
        return InvalidLog(str(path), "foreign", str(error))
    if code == sqlite3.SQLITE_CORRUPT or isinstance(error, UnicodeDecodeError):
        return InvalidLog(str(path), "corrupt", str(error))
    return LogUnavailable(str(path), str(error))


def connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    """Connect to the file, to read it, to write it, or to make it if there is none."""
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, timeout=PATIENCE, isolation_level=None
    )


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until no other process writes to the file, and keep the others waiting.

    Raises:
        LogUnavailable: Another process does not come to an end with its turn.
    """
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    why = f"another process has been writing to it for {PATIENCE:g} seconds"
                    raise LogUnavailable(str(path), why) from None
                time.sleep(_TRY_EVERY)
        yield
    finally:
        os.close(descriptor)  # which ends the turn


@contextmanager
def transaction(db: sqlite3.Connection, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[None]:
    """Do all of it or nothing; what is read in it was true at one moment."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself has ended it if the disk is full.
            db.execute("ROLLBACK")
        raise


@contextmanager
def savepoint(db: sqlite3.Connection) -> Iterator[None]:
    """Do all of it or nothing, as one part of a transaction."""
    db.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK TO part")
        raise
    finally:
        if db.in_transaction:
            db.execute("RELEASE part")


def prepare(path: Path, synchronous: Synchronous, make_tag: Callable[[], str]) -> None:
    """Make the file, or bring it up to date, or refuse it and leave it as it is.

    Raises:
        InvalidLog: It is not ours, newer than us, or damaged.
        LogUnavailable: It cannot be opened.
    """
    try:
        with turn(path), closing(connect(path, "rwc")) as db:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if tables:
                check(path, db)
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise LogUnavailable(str(path), f"a write-ahead log is not possible there: {mode}")
            with transaction(db, "IMMEDIATE"):
                _upgrade(db)
                _note_boot(db, synchronous, make_tag)
    except FAILURES as error:
        raise explained(path, error) from error


def check(path: Path, db: sqlite3.Connection) -> None:
    """Raise :exc:`InvalidLog` if the file is not ours, or newer than us."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        why = f"it has tables, and application_id {application}, not {APPLICATION_ID}"
        raise InvalidLog(str(path), "foreign", why)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        why = f"its version is {version}, and this library knows {len(STEPS)}"
        raise InvalidLog(str(path), "newer", why)


def shorten_wal(path: Path, db: sqlite3.Connection) -> None:
    """Cut the write-ahead log if readers have let it grow out of bounds, in our turn."""
    if os.path.getsize(f"{path}-wal") > MAX_WAL_BYTES:
        db.execute(f"PRAGMA busy_timeout = {_WAIT_FOR_READERS}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        db.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")


def _upgrade(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for step in STEPS[version:]:
        for statement in step.split(";\n"):
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {len(STEPS)}")


def _note_boot(
    db: sqlite3.Connection, synchronous: Synchronous, make_tag: Callable[[], str]
) -> None:
    """Give topics new tags if the machine went down with entries that never reached the disk.

    Clients may hold ids of such entries, and the next entries could be given the same. With a new
    tag those ids are foreign, so that the gap is told. Nobody can tell whether any were lost.
    """
    boot, may_lose = db.execute("SELECT boot, may_lose FROM log").fetchone()
    here = _boot_id()
    same = here == boot != ""
    if may_lose and not same:
        for (number,) in db.execute("SELECT number FROM topic").fetchall():
            db.execute("UPDATE topic SET tag = ? WHERE number = ?", (make_tag(), number))
    may_lose = synchronous == "normal" or (may_lose and same)
    db.execute("UPDATE log SET boot = ?, may_lose = ?", (here, may_lose))


def _boot_id() -> str:
    """Return what tells this run of the machine from its others; ``""`` if nothing does."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
