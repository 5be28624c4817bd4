"""A client of the API, in memory: each answer is held to what the API says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from jsonschema import Draft202012Validator, FormatChecker

from examples.dex.app import DEMO_ACCOUNT, DEMO_KEY, DEMO_PROJECT, open_app
from examples.dex.openapi import DOCUMENT
from examples.dex.work import Workshop
from sselib.stream import ASGIApp
from sselib.testing import ReceivedStream, open_stream

OTHER = {"x-api-key": "dex_other", "x-selected-account-id": "acct_other"}
DEMO = {"x-api-key": DEMO_KEY, "x-selected-account-id": DEMO_ACCOUNT}
SPANS = {"trace_update": "TraceSpan", "job_status": "JobStatus", "done": "Done"}


def check(value: Any, schema: dict[str, Any]) -> None:
    """Hold a value to a schema of the description."""
    whole = {"components": DOCUMENT["components"], **schema}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)


def described(method: str, path: str) -> dict[str, Any] | None:
    """Return what the description says of a request; None if it does not know the path."""
    templates = sorted(DOCUMENT["paths"], key=lambda template: template.count("{"))
    for template in templates:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            operation: dict[str, Any] | None = DOCUMENT["paths"][template].get(method.lower())
            return operation
    return None


@attrs.frozen
class Answer:
    """A response that is no stream."""

    status: int
    headers: dict[str, str]
    value: Any


@attrs.define(eq=False)
class Client:
    """Asks for what is in a project, with the headers of an account."""

    app: ASGIApp
    headers: dict[str, str] = attrs.field(factory=DEMO.copy)
    project: str = f"/v1/projects/{DEMO_PROJECT}"

    async def ask(
        self, method: str, path: str, value: Any = None, *, body: bytes = b"", **headers: str
    ) -> Answer:
        """Send a request, and hold its answer to the description."""
        if value is not None:
            body = json.dumps(value).encode()
        url = path if path.startswith("/v1") else f"{self.project}{path}"
        given = self.headers | {name.replace("_", "-"): headers[name] for name in headers}
        async with open_stream(
            self.app, url, method=method, body=body, headers=dict(given)
        ) as response:
            with trio.fail_after(20):
                data = await response.read_body()
                await response.wait_ended()
        answer = Answer(response.status, response.headers, json.loads(data) if data else None)
        operation = described(method, url.partition("?")[0])
        if operation is not None:
            (content,) = operation["responses"][str(answer.status)]["content"].items()
            assert answer.headers["content-type"] == content[0]
            check(answer.value, content[1]["schema"])
        return answer

    async def get(self, path: str) -> Any:
        """Return what there is, which has to be there."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer.value
        return answer.value

    async def post(self, path: str, value: Any = None) -> Any:
        """Return what a request that has to succeed is answered."""
        answer = await self.ask("POST", path, value)
        assert answer.status == 200, answer.value
        return answer.value

    async def upload(self, name: str, data: bytes | str) -> Any:
        """Upload a file, and return its id."""
        content = data.encode() if isinstance(data, str) else data
        answer = await self.ask("POST", "/files", **form(name, content))
        assert answer.status == 200, answer.value
        return answer.value["id"]

    async def parse(self, name: str, data: bytes | str, **parameters: Any) -> Any:
        """Upload a file and start to parse it; return the job."""
        start = {"source_document_id": await self.upload(name, data), "parameters": parameters}
        return await self.post("/parse", start)

    @asynccontextmanager
    async def updates(self, job: Any, **headers: str) -> AsyncIterator[ReceivedStream]:
        """Open the stream of a job."""
        given = self.headers | {name.replace("_", "-"): headers[name] for name in headers}
        url = f"{self.project}/jobs/{job['id']}/updates"
        async with open_stream(self.app, url, headers=dict(given)) as stream:
            yield stream

    async def follow(self, job: Any) -> list[tuple[str, Any]]:
        """Return the events of a job's stream, to its end, each held to the description."""
        async with self.updates(job) as stream:
            with trio.fail_after(20):
                return [read(event) async for event in stream]

    async def finished(self, job: Any) -> Any:
        """Wait for the end of a job, and return it."""
        events = await self.follow(job)
        assert events[-1][0] == "done"
        return await self.get(f"/jobs/{job['id']}")


def read(event: Any) -> tuple[str, Any]:
    """Return an event's name and data, which have to be as described."""
    check(event.json(), {"$ref": f"#/components/schemas/{SPANS[event.event]}"})
    return event.event, event.json()


def form(name: str, data: bytes, field: str = "file") -> dict[str, Any]:
    """Return the body and headers of a form with a file."""
    boundary = "-- a boundary --"
    disposition = f'form-data; name="{field}"; filename="{name}"'
    body = (
        f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: text/plain\r\n\r\n"
    ).encode() + data
    return {
        "body": body + f"\r\n--{boundary}--\r\n".encode(),
        "content_type": f'multipart/form-data; boundary="{boundary}"',
    }


@attrs.define
class Gate:
    """Holds up the work of jobs before it parses anything.

    Attributes:
        reached: A job has come to it, since this was set.
        open: Lets them through.
    """

    reached: trio.Event = attrs.field(factory=trio.Event)
    open: trio.Event = attrs.field(factory=trio.Event)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Have the jobs of this test wait at a gate."""
    gate = Gate()
    read_blocks = Workshop.read_blocks

    async def wait(*arguments: Any) -> Any:
        gate.reached.set()
        await gate.open.wait()
        return await read_blocks(*arguments)

    monkeypatch.setattr(Workshop, "read_blocks", wait)
    return gate


@asynccontextmanager
async def client_of(**options: Any) -> AsyncIterator[Client]:
    """Open the application and give a client of its demo project."""
    accounts = {DEMO_KEY: {DEMO_ACCOUNT}, "dex_other": {"acct_other"}}
    async with open_app(accounts=accounts, **options) as app:
        yield Client(app)
