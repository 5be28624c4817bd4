"""The HTTP API in memory: who gets in, and what the stream does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from examples.file_updates import app as app_module
from examples.file_updates.app import CLIENT_BACKLOG, announce, open_app, routes
from examples.file_updates.updates import update
from examples.file_updates.watching import NotWatchable, open_watcher
from sselib import EventChannel, MemoryLog, Retention, ServerSentEvent
from sselib.testing import ReceivedStream, advance, open_stream

URL = "/api/updates"
SSE = {"accept": "text/event-stream"}
PAGE = Path(app_module.__file__).with_name("page")
CONNECTED = b": connected\n\n"


@pytest.fixture
def channel() -> EventChannel:
    return EventChannel(MemoryLog(retention=Retention(entries=CLIENT_BACKLOG)))


@asynccontextmanager
async def watching(directory: Path) -> AsyncIterator[ReceivedStream]:
    """Watch a directory, and give a stream that begins when the first look at it is over."""
    channel = EventChannel()
    with open_watcher() as watcher:
        await watcher.add(directory)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announce, watcher, channel)
            async with channel.subscribe(replay="history") as events:
                async for event in events:
                    if event.json()["opcode"] == "directory_processing_completed":
                        break
            async with open_stream(routes(channel, 15), URL) as stream:
                yield stream
            nursery.cancel_scope.cancel()


async def next_update(stream: ReceivedStream) -> tuple[str, dict[str, str]]:
    with trio.fail_after(10):
        event = await stream.receive()
    assert event.event == "update"
    value = event.json()
    return value["opcode"], value["data"]


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
        assert stream.unread == b": keepalive\n\n"


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
    ):
        async with open_stream(routes(channel, 15), path) as response:
            assert response.status == 200
            assert response.headers["content-type"].startswith(kind)
            body = await response.read_body()
            await response.wait_ended()  # files are closed in a thread
        assert body == (PAGE / (path.strip("/") or "index.html")).read_bytes()


async def test_a_file_is_followed_from_its_creation_to_its_end(tmp_path: Path) -> None:
    """Created, modified, moved, deleted: each is announced as it happens in a real directory."""
    path, moved = tmp_path / "a.txt", tmp_path / "b.txt"
    async with watching(tmp_path.resolve()) as stream:
        path.touch()
        assert await next_update(stream) == ("file_created", {"path": str(path)})
        path.write_text("changed")
        assert await next_update(stream) == ("file_modified", {"path": str(path)})
        path.rename(moved)
        expected = {"src_path": str(path), "dest_path": str(moved)}
        assert await next_update(stream) == ("file_moved", expected)
        moved.unlink()
        assert await next_update(stream) == ("file_deleted", {"path": str(moved)})


async def test_a_directory_is_followed(tmp_path: Path) -> None:
    """A directory that is moved or deleted is announced as one."""
    path, moved = tmp_path / "a", tmp_path / "b"
    path.mkdir()
    async with watching(tmp_path.resolve()) as stream:
        path.rename(moved)
        expected = {"src_path": str(path), "dest_path": str(moved)}
        assert await next_update(stream) == ("directory_moved", expected)
        moved.rmdir()
        assert await next_update(stream) == ("directory_deleted", {"path": str(moved)})


async def test_a_watch_begins_with_its_first_look(tmp_path: Path) -> None:
    """Added, started, processing started, processing completed, in this order."""
    (tmp_path / "old.txt").touch()
    path = str(tmp_path.resolve())
    channel = EventChannel()
    with open_watcher() as watcher, trio.fail_after(10):
        await watcher.add(path)
        async with trio.open_nursery() as nursery, channel.subscribe() as events:
            nursery.start_soon(announce, watcher, channel)
            first = [(await events.receive()).json() for _ in range(4)]
            nursery.cancel_scope.cancel()
    assert first == [
        {"opcode": "watch_added", "data": {"path": path}},
        {"opcode": "watch_started", "data": {"path": path, "recursive": True}},
        {"opcode": "directory_processing_started", "data": {"path": path}},
        {"opcode": "directory_processing_completed", "data": {"path": path}},
    ]


async def test_a_watched_directory_that_disappears_is_an_error(tmp_path: Path) -> None:
    """The stream goes on, and says which directory is gone."""
    watched = tmp_path.resolve() / "watched"
    watched.mkdir()
    async with watching(watched) as stream:
        watched.rmdir()
        opcode, data = await next_update(stream)
        assert opcode == "error"
        assert str(watched) in data["message"]


async def test_a_directory_that_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    """The error names it."""
    missing = tmp_path / "missing"
    with pytest.raises(NotWatchable, match="missing"):
        async with open_app([os.fspath(missing)]):
            pass
