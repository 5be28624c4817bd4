"""The application in memory: who gets in, and what the stream does."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from trio.testing import MockClock

from examples.file_updates import api
from examples.file_updates.app import CLIENT_BACKLOG, new_channel, new_stream, open_app
from examples.file_updates.backend import Backend
from examples.file_updates.updates import update
from sselib import EventChannel, ServerSentEvent
from sselib.stream import ASGIApp
from sselib.testing import advance, open_stream

SSE = {"accept": "text/event-stream"}
PAGE = Path(api.__file__).with_name("page")
SHARED = PAGE.parent.with_name("page")
CONNECTED = b": connected\n\n"
KEEPALIVE = b": keepalive\n\n"


@pytest.fixture
def channel() -> EventChannel:
    return new_channel()


def routes(channel: EventChannel, keepalive: float) -> ASGIApp:
    """Return the API with a stream of this channel, and nothing behind it."""
    return api.routes(cast("Backend", None), new_stream(channel, keepalive))


@pytest.mark.parametrize("path", ["/api/updates", "/api/updates/"])
async def test_the_head_and_the_first_bytes_come_at_once(
    channel: EventChannel, path: str, mock_clock: MockClock
) -> None:
    """With and without a final slash: 200, the headers of a stream, and a comment."""
    async with open_stream(routes(channel, 15), path, headers=SSE) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert "no-cache" in stream.headers["cache-control"]
        assert await stream.receive_block() == CONNECTED


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("text/event-stream", 200),
        ("TEXT/Event-Stream; q=0.5", 200),
        ("text/html, text/event-stream", 200),
        ("*/*", 200),
        ("text/*", 200),
        ("*/*;q=0.1, text/html", 200),
        (None, 400),
        ("", 400),
        ("text/html", 400),
        ("application/*", 400),
        ("text/event-stream;q=0", 400),
        ("text/event-stream;q=0, */*", 400),
        ("text/event-stream;q=x", 400),
        ("text/event-streams", 400),
    ],
)
async def test_the_request_must_accept_an_event_stream(
    channel: EventChannel, accept: str | None, status: int
) -> None:
    """Without a media range that matches and is wanted, the answer is a 400 that says so."""
    headers = {"accept": accept}
    async with open_stream(routes(channel, 15), "/api/updates", headers=headers) as stream:
        assert stream.status == status
        if status == 400:
            assert await stream.read_body() == b'{"error":"Accept: text/event-stream required"}'


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:60534", 200),
        ("127.0.0.1:60534", 200),
        ("[::1]:60534", 200),
        ("[::1]", 200),
        ("evil.example", 400),
        ("localhost.evil.example:60534", 400),
        ("127.0.0.1.evil.example", 400),
        ("evil.example:127.0.0.1", 400),
        ("", 400),
    ],
)
async def test_a_foreign_host_is_refused(tmp_path: Path, host: str, status: int) -> None:
    """A request names this machine as its host, or gets 400, whatever it asks for."""
    async with open_app([str(tmp_path)]) as app:
        for path in ("/api/updates", "/"):
            headers = SSE | {"host": host}
            async with open_stream(app, path, headers=headers) as stream:
                assert stream.status == status
                if path == "/":
                    await stream.read_body()
                    await stream.wait_ended()  # files are closed in a thread


async def test_a_comment_comes_after_fifteen_seconds_without_updates(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """An update begins the fifteen seconds anew."""
    async with open_stream(routes(channel, 15), "/api/updates", headers=SSE) as stream:
        assert await stream.receive_block() == CONNECTED
        await advance(14)
        await channel.publish(update("info", message="hello"))
        assert (await stream.receive()).json()["opcode"] == "info"
        await advance(14.9)
        assert stream.unread == b""
        await advance(0.1)
        assert stream.unread == KEEPALIVE


async def test_fifteen_seconds_are_the_default(mock_clock: MockClock) -> None:
    """Of an application that is told nothing else."""
    async with (
        open_app() as app,
        open_stream(app, "/api/updates", headers=SSE) as stream,
    ):
        assert await stream.receive_block() == CONNECTED
        await advance(14.9)
        assert stream.unread == b""
        await advance(0.1)
        assert stream.unread == KEEPALIVE


async def test_a_stream_has_no_end_of_its_own(
    channel: EventChannel, autojump_clock: MockClock
) -> None:
    """After a day without an update it still tells the next one."""
    async with open_stream(routes(channel, 3600), "/api/updates", headers=SSE) as stream:
        assert await stream.receive_block() == CONNECTED
        for _ in range(24):
            assert await stream.receive_block() == KEEPALIVE
        await channel.publish(update("info", message="hello"))
        assert (await stream.receive()).json()["opcode"] == "info"


async def test_there_is_no_replay_and_there_are_no_ids(
    channel: EventChannel, mock_clock: MockClock
) -> None:
    """A client sees what happens while it is connected, whatever last event ID it brings."""
    old = await channel.publish(update("info", message="before"))
    headers = SSE | {"last-event-id": old}
    await channel.publish(update("info", message="between"))
    async with open_stream(routes(channel, 15), "/api/updates", headers=headers) as stream:
        assert await stream.receive_block() == CONNECTED
        await channel.publish(update("info", message="after"))
        assert await stream.receive_block() == (
            b'event: update\ndata: {"opcode": "info", "data": {"message": "after"}}\n\n'
        )


async def test_a_client_that_falls_behind_is_disconnected(
    channel: EventChannel, autojump_clock: MockClock
) -> None:
    """One that reads gets everything; one that does not is let go, and publishing never waits."""
    text = "x" * 1000
    app = routes(channel, 15)
    async with (
        open_stream(app, "/api/updates", headers=SSE, window=1000) as silent,
        open_stream(app, "/api/updates", headers=SSE) as reading,
    ):
        for number in range(3 * CLIENT_BACKLOG):
            channel.publish_nowait(ServerSentEvent(f"{number} {text}", event="update"))
            assert (await reading.receive()).data == f"{number} {text}"
        got = [event async for event in silent]
    assert len(got) < CLIENT_BACKLOG
    assert channel.statistics().subscribers == 0


async def test_the_page_is_at_the_root(channel: EventChannel) -> None:
    """The page, its script and its style are served."""
    for path, kind in (
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/shared/page.css", "text/css"),
    ):
        async with open_stream(routes(channel, 15), path) as response:
            assert response.status == 200
            assert response.headers["content-type"].startswith(kind)
            body = await response.read_body()
            await response.wait_ended()  # files are closed in a thread
        folder = SHARED if path.startswith("/shared/") else PAGE
        assert body == (folder / (path.rpartition("/")[2] or "index.html")).read_bytes()
