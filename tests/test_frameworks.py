"""One event stream in four frameworks, and behind Starlette's middleware, over real Hypercorn.

What runs on real sockets waits for no time: a test waits for bytes, or for the request to be over,
under a deadline that no working machine comes near. What is about one framework alone is tested in
memory.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import attrs
import fastapi
import h11
import litestar
import pytest
import quart_trio
import trio
from fastapi.exceptions import FastAPIError
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import sselib.hypercorn
from sselib import EventChannel, EventStream, EventStreamDecoder, ServerSentEvent
from sselib.starlette import EventStreamResponse
from sselib.stream import ASGIApp, Receive, Scope, Send
from sselib.testing import open_stream

DEADLINE = 20  # seconds; nothing here takes one

CONNECTED = b": connected\n\n"

MakeApp = Callable[[EventChannel], ASGIApp]


# The applications


def starlette_handler(channel: EventChannel) -> ASGIApp:
    async def updates(request: Request) -> EventStream:
        return EventStream(channel)

    return Starlette(routes=[Route("/updates", updates), Route("/", home)])


def starlette_endpoint(channel: EventChannel) -> ASGIApp:
    return Starlette(routes=[Route("/updates", EventStream(channel)), Route("/", home)])


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("home")


def fastapi_response(channel: EventChannel) -> ASGIApp:
    app = fastapi.FastAPI()

    @app.get("/updates")
    async def updates() -> EventStreamResponse:
        return EventStreamResponse(channel)

    app.add_route("/", home)
    return app


def fastapi_add_route(channel: EventChannel) -> ASGIApp:
    app = fastapi.FastAPI()
    app.router.routes += [Route("/updates", EventStream(channel)), Route("/", home)]
    return app


def litestar_handler(channel: EventChannel) -> ASGIApp:
    @litestar.get("/updates")
    async def updates() -> EventStream:
        return EventStream(channel)

    @litestar.get("/", media_type=litestar.MediaType.TEXT)
    async def home() -> str:
        return "home"

    app: Any = litestar.Litestar(route_handlers=[updates, home], openapi_config=None)
    return app  # type: ignore[no-any-return] # it has no types


def quart_trio_in_front(channel: EventChannel) -> ASGIApp:
    app = quart_trio.QuartTrio(__name__)

    @app.route("/")
    async def home() -> str:
        return "home"

    stream = EventStream(channel)
    quart: Any = app.asgi_app

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        answer = stream if scope.get("path") == "/updates" else quart
        await answer(scope, receive, send)

    app.asgi_app = asgi_app  # type: ignore[method-assign] # as its documentation says
    return app  # type: ignore[return-value] # an ASGI application all the same


def behind(*middleware: Middleware) -> MakeApp:
    def make_app(channel: EventChannel) -> ASGIApp:
        routes = [Route("/updates", EventStream(channel)), Route("/", home)]
        return Starlette(routes=routes, middleware=middleware)

    return make_app


async def marking(request: Request, call_next: Callable[[Request], Any]) -> Any:
    response = await call_next(request)
    response.headers["x-marked"] = "yes"
    return response


CORS = Middleware(CORSMiddleware, allow_origins=["https://example.org"], allow_credentials=True)
GZIP = Middleware(GZipMiddleware, minimum_size=0)
BASE = Middleware(BaseHTTPMiddleware, dispatch=marking)

APPS: dict[str, MakeApp] = {
    "starlette handler": starlette_handler,
    "starlette endpoint": starlette_endpoint,
    "fastapi response": fastapi_response,
    "fastapi route": fastapi_add_route,
    "litestar handler": litestar_handler,
    "quart-trio": quart_trio_in_front,
    "behind CORS": behind(CORS),
    "behind GZip": behind(GZIP),
    "behind BaseHTTPMiddleware": behind(BASE),
    "behind all of them": behind(CORS, GZIP, BASE),
}


# The server and the client


@attrs.define(eq=False)
class Served:
    """An application on Hypercorn, and how many of its streams are over."""

    port: int = 0
    _over: trio.Semaphore = attrs.Factory(lambda: trio.Semaphore(0))

    def watching(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                if scope.get("path") == "/updates":
                    self._over.release()

        return watched

    async def wait_stream_over(self) -> None:
        await self._over.acquire()


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Served]:
    served = Served()
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            serve = partial(sselib.hypercorn.serve, served.watching(app), port=0)
            addresses: list[tuple[str, int]] = await nursery.start(serve)
            served.port = addresses[0][1]
            yield served
            nursery.cancel_scope.cancel()


class Client:
    """The head of one response, and its body as it comes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._decoder = EventStreamDecoder()
        self._events: list[ServerSentEvent] = []
        self.status = 0
        self.headers: dict[str, str] = {}

    async def request(self, target: str, headers: Mapping[str, str], *, method: str) -> None:
        head = h11.Request(method=method, target=target, headers=[*headers.items()])
        data = self._http.send(head)
        assert data is not None
        await self._stream.send_all(data)
        response = await self._next_http_event()
        assert isinstance(response, h11.Response)
        self.status = response.status_code
        self.headers = {name.decode(): value.decode() for name, value in response.headers}

    async def receive_bytes(self) -> bytes:
        """Return the next piece of the body, `b""` at its end."""
        http_event = await self._next_http_event()
        return bytes(http_event.data) if isinstance(http_event, h11.Data) else b""

    async def read_body(self) -> bytes:
        body = b""
        while data := await self.receive_bytes():
            body += data
        return body

    async def receive(self) -> ServerSentEvent:
        while not self._events:
            data = await self.receive_bytes()
            assert data, "the stream ended"
            self._events += self._decoder.feed(data)
        return self._events.pop(0)

    async def _next_http_event(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some())
        assert not isinstance(event, type)
        return event


