"""The application in memory, and requests to it whose every response is held to its document."""

from __future__ import annotations

import json as json_module
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from jsonschema import Draft202012Validator

from examples.bedrock.app import application
from examples.bedrock.gate import Account
from examples.bedrock.ids import new_id
from examples.bedrock.jobs import OVERLAY_JOB
from examples.bedrock.openapi import document
from examples.bedrock.shared import Shared, open_shared
from examples.bedrock.store import Store
from sselib import EventLog, Job, JobRunner, MemoryLog, RunningJob, open_job_runner, open_topics
from sselib.stream import ASGIApp
from sselib.testing import ReceivedStream, open_stream
from sselib.window import Ids

from .drawings import DOOR, plan, png

KEYS = {"sk_demo": Account("org_demo", "prj_demo"), "sk_other": Account("org_other", "prj_other")}
DEMO = {"authorization": "Bearer sk_demo"}
OTHER = {"authorization": "Bearer sk_other"}
HOST = "http://127.0.0.1:8000"
DETAILS = {
    "organization_id": "org_demo",
    "project_id": "prj_demo",
    "old_id": "blk_old",
    "new_id": "blk_new",
    "analyze": ["changes"],
}
DRAWING = png(plan(DOOR))
FILE = {"project_id": "prj_demo", "filename": "plan.png", "content_type": "image/png"}
PATIENCE = 20  # seconds for what real work may take on a busy machine

DOCUMENT = document(HOST)


