"""The HTTP API: who may ask, what can be asked, and what lives around it.

A project is a job, and this is what the world sees of it: a brief is submitted, and its project is
watched as a stream of its states, or asked for. Whoever asks says who they are by a token. A
project of somebody else is not found, in the same words as one that never was.

Sites are public, like the web; their names cannot be guessed. They are served with a policy under
which a page can do nothing but look: its text comes from whoever wrote the brief, and this origin
is also the API's.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sselib import EventLog, EventStream, MemoryLog, StreamPolicy, TooManyJobs, open_topics
from sselib.jobs import Job, JobRunner, open_job_runner
from sselib.policy import DEFAULT_HEARTBEAT
from sselib.stream import ASGIApp, Receive, Scope, Send

from ..page import page_routes
from .errors import HANDLERS, ApiError
from .projects import (
    PROJECT,
    build_site,
    events_of,
    project_id,
    project_of,
    site_slug,
    state_of,
    summary_of,
)
from .submission import read_key, read_submission

DEMO_TOKENS: Final = {"acc_demo": "demo"}

# As long as an idempotency key counts.
KEEP_FINISHED: Final = 24 * 3600.0
MAX_PROJECTS: Final = 1000
# Seconds between two looks for sites whose projects are forgotten.
SWEEP: Final = 600.0
# Seconds. No site takes so long to build.
ABANDONED: Final = 3600.0

_HERE: Final = Path(__file__).parent


@asynccontextmanager
async def open_app(
    *,
    log: EventLog | None = None,
    data: Path | None = None,
    tokens: Mapping[str, str] = DEMO_TOKENS,
    public_url: str | None = None,
    heartbeat: float = DEFAULT_HEARTBEAT,
    stop_at_end: bool = False,
) -> AsyncIterator[ASGIApp]:
    """Give the application, and run what it is asked to build.

    Args:
        log: Where projects are kept. ``None``: in memory, as long as this lasts.
        data: The folder in which sites are kept. ``None``: one that goes in the end.
        tokens: Which account each access token belongs to.
        public_url: What the URLs that are handed out begin with. ``None``: as the request says.
        heartbeat: Seconds without an event after which a stream gets a comment.
        stop_at_end: Say the id of a project's last event, and answer 204 to who comes back with
            it: a browser that does not close its EventSource then stops by itself.

    Raises:
        OSError: ``data`` cannot be used.

    Cancellation: what is being built is given up, and recorded as interrupted.
    """
    policy = StreamPolicy(heartbeat=heartbeat, ids="end" if stop_at_end else "none")
    with TemporaryDirectory(prefix="guild-") as temporary:
        folder = Path(temporary) if data is None else data
        sites, scratch = folder / "sites", folder / "scratch"
        await trio.to_thread.run_sync(_make_ready, sites, scratch)
        async with (
            open_topics(MemoryLog() if log is None else log) as topics,
            open_job_runner(
                topics,
                name="guild",
                kinds=[PROJECT],
                keep_finished=KEEP_FINISHED,
                max_jobs=MAX_PROJECTS,
            ) as runner,
            trio.open_nursery() as nursery,
        ):
            api = Api(runner, sites, scratch, dict(tokens), policy, public_url)
            nursery.start_soon(_keep_swept, runner, sites, scratch)
            yield api.routes()
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class Api:
    """What can be asked.

    Attributes:
        runner: Runs the projects.
        sites: The folder of the sites.
        scratch: The folder for sites that are not built yet.
        tokens: Which account each access token belongs to.
        policy: What streams obey.
        public_url: What URLs begin with, or ``None``.
    """

    runner: JobRunner
    sites: Path
    scratch: Path
    tokens: Mapping[str, str]
    policy: StreamPolicy
    public_url: str | None

    def routes(self) -> ASGIApp:
        """Return the application."""
        sites = StaticFiles(directory=self.sites, html=True)
        return Starlette(
            routes=[
                Route("/briefs", self.submit, methods=["POST"]),
                Route("/projects", self.list_projects),
                Route("/projects/{id}", self.get_project),
                Route("/projects/{id}/status", self.get_status),
                Route("/projects/{id}/sse", self.watch),
                Route("/health", self.get_health),
                Route("/openapi.json", self.get_description),
                Mount("/sites", _only_to_look_at(sites)),
                *page_routes(_HERE / "page"),
            ],
            exception_handlers=HANDLERS,
        )

    async def submit(self, request: Request) -> Response:
        """Take a brief."""
        account = self._account(request)
        key = read_key(request)
        title, brief = await read_submission(request)
        id = project_id(account, secrets.token_hex() if key is None else key)
        slug = site_slug(title)
        work = partial(
            build_site, brief=brief, title=title, site=self.sites / slug, scratch=self.scratch
        )
        try:
            await self.runner.submit(
                work,
                kind=PROJECT,
                job_id=id,
                details={"account": account, "title": title, "slug": slug},
            )
        except TooManyJobs:
            raise ApiError(
                429, "JOB_LIMIT_EXCEEDED", "Concurrent job limit exceeded", retry_after=10
            ) from None
        return JSONResponse(
            {
                "jobId": id,
                "projectId": id,
                "estimatedPriceCents": None,
                "status": "pending",
                "sseUrl": f"{self._base(request)}/projects/{id}/sse",
            },
            status_code=201,
        )

    async def list_projects(self, request: Request) -> Response:
        """List the account's projects, the newest first."""
        account = self._account(request)
        base = self._base(request)
        jobs = [job for job in await self.runner.list() if job.details["account"] == account]
        return JSONResponse({"projects": [summary_of(job, base) for job in reversed(jobs)]})

    async def get_project(self, request: Request) -> Response:
        """Return a project with its tasks and deliverables."""
        return JSONResponse(project_of(await self._job(request), self._base(request)))

    async def get_status(self, request: Request) -> Response:
        """Return a project's state, as its stream would say it."""
        return JSONResponse(state_of(await self._job(request)))

    async def watch(self, request: Request) -> ASGIApp:
        """Stream a project's states, from the present one on."""
        job = await self._job(request)
        return EventStream(self.runner.channel(job.id, events_of), policy=self.policy)

    async def get_health(self, _: Request) -> Response:
        """Say that it is there."""
        return JSONResponse({"status": "ok"})  # noqa: ASYNC910 # nothing here blocks

    async def get_description(self, request: Request) -> Response:
        """Return the OpenAPI document, for where it is asked for."""
        text = await trio.Path(_HERE / "openapi.json").read_text(encoding="utf-8")
        return JSONResponse({**json.loads(text), "servers": [{"url": self._base(request)}]})

    def _account(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise ApiError(401, "AUTH_REQUIRED", "Authentication required")
        account = self.tokens.get(token.strip())
        if account is None:
            raise ApiError(401, "AUTH_INVALID_TOKEN", "Invalid or expired token")
        return account

    async def _job(self, request: Request) -> Job:
        account = self._account(request)
        job = await self.runner.get(request.path_params["id"])
        if job is None or job.details["account"] != account:
            raise ApiError(404, "JOB_NOT_FOUND", "Job not found")
        return job

    def _base(self, request: Request) -> str:
        """Return what this API's URLs begin with, for who asks."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = request.headers.get("host") or "{}:{}".format(*request.scope["server"])
        return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}"


def _only_to_look_at(app: ASGIApp) -> ASGIApp:
    """Add the headers by which a page is kept from doing anything."""
    added = [
        (
            b"content-security-policy",
            b"default-src 'none'; style-src 'self'; img-src 'self'; sandbox allow-popups",
        ),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]

    async def looked_at(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await app(scope, receive, send_with_headers)

    return looked_at


async def _keep_swept(runner: JobRunner, sites: Path, scratch: Path) -> None:
    while True:
        await sweep(runner, sites, scratch)
        await trio.sleep(SWEEP)


async def sweep(runner: JobRunner, sites: Path, scratch: Path) -> None:
    """Remove the sites of projects that are forgotten, and what a killed process was building.

    Other processes may build in the same folders meanwhile: theirs is younger.

    Cancellation: what is removed is removed; the next time finds the rest.
    """
    # In this order: whatever is found on disk had its project before.
    found = await trio.to_thread.run_sync(os.listdir, sites)
    slugs = {job.details["slug"] for job in await runner.list()}
    gone = [sites / name for name in found if name not in slugs]
    await trio.to_thread.run_sync(_remove, gone, scratch)


def _remove(gone: list[Path], scratch: Path) -> None:
    old = time.time() - ABANDONED
    gone += [path for path in scratch.iterdir() if path.stat().st_mtime < old]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)  # by somebody else


def _make_ready(sites: Path, scratch: Path) -> None:
    sites.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(exist_ok=True)
