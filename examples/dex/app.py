"""The HTTP API: who may ask for what, and what is done about it.

Every request names its account, and a project that is another's is one that does not exist. Jobs
are taken by a runner, work in its tasks, and are read from their topics; a request only starts,
reads or cancels one. The updates stream is a job's topic through one function of its changes.
"""

# flake8: noqa: ASYNC910 # what needs no waiting is answered without

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias

import attrs
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sselib import (
    EventLog,
    EventStream,
    Job,
    JobKind,
    JobRunner,
    MemoryLog,
    Outcome,
    RunningJob,
    StreamPolicy,
    TooManyJobs,
    open_job_runner,
    open_topics,
)
from sselib.jobs import Work
from sselib.stream import ASGIApp

from ..page import page_routes
from .inputs import (
    MAX_UPLOAD_BYTES,
    ApiError,
    JobQuery,
    NewBatch,
    NewChunks,
    NewParse,
    NewProject,
    ParseParameters,
    body,
    bounded,
    invalid,
)
from .openapi import DOCUMENT, OPERATIONS
from .operations import BATCH, CHUNK, KINDS, PARSE, SEVERAL, render, resource
from .store import Project, Store, StoreFull
from .work import Workshop

DEMO_KEY: Final = "dex_demo"
DEMO_ACCOUNT: Final = "acct_demo"
DEMO_PROJECT: Final = "proj_demo"

_MULTIPART_ROOM: Final = 64 * 1024  # for what is around the file in a form

_PAGE: Final = Path(__file__).with_name("page")
_POLICY: Final = StreamPolicy(ids="end")

InProject: TypeAlias = Callable[[Request, Project], Awaitable[ASGIApp]]


@asynccontextmanager
async def open_app(
    *,
    log: EventLog | None = None,
    data: Path | None = None,
    accounts: Mapping[str, Collection[str]] | None = None,
    capacity: int = 4,
) -> AsyncIterator[ASGIApp]:
    """Open the application, with the runner of its jobs and a directory for its files.

    Args:
        log: Where the jobs are kept; in memory by default.
        data: The directory for files and results, which processes that share a log share as
            well. So what the jobs of a process were about is there when that is gone, and they
            are done again. ``None``: one that lasts as long as the application.
        accounts: The accounts that each API key may select. ``None``: the demo's.
        capacity: The most documents to parse at a time.

    Cancellation: jobs that run are interrupted, or with ``data`` left to be done again.
    """
    if accounts is None:
        accounts = {DEMO_KEY: {DEMO_ACCOUNT}}
    with tempfile.TemporaryDirectory(prefix="dex-") as temporary:
        store = Store(Path(temporary) if data is None else data)
        await store.add_project("Demo", DEMO_ACCOUNT, id=DEMO_PROJECT)
        workshop = Workshop(store)

        async def parse_all(job: RunningJob) -> Outcome:
            return await workshop.parse_all(job, runner)

        work = {
            PARSE.name: workshop.parse,
            CHUNK.name: workshop.rechunk,
            BATCH.name: parse_all,
        }
        async with (
            open_topics(MemoryLog() if log is None else log) as topics,
            open_job_runner(
                topics,
                name="dex",
                kinds=KINDS,
                capacity=capacity,
                again=None if data is None else work,
            ) as runner,
        ):
            yield Api(runner, store, accounts, work).app()


