"""Files and overlays: a record of each in the shared rows, and a directory of what it holds.

Nothing that a client sends is ever part of a path. A directory is filled as a *draft*, under a
claim, and becomes an object's by the commit of its record: after a crash an object is there, whole,
or it is not. What is large is written and read in threads by whoever does it. What a project stores
is bounded, drafts included; a draft that nobody fills any more is removed before it is counted.

An upload makes one *block*, which is what a drawing is called when it is compared: the file under
another name.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import trio
from cattrs.preconf.json import make_converter

from .ids import new_id, timestamp, with_prefix
from .shared import Claim, Shared, is_claimed

MAX_PROJECT_BYTES: Final = 1024**3
MAX_PROJECT_OBJECTS: Final = 10_000  # files and overlays

_CONTENT: Final = "content"
_CONVERTER: Final = make_converter()


@attrs.frozen(kw_only=True)
class File:
    """A file that was announced; until it has been uploaded, ``size`` is ``None``.

    Attributes:
        expires: When the chance to upload it ends, in seconds since the epoch.
        place: The name of the directory of its content.
    """

    id: str
    project_id: str
    filename: str
    content_type: str
    created_at: str
    expires: float
    size: int | None = None
    place: str = ""

    @property
    def block_id(self) -> str:
        """The id of the block that the upload makes."""
        return with_prefix(self.id, "blk")


@attrs.frozen(kw_only=True)
class Overlay:
    """What came of comparing two blocks.

    Attributes:
        size: Bytes of its pictures.
        place: The name of the directory of its pictures.
    """

    id: str
    project_id: str
    job_id: str
    block_a_id: str
    block_b_id: str
    score: float
    summary: dict[str, float]
    changes: list[dict[str, Any]]
    created_at: str
    size: int
    place: str


Object = TypeVar("Object", File, Overlay)


class StorageFull(Exception):
    """The project may not store more."""


class UploadConflict(Exception):
    """The file has been uploaded already, or is gone."""


@attrs.define(eq=False)
class Draft:
    """A directory that is being filled.

    Attributes:
        path: Where it is.
        project_id: Whose it is.
        size: Bytes of it that count as the project's.
        is_kept: It is an object's now.
    """

    path: Path
    project_id: str
    size: int = 0
    is_kept: bool = False


class Store:
    """The files and overlays of all processes of a directory.

    Args:
        shared: Where they are.
        max_project_bytes: The most bytes that a project may store.
        max_project_objects: The most files and overlays that it may have.

    Cancellation: of its methods: what was to be changed is, or is not, and never by half.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        max_project_bytes: int = MAX_PROJECT_BYTES,
        max_project_objects: int = MAX_PROJECT_OBJECTS,
    ) -> None:
        self._shared = shared
        self._directory = shared.directory
        self._max_bytes = max_project_bytes
        self._max_objects = max_project_objects

    async def announce(
        self,
        project_id: str,
        *,
        filename: str,
        content_type: str,
        seconds: float,
        id: str | None = None,
    ) -> File:
        """Announce a file, which is gone again if it is not uploaded within so many seconds.

        Args:
            project_id: Whose it is.
            filename: What its owner calls it.
            content_type: What it is.
            seconds: How long it is awaited.
            id: The id of the file. If it was announced with that before, this counts instead.

        Raises:
            StorageFull: The project has no room for another.
        """
        now = time.time()
        file = File(
            id=id or new_id("file"),
            project_id=project_id,
            filename=filename,
            content_type=content_type,
            created_at=timestamp(),
            expires=now + seconds,
        )

        def announce(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM object WHERE expires < ? OR id = ?", (now, file.id))
            self._check_objects(db, project_id)
            _write(db, file)

        await self._shared.write(announce)
        return file

    async def upload(self, file: File, receive: Callable[[], Awaitable[bytes]]) -> File:
        """Take the content of a file as it comes. The first upload that is complete counts.

        Args:
            file: The file, which is awaited.
            receive: Gives the next piece, and ``b""`` at the end.

        Raises:
            UploadConflict, StorageFull: Nothing is kept of it.
            Exception: What ``receive`` raised; as well.

        Cancellation: nothing is kept of it, unless it was complete.
        """
        if file.size is not None:
            raise UploadConflict
        async with self.draft(file.project_id) as draft:
            async with await trio.open_file(draft.path / _CONTENT, "wb") as out:
                while piece := await receive():
                    await self._shared.write(partial(self._reserve, draft, len(piece)))
                    await out.write(piece)
            uploaded = attrs.evolve(file, size=draft.size, place=draft.path.name)

            def keep(db: sqlite3.Connection) -> None:
                if _read(db, file.id, File) != file:
                    raise UploadConflict
                self._keep(db, draft, uploaded)

            await self._shared.write(keep)
            draft.is_kept = True
        return uploaded

    async def file(self, id: str) -> File | None:
        """Return a file, if there is one of that id."""
        return await self._shared.read(lambda db: _read(db, id, File))

    async def block(self, block_id: str) -> File | None:
        """Return the uploaded file that is this block."""
        file = await self.file(with_prefix(block_id, "file"))
        return file if file and file.size is not None and file.block_id == block_id else None

    async def overlay(self, id: str) -> Overlay | None:
        """Return an overlay, if there is one of that id."""
        return await self._shared.read(lambda db: _read(db, id, Overlay))

    async def overlays(self, project_id: str, *, before: str | None, limit: int) -> list[Overlay]:
        """Return overlays of a project, the newest first.

        Args:
            project_id: The project.
            before: An id: those that are older. ``None``: the newest.
            limit: The most to return.
        """
        values = (project_id, before or "ovl_~", limit)
        rows = await self._shared.read(lambda db: db.execute(_OVERLAYS, values).fetchall())
        return [_CONVERTER.loads(record, Overlay) for (record,) in rows]

    def content(self, file: File) -> Path:
        """Return where the content of a file is."""
        return self._directory / file.place / _CONTENT

    def picture(self, overlay: Overlay, name: str) -> Path:
        """Return where a picture of an overlay is."""
        return self._directory / overlay.place / f"{name}.png"

    @asynccontextmanager
    async def draft(self, project_id: str) -> AsyncIterator[Draft]:
        """Give a directory to fill. If it was not kept, it is gone at the end."""

        def begin(claim: Claim, db: sqlite3.Connection) -> Claim:
            db.execute("INSERT INTO draft VALUES (?, ?, 0)", (claim.path.name, project_id))
            return claim

        claim = await self._shared.write_claiming(begin)
        draft = Draft(claim.path, project_id)
        try:
            yield draft
        finally:
            claim.end(keep=draft.is_kept)

    async def keep(self, draft: Draft, overlay: Overlay) -> None:
        """Make a draft with all its pictures an overlay.

        Raises:
            StorageFull: The project has no room for another, or for so many bytes.
        """

        def keep(db: sqlite3.Connection) -> None:
            self._check_objects(db, draft.project_id)
            self._reserve(draft, overlay.size, db)
            self._keep(db, draft, overlay)

        await self._shared.write(keep)
        draft.is_kept = True

    async def delete(self, owner: File | Overlay) -> None:
        """Forget a file or an overlay, if it is there."""

        def delete(db: sqlite3.Connection) -> None:
            db.execute(_ABANDON, (owner.id,))
            db.execute("DELETE FROM object WHERE id = ?", (owner.id,))

        await self._shared.write(delete)
        # What nobody fills is removed: here, or if we are killed by whoever counts next.
        await self._shared.write(partial(self._remove_abandoned, owner.project_id))

    # ---- in transactions ---------------------------------------------------------------------

    def _keep(self, db: sqlite3.Connection, draft: Draft, owner: File | Overlay) -> None:
        db.execute("DELETE FROM draft WHERE name = ?", (draft.path.name,))
        _write(db, owner)

    def _check_objects(self, db: sqlite3.Connection, project_id: str) -> None:
        (count,) = db.execute(
            "SELECT count(*) FROM object WHERE project_id = ?", (project_id,)
        ).fetchone()
        if count >= self._max_objects:
            raise StorageFull

    def _reserve(self, draft: Draft, size: int, db: sqlite3.Connection) -> None:
        self._remove_abandoned(draft.project_id, db)
        (used,) = db.execute(_USED, (draft.project_id, draft.project_id)).fetchone()
        if used + size > self._max_bytes:
            raise StorageFull
        draft.size += size
        db.execute("UPDATE draft SET size = ? WHERE name = ?", (draft.size, draft.path.name))

    def _remove_abandoned(self, project_id: str, db: sqlite3.Connection) -> None:
        names = db.execute("SELECT name FROM draft WHERE project_id = ?", (project_id,)).fetchall()
        for (name,) in names:
            if not is_claimed(self._directory / name):
                shutil.rmtree(self._directory / name, ignore_errors=True)
                db.execute("DELETE FROM draft WHERE name = ?", (name,))


_PREFIXES: Final = {File: "file_", Overlay: "ovl_"}
_OVERLAYS: Final = """
    SELECT record FROM object
    WHERE project_id = ? AND id >= 'ovl_' AND id < ? ORDER BY id DESC LIMIT ?
"""
_ABANDON: Final = """
    INSERT INTO draft SELECT json_extract(record, '$.place'), project_id, size FROM object
    WHERE id = ? AND size IS NOT NULL
"""
_USED: Final = """
    SELECT (SELECT coalesce(sum(size), 0) FROM object WHERE project_id = ?)
         + (SELECT coalesce(sum(size), 0) FROM draft WHERE project_id = ?)
"""


def _read(db: sqlite3.Connection, id: str, kind: type[Object]) -> Object | None:
    row = db.execute("SELECT record FROM object WHERE id = ?", (id,)).fetchone()
    if row is None or not id.startswith(_PREFIXES[kind]):
        return None
    return _CONVERTER.loads(row[0], kind)


def _write(db: sqlite3.Connection, owner: File | Overlay) -> None:
    expires = owner.expires if isinstance(owner, File) and owner.size is None else None
    record = _CONVERTER.dumps(owner)
    values = (owner.id, owner.project_id, owner.size, expires, record)
    db.execute("REPLACE INTO object VALUES (?, ?, ?, ?, ?)", values)
