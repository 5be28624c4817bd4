"""The pages of the examples, and what they share: a script and a style sheet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route


def page_routes(folder: Path) -> list[Route]:
    """Return the routes of a page: its ``index.html`` at ``/``, its other files, and the shared.

    A route for each file, so that whatever else is asked for stays the application's to answer.

    Args:
        folder: The files of the page.
    """
    files = {f"/{path.name}": path for path in sorted(folder.iterdir())}
    files["/"] = files.pop("/index.html")
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in (".js", ".css"):
            files[f"/shared/{path.name}"] = path
    return [Route(name, _sending(path)) for name, path in files.items()]


def _sending(path: Path) -> Callable[[Request], Awaitable[FileResponse]]:
    async def send(_: Request) -> FileResponse:
        return FileResponse(path)  # noqa: ASYNC910 # nothing here blocks

    return send
