"""EventStreamResponse: a Starlette response that is a stream."""

from __future__ import annotations

import pytest
from starlette.background import BackgroundTask
from starlette.responses import Response
from trio.testing import MockClock

from sselib import EventChannel, ServerSentEvent
from sselib.starlette import EventStreamResponse
from sselib.testing import open_stream


async def test_it_streams_a_channel_with_what_a_framework_adds(mock_clock: MockClock) -> None:
    """Headers, cookies and the background task of the response all count."""
    channel = EventChannel()
    done: list[int] = []
    response = EventStreamResponse(
        channel, headers={"x-a": "1"}, status=201, background=BackgroundTask(done.append, 1)
    )
    assert isinstance(response, Response)
    response.headers["x-b"] = "2"
    response.set_cookie("c", "3")
    async with open_stream(response) as stream:
        assert stream.status == 201
        assert stream.headers["content-type"] == "text/event-stream"
        assert (stream.headers["x-a"], stream.headers["x-b"]) == ("1", "2")
        assert stream.headers["set-cookie"].startswith("c=3")
        assert "content-length" not in stream.headers
        await channel.publish(ServerSentEvent("x"), end=True)
        assert (await stream.receive()).data == "x"
        assert done == []
        await stream.read_body()
        await stream.wait_ended()
    assert done == [1]


async def test_it_needs_no_background_task(mock_clock: MockClock) -> None:
    """The stream ends, and that is all."""
    channel = EventChannel()
    async with open_stream(EventStreamResponse(channel)) as stream:
        channel.close()
        assert [event async for event in stream] == []


def test_wrong_arguments_are_refused_when_it_is_made() -> None:
    """And not when it is answered."""
    with pytest.raises(ValueError, match="header"):
        EventStreamResponse(EventChannel(), headers={"content-type": "text/plain"})
