"""The HTTP API: what can be asked of a backend, and how it answers.

Bodies are JSON, and so are errors: ``{"error": ...}``. Each path is answered with and without a
slash at its end. What a request says is checked whole before anything changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sselib import EventStream
from sselib.stream import ASGIApp

from ..page import page_routes
from . import index
from .backend import Backend
from .queue import Item, ItemInProcess, UnknownItem
from .scheduler import InvalidSchedule, as_json, schedule_of
from .search import MAX_QUERY, MAX_RESULTS, search
from .search import as_json as result_as_json
from .store import load_watches
from .text import printable
from .watching import WatchError

MAX_BODY: Final = 64 * 1024  # bytes
DEFAULT_RESULTS: Final = 50
MAX_ITEMS: Final = 1000  # of the queue in one answer, which is made in one go while others wait

_PAGE: Final = Path(__file__).with_name("page")

Endpoint: TypeAlias = Callable[[Request], Awaitable[ASGIApp]]


def routes(backend: Backend, updates: EventStream) -> ASGIApp:
    """Return the application: the API of a backend, its stream, and the page that shows it."""
    api = _API(backend, updates)
    endpoints: list[tuple[str, Mapping[str, Endpoint]]] = [
        ("/api/updates", {"GET": api.get_updates}),
        ("/api/status", {"GET": api.get_status}),
        ("/api/watch", {"POST": api.add_watch}),
        ("/api/watch/jobs", {"GET": api.get_watches}),
        ("/api/watch/jobs/{id}", {"DELETE": api.remove_watch}),
        ("/api/queue/status", {"GET": api.get_queue}),
        ("/api/queue/items", {"GET": api.get_items}),
        ("/api/queue/items/{id}", {"DELETE": api.remove_item}),
        ("/api/queue/pause", {"POST": partial(api.pause, paused=True)}),
        ("/api/queue/resume", {"POST": partial(api.pause, paused=False)}),
        ("/api/queue/scheduler", {"GET": api.get_schedule, "PUT": api.set_schedule}),
        ("/api/search", {"POST": api.search}),
        ("/api/files/stats", {"GET": api.get_statistics}),
    ]
    return Starlette(
        routes=[
            *(
                Route(path + slash, _by_method(methods), methods=list(methods))
                for path, methods in endpoints
                for slash in ("", "/")
            ),
            *page_routes(_PAGE),
        ],
        exception_handlers={HTTPException: _error},
    )


def _by_method(methods: Mapping[str, Endpoint]) -> Endpoint:
    async def answer(request: Request) -> ASGIApp:
        # Starlette adds HEAD to GET.
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return answer


async def _error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    content = {"error": printable(error.detail)}
    return JSONResponse(content, error.status_code, headers=error.headers)  # noqa: ASYNC910 # nothing here blocks


@attrs.frozen
class _API:
    """The endpoints. Cancellation of each: as of what it does with the backend."""

    _backend: Backend
    _updates: EventStream

    async def get_updates(self, request: Request) -> ASGIApp:
        if not _accepts_event_stream(request.headers.getlist("accept")):
            raise HTTPException(400, "Accept: text/event-stream required")
        return self._updates  # noqa: ASYNC910 # nothing here blocks

    async def get_status(self, _: Request) -> ASGIApp:
        return JSONResponse({"jobs": len(await self._backend.store.query(load_watches))})

    # ---- watches -----------------------------------------------------------------------------

    async def add_watch(self, request: Request) -> ASGIApp:
        body = await _body(request, {"directory_path", "recursive"})
        directory = _text(body, "directory_path")
        recursive = body.get("recursive", True)
        if not isinstance(recursive, bool):
            raise HTTPException(400, f"recursive is true or false, not {recursive!r}")
        try:
            watch = await self._backend.add_watch(directory, recursive=recursive)
        except WatchError as error:
            return _outcome(400, str(error), files_indexed=0)
        return _outcome(201, f"Started watching directory: {watch.path}", files_indexed=0)

    async def get_watches(self, _: Request) -> ASGIApp:
        watches = await self._backend.store.query(load_watches)
        jobs = [
            attrs.asdict(each) | {"path": printable(each.path), "file_pattern": None}
            for each in watches
        ]
        return JSONResponse({"jobs": jobs})

    async def remove_watch(self, request: Request) -> ASGIApp:
        id = request.path_params["id"]
        if await self._backend.remove_watch(id):
            return _outcome(200, "Stopped watching directory", job_id=id)
        return _outcome(404, f"Watch job {id!r} not found", job_id=id)

    # ---- the queue ---------------------------------------------------------------------------

    async def get_queue(self, _: Request) -> ASGIApp:
        backend = self._backend
        return JSONResponse(  # noqa: ASYNC910 # nothing here blocks
            {
                "paused": backend.is_paused,
                "manually_paused": backend.manually_paused,
                "scheduler_paused": backend.scheduler_paused,
                **backend.queue.counts(backend.now()),
            }
        )

    async def get_items(self, request: Request) -> ASGIApp:
        backend = self._backend
        limit = request.query_params.get("limit", str(MAX_ITEMS))
        is_number = limit.isascii() and limit.isdigit() and len(limit) < 10
        if not (is_number and int(limit) <= MAX_ITEMS):
            raise HTTPException(400, f"limit is a number from 0 to {MAX_ITEMS}, not {limit!r}")
        items = backend.queue.items(backend.now(), int(limit))
        shown = [_item(item, status) for item, status in items]
        return JSONResponse({"items": shown})  # noqa: ASYNC910 # nothing here blocks

    async def remove_item(self, request: Request) -> ASGIApp:
        id = request.path_params["id"]
        try:
            await self._backend.remove_item(id)
        except UnknownItem:
            return _outcome(404, f"Queue item {id!r} not found")  # noqa: ASYNC910 # it had its turn
        except ItemInProcess:
            return _outcome(409, f"Queue item {id!r} is being processed")  # noqa: ASYNC910 # as above
        return _outcome(200, "Queue item removed")

    async def pause(self, _: Request, *, paused: bool) -> ASGIApp:
        await self._backend.pause(paused=paused)
        return _outcome(200, "Queue paused" if paused else "Queue resumed")

    async def get_schedule(self, _: Request) -> ASGIApp:
        return self._schedule()  # noqa: ASYNC910 # nothing here blocks

    async def set_schedule(self, request: Request) -> ASGIApp:
        try:
            schedule = schedule_of(await _json(request))
        except InvalidSchedule as error:
            raise HTTPException(400, str(error)) from None
        await self._backend.set_schedule(schedule)
        return self._schedule()

    def _schedule(self) -> JSONResponse:
        backend = self._backend
        met = backend.conditions_met()
        return JSONResponse(as_json(backend.schedule) | {"conditions_met": met})

    # ---- the index ---------------------------------------------------------------------------

    async def search(self, request: Request) -> ASGIApp:
        body = await _body(request, {"query", "directory", "limit"})
        question, directory = _text(body, "query"), body.get("directory")
        if len(question) > MAX_QUERY:
            raise HTTPException(400, f"query has at most {MAX_QUERY} characters")
        if directory is not None:
            directory = os.path.abspath(_path(_text(body, "directory")))
        limit = body.get("limit", DEFAULT_RESULTS)
        if type(limit) is not int or not 1 <= limit <= MAX_RESULTS:
            raise HTTPException(400, f"limit is a number from 1 to {MAX_RESULTS}, not {limit!r}")
        ask = partial(search, question=question, directory=directory, limit=limit)
        found = await self._backend.store.query(ask)
        return JSONResponse({"results": [_printable(result_as_json(each)) for each in found]})

    async def get_statistics(self, _: Request) -> ASGIApp:
        return JSONResponse(_printable(await self._backend.store.query(index.statistics)))


def _outcome(status: int, message: str, **more: Any) -> JSONResponse:
    content = {"success": status < 400, "message": message, **more}
    return JSONResponse(_printable(content), status)


def _item(item: Item, status: str) -> dict[str, Any]:
    return {
        "id": item.id,
        "file_path": printable(item.file_path),
        "action": item.action,
        "status": status,
        "enqueued_at": item.enqueued_at,
        "cooldown_expires_at": item.cooldown_expires_at,
        "dest_path": None if item.dest_path is None else printable(item.dest_path),
        "retry_count": item.retry_count,
    }


def _printable(value: Any) -> Any:
    """Return a value of JSON in which all texts can be encoded."""
    if isinstance(value, dict):
        return {_printable(name): _printable(inner) for name, inner in value.items()}
    return printable(value) if isinstance(value, str) else value


# ---- what requests say ---------------------------------------------------------------------------


async def _json(request: Request) -> Any:
    """Read the body, which is JSON and not large."""
    # A page of another site can send what a form can send, and that is not JSON.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"Content-Type is application/json, not {kind!r}")
    body = b""
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BODY:
                raise HTTPException(413, f"a body has at most {MAX_BODY} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None


async def _body(request: Request, names: set[str]) -> dict[str, Any]:
    """Read a body that is an object with some of these names."""
    body = await _json(request)
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not a JSON object")
    if unknown := sorted(body.keys() - names):
        raise HTTPException(400, f"nothing is known of {', '.join(unknown)}")
    return body


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise HTTPException(400, f"{name} is a text that is not empty, not {value!r}")
    return value


def _path(text: str) -> str:
    try:
        if "\0" not in text and os.fsencode(text):
            return text
    except UnicodeEncodeError:
        pass
    raise HTTPException(400, f"no path can be {text!r}")


def _accepts_event_stream(accept: Iterable[str]) -> bool:
    """Return whether Accept headers name ``text/event-stream``, alone or in a range."""
    qualities: dict[str, float] = {}
    for media_range in ",".join(accept).split(","):
        kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        qualities[kind] = quality
    # The most specific range decides: https://www.rfc-editor.org/rfc/rfc9110#field.accept
    for kind in ("text/event-stream", "text/*", "*/*"):
        if kind in qualities:
            return qualities[kind] > 0
    return False
