"""What event sources wait for, and for how long; in memory, by a clock that flies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sselib import (
    EventSource,
    EventSourceFailed,
    Interruption,
    RetryPolicy,
    open_event_source,
)
from sselib.client.policy import retry_after
from sselib.http1 import encode_chunk

from .scripted import OPEN, Answer, in_memory, response, stream, then_stay

EVENT = b"id: 1\ndata: x\n\n"


# ---- between connections -------------------------------------------------------------------------


def waits(policy: RetryPolicy, failures: int, *, share: float = 1, **asked: Any) -> float:
    """Return the wait, where chance gives that share of what it could."""
    options = {"asked": None, "retry": None} | asked
    return policy.wait(
        failures=failures, random=lambda least, most: least + share * (most - least), **options
    )


def test_the_wait_grows_with_every_failure() -> None:
    """The wait is random from 0 to a bound that doubles with each failure, up to the cap."""
    policy = RetryPolicy(backoff=1, max_backoff=30)
    assert [waits(policy, failures) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert [waits(policy, failures, share=0) for failures in (1, 8)] == [0, 0]
    assert waits(policy, 3, share=0.5) == 2
    assert waits(policy, 10**9) == 30


def test_what_the_server_asks_for_is_waited_in_full() -> None:
    """The server's time comes before ours, within its bound; a refusal counts before the stream."""
    policy = RetryPolicy(backoff=1, max_server_wait=100)
    assert waits(policy, 1, retry=5000) == 6
    assert waits(policy, 1, share=0, retry=5000) == 5
    assert waits(policy, 1, share=0, retry=5000, asked=7.5) == 7.5
    assert waits(policy, 1, share=0, retry=5000, asked=0.0) == 0
    assert waits(policy, 1, share=0, retry=10**4000) == 100
    assert waits(policy, 1, share=0, asked=1e18) == 100


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"backoff": -1}, "backoff"),
        ({"max_backoff": float("inf")}, "max_backoff"),
        ({"healthy_after": float("nan")}, "healthy_after"),
        ({"max_server_wait": -0.1}, "max_server_wait"),
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"event_timeout": float("inf")}, "event_timeout"),
        ({"open_timeout": -1}, "open_timeout"),
        ({"max_failures": -1}, "max_failures"),
        ({"max_redirects": -1}, "max_redirects"),
        ({"retry_statuses": [200]}, "retry_statuses"),
    ],
)
def test_a_policy_has_sense(options: dict[str, Any], complaint: str) -> None:
    """A value that is out of its range is refused and named."""
    with pytest.raises(ValueError, match=complaint):
        RetryPolicy(**options)


NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
LATER = format_datetime(NOW + timedelta(seconds=90), usegmt=True)


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("0", None, 0),
        ("120", None, 120),
        (LATER, None, 90),
        (LATER, format_datetime(NOW + timedelta(seconds=30), usegmt=True), 60),
        (LATER, "nonsense", 90),
        (LATER, format_datetime(NOW + timedelta(hours=1), usegmt=True), 0),
        ("Wednesday, 25-Nov-26 12:01:30 GMT", None, 90),
        ("Wed Nov 25 12:01:30 2026", None, 90),
        ("", None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("9" * 19, None, None),
        ("٣", None, None),
    ],
)
def test_retry_after_has_two_forms(value: str, date: str | None, seconds: float | None) -> None:
    """A Retry-After is seconds or a date of any form that there is, by the server's own clock."""
    assert retry_after(value, date=date, now=NOW) == seconds


@given(st.text(max_size=40), st.one_of(st.none(), st.text(max_size=40)))
def test_no_retry_after_raises(value: str, date: str | None) -> None:
    """Whatever stands in the headers is a time that is not negative, or none."""
    found = retry_after(value, date=date, now=NOW)
    assert found is None or found >= 0