class Api:
    """The requests of the API, each a method."""

    def __init__(
        self,
        runner: JobRunner,
        store: Store,
        accounts: Mapping[str, Collection[str]],
        work: Mapping[str, Work],
    ) -> None:
        self._runner = runner
        self._store = store
        self._accounts = accounts
        self._work = work

    def app(self) -> ASGIApp:
        """Return the ASGI application."""

        def route(path: str, method: str, endpoint: InProject) -> Route:
            async def answer(request: Request) -> ASGIApp:
                return await endpoint(request, await self._project(request))

            return Route(f"/v1/projects/{{project_id}}{path}", answer, methods=[method])

        return Starlette(
            routes=[
                *page_routes(_PAGE),
                Route("/openapi.json", get_openapi),
                Route("/v1/projects", self.create_project, methods=["POST"]),
                Route("/v1/projects", self.list_projects),
                route("", "GET", self.get_project),
                route("/files", "POST", self.upload_file),
                route("/files", "GET", self.list_files),
                route("/parse", "POST", self.create_parse_job),
                route("/parse/batch", "POST", self.create_batch_parse_job),
                route("/parse/{parse_result_id}", "GET", self.get_parse_result),
                route("/parse/{parse_result_id}/rechunk", "POST", self.create_chunk_job),
                route("/jobs", "GET", self.list_jobs),
                route("/jobs/{job_id}", "GET", self.get_job),
                route("/jobs/{job_id}/cancel", "POST", self.cancel_job),
                route("/jobs/{job_id}/updates", "GET", self.stream_job_updates),
            ],
            exception_handlers={
                ApiError: _api_error,
                HTTPException: _http_error,
                StoreFull: _full,
                TooManyJobs: _full,
            },
        )

    # ---- who asks ----------------------------------------------------------------------------

    def _account(self, request: Request) -> str:
        key = request.headers.get("x-api-key")
        account = request.headers.get("x-selected-account-id")
        if not key or not account:
            raise ApiError(401, "The headers x-api-key and x-selected-account-id are required")
        known = [
            accounts
            for each, accounts in self._accounts.items()
            if secrets.compare_digest(each.encode(), key.encode())
        ]
        if not known or account not in known[0]:
            raise ApiError(401, "Invalid API key or account")
        return account

    async def _project(self, request: Request) -> Project:
        account = self._account(request)
        project = await self._store.project(request.path_params["project_id"])
        if project is None or project.account != account:
            # One and the same answer, whether it is another's or nobody's.
            is_job = "job_id" in request.path_params
            raise ApiError(404, "Job not found" if is_job else "Project not found")
        return project

    # ---- projects and files ------------------------------------------------------------------

    async def create_project(self, request: Request) -> JSONResponse:
        """Make a project of the account."""
        account = self._account(request)
        new = await body(request, NewProject)
        project = await self._store.add_project(new.name, account)
        return JSONResponse(project.resource())

    async def list_projects(self, request: Request) -> JSONResponse:
        """List the projects of the account."""
        account = self._account(request)
        projects = await self._store.projects(account)
        return JSONResponse(_page([project.resource() for project in projects]))

    async def get_project(self, _: Request, project: Project) -> JSONResponse:
        """Show a project."""
        return JSONResponse(project.resource())

    async def upload_file(self, request: Request, project: Project) -> JSONResponse:
        """Take a file in, of which the form's field ``file`` is the content."""
        limited = bounded(request, MAX_UPLOAD_BYTES + _MULTIPART_ROOM)
        try:
            async with limited.form(max_files=1, max_fields=10) as form:
                upload = form.get("file")
                if not isinstance(upload, UploadFile):
                    raise invalid(("body", "file"), "Field required", "missing")
                data = await upload.read()
        except HTTPException as error:
            raise invalid(("body",), error.detail, "form_invalid") from error
        if len(data) > MAX_UPLOAD_BYTES:
            raise ApiError(413, f"The file may have at most {MAX_UPLOAD_BYTES} bytes")
        # A name is shown and never opened; still, where it was on somebody's disk is not told on.
        name = PurePosixPath((upload.filename or "").replace("\\", "/")).name
        name = name.encode("utf-8", "replace").decode()[-200:]
        if not name:
            raise invalid(("body", "file"), "The file should have a name")
        kind = upload.content_type or "application/octet-stream"
        file = await self._store.add_file(project, name, kind, data)
        return JSONResponse(attrs.asdict(file))

    async def list_files(self, _: Request, project: Project) -> JSONResponse:
        """List the files of a project."""
        files = await self._store.files(project)
        return JSONResponse(_page([attrs.asdict(file) for file in files]))

    # ---- starting jobs -----------------------------------------------------------------------

    async def create_parse_job(self, request: Request, project: Project) -> JSONResponse:
        """Start to parse a file."""
        new = await body(request, NewParse)
        await self._check_files(project, [new.source_document_id])
        return await self._start(
            request,
            project,
            PARSE,
            new.parameters,
            source_id=new.source_document_id,
        )

    async def create_batch_parse_job(self, request: Request, project: Project) -> JSONResponse:
        """Start to parse several files, each by a job of its own."""
        new = await body(request, NewBatch)
        await self._check_files(project, new.source_document_ids)
        return await self._start(
            request,
            project,
            BATCH,
            new.parameters,
            source_ids=new.source_document_ids,
        )

    async def create_chunk_job(self, request: Request, project: Project) -> JSONResponse:
        """Start to cut a parse result into other chunks."""
        result = json.loads(await self._result(request, project))
        new = await body(request, NewChunks)
        return await self._start(
            request,
            project,
            CHUNK,
            new,
            source_id=result["source_document_id"],
            parse_result_id=result["id"],
        )

    async def _start(
        self,
        request: Request,
        project: Project,
        kind: JobKind,
        parameters: ParseParameters | NewChunks,
        **about: Any,
    ) -> JSONResponse:
        job = await self._runner.submit(
            self._work[kind.name],
            kind=kind,
            job_id=f"job_{secrets.token_hex(12)}",
            details={
                "project_id": project.id,
                "source_id": None,
                "correlation_id": _correlation_id(request),
                "span_id": secrets.token_hex(8),
                "parent_span_id": None,
                "chunking_options": attrs.asdict(parameters.chunking_options),
                **about,
            },
        )
        return JSONResponse(resource(job))

    async def _check_files(self, project: Project, ids: list[str]) -> None:
        for id in ids:
            if await self._store.file(project.id, id) is None:
                raise ApiError(404, "Source document not found")

    # ---- jobs --------------------------------------------------------------------------------

    async def list_jobs(self, request: Request, project: Project) -> JSONResponse:
        """List the jobs of a project, a page at a time."""
        query = JobQuery.of(request.query_params, statuses=SEVERAL.states, operations=OPERATIONS)
        jobs = [
            job
            for job in await self._runner.list()
            if job.details["project_id"] == project.id and query.takes(job)
        ]
        jobs.sort(key=query.place_of, reverse=query.descending)
        here = [
            await self._runner.get(job.id)
            for job in jobs[query.offset : query.offset + query.page_size]
        ]
        items = [resource(job) for job in here if job is not None]
        return JSONResponse(_page(items, len(jobs), query.offset, query.page_size))

    async def get_job(self, request: Request, project: Project) -> JSONResponse:
        """Show a job."""
        return JSONResponse(resource(await self._job(request, project)))

    async def cancel_job(self, request: Request, project: Project) -> JSONResponse:
        """Cancel a job: 200 if it is cancelled, 202 if its work has to unwind first."""
        job = await self._job(request, project)
        if job.finished and job.status != "cancelled":
            raise ApiError(409, f"Job is already in a terminal state: {job.status}")
        now = await self._runner.cancel(job.id)
        if now is None:
            raise ApiError(404, "Job not found")
        return JSONResponse(resource(now), status_code=200 if now.finished else 202)

    async def stream_job_updates(self, request: Request, project: Project) -> EventStream:
        """Stream what happens to a job."""
        job = await self._job(request, project)
        return EventStream(self._runner.channel(job.id, render), policy=_POLICY)

    async def _job(self, request: Request, project: Project) -> Job:
        job = await self._runner.get(request.path_params["job_id"])
        if job is None or job.details["project_id"] != project.id:
            raise ApiError(404, "Job not found")
        return job

    # ---- results -----------------------------------------------------------------------------

    async def get_parse_result(self, request: Request, project: Project) -> Response:
        """Show what a document was parsed into."""
        data = await self._result(request, project)
        return Response(data, media_type="application/json")

    async def _result(self, request: Request, project: Project) -> bytes:
        data = await self._store.read_result(project.id, request.path_params["parse_result_id"])
        if data is None:
            raise ApiError(404, "Parse result not found")
        return data


async def get_openapi(_: Request) -> JSONResponse:
    """Show the description of the API."""
    return JSONResponse(DOCUMENT)


def _page(
    items: list[dict[str, Any]], total: int | None = None, offset: int = 0, size: int | None = None
) -> dict[str, Any]:
    total = len(items) if total is None else total
    following = None if size is None or offset + size >= total else offset + size
    preceding = None if size is None or offset == 0 else max(0, offset - size)
    return {
        "items": items,
        "total_count": total,
        "next_token": None if following is None else str(following),
        "prev_token": None if preceding is None else str(preceding),
    }


def _correlation_id(request: Request) -> str:
    """Return the id by which a client knows this request, or a new one."""
    given = request.headers.get("x-correlation-id", "")
    is_usable = given.isascii() and given.isprintable() and 1 <= len(given) <= 128
    return given if is_usable else secrets.token_hex(16)


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse({"detail": error.detail}, status_code=error.status)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"detail": error.detail}, status_code=error.status_code, headers=error.headers
    )


async def _full(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"No room: {error}"}, status_code=507)