@asynccontextmanager
async def connected(
    served: Served, target: str = "/updates", *, method: str = "GET", **headers: str
) -> AsyncIterator[Client]:
    """Send a request; the connection is closed at the end, whatever has not been read."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        client = Client(stream)
        fields = {"host": "localhost", "accept": "text/event-stream", **fields}
        await client.request(target, fields, method=method)
        yield client


# Every application


@pytest.mark.parametrize("name", APPS)
async def test_a_stream_opens_at_once_and_carries_what_is_published(name: str) -> None:
    """The head is the stream's own, its first bytes come before any event, then each as it is."""
    channel = EventChannel()
    async with serving(APPS[name](channel)) as served, connected(served) as client:
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream"
        assert client.headers["cache-control"] == "no-cache, no-transform"
        assert client.headers["x-accel-buffering"] == "no"
        assert "content-length" not in client.headers
        assert await client.receive_bytes() == CONNECTED
        for number in ("1", "2"):
            await channel.publish(ServerSentEvent(number, event="tick"))
            event = await client.receive()
            assert (event.event, event.data) == ("tick", number)


@pytest.mark.parametrize("name", APPS)
async def test_a_disconnect_ends_the_stream_and_its_subscription(name: str) -> None:
    """When a client has gone, its request is over, and only the other client's is left."""
    channel = EventChannel()
    async with serving(APPS[name](channel)) as served, connected(served) as other:
        await other.receive_bytes()
        async with connected(served) as client:
            await client.receive_bytes()
            assert channel.statistics().subscribers == 2
        await served.wait_stream_over()
        assert channel.statistics().subscribers == 1
        await channel.publish(ServerSentEvent("still here"))
        assert (await other.receive()).data == "still here"


@pytest.mark.parametrize("name", APPS)
async def test_a_client_resumes_by_its_last_event_id(name: str) -> None:
    """What was published while a client was away comes first when it returns, and once."""
    channel = EventChannel()
    async with serving(APPS[name](channel)) as served:
        async with connected(served) as client:
            await client.receive_bytes()
            await channel.publish(ServerSentEvent("seen"))
            last_event_id = (await client.receive()).id
        assert last_event_id
        await channel.publish(ServerSentEvent("missed"))
        async with connected(served, last_event_id=last_event_id) as client:
            assert (await client.receive()).data == "missed"
            await channel.publish(ServerSentEvent("live"))
            assert (await client.receive()).data == "live"


@pytest.mark.parametrize("name", APPS)
async def test_a_client_that_has_it_all_is_told_to_stop(name: str) -> None:
    """Whoever comes back with the id of the topic's end is answered 204, without a body."""
    channel = EventChannel()
    async with serving(APPS[name](channel)) as served:
        async with connected(served) as client:
            await client.receive_bytes()
            await channel.publish(ServerSentEvent("done"), end=True)
            end = await client.receive()
            assert await client.read_body() == b""
        await served.wait_stream_over()
        assert end.id
        async with connected(served, last_event_id=end.id) as client:
            assert client.status == 204
            assert await client.read_body() == b""
        await served.wait_stream_over()
        assert channel.statistics().subscribers == 0


@pytest.mark.parametrize("name", APPS)
async def test_the_rest_of_the_application_is_as_it_was(name: str) -> None:
    """Beside the stream there are ordinary pages."""
    async with serving(APPS[name](EventChannel())) as served, connected(served, "/") as client:
        assert (client.status, await client.read_body()) == (200, b"home")


# What is particular to one


@pytest.mark.parametrize("name", ["behind CORS", "behind all of them"])
async def test_cors_headers_reach_the_client(name: str) -> None:
    """A page of another origin may read the stream, with its credentials."""
    async with (
        serving(APPS[name](EventChannel())) as served,
        connected(served, origin="https://example.org") as client,
    ):
        assert client.headers["access-control-allow-origin"] == "https://example.org"
        assert client.headers["access-control-allow-credentials"] == "true"
        assert await client.receive_bytes() == CONNECTED