async def test_the_wait_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    """Each attempt comes exactly when the interruption said that it would."""
    told: list[tuple[float, Interruption]] = []
    came: list[float] = []

    def tell(interruption: Interruption) -> None:
        told.append((trio.current_time(), interruption))

    def at(data: bytes) -> Callable[[trio.abc.Stream], Awaitable[None]]:
        async def answer(peer: trio.abc.Stream) -> None:
            came.append(trio.current_time())
            await peer.send_all(data)

        return answer

    answers = [
        stream(b"retry: 5000\n\n"),
        response(503, ("retry-after", "60")),
        response(503, ("retry-after", "soon")),
        response(503, ("retry-after", LATER), ("date", format_datetime(NOW, usegmt=True))),
        stream(b"retry: 0\n\n"),
        stream(EVENT),
    ]
    async with (
        in_memory(*map(at, answers)) as (_, open_source),
        open_source(on_interruption=tell) as source,
    ):
        assert len([event async for event in source]) == 1
    ends = [when + (each.wait or 0) for when, each in told]
    assert ends[:-1] == pytest.approx(came[1:])
    for number, ((_, each), asked) in enumerate(zip(told, [5, 60, 5, 90, 0, 0], strict=True)):
        assert each.wait is not None
        assert asked <= each.wait <= asked + 2**number
    assert [each.failures for _, each in told] == [1, 2, 3, 4, 5, 1]


async def test_a_healthy_connection_begins_anew(autojump_clock: trio.testing.MockClock) -> None:
    """After `healthy_after` seconds, or an event and a proper end, failures count from one."""

    async def long(peer: trio.abc.Stream) -> None:
        await peer.send_all(OPEN)
        await trio.sleep(61)

    async def short(peer: trio.abc.Stream) -> None:
        await peer.send_all(OPEN + encode_chunk(EVENT))
        await trio.sleep(59)

    failures: list[int] = []
    answers: list[Answer] = [b"", short, long, b"", stream(), stream(EVENT), b"", short]
    async with (
        in_memory(*answers) as (_, open_source),
        open_source(
            policy=RetryPolicy(healthy_after=60, idle_timeout=None),
            on_interruption=lambda each: failures.append(each.failures),
        ) as source,
    ):
        assert len([event async for event in source]) == 3
        assert failures == [1, 2, 1, 2, 3, 1, 2, 3]
        assert source.statistics().failures == 3


@pytest.mark.parametrize("allowed", [0, 3])
async def test_it_gives_up(autojump_clock: trio.testing.MockClock, allowed: int) -> None:
    """One loss more than `max_failures` in a row ends it, with what was lost last."""
    interruptions: list[Interruption] = []
    answers = [stream(EVENT), *[response(503)] * 10] if allowed else [stream(EVENT)]
    async with (
        in_memory(*answers) as (server, open_source),
        open_source(
            policy=RetryPolicy(max_failures=allowed), on_interruption=interruptions.append
        ) as source,
    ):
        assert (await source.receive()).data == "x"
        with pytest.raises(EventSourceFailed) as caught:
            await source.receive()
        assert caught.value.reason == "gave up"
        assert caught.value.status == (503 if allowed else None)
        assert len(interruptions) == allowed
        assert len(server.asked) == allowed + 1
        assert source.interruption is not None
        assert (source.interruption.wait, source.interruption.failures) == (None, allowed + 1)
        assert source.state == "closed"


# ---- in a connection -----------------------------------------------------------------------------


def every(seconds: float, *data: bytes) -> Callable[[trio.abc.Stream], Awaitable[None]]:
    """Answer with an open stream, and with the next of these bytes whenever so long has passed."""

    async def answer(peer: trio.abc.Stream) -> None:
        await peer.send_all(OPEN)
        for each in data:
            await trio.sleep(seconds)
            await peer.send_all(each)
        await trio.sleep_forever()

    return answer


async def interrupted(source: EventSource) -> tuple[str, float]:
    """Return why the connection is lost, and when from now."""
    began = trio.current_time()
    with trio.CancelScope() as scope:
        source._options.on_interruption = lambda _: scope.cancel()  # noqa: SLF001 # the scope is known only now
        while True:
            await source.receive()
    assert source.interruption is not None
    return source.interruption.reason, trio.current_time() - began


COMMENT = encode_chunk(b":\n\n")


