"""Projects, files and parse results: what they are called in memory, what they hold on disk.

A file on disk is named by an id of ours, and never by a name that somebody sent. Numbers are
bounded here, bytes by whoever takes a file in.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from .spans import now

MAX_PROJECTS: Final = 1000
MAX_FILES: Final = 1000  # in all projects, and so of parse results


class StoreFull(Exception):
    """There are as many of a kind of thing as there may be."""


@attrs.frozen
class Project:
    """A place for files and jobs that belongs to an account."""

    id: str
    name: str
    account: str
    created_at: str
    files: dict[str, File] = attrs.field(factory=dict)
    results: dict[str, str] = attrs.field(factory=dict)  # to the file each was made of

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
    """Everything that is kept, below one directory.

    Attributes:
        projects: The projects by their ids.
    """

    def __init__(self, directory: Path) -> None:
        self.projects: dict[str, Project] = {}
        self._directory = trio.Path(directory)

    def add_project(self, name: str, account: str, *, id: str | None = None) -> Project:
        """Make a project.

        Raises:
            StoreFull: There are too many.
        """
        if len(self.projects) >= MAX_PROJECTS:
            raise StoreFull(f"there are {MAX_PROJECTS} projects")
        project = Project(id or _id("proj"), name, account, now())
        self.projects[project.id] = project
        return project

    async def add_file(self, project: Project, filename: str, mime_type: str, data: bytes) -> File:
        """Keep a file.

        Raises:
            StoreFull: There are too many.

        Cancellation: the file is not listed.
        """
        if sum(len(each.files) for each in self.projects.values()) >= MAX_FILES:
            raise StoreFull(f"there are {MAX_FILES} files")
        id = _id("file")
        await (self._directory / id).write_bytes(data)
        file = File(
            id=id,
            project_id=project.id,
            filename=filename,
            size_bytes=len(data),
            mime_type=mime_type,
            created_at=now(),
            storage_key=f"{project.id}/{id}",
        )
        project.files[id] = file
        return file

    async def read_file(self, file: File) -> bytes:
        """Return what a file holds."""
        return await (self._directory / file.id).read_bytes()

    async def add_result(self, project: Project, source_id: str, result: dict[str, Any]) -> str:
        """Keep a parse result, in the place of the oldest if there are too many; return its id.

        Cancellation: the result is not listed.
        """
        id = _id("pres")
        shown = {"id": id, "project_id": project.id, "source_document_id": source_id, **result}
        text = await trio.to_thread.run_sync(json.dumps, shown)
        await (self._directory / id).write_text(text, encoding="utf-8")
        if len(project.results) >= MAX_FILES:
            oldest = next(iter(project.results))
            del project.results[oldest]
            await (self._directory / oldest).unlink()
        project.results[id] = source_id
        return id

    async def read_result(self, id: str) -> bytes:
        """Return a parse result as the API shows it: JSON."""
        return await (self._directory / id).read_bytes()


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"
