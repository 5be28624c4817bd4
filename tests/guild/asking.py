"""A client of the API in memory, which holds every response to the API's description."""

from __future__ import annotations

import json
from typing import Any

import attrs
import trio

from sselib.stream import ASGIApp
from sselib.testing import open_stream

from .description import complaints

BRIEF = "A bakery by the river.\n\n## Pricing\n- Loaf: $3 / day\n- Cake: $9\n"


@attrs.frozen
class Answer:
    """A response, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: ASGIApp,
    path: str,
    *,
    method: str = "GET",
    token: str | None = "acc_demo",
    body: object = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Answer:
    """Send a request and read its response."""
    given: dict[str, str | None] = {"accept": None, **(headers or {})}
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    with trio.fail_after(20):
        async with open_stream(
            app, path, method=method, headers=given, body=data, **options
        ) as response:
            answer = Answer(response.status, response.headers, await response.read_body())
            await response.wait_ended()  # files are closed in a thread
    kind = answer.headers.get("content-type", "")
    assert complaints(method, path, answer.status, kind, answer.body) == []
    return answer


async def submit(app: ASGIApp, brief: str = BRIEF, title: str = "Crumb", **options: Any) -> str:
    """Submit a brief and return the id of its project."""
    body = {"title": title, "briefText": brief}
    answer = await ask(app, "/briefs", method="POST", body=body, **options)
    assert answer.status == 201, answer
    return str(answer.json()["projectId"])


async def watch(app: ASGIApp, id: str, token: str = "acc_demo") -> list[dict[str, Any]]:
    """Follow a project's stream to its end and return what it said."""
    headers = {"authorization": f"Bearer {token}"}
    with trio.fail_after(20):
        async with open_stream(app, f"/projects/{id}/sse", headers=headers) as stream:
            return [event.json() async for event in stream]