async def test_silence_is_a_lost_connection(autojump_clock: trio.testing.MockClock) -> None:
    """Without a byte for `idle_timeout` a connection is lost; any byte begins the time anew."""
    async with in_memory(every(20, COMMENT, b"1")) as (_, open_source):
        async with open_source(policy=RetryPolicy(idle_timeout=30)) as source:
            assert await interrupted(source) == ("idle timeout", 20 + 20 + 30)
        async with open_source(policy=RetryPolicy(idle_timeout=30)) as source:
            with pytest.raises(trio.EndOfChannel):
                await source.receive()


async def test_comments_are_no_events(autojump_clock: trio.testing.MockClock) -> None:
    """Without an event for `event_timeout` a connection is lost, whatever else it says."""
    policy = RetryPolicy(idle_timeout=30, event_timeout=100)
    event = encode_chunk(EVENT)
    answers = every(20, COMMENT, event, *[COMMENT] * 10), every(20, COMMENT)
    async with in_memory(*answers) as (_, open_source), open_source(policy=policy) as source:
        assert await interrupted(source) == ("event timeout", 40 + 100)
        reason, seconds = await interrupted(source)
        assert reason == "idle timeout"
        assert 20 + 30 <= seconds <= 20 + 30 + 1  # it waited a little before it came back


async def test_a_server_that_does_not_answer(autojump_clock: trio.testing.MockClock) -> None:
    """From the beginning of an attempt to the head, redirects included, is `open_timeout`."""

    async def slow(peer: trio.abc.Stream) -> None:
        await trio.sleep(20)
        await peer.send_all(response(302, ("location", "/b")))

    policy = RetryPolicy(open_timeout=30)
    stalled = then_stay(b"HTTP/1.1 100 Continue\r\n\r\n")
    async with (
        in_memory(slow, stalled) as (_, open_source),
        open_source(policy=policy) as source,
    ):
        assert await interrupted(source) == ("open timeout", 30)


async def test_a_connection_that_is_never_made(autojump_clock: trio.testing.MockClock) -> None:
    """`open_timeout` holds for connecting too, and for a server that does not read."""

    async def never(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    async def unread(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, _ = trio.testing.lockstep_stream_pair()
        return ours

    for connect in (never, unread):
        policy = RetryPolicy(open_timeout=30)
        async with open_event_source("http://test/", connect=connect, policy=policy) as source:
            assert await interrupted(source) == ("open timeout", 30)


async def test_who_is_away_is_not_timed_out(autojump_clock: trio.testing.MockClock) -> None:
    """Only the time that somebody waits counts: who comes back late finds what has come."""
    policy = RetryPolicy(idle_timeout=30)
    data = encode_chunk(EVENT)
    async with (
        in_memory(every(10, data, data, data)) as (_, open_source),
        open_source(policy=policy) as source,
    ):
        await source.receive()
        await trio.sleep(1000)
        await source.receive()
        await source.receive()
        assert await interrupted(source) == ("idle timeout", 30)


async def test_who_waits_in_short_turns_is_timed_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The time of calls that were cancelled adds up, for the head and for bytes."""
    policy = RetryPolicy(idle_timeout=30, open_timeout=20, backoff=0)
    began = trio.current_time()
    reasons: list[tuple[str, float]] = []

    def tell(interruption: Interruption) -> None:
        reasons.append((interruption.reason, trio.current_time() - began))

    async with (
        in_memory(*map(then_stay, (b"", OPEN, b"", OPEN))) as (_, open_source),
        open_source(policy=policy, on_interruption=tell) as source,
    ):
        while len(reasons) < 3:
            with trio.move_on_after(3):
                await source.receive()
    assert reasons == [("open timeout", 20), ("idle timeout", 50), ("open timeout", 70)]


async def test_turns_that_end_with_the_time(autojump_clock: trio.testing.MockClock) -> None:
    """A call that is cancelled in the moment in which the time is over leaves it over."""
    policy = RetryPolicy(idle_timeout=30, open_timeout=20)
    async with (
        in_memory(then_stay(b""), then_stay(OPEN)) as (_, open_source),
        open_source(policy=policy) as source,
    ):
        for reason, seconds in (("open timeout", 20), ("idle timeout", 30)):
            if reason == "idle timeout":
                await source.wait_open()
            with trio.move_on_after(seconds) as scope:
                await source.receive()
            assert scope.cancelled_caught
            assert (await interrupted(source))[0] == reason