@pytest.mark.parametrize("name", ["behind GZip", "behind all of them"])
async def test_gzip_leaves_the_stream_alone(name: str) -> None:
    """A client that takes gzip gets the stream as it is, and another page compressed."""
    async with serving(APPS[name](EventChannel())) as served:
        async with connected(served, accept_encoding="gzip") as client:
            assert "content-encoding" not in client.headers
            assert await client.receive_bytes() == CONNECTED
        async with connected(served, "/", accept_encoding="gzip") as client:
            assert client.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("name", ["behind BaseHTTPMiddleware", "behind all of them"])
async def test_middleware_may_change_the_head(name: str) -> None:
    """A header that middleware adds reaches the client."""
    async with serving(APPS[name](EventChannel())) as served, connected(served) as client:
        assert client.headers["x-marked"] == "yes"


async def test_starlette_answers_head_and_post() -> None:
    """An endpoint that is an EventStream answers HEAD with the head alone, and POST as GET."""
    async with serving(starlette_endpoint(EventChannel())) as served:
        async with connected(served, method="POST", content_length="0") as client:
            assert await client.receive_bytes() == CONNECTED
        async with connected(served, method="HEAD") as client:
            assert client.headers["content-type"] == "text/event-stream"


async def test_starlette_mount_redirects_the_bare_path() -> None:
    """A documented trap: Mount answers its own path with a redirect, so use a Route."""
    app = Starlette(routes=[Mount("/updates", EventStream(EventChannel()))])
    async with open_stream(app, "/updates") as response:
        assert (response.status, response.headers["location"][-9:]) == (307, "/updates/")


async def bearer(authorization: Annotated[str, fastapi.Header()]) -> str:
    return authorization.removeprefix("Bearer ")


async def test_fastapi_dependencies_cookies_and_background_tasks() -> None:
    """What FastAPI does around a response it does around this one."""
    channel = EventChannel()
    stories: list[str] = []

    app = fastapi.FastAPI()

    @app.get("/updates/{topic}")
    async def updates(topic: str, user: Annotated[str, fastapi.Depends(bearer)]) -> Any:
        response = EventStreamResponse(
            channel,
            headers={"x-topic": topic},
            background=BackgroundTask(stories.append, f"{user} left"),
        )
        response.set_cookie("seen", topic)
        return response

    async with open_stream(app, "/updates/news", headers={"authorization": "Bearer ann"}) as stream:
        assert stream.headers["x-topic"] == "news"
        assert stream.headers["set-cookie"].startswith("seen=news;")
        assert stream.headers["content-type"] == "text/event-stream"
        assert await stream.receive_block() == CONNECTED
        assert stories == []
        stream.disconnect()
        await stream.wait_ended()
    assert stories == ["ann left"]
    async with open_stream(app, "/updates/news") as response:
        assert response.status == 422


class Countdown:
    """What Starlette's and FastAPI's own StreamingResponse take: an iterable of text."""

    def __init__(self, first: int) -> None:
        self.left = first

    def __aiter__(self) -> Countdown:
        return self

    async def __anext__(self) -> str:
        if self.left == 0:
            await trio.sleep_forever()
        self.left -= 1
        return f"data: {self.left}\n\n"


async def test_a_streaming_response_of_fastapi_is_tested_likewise() -> None:
    """open_stream reads what FastAPI streams by itself, after a POST with a body."""
    app = fastapi.FastAPI()

    @app.post("/{name}")
    async def updates(name: str, body: dict[str, int]) -> StreamingResponse:
        headers = {"x-name": name}
        return StreamingResponse(
            Countdown(body["from"]), media_type="text/event-stream", headers=headers
        )

    async with open_stream(
        app,
        "/countdown",
        method="POST",
        body=b'{"from": 3}',
        headers={"content-type": "application/json"},
    ) as stream:
        assert stream.headers["x-name"] == "countdown"
        assert [(await stream.receive()).data for _ in range(3)] == ["2", "1", "0"]


async def test_fastapi_cannot_return_a_bare_event_stream() -> None:
    """A documented trap: FastAPI would serialise it, and cannot: 500, with an error of its own."""
    app = fastapi.FastAPI()

    @app.get("/updates", response_model=None)
    async def updates() -> Any:
        return EventStream(EventChannel())

    async with open_stream(app, "/updates") as response:
        assert response.status == 500
        with pytest.raises(ValueError, match="is not iterable") as info:
            await response.wait_ended()
    assert info.traceback[-1].name == "jsonable_encoder"


def test_fastapi_cannot_annotate_a_bare_event_stream() -> None:
    """A documented trap: as a return annotation it is an error when the route is defined."""
    app = fastapi.FastAPI()

    async def updates() -> EventStream:
        return EventStream(EventChannel())

    with pytest.raises(FastAPIError, match=re.escape("sselib.stream.EventStream")):
        app.get("/updates")(updates)
