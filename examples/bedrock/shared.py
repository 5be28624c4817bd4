"""What the processes of one directory share: the rows of a small SQLite file, and claims.

Records, answers, rates and the secret of signatures are rows, and nothing of them is kept in
memory: what one process has committed, the others see. Whoever writes takes its turn, with a
transaction in it, so what is looked up there is true until the commit. A commit survives the
process; losing power may cost the last ones, and never by half.

A *claim* is a directory that somebody is at work in. It is locked for so long, and the kernel lets
the lock go when the process ends, however it does; so what nobody has locked was left behind.
Others learn its name from a row, which is committed after it was locked.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import attrs
import trio

from sselib.log.sqlite.file import PATIENCE, transaction, turn

from .ids import new_id

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_FILE: Final = "bedrock.db"
_TABLES: Final = (
    "secret (value BLOB NOT NULL)",  # one row
    # Files and overlays. An id sorts by age; the size is in bytes; a file that is awaited has none.
    """
    object (id TEXT PRIMARY KEY, project_id TEXT NOT NULL, size INTEGER, expires REAL,
            record TEXT NOT NULL) WITHOUT ROWID
    """,
    # What is being filled, or is to be removed.
    "draft (name TEXT PRIMARY KEY, project_id TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID",
    # Without a status there is no answer yet; what is made to answer is named by made_as.
    """
    answer (number INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT NOT NULL, key TEXT NOT NULL,
            fingerprint BLOB NOT NULL, made_as TEXT NOT NULL, claim TEXT NOT NULL, at REAL NOT NULL,
            status INTEGER, body BLOB, UNIQUE (who, key))
    """,
    "bucket (key TEXT PRIMARY KEY, full_at INTEGER NOT NULL) WITHOUT ROWID",
)
_INDEXES: Final = (
    "object_of_project ON object (project_id, size)",
    "draft_of_project ON draft (project_id, size)",
    "answer_by_age ON answer (at)",
)


class Unusable(Exception):
    """The directory cannot be used."""


@attrs.define(eq=False)
class Claim:
    """A directory of one's own, for as long as one is at work in it.

    Attributes:
        path: Where it is. No other claim ever has this name.
    """

    path: Path
    _lock: int

    @classmethod
    def make(cls, parent: Path) -> Claim:
        """Make a directory, and claim it."""
        path = parent / new_id("dir")
        path.mkdir()
        return cls(path, _locked(path))

    def end(self, *, keep: bool = False) -> None:
        """Let it go, and remove it unless it is to be kept: it is a handful of files."""
        if not keep:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def is_claimed(path: Path) -> bool:
    """Return whether somebody is at work in a directory, here or in another process."""
    try:
        os.close(_locked(path))
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Shared:
    """What :func:`open_shared` has opened.

    Attributes:
        directory: Where it is.
        secret: Random bytes, the same for all processes and ever after.
    """

    def __init__(self, directory: Path, db: sqlite3.Connection, secret: bytes) -> None:
        self.directory = directory
        self.secret = secret
        self._db = db
        self._one_thread = trio.CapacityLimiter(1)

    async def read(self, work: Work[T]) -> T:
        """Look something up, in a thread; what is read was true at one moment.

        Raises:
            sqlite3.Error: The file cannot be read.
            Exception: What ``work`` raised.

        Cancellation: of what has not begun.
        """

        def read() -> T:
            with transaction(self._db, "DEFERRED"):
                return work(self._db)

        return await self._in_thread(read)

    async def write(self, work: Work[T]) -> T:
        """Change something, in a thread, when it is our turn; when this returns, it is committed.

        Raises:
            sqlite3.Error: The file cannot be written, and nothing has changed.
            sselib.LogUnavailable: Another process does not come to an end with its turn.
            Exception: What ``work`` raised, and nothing has changed.

        Cancellation: of what has not begun. Else it is done, and this returns.
        """
        return await self._in_thread(lambda: self._write(work))

    async def write_claiming(self, work: Callable[[Claim, sqlite3.Connection], T]) -> T:
        """Change something as :meth:`write` does, given a new claim, which ``work`` hands on.

        If anything is raised, the claim has ended.
        """

        def write() -> T:
            claim = Claim.make(self.directory)
            try:
                return self._write(partial(work, claim))
            except BaseException:
                claim.end()
                raise

        return await self._in_thread(write)

    def _write(self, work: Work[T]) -> T:
        with turn(self.directory / _FILE), transaction(self._db, "IMMEDIATE"):
            return work(self._db)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(function, limiter=self._one_thread)


@contextmanager
def open_shared(directory: Path) -> Iterator[Shared]:
    """Open what is shared in a directory, or make it.

    Args:
        directory: It exists, on a disk of this machine.

    Raises:
        Unusable: It cannot be written, or the file in it is not ours.
    """
    path = directory / _FILE
    try:
        with turn(path):
            with suppress(FileExistsError):  # It holds a secret.
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            # Whichever thread has its turn.
            db = sqlite3.connect(
                path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                secret = _prepare(db)
            except BaseException:
                db.close()
                raise
    except (sqlite3.Error, OSError) as error:
        raise Unusable(f"{path}: {error}") from error
    with closing(db):
        yield Shared(directory, db, secret)


def _prepare(db: sqlite3.Connection) -> bytes:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    with transaction(db, "IMMEDIATE"):
        for table in _TABLES:
            db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        for index in _INDEXES:
            db.execute(f"CREATE INDEX IF NOT EXISTS {index}")
        random = secrets.token_bytes(32)
        db.execute("INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT 1 FROM secret)", (random,))
        secret: bytes
        (secret,) = db.execute("SELECT value FROM secret").fetchone()
    return secret
