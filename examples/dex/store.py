"""Projects, files and parse results: a directory for each project, a record beside each thing.

Everything is read from the disk when it is asked for, so that processes that share the directory
see the same. A name on disk is an id of ours, checked before it is made part of a path, and never
something that a client sent. Content is written first and its record last, by a rename: after a
crash there is all of a thing or nothing of it. Numbers are bounded here, bytes by whoever takes a
file in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from .spans import now

MAX_PROJECTS: Final = 1000
MAX_FILES: Final = 1000  # in all projects; and in each so many parse results

_ID: Final = re.compile(r"(?:proj|file|pres)_[0-9a-z]{1,32}", re.ASCII)


class StoreFull(Exception):
    """There are as many of a kind of thing as there may be."""


@attrs.frozen(kw_only=True)
class Project:
    """A place for files and jobs that belongs to an account."""

    id: str
    name: str
    account: str
    created_at: str

    def resource(self) -> dict[str, Any]:
        """Return the project as the API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "created_at": self.created_at,
            "object": "project",
        }


@attrs.frozen(kw_only=True)
class File:
    """A file that was uploaded, as the API shows it."""

    id: str
    project_id: str
    filename: str
    size_bytes: int
    mime_type: str
    status: str = "uploaded"
    created_at: str
    storage_key: str
    object: str = "file"


class Store:
    """What is kept below one directory.

    Cancellation: of its methods: what was to be kept is, or is not, and never by half.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def add_project(self, name: str, account: str, *, id: str | None = None) -> Project:
        """Make a project, unless it is there.

        Raises:
            StoreFull: There are too many.
        """
        project = Project(id=id or _new_id("proj"), name=name, account=account, created_at=now())
        return await trio.to_thread.run_sync(self._add_project, project)

    async def project(self, id: str) -> Project | None:
        """Return a project, if there is one of that id."""
        return await trio.to_thread.run_sync(self._project, id)

    async def projects(self, account: str) -> list[Project]:
        """Return the projects of an account, the oldest first."""
        return await trio.to_thread.run_sync(self._projects, account)

    async def add_file(self, project: Project, filename: str, mime_type: str, data: bytes) -> File:
        """Keep a file.

        Raises:
            StoreFull: There are too many.
        """
        id = _new_id("file")
        file = File(
            id=id,
            project_id=project.id,
            filename=filename,
            size_bytes=len(data),
            mime_type=mime_type,
            created_at=now(),
            storage_key=f"{project.id}/{id}",
        )
        await trio.to_thread.run_sync(self._add_file, file, data)
        return file

    async def file(self, project_id: str, id: str) -> File | None:
        """Return a file of a project, if there is one of that id."""
        return await trio.to_thread.run_sync(self._file, project_id, id)

    async def files(self, project: Project) -> list[File]:
        """Return the files of a project, the oldest first."""
        return await trio.to_thread.run_sync(self._files, project.id)

    async def read_file(self, file: File) -> bytes:
        """Return what a file holds."""
        return await trio.to_thread.run_sync(self._path(file.project_id, file.id).read_bytes)

    async def add_result(self, project_id: str, source_id: str, result: dict[str, Any]) -> str:
        """Keep a job's parse result, and return its id; the oldest makes room if there are many."""
        # Of the job, so that what is done twice is kept once.
        id = f"pres_{hashlib.sha256(result['job_id'].encode()).hexdigest()[:24]}"
        shown = {"id": id, "project_id": project_id, "source_document_id": source_id, **result}
        await trio.to_thread.run_sync(self._add_result, self._path(project_id, id), shown)
        return id

    async def read_result(self, project_id: str, id: str) -> bytes | None:
        """Return a parse result as the API shows it, JSON; ``None`` if there is none of that id."""
        return await trio.to_thread.run_sync(self._result, project_id, id)

    # ---- in a worker thread ------------------------------------------------------------------

    def _add_project(self, project: Project) -> Project:
        existing = self._project(project.id)
        if existing is not None:
            return existing
        if len(list(self._directory.glob("proj_*"))) >= MAX_PROJECTS:
            raise StoreFull(f"there are {MAX_PROJECTS} projects")
        self._path(project.id).mkdir(parents=True, exist_ok=True)
        _write(self._path(project.id, "project.json"), attrs.asdict(project))
        return project

    def _project(self, id: str) -> Project | None:
        data = _read(self._path(id, "project.json")) if _is_id(id, "proj") else None
        return None if data is None else Project(**json.loads(data))

    def _projects(self, account: str) -> list[Project]:
        found = map(self._project, (path.name for path in self._directory.glob("proj_*")))
        mine = [each for each in found if each is not None and each.account == account]
        return sorted(mine, key=lambda project: (project.created_at, project.id))

    def _add_file(self, file: File, data: bytes) -> None:
        if len(list(self._directory.glob("proj_*/file_*.json"))) >= MAX_FILES:
            raise StoreFull(f"there are {MAX_FILES} files")
        path = self._path(file.project_id, file.id)
        path.write_bytes(data)
        _write(path.with_suffix(".json"), attrs.asdict(file))

    def _file(self, project_id: str, id: str) -> File | None:
        data = _read(self._path(project_id, id, ".json")) if _is_id(id, "file") else None
        return None if data is None else File(**json.loads(data))

    def _files(self, project_id: str) -> list[File]:
        paths = self._path(project_id).glob("file_*.json")
        found = map(partial(self._file, project_id), (path.stem for path in paths))
        files = [file for file in found if file is not None]
        return sorted(files, key=lambda file: (file.created_at, file.id))

    def _result(self, project_id: str, id: str) -> bytes | None:
        return _read(self._path(project_id, id, ".json")) if _is_id(id, "pres") else None

    def _add_result(self, path: Path, result: dict[str, Any]) -> None:
        path = path.with_suffix(".json")
        results = sorted(set(path.parent.glob("pres_*.json")) - {path}, key=os.path.getmtime)
        for old in results[: max(0, len(results) + 1 - MAX_FILES)]:
            old.unlink(missing_ok=True)
        _write(path, result)

    def _path(self, project_id: str, *rest: str) -> Path:
        return self._directory / project_id / "".join(rest)


def _is_id(text: str, kind: str) -> bool:
    return text.startswith(f"{kind}_") and _ID.fullmatch(text) is not None


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, record: dict[str, Any]) -> None:
    draft = path.with_suffix(f".{secrets.token_hex(4)}")
    draft.write_text(json.dumps(record), encoding="utf-8")
    draft.replace(path)
