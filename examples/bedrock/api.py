"""The endpoints. Each looks, changes one thing, and answers; the work itself is a job's.

What belongs to another project is not there: a request for it is answered like one for what never
was. What needs no key (:meth:`Api.open_routes`) is signed, for one path and a while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sselib import EventStream, StreamPolicy, TooManyJobs
from sselib.jobs import Job, JobRunner
from sselib.stream import ASGIApp
from sselib.window import Ids

from .errors import (
    ApiError,
    bad_request,
    conflict,
    forbidden,
    method_not_allowed,
    not_found,
    overloaded,
    storage_full,
)
from .gate import Account, Seen
from .idempotency import Answer, Answers, KeyInUse, KeyReused, is_key
from .ids import new_id, with_prefix
from .jobs import ANALYSES, LIFECYCLE, OVERLAY_JOB, events_of, generate_overlay, resource_of
from .openapi import document
from .overlay import PICTURES
from .reading import MAX_JSON_BYTES, Body, Fields
from .signing import Signer
from .store import File, Overlay, StorageFull, Store, UploadConflict

HEARTBEAT: Final = 15.0  # seconds, whatever else is sent
STREAM_SECONDS: Final = 300.0  # then a stream ends, and its client comes back
UPLOAD_SECONDS: Final = 15 * 60.0
PICTURE_SECONDS: Final = 60 * 60.0
MAX_UPLOAD_BYTES: Final = 32 * 1024 * 1024  # a dense A1 sheet at 200 dpi is 5 MiB
PAGE: Final = 50  # items of a list, unless asked for more or fewer
LARGEST_PAGE: Final = 100

# Given the request, its body, and an id for what it makes, with whatever prefix.
Handle = Callable[["Api", Request, bytes, str], Awaitable[Response]]


class Api:
    """The endpoints over one store and one runner.

    Args:
        store: Where files and overlays are.
        runner: Runs the jobs.
        answers: The answers to requests with an idempotency key.
        signer: Makes the URLs that need no key.
        ids: Which events of a stream say an id: ``"none"``, or ``"end"`` for browsers, which
            without it come back for ever.
    """

    def __init__(
        self,
        *,
        store: Store,
        runner: JobRunner,
        answers: Answers,
        signer: Signer,
        ids: Ids = "none",
    ) -> None:
        self._store = store
        self._runner = runner
        self._answers = answers
        self._signer = signer
        self._policy = StreamPolicy(
            heartbeat=HEARTBEAT,
            heartbeat_mode="interval",
            heartbeat_comment="heartbeat",
            max_age=STREAM_SECONDS,
            max_age_jitter=0,
            ids=ids,
        )

    def routes(self) -> list[Route]:
        """Return the routes for those who have a key."""
        return [
            Route("/files", self._once(Api.create_file), methods=["POST"]),
            Route("/files/{file_id}", self.get_file),
            Route("/files/{file_id}", self.delete_file, methods=["DELETE"]),
            Route("/compare", self._once(Api.compare), methods=["POST"]),
            Route("/jobs", self.list_jobs),
            Route("/jobs/{job_id}", self.get_job),
            Route("/jobs/{job_id}/stream", self.stream_job),
            Route("/jobs/{job_id}/cancel", self._once(Api.cancel_job), methods=["POST"]),
            Route("/overlays", self.list_overlays),
            Route("/overlays/{overlay_id}", self.get_overlay),
            Route("/overlays/{overlay_id}", self.delete_overlay, methods=["DELETE"]),
        ]

    def open_routes(self) -> list[Route]:
        """Return the routes that need no key."""
        return [
            Route("/openapi.json", self.openapi),
            Route("/uploads/{file_id}", self.upload, methods=["PUT"]),
            Route("/overlays/{overlay_id}/{picture}.png", self.get_picture),
        ]

    # ---- files -------------------------------------------------------------------------------

    async def create_file(self, request: Request, content: bytes, made_as: str) -> Response:
        """Announce a file, and say where to put it."""
        fields = Fields.of_json(content, _path(request))
        project_id = fields.text("project_id")
        filename = fields.text("filename")
        content_type = fields.text("content_type")
        if content_type and content_type != "image/png":
            fields.refuse("content_type", "must be image/png: no other format can be compared")
        if any(character in "/\\" or not character.isprintable() for character in filename):
            fields.refuse("filename", "must be a name, without a path")
        fields.check()
        if project_id != _account(request).project_id:
            raise not_found("Project")
        try:
            file = await self._store.announce(
                project_id,
                filename=filename,
                content_type=content_type,
                seconds=UPLOAD_SECONDS,
                id=with_prefix(made_as, "file"),
            )
        except StorageFull:
            raise storage_full() from None
        url = self._signed(request, "PUT", f"/uploads/{file.id}", UPLOAD_SECONDS)
        return JSONResponse({"data": {**_file(file), "upload_url": url}}, 201)

    async def upload(self, request: Request) -> Response:
        """Take a file."""
        self._check_signature(request, "PUT")
        file = await self._store.file(request.path_params["file_id"])
        if file is None:
            raise not_found("File")
        try:
            file = await self._store.upload(file, Body(request, MAX_UPLOAD_BYTES).receive)
        except UploadConflict:
            raise conflict("The file has been uploaded already.") from None
        except StorageFull:
            raise storage_full() from None
        return JSONResponse({"data": _file(file)})

    async def get_file(self, request: Request) -> Response:
        """Show a file, and the block that its upload made."""
        return JSONResponse({"data": _file(await self._file(request))})

    async def delete_file(self, request: Request) -> Response:
        """Forget a file and its block. Overlays of it stay."""
        await self._store.delete(await self._file(request))
        return Response(status_code=204)

    # ---- jobs --------------------------------------------------------------------------------

    async def compare(self, request: Request, content: bytes, made_as: str) -> Response:
        """Have two blocks compared by a job."""
        account = _account(request)
        fields = Fields.of_json(content, _path(request))
        blocks = {name: fields.text(name) for name in ("old_id", "new_id")}
        if fields.choice("type", ["Block"]) is None:
            fields.refuse("type", "is required")
        analyze = fields.choices("analyze", ANALYSES)
        fields.check()
        for block_id in blocks.values():
            block = await self._store.block(block_id)
            if block is None or block.project_id != account.project_id:
                raise not_found(f"Block {block_id}")
        details = {
            "organization_id": account.organization_id,
            "project_id": account.project_id,
            "analyze": analyze,
            **blocks,
        }
        try:
            job = await self._runner.submit(
                partial(generate_overlay, self._store),
                kind=OVERLAY_JOB,
                job_id=with_prefix(made_as, "job"),
                details=details,
            )
        except TooManyJobs:
            raise overloaded() from None
        return JSONResponse({"job_id": job.id, "status": job.status}, 202)

    async def get_job(self, request: Request) -> Response:
        """Show a job."""
        return JSONResponse({"data": resource_of(await self._job(request))})

    async def list_jobs(self, request: Request) -> Response:
        """List the project's jobs, the newest first."""
        fields = Fields(request.query_params, _path(request))
        project_id = fields.text("project_id") if "project_id" in request.query_params else None
        fields.choice("status", LIFECYCLE.states)
        account = _account(request)
        jobs = [
            resource_of(job)
            for job in await self._runner.list()
            if _belongs(job, account) and project_id in (None, account.project_id)
        ]
        for name in ("status", "type", "target_type", "target_id", "parent_id"):
            wanted = request.query_params.get(name)
            if wanted is not None:
                jobs = [job for job in jobs if job[name] == wanted]
        before, limit = _page_asked_for(fields, request)
        newest_first = sorted(jobs, key=lambda job: str(job["id"]), reverse=True)
        return _page([job for job in newest_first if before is None or job["id"] < before], limit)

    async def stream_job(self, request: Request) -> ASGIApp:
        """Tell a job's changes as they happen, until it is over or the stream is old enough."""
        job = await self._job(request)
        return EventStream(self._runner.channel(job.id, events_of), policy=self._policy)

    async def cancel_job(self, request: Request, content: bytes, made_as: str) -> Response:  # noqa: ARG002 # as every POST is called
        """Cancel a job: at once if it waits, as soon as its work has unwound if it runs."""
        job = await self._job(request)
        job = await self._runner.cancel(job.id) or job
        if job.finished and job.status != LIFECYCLE.cancelled:
            raise conflict(f"The job is already {job.status}.")
        status = 200 if job.finished else 202
        return JSONResponse({"job_id": job.id, "status": job.status}, status)

    # ---- overlays ----------------------------------------------------------------------------

    async def list_overlays(self, request: Request) -> Response:
        """List the project's overlays, the newest first."""
        before, limit = _page_asked_for(Fields(request.query_params, _path(request)), request)
        overlays = await self._store.overlays(
            _account(request).project_id, before=before, limit=limit + 1
        )
        return _page([self._overlay_resource(each, request) for each in overlays], limit)

    async def get_overlay(self, request: Request) -> Response:
        """Show an overlay, with URLs of its pictures."""
        overlay = await self._overlay(request)
        return JSONResponse({"data": self._overlay_resource(overlay, request)})

    async def delete_overlay(self, request: Request) -> Response:
        """Forget an overlay and its pictures."""
        await self._store.delete(await self._overlay(request))
        return Response(status_code=204)

    async def get_picture(self, request: Request) -> Response:
        """Send a picture of an overlay."""
        self._check_signature(request, "GET")
        overlay = await self._store.overlay(request.path_params["overlay_id"])
        name = request.path_params["picture"]
        if overlay is None or name not in PICTURES:
            raise not_found("Picture")
        return FileResponse(self._store.picture(overlay, name))

    async def openapi(self, request: Request) -> Response:
        """Say what all of this is, for programs."""
        return JSONResponse(document(_seen(request).base_url))  # noqa: ASYNC910 # nothing here blocks

    # ---- what they share ---------------------------------------------------------------------

    def _once(self, handle: Handle) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that carries a request with an idempotency key out only once."""

        async def endpoint(request: Request) -> Response:
            content = await Body(request, MAX_JSON_BYTES).read()
            key = request.headers.get("idempotency-key")
            if key is None:
                return await handle(self, request, content, new_id("any"))
            if not is_key(key):
                raise bad_request(
                    _path(request), "An Idempotency-Key has 1 to 256 letters, digits, - and _."
                )
            who = _account(request).organization_id
            path = f"{request.method} {_path(request)}\n"
            try:
                fingerprint = hashlib.sha256(path.encode() + content).digest()
                known = await self._answers.begin(who, key, fingerprint)
            except KeyReused:
                raise conflict("The Idempotency-Key was used for another request.") from None
            except KeyInUse:
                raise conflict("The request with this Idempotency-Key is not done yet.") from None
            if isinstance(known, Answer):
                return _answered(Response(known.body, known.status), "hit")
            try:
                try:
                    response = await handle(self, request, content, known.made_as)
                except ApiError as error:
                    response = error.response(_seen(request).request_id)
                answer = Answer(status=response.status_code, body=bytes(response.body))
                await self._answers.keep(known, answer)
            finally:
                known.end()
            return _answered(response, "miss")

        return endpoint

    def _signed(self, request: Request, method: str, path: str, seconds: float) -> str:
        return _seen(request).base_url + self._signer.sign(method, path, seconds=seconds)

    def _check_signature(self, request: Request, method: str) -> None:
        if not self._signer.is_good(method, _path(request), request.query_params):
            raise forbidden("The URL is not signed, or has expired.")

    async def _file(self, request: Request) -> File:
        file = await self._store.file(request.path_params["file_id"])
        if file is None or file.project_id != _account(request).project_id:
            raise not_found("File")
        return file

    async def _job(self, request: Request) -> Job:
        job = await self._runner.get(request.path_params["job_id"])
        if job is None or not _belongs(job, _account(request)):
            raise not_found("Job")
        return job

    async def _overlay(self, request: Request) -> Overlay:
        overlay = await self._store.overlay(request.path_params["overlay_id"])
        if overlay is None or overlay.project_id != _account(request).project_id:
            raise not_found("Overlay")
        return overlay

    def _overlay_resource(self, overlay: Overlay, request: Request) -> dict[str, Any]:
        def url(name: str) -> str:
            path = f"/overlays/{overlay.id}/{name}.png"
            return self._signed(request, "GET", path, PICTURE_SECONDS)

        return {
            "id": overlay.id,
            "block_a_id": overlay.block_a_id,
            "block_b_id": overlay.block_b_id,
            "job_id": overlay.job_id,
            "uri": url("overlay"),
            "addition_uri": url("addition"),
            "deletion_uri": url("deletion"),
            "aligned_a_uri": url("aligned_a"),
            "aligned_b_uri": url("aligned_b"),
            "score": overlay.score,
            "summary": overlay.summary,
            "changes": overlay.changes,
            "created_at": overlay.created_at,
        }


async def show_error(request: Request, error: Exception) -> Response:
    """Answer a request with what went wrong."""
    if isinstance(error, HTTPException):  # the router's: no such path, or not with this method
        if error.status_code == 405:
            error = method_not_allowed(error.headers or {})
        else:
            error = not_found("Endpoint")
    assert isinstance(error, ApiError)
    return error.response(_seen(request).request_id)  # noqa: ASYNC910 # nothing here blocks


async def show_failure(request: Request, error: Exception) -> Response:  # noqa: ARG001 # as Starlette calls it
    """Answer a request whose handler failed. What it was, the server logs."""
    problem = ApiError(
        *(500, "internal", "Internal error", "Something went wrong here.", "INTERNAL_ERROR")
    )
    return problem.response(_seen(request).request_id)  # noqa: ASYNC910 # nothing here blocks


def _seen(request: Request) -> Seen:
    seen: Seen = request.scope["state"]["seen"]
    return seen


def _account(request: Request) -> Account:
    account = _seen(request).account
    assert account is not None
    return account


def _path(request: Request) -> str:
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def _belongs(job: Job, account: Account) -> bool:
    return bool(job.details["project_id"] == account.project_id)


def _file(file: File) -> dict[str, Any]:
    is_uploaded = file.size is not None
    return {
        "id": file.id,
        "project_id": file.project_id,
        "key": f"{file.project_id}/{file.id}",
        "filename": file.filename,
        "content_type": file.content_type,
        "status": "uploaded" if is_uploaded else "awaiting_upload",
        "size_bytes": file.size,
        "block_id": file.block_id if is_uploaded else None,
        "created_at": file.created_at,
    }


def _page_asked_for(fields: Fields, request: Request) -> tuple[str | None, int]:
    """Return the id below which a page of a list begins, and how many items it has at most."""
    limit = fields.number("limit", default=PAGE, largest=LARGEST_PAGE)
    fields.check()
    return request.query_params.get("cursor"), limit


def _page(items: list[dict[str, Any]], limit: int) -> Response:
    """Return a page of a list, the newest first: of ids, the greatest."""
    following = items[limit - 1]["id"] if len(items) > limit else None
    return JSONResponse({"data": items[:limit], "_meta": {"next": following}})


def _answered(response: Response, status: str) -> Response:
    response.headers["Idempotency-Status"] = status
    if "content-type" not in response.headers:
        response.headers["Content-Type"] = "application/json"
    return response
