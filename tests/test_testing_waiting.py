"""sselib.testing: the clock moves as a test says, and whoever is cancelled loses nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from sselib.stream import Receive, Scope, Send
from sselib.testing import advance, open_stream

from .applications import (
    KEEPALIVE,
    START,
    chunk,
    heartbeats,
    ignoring,
    sending,
    whole,
)

# The clock


async def test_advance_meets_every_deadline_on_the_way(mock_clock: MockClock) -> None:
    """A minute with a heartbeat every 15 s is four heartbeats, each at its time."""
    async with open_stream(heartbeats) as stream:
        await advance(14.999)
        assert stream.unread == b""
        await advance(0.001)
        assert stream.unread == KEEPALIVE
        await advance(45)
        assert stream.unread == KEEPALIVE * 4
        assert trio.current_time() == 60


async def test_advance_lets_everybody_finish_first(mock_clock: MockClock) -> None:
    """What can be done now is done before time passes and again after it has."""
    log: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        await trio.sleep(seconds)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        log.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper, "b", 2)
        nursery.start_soon(sleeper, "a", 1)
        nursery.start_soon(sleeper, "c", 3.5)
        await advance(3)
        assert log == [("a", 1), ("b", 2)]
        await advance(0)
        assert (len(log), trio.current_time()) == (2, 3)
        await advance(0.5)
        assert log[2:] == [("c", 3.5)]


async def test_ten_tenths_are_a_second(mock_clock: MockClock) -> None:
    """The noise of adding floats does not keep a deadline from being met."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        for _ in range(10):
            await advance(0.1)
        assert not nursery.child_tasks


async def test_waiting_moves_an_autojump_clock(autojump_clock: MockClock) -> None:
    """With an autojump clock, whoever waits for the next block gets it at its time."""
    async with open_stream(heartbeats) as stream:
        for number in range(1, 5):
            assert await stream.receive_block() == KEEPALIVE
            assert trio.current_time() == 15 * number
        await advance(1)
        assert trio.current_time() == 61


async def test_advance_needs_a_mock_clock() -> None:
    """On the real clock it refuses, and says which fixture is missing."""
    with pytest.raises(RuntimeError, match="mock_clock"):
        await advance(1)


# Cancellation and checkpoints


@pytest.mark.parametrize("method", ["receive", "receive_block", "read_body", "wait_ended"])
async def test_cancelled_readers_lose_nothing(method: str) -> None:
    """Whatever is given up while it waits, the next reader gets everything."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(START, chunk(b"da"), chunk(b"ta: "))(scope, receive, send)
        await more.wait()
        await send(chunk(b"1\n\n", more_body=False))

    more = trio.Event()
    async with open_stream(app) as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(getattr(stream, method))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert stream.unread == b"data: "
        more.set()
        await stream.wait_ended()
        with trio.CancelScope() as scope:
            scope.cancel()
            await getattr(stream, method)()
        assert scope.cancelled_caught
        assert [event.data async for event in stream] == ["1"]


async def test_reading_always_checkpoints() -> None:
    """Also where nothing has to be waited for, and where there is an error."""
    async with open_stream(whole(b"data: 1\n\ndata: 2\n\n")) as stream:
        with assert_checkpoints():
            await stream.receive()
        with assert_checkpoints():
            await stream.receive_block()
        with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
            await stream.receive()
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(stream)
        with assert_checkpoints():
            await stream.read_body()
        with assert_checkpoints():
            await stream.wait_ended()


async def test_advance_checkpoints_and_can_be_cancelled(mock_clock: MockClock) -> None:
    """A cancelled advance has not moved the clock."""
    with assert_checkpoints():
        await advance(0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await advance(5)
    assert scope.cancelled_caught
    assert trio.current_time() == 0


@pytest.mark.parametrize("where", ["opening", "inside", "leaving"])
async def test_cancelling_the_test_cancels_the_application(where: str) -> None:
    """Wherever the test is cancelled, the application goes with it and nothing else is raised."""
    ended = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if where == "opening":
                await trio.sleep_forever()
            await ignoring(scope, receive, send)
        finally:
            ended.set()

    async def client() -> None:
        async with open_stream(app):
            if where == "leaving":
                nursery.cancel_scope.cancel()
            else:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert ended.is_set()
