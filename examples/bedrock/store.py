"""Files and overlays on disk: a directory for each, named by its id, with a record of it in JSON.

Nothing that a client sends is ever part of a path. A directory is filled as a *draft*, under
another name, and renamed when it is complete: after a crash an object is there or it is not. The
records are also kept in memory, so looking one up never waits; what is large is written and read in
threads by whoever does it. What a project stores is bounded, drafts included.

An upload makes one *block*, which is what a drawing is called when it is compared: the file under
another name.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from cattrs.preconf.json import make_converter

from .ids import is_id, new_id, timestamp, with_prefix

MAX_PROJECT_BYTES: Final = 1024**3
MAX_PROJECT_OBJECTS: Final = 10_000  # files and overlays

_RECORD: Final = "record.json"
_CONTENT: Final = "content"
_LOCK: Final = "lock"
_CONVERTER: Final = make_converter()


@attrs.frozen(kw_only=True)
class File:
    """A file that was announced; until it has been uploaded, ``size`` is ``None``.

    Attributes:
        expires: When the chance to upload it ends, in seconds since the epoch.
    """

    id: str
    project_id: str
    filename: str
    content_type: str
    created_at: str
    expires: float
    size: int | None = None

    @property
    def block_id(self) -> str:
        """The id of the block that the upload makes."""
        return with_prefix(self.id, "blk")


@attrs.frozen(kw_only=True)
class Overlay:
    """What came of comparing two blocks; ``size`` is of its pictures, in bytes."""

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


class StorageFull(Exception):
    """The project may not store more."""


class StoreInUse(Exception):
    """The directory is another process's."""


class UploadConflict(Exception):
    """The file has been uploaded already, or is gone."""


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Have a directory for this process alone, however it ends.

    Raises:
        StoreInUse: Another process has it.
    """
    with (directory / _LOCK).open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreInUse(f"{directory} is used by another process") from None
        yield


@attrs.define(eq=False)
class Draft:
    """A directory that is being filled.

    Attributes:
        path: Where it is.
        project_id: Whose it is.
        size: Bytes of it that count as the project's.
    """

    path: Path
    project_id: str
    size: int = 0


class Store:
    """The files and overlays in one directory, which has to be :func:`claimed`.

    Args:
        directory: Where they are; it exists. What is in it from before is read.
        max_project_bytes: The most bytes that a project may store.
        max_project_objects: The most files and overlays that it may have.

    Attributes:
        files: The files by their ids, the oldest first.
        overlays: The overlays by their ids, the oldest first.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_project_bytes: int = MAX_PROJECT_BYTES,
        max_project_objects: int = MAX_PROJECT_OBJECTS,
    ) -> None:
        self._directory = directory
        self._max_bytes = max_project_bytes
        self._max_objects = max_project_objects
        self._used: Counter[str] = Counter()  # bytes by project
        self.files: dict[str, File] = {}
        self.overlays: dict[str, Overlay] = {}
        for place in sorted(directory.iterdir()):
            if is_id(place.name.removeprefix(".")):
                self._load(place)

    def announce(
        self, project_id: str, *, filename: str, content_type: str, seconds: float
    ) -> File:
        """Announce a file, which is gone again if it is not uploaded within so many seconds.

        Raises:
            StorageFull: The project has no room for another.
        """
        now = time.time()
        for file in [each for each in self.files.values() if each.size is None]:
            if file.expires < now:
                del self.files[file.id]
        self._check_objects(project_id)
        file = File(
            id=new_id("file"),
            project_id=project_id,
            filename=filename,
            content_type=content_type,
            created_at=timestamp(),
            expires=now + seconds,
        )
        self.files[file.id] = file
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
        self._check_awaited(file)
        with self.draft(file.project_id) as draft:
            async with await trio.open_file(draft.path / _CONTENT, "wb") as out:
                while piece := await receive():
                    self._reserve(draft, len(piece))
                    await out.write(piece)
            self._check_awaited(file)
            uploaded = attrs.evolve(file, size=draft.size)
            self._keep(draft, uploaded)
            self.files[file.id] = uploaded
        return uploaded

    def block(self, block_id: str) -> File | None:
        """Return the uploaded file that is this block."""
        file = self.files.get(with_prefix(block_id, "file"))
        return file if file and file.size is not None and file.block_id == block_id else None

    def content(self, file: File) -> Path:
        """Return where the content of a file is."""
        return self._directory / file.id / _CONTENT

    def picture(self, overlay: Overlay, name: str) -> Path:
        """Return where a picture of an overlay is."""
        return self._directory / overlay.id / f"{name}.png"

    @contextmanager
    def draft(self, project_id: str) -> Iterator[Draft]:
        """Give a directory to fill. If it was not kept, it is gone at the end."""
        draft = Draft(self._directory / f".{new_id('draft')}", project_id)
        draft.path.mkdir()
        try:
            yield draft
        finally:
            self._used[project_id] -= draft.size
            shutil.rmtree(draft.path, ignore_errors=True)  # a handful of files

    def keep(self, draft: Draft, overlay: Overlay) -> None:
        """Make a draft with all its pictures an overlay.

        Raises:
            StorageFull: The project has no room for another, or for so many bytes.
        """
        self._check_objects(draft.project_id)
        self._reserve(draft, overlay.size)
        self._keep(draft, overlay)
        self.overlays[overlay.id] = overlay

    def delete(self, owner: File | Overlay) -> None:
        """Forget a file or an overlay, if it is there."""
        kept: dict[str, Any] = self.overlays if isinstance(owner, Overlay) else self.files
        if kept.pop(owner.id, None) is not None:
            self._used[owner.project_id] -= owner.size or 0
            shutil.rmtree(self._directory / owner.id, ignore_errors=True)

    def _load(self, place: Path) -> None:
        """Read what an earlier process has kept; remove what it had not completed."""
        if place.name.startswith("."):
            shutil.rmtree(place)
            return
        record = (place / _RECORD).read_text(encoding="utf-8")
        owner: File | Overlay
        if place.name.startswith("ovl_"):
            owner = self.overlays[place.name] = _CONVERTER.loads(record, Overlay)
        else:
            owner = self.files[place.name] = _CONVERTER.loads(record, File)
        self._used[owner.project_id] += owner.size or 0

    def _keep(self, draft: Draft, owner: File | Overlay) -> None:
        (draft.path / _RECORD).write_text(
            json.dumps(_CONVERTER.unstructure(owner)), encoding="utf-8"
        )
        os.rename(draft.path, self._directory / owner.id)
        draft.size = 0  # it is the owner's now

    def _check_awaited(self, file: File) -> None:
        if self.files.get(file.id) is not file or file.size is not None:
            raise UploadConflict

    def _check_objects(self, project_id: str) -> None:
        owners: list[File | Overlay] = [*self.files.values(), *self.overlays.values()]
        if sum(owner.project_id == project_id for owner in owners) >= self._max_objects:
            raise StorageFull

    def _reserve(self, draft: Draft, size: int) -> None:
        if self._used[draft.project_id] + size > self._max_bytes:
            raise StorageFull
        self._used[draft.project_id] += size
        draft.size += size
