"""sselib.testing: applications that are not written by hand meet the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock, wait_all_tasks_blocked

from sselib.testing import ApplicationFault, open_stream

from .applications import (
    Boom,
)

# Frameworks


class Ticks:
    """A comment, and then an event every second: no generator, which Starlette leaves open."""

    def __init__(self) -> None:
        self.number = -1

    def __aiter__(self) -> Ticks:
        return self

    async def __anext__(self) -> str:
        self.number += 1
        if self.number == 0:
            return ": hi\n\n"
        await trio.sleep(1)
        return f"data: {self.number}\n\n"


async def starlette_ticks(request: Request) -> StreamingResponse:
    return StreamingResponse(Ticks(), media_type="text/event-stream")


async def starlette_failure(request: Request) -> None:
    raise Boom


STARLETTE = [
    Route("/ticks", starlette_ticks),
    Route("/json", lambda request: JSONResponse({"error": "no"}, 400)),
    Route("/boom", starlette_failure),
]


@pytest.mark.parametrize("spec_version", ["2.1", "2.4"])
async def test_starlette(autojump_clock: MockClock, spec_version: str) -> None:
    """A stream of Starlette is read, and left, as it is on old servers and on new ones."""
    async with open_stream(
        Starlette(routes=STARLETTE), "/ticks", spec_version=spec_version
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert await stream.receive_block() == b": hi\n\n"
        assert [(await stream.receive()).data for _ in range(100)] == [*map(str, range(1, 101))]
        await wait_all_tasks_blocked()  # in the next sleep, not still in send()
        stream.disconnect()
        await stream.wait_ended()
    assert trio.current_time() == pytest.approx(100 if spec_version == "2.1" else 101)


async def test_starlette_leaks_on_newer_servers() -> None:
    """Where send() raises, Starlette only notices a departure by writing: shown as a fault."""
    with pytest.raises(ApplicationFault, match="goes on without its client"):
        async with open_stream(Starlette(routes=STARLETTE), "/ticks", spec_version="2.4"):
            pass


async def test_starlette_behind_middleware(autojump_clock: MockClock) -> None:
    """Middleware between the application and the client changes nothing for the test."""
    app = Starlette(routes=STARLETTE, middleware=[Middleware(GZipMiddleware)])
    async with open_stream(app, "/ticks", headers={"accept-encoding": "gzip"}) as stream:
        assert [(await stream.receive()).data for _ in range(3)] == ["1", "2", "3"]


async def test_starlette_ordinary_responses() -> None:
    """A response that is no stream is read with read_body, and an error page is one."""
    app = Starlette(routes=STARLETTE)
    async with open_stream(app, "/json") as stream:
        assert (stream.status, json.loads(await stream.read_body())) == (400, {"error": "no"})
    async with open_stream(app, "/nowhere") as stream:
        assert stream.status == 404
    async with open_stream(app, "/boom") as stream:
        assert stream.status == 500
        assert await stream.read_body() == b"Internal Server Error"
        with pytest.raises(Boom):
            await stream.wait_ended()


async def test_starlette_with_its_lifespan() -> None:
    """The lifespan is opened around the stream, as the documentation says."""
    ready = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        ready.append(True)
        yield
        ready.append(False)

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(ready))

    app = Starlette(routes=[Route("/", home)], lifespan=lifespan)
    async with app.router.lifespan_context(app), open_stream(app) as stream:
        assert await stream.read_body() == b"[True]"
    assert ready == [True, False]