@attrs.frozen
class Reply:
    """A response, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json["data"]


@attrs.define(eq=False)
class Service:
    """The application, and what it stands on."""

    app: ASGIApp
    shared: Shared
    store: Store
    runner: JobRunner

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes = b"",
        headers: Mapping[str, str] = DEMO,
        root_path: str = "",
    ) -> Reply:
        """Send a request, and hold its response to the document."""
        if json is not None:
            body = json_module.dumps(json).encode()
        with trio.fail_after(PATIENCE):
            async with open_stream(
                self.app, path, method=method, headers=headers, body=body, root_path=root_path
            ) as stream:
                content = await stream.read_body()
                await stream.wait_ended()
        reply = Reply(stream.status, stream.headers, content)
        hold_to_document(method, path.removeprefix(root_path), reply)
        return reply

    @asynccontextmanager
    async def stream(
        self, job_id: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[ReceivedStream]:
        """Open the stream of a job."""
        async with open_stream(
            self.app, f"/jobs/{job_id}/stream", headers=DEMO | dict(headers or {})
        ) as stream:
            yield stream

    async def submit(self, work: Callable[[Any], Awaitable[Any]] | None = None) -> Job:
        """Submit a job whose work the test does."""
        return await self.runner.submit(
            work or Work(), kind=OVERLAY_JOB, job_id=new_id("job"), details=DETAILS
        )

    async def upload(self, content: bytes, *, headers: Mapping[str, str] = DEMO) -> str:
        """Upload a file, and return the id of its block."""
        project_id = "prj_other" if headers == OTHER else "prj_demo"
        file = FILE | {"project_id": project_id}
        reply = await self.call("POST", "/files", json=file, headers=headers)
        assert reply.status == 201
        path = reply.data["upload_url"].removeprefix(HOST)
        reply = await self.call("PUT", path, body=content, headers={})
        assert reply.status == 200
        return str(reply.data["block_id"])

    async def compare(self, old_id: str, new_id: str) -> str:
        """Have two blocks compared, and return the id of the job."""
        body = {"old_id": old_id, "new_id": new_id, "type": "Block", "analyze": ["changes"]}
        reply = await self.call("POST", "/compare", json=body)
        assert reply.status == 202
        return str(reply.json["job_id"])

    async def stored(self) -> list[str]:
        """Return the ids of all files and overlays."""
        query = "SELECT id FROM object ORDER BY id"
        return [id for (id,) in await self.shared.read(lambda db: db.execute(query).fetchall())]

    async def finished(self, job_id: str) -> Any:
        """Wait until a job is over, and return it as the API shows it."""
        with trio.fail_after(PATIENCE):
            await self.runner.wait_finished(job_id)
        return (await self.call("GET", f"/jobs/{job_id}")).data


@attrs.define(eq=False)
class Work:
    """The work of a job, which does what the test says.

    Attributes:
        begun: It runs.
        proceed: Set by the test: it comes to its end.
        job: What it speaks through, once it runs.
        error: What it raises, if anything.
        unwound: It is over.
    """

    error: Exception | None = None
    result: Any = None
    begun: trio.Event = attrs.field(factory=trio.Event)
    proceed: trio.Event = attrs.field(factory=trio.Event)
    unwound: bool = False
    _job: RunningJob | None = None

    @property
    def job(self) -> RunningJob:
        assert self._job is not None
        return self._job

    async def __call__(self, job: RunningJob) -> Any:
        self._job = job
        self.begun.set()
        try:
            await self.proceed.wait()
            if self.error is not None:
                raise self.error
            return self.result
        finally:
            self.unwound = True


@asynccontextmanager
async def open_service(
    directory: Path,
    *,
    log: EventLog | None = None,
    capacity: int = 2,
    rate_limit: int = 100_000,
    ids: Ids = "none",
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[Service]:
    """Open the application with two accounts, and a limit that nobody reaches."""
    with open_shared(directory) as shared:
        async with (
            open_topics(MemoryLog() if log is None else log) as topics,
            open_job_runner(
                topics, name="bedrock", kinds=[OVERLAY_JOB], capacity=capacity
            ) as runner,
        ):
            store = Store(shared)
            app = application(
                *(shared, store, runner), keys=KEYS, rate_limit=rate_limit, ids=ids, clock=clock
            )
            yield Service(app, shared, store, runner)


def places(directory: Path) -> list[str]:
    """Return the names of the directories that are there: of files, overlays and what goes on."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def hold_to_document(method: str, path: str, reply: Reply) -> None:
    """Check that the response is one that the document describes, in every field."""
    operation = _operation(method, path.partition("?")[0])
    if operation is None:
        assert reply.status in (401, 404, 405, 429)
        hold_to_schema({"$ref": "#/components/schemas/ApiError"}, reply.json)
        return
    assert str(reply.status) in operation["responses"], reply
    response = operation["responses"][str(reply.status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    if "content" not in response:
        assert reply.body == b""
        return
    ((media_type, content),) = response["content"].items()
    assert reply.headers["content-type"] == media_type
    if media_type == "application/json":
        hold_to_schema(content["schema"], reply.json)


def hold_to_schema(schema: dict[str, Any], value: Any) -> None:
    """Check a value against a schema of the document."""
    Draft202012Validator({"components": DOCUMENT["components"], **schema}).validate(value)


def _operation(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation of a request; of several templates that fit, the most literal."""
    for template in sorted(DOCUMENT["paths"], key=lambda template: template.count("{")):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        operation = DOCUMENT["paths"][template].get(method.lower())
        if re.fullmatch(pattern, path) and operation is not None:
            return dict(operation)
    return None


# As published.
UNAUTHORIZED = (
    b'{"type":"https://docs.bedrock.cv/errors/authentication","title":"Unauthorized","status":401,'
    b'"detail":"Invalid or missing API key.","code":"UNAUTHORIZED","request_id":"req_01JABCD123"}'
)
RATE_LIMITED = (
    b'{"type":"https://docs.bedrock.cv/errors/rate-limit","title":"Rate limited","status":429,'
    b'"detail":"Rate limit exceeded. Try again in 60 seconds.","code":"RATE_LIMITED",'
    b'"request_id":"req_01JABCD123"}'
)
STREAM = (
    b"event: status\n"
    b'data: {"job_id":"job_01JABCD123","type":"overlay.generate","status":"RUNNING"}\n\n'
    b"event: completed\n"
    b'data: {"job_id":"job_01JABCD123","type":"overlay.generate","status":"COMPLETED"}\n\n'
)
