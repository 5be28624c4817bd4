"""StreamRegistry over streams and servers that are not there: only the table, and Trio's clock."""

from __future__ import annotations

import logging
import random
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from sselib.registry import (
    LEAST_RETRY,
    RegisteredApp,
    RegistryStatistics,
    StreamRegistry,
    client_host,
)
from sselib.stream import OpenStream, Refusal


class Stream(OpenStream):
    """A stream that notes what it is asked for, and ends by itself if it is obedient."""

    def __init__(
        self, registry: StreamRegistry, client: str = "192.0.2.1", *, obedient: bool = True
    ) -> None:
        super().__init__({"type": "http", "path": "/events", "client": (client, 4000)})
        self.registry = registry
        self.obedient = obedient
        self.asked: list[tuple[float, str, str, bytes]] = []

    def finish(self, reason: str, *, farewell: bytes = b"") -> None:
        self._ask("finish", reason, farewell)

    def cancel(self, reason: str) -> None:
        self._ask("cancel", reason, b"")

    def _ask(self, what: str, reason: str, farewell: bytes) -> None:
        self.asked.append((trio.current_time(), what, reason, farewell))
        if self.obedient:
            self.registry.discard(self, reason)


def opened(registry: StreamRegistry, client: str = "192.0.2.1", *, obedient: bool = True) -> Stream:
    stream = Stream(registry, client, obedient=obedient)
    assert registry.admit(stream) is None
    return stream


def refused(registry: StreamRegistry, client: str = "192.0.2.1") -> Refusal:
    refusal = registry.admit(Stream(registry, client))
    assert refusal is not None
    return refusal


async def at_once() -> None:
    await trio.lowlevel.checkpoint()


def drained(registry: StreamRegistry) -> Callable[[], Awaitable[None]]:
    return registry.drained_after(at_once)


def retry_ms(block: bytes) -> int:
    assert block.startswith(b"retry: ")
    assert block.endswith(b"\n\n")
    return int(block.removeprefix(b"retry: "))


# --- the middleware ---


@attrs.define
class App:
    scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.scope = scope


async def nothing(*_: Any) -> Any:
    raise AssertionError("not to be called")


async def test_the_registry_is_in_the_scope_beside_other_extensions() -> None:
    """An HTTP request's scope is copied, with the registry among the extensions it had."""
    app, registry = App(), StreamRegistry()
    scope = {"type": "http", "path": "/", "extensions": {"http.response.push": {}}}
    await registry(app)(scope, nothing, nothing)
    assert app.scope == {
        "type": "http",
        "path": "/",
        "extensions": {"http.response.push": {}, "sselib.registry": registry},
    }
    assert scope == {"type": "http", "path": "/", "extensions": {"http.response.push": {}}}


@pytest.mark.parametrize("extensions", [{}, {"extensions": None}])
async def test_a_scope_without_extensions_gets_them(extensions: dict[str, Any]) -> None:
    """A server that offers no extensions is one that has this one now."""
    app, registry = App(), StreamRegistry()
    await registry(app)({"type": "http", **extensions}, nothing, nothing)
    assert app.scope["extensions"] == {"sselib.registry": registry}


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_other_scopes_pass_through(kind: str) -> None:
    """Lifespan and WebSocket scopes reach the application as the very object they were."""
    app, scope = App(), {"type": kind}
    await StreamRegistry()(app)(scope, nothing, nothing)
    assert app.scope is scope


async def test_the_wrapped_app_tells_its_registry() -> None:
    """A server can find the registry that an application is wrapped in already."""
    app, registry = App(), StreamRegistry()
    assert isinstance(registry(app), RegisteredApp)
    assert registry(app).registry is registry


async def test_the_wrapped_app_waits_only_where_the_app_does() -> None:
    """The middleware is a checkpoint because the application is, and a cancelled one stops."""
    wrapped = StreamRegistry()(App())
    with assert_checkpoints():
        await wrapped({"type": "http"}, nothing, nothing)
    with trio.CancelScope() as scope:
        scope.cancel()
        await wrapped({"type": "http"}, nothing, nothing)
    assert scope.cancelled_caught


# --- limits ---


async def test_one_stream_too_many_is_answered_503() -> None:
    """The limit of all streams refuses with Retry-After and a text, and lifts when one ends."""
    registry = StreamRegistry(max_streams=2)
    first = opened(registry, "192.0.2.1")
    opened(registry, "192.0.2.2")
    assert refused(registry, "192.0.2.3") == Refusal(
        status=503,
        headers=(
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"17"),
            (b"retry-after", b"5"),
        ),
        body=b"too many streams\n",
    )
    registry.discard(first, "closed")
    opened(registry, "192.0.2.3")


async def test_one_stream_too_many_of_a_client_is_answered_429() -> None:
    """The limit per client refuses that client alone, also when the server is full as well."""
    registry = StreamRegistry(max_streams=3, max_streams_per_client=2)
    mine = [opened(registry, "192.0.2.1") for _ in range(2)]
    opened(registry, "192.0.2.2")
    assert refused(registry, "192.0.2.1") == Refusal(
        status=429,
        headers=(
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"32"),
            (b"retry-after", b"5"),
        ),
        body=b"too many streams of this client\n",
    )
    assert refused(registry, "192.0.2.2").status == 503
    registry.discard(mine[0], "disconnected")
    opened(registry, "192.0.2.1")


async def test_limits_are_on_by_default() -> None:
    """Whoever says nothing gets 900 streams, 100 of them for one client."""
    registry = StreamRegistry()
    for number in range(900):
        opened(registry, f"client {number // 100}")
    assert refused(registry, "client 0").status == 429
    assert refused(registry, "client 9").status == 503


async def test_none_lifts_a_limit_and_zero_does_not() -> None:
    """None is no limit; 0 is a limit of no streams at all."""
    unlimited = StreamRegistry(max_streams=None, max_streams_per_client=None)
    for _ in range(2000):
        opened(unlimited)
    assert refused(StreamRegistry(max_streams=0)).status == 503
    assert refused(StreamRegistry(max_streams_per_client=0)).status == 429
    opened(StreamRegistry(max_streams_per_client=0, client=lambda _: None))


async def test_a_client_is_what_the_function_says() -> None:
    """The limit follows the function of the scope; None belongs to nobody and is not counted."""

    def account(scope: Any) -> str | None:
        return {"192.0.2.1": "ann", "192.0.2.2": "ann", "192.0.2.3": None}[scope["client"][0]]

    registry = StreamRegistry(max_streams_per_client=1, client=account)
    opened(registry, "192.0.2.1")
    assert refused(registry, "192.0.2.2").status == 429
    for _ in range(3):
        opened(registry, "192.0.2.3")
    assert registry.statistics().clients == 1


async def test_a_function_that_fails_changes_nothing() -> None:
    """An error in naming the client reaches the request, and no stream is entered."""
    registry = StreamRegistry(client=lambda scope: scope["session"])
    with pytest.raises(KeyError):
        registry.admit(Stream(registry))
    assert registry.statistics() == StreamRegistry().statistics()


def test_the_default_client_is_the_host() -> None:
    """The port is another for each connection; a Unix socket has no client."""
    assert client_host({"client": ("2001:db8::1", 4711)}) == "2001:db8::1"
    assert client_host({"client": None}) is None
    assert client_host({}) is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_streams": -1}, "a limit may not be negative: -1"),
        ({"max_streams_per_client": -2}, "a limit may not be negative: -2"),
        ({"drain_window": 0}, "drain_window must be positive and finite: 0"),
        ({"drain_window": float("inf")}, "drain_window must be positive and finite: inf"),
        ({"drain_window": float("nan")}, "drain_window must be positive and finite: nan"),
    ],
)
async def test_options_out_of_range_are_refused(options: dict[str, Any], complaint: str) -> None:
    """A limit below nothing and a window that is none are errors that name the value."""
    with pytest.raises(ValueError, match=complaint):
        StreamRegistry(**options)


# --- the table, kick, statistics, logs ---


async def test_kick_ends_the_streams_of_a_client_now() -> None:
    """Kick cancels every stream of that client, leaves the others, and tells how many."""
    registry = StreamRegistry()
    mine = [opened(registry, "192.0.2.1") for _ in range(3)]
    other = opened(registry, "192.0.2.2")
    assert registry.kick("192.0.2.1") == 3
    assert [[asked[1:] for asked in stream.asked] for stream in mine] == 3 * [
        [("cancel", "kicked", b"")]
    ]
    assert other.asked == []
    assert registry.kick("192.0.2.1") == 0


async def test_statistics_count_what_happened() -> None:
    """Statistics are a frozen value of the moment, with the ended streams by reason."""
    registry = StreamRegistry(max_streams_per_client=2)
    streams = [opened(registry, f"192.0.2.{number // 2}") for number in range(6)]
    refused(registry, "192.0.2.0")
    streams[0].events, streams[0].bytes_written = 2, 200  # which ends
    streams[5].events, streams[5].bytes_written = 3, 300  # which goes on
    for stream, reason in zip(streams, ["closed", "lagged", "closed"], strict=False):
        registry.discard(stream, reason)
    before = registry.statistics()
    assert before == RegistryStatistics(
        streams=3,
        clients=2,
        draining=False,
        opened=6,
        refused=1,
        ended={"closed": 2, "lagged": 1},
        events=5,
        bytes_written=500,
    )
    registry.discard(streams[3], "closed")
    assert before.ended["closed"] == 2
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        before.streams = 0  # type: ignore[misc] # what must not be


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_the_table_holds_what_is_open_and_nothing_else(steps: list[tuple[int, bool]]) -> None:
    """After any opens and ends the limits hold exactly, and a client without a stream is gone."""

    async def main() -> None:
        registry = StreamRegistry(max_streams=5, max_streams_per_client=2)
        model: dict[str, list[Stream]] = {str(number): [] for number in range(4)}
        for number, is_opening in steps:
            mine = model[str(number)]
            if is_opening:
                stream = Stream(registry, str(number))
                refusal = registry.admit(stream)
                fits = len(mine) < 2 and sum(map(len, model.values())) < 5
                assert (refusal is None) is fits
                if fits:
                    mine.append(stream)
            elif mine:
                registry.discard(mine.pop(), "closed")
            statistics = registry.statistics()
            assert statistics.streams == sum(map(len, model.values()))
            assert statistics.clients == sum(map(bool, model.values()))

    trio.run(main)


async def test_streams_that_are_over_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Of a stream and its client the registry keeps nothing once it is over."""
    caplog.set_level(logging.WARNING, "sselib.access")  # pytest keeps what is logged

    class Account:
        pass

    traces: list[weakref.ref[Any]] = []

    def account(scope: Any) -> Account:
        traces.append(weakref.ref(client := Account()))
        return client

    registry = StreamRegistry(client=account, max_streams=5)
    for _ in range(10):
        stream = Stream(registry)
        traces.append(weakref.ref(stream))
        if registry.admit(stream) is None:
            stream.cancel("kicked")
    del stream
    assert [trace() for trace in traces] == 20 * [None]
    assert registry.statistics().ended == {"kicked": 10}


async def test_discard_is_for_admitted_streams_once() -> None:
    """Striking off a stream that is not in the table is an error, and counts nothing."""
    registry = StreamRegistry()
    stream = opened(registry)
    registry.discard(stream, "closed")
    with pytest.raises(KeyError):
        registry.discard(stream, "closed")
    assert registry.statistics().ended == {"closed": 1}


async def test_a_line_when_a_stream_ends(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The access log has one line for a stream, at its end, and what a peer chose stays in it."""
    caplog.set_level(logging.DEBUG, logger="sselib")
    registry = StreamRegistry()
    stream = opened(registry)
    stream.scope["path"] = "/events\nclient='root' reason=forged"
    mock_clock.jump(12.5)
    stream.events, stream.bytes_written = 3, 400
    assert caplog.records == []
    registry.discard(stream, "disconnected")
    [record] = caplog.records
    assert record.name == "sselib.access"
    assert record.levelname == "INFO"
    assert record.getMessage() == (
        "client='192.0.2.1' path=\"/events\\nclient='root' reason=forged\" "
        "duration=12.500 events=3 bytes=400 reason=disconnected"
    )


# --- the drain ---


async def test_nothing_happens_before_the_trigger(mock_clock: MockClock) -> None:
    """Until the trigger returns the registry admits streams and leaves them alone."""
    registry, trigger = StreamRegistry(), trio.Event()
    stream = opened(registry)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.drained_after(trigger.wait))
        await wait_all_tasks_blocked()
        mock_clock.jump(1000)
        await wait_all_tasks_blocked()
        assert stream.asked == []
        opened(registry, "192.0.2.2")
        assert not registry.statistics().draining
        trigger.set()
        await wait_all_tasks_blocked()
        assert registry.statistics().draining
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(20))
async def test_streams_end_spread_over_the_window(autojump_clock: MockClock, seed: int) -> None:
    """Each stream ends in a slot of its own, in any order, and all before the window's end."""
    registry = StreamRegistry(drain_window=10, rng=random.Random(seed))
    streams = [opened(registry) for _ in range(9)]
    began = trio.current_time()
    await drained(registry)()
    ends = [stream.asked[0][0] - began for stream in streams]
    assert sorted(int(end) for end in ends) == list(range(9))  # of ten seconds, nine to end in
    assert ends != sorted(ends)
    assert len({end % 1 for end in ends}) == 9  # none on the beat
    assert [len(stream.asked) for stream in streams] == 9 * [1]


@pytest.mark.parametrize("seed", range(20))
async def test_a_farewell_is_never_shorter_than_what_is_left(
    autojump_clock: MockClock, seed: int
) -> None:
    """Each farewell sends its client into the window after this one, each to its own moment."""
    registry = StreamRegistry(drain_window=10, rng=random.Random(seed))
    streams = [opened(registry) for _ in range(50)]
    began = trio.current_time()
    await drained(registry)()
    comes_back = []
    for stream in streams:
        [(at, what, reason, farewell)] = stream.asked
        assert (what, reason) == ("finish", "drained")
        comes_back.append(at - began + retry_ms(farewell) / 1000)
    assert 10 <= min(comes_back) < 12
    assert 18 < max(comes_back) <= 20.001
    assert len(set(comes_back)) == 50


async def test_a_short_window_gives_no_short_reconnection_time(autojump_clock: MockClock) -> None:
    """A client keeps its farewell for later, so it is never under a second."""
    registry = StreamRegistry(drain_window=0.1)
    stream = opened(registry)
    await drained(registry)()
    assert retry_ms(stream.asked[0][3]) == LEAST_RETRY == 1000


async def test_without_farewell_retry_nothing_is_said(autojump_clock: MockClock) -> None:
    """Streams end without a farewell, and new ones get a comment, for an API that says all."""
    registry = StreamRegistry(farewell_retry=False)
    stream = opened(registry)
    drain = drained(registry)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        await wait_all_tasks_blocked()
        assert refused(registry).body == b": draining\n\n"
    assert [asked[1:] for asked in stream.asked] == [("finish", "drained", b"")]


async def test_a_new_stream_during_the_drain_is_sent_away_with_200(mock_clock: MockClock) -> None:
    """It gets a 200, one retry block that outlasts the window, and the connection's end."""
    registry = StreamRegistry(drain_window=10, max_streams=1)
    opened(registry, obedient=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drained(registry))
        await wait_all_tasks_blocked()
        for left in (10, 4, 0):
            mock_clock.jump(10 - left - trio.current_time())
            await wait_all_tasks_blocked()
            refusal = refused(registry)
            assert refusal.status == 200
            assert dict(refusal.headers) == {
                b"content-type": b"text/event-stream",
                b"cache-control": b"no-cache, no-transform",
                b"connection": b"close",
            }
            delay = retry_ms(refusal.body)
            assert max(left * 1000, LEAST_RETRY) <= delay <= (left + 10) * 1000
    delays = {retry_ms(refused(registry).body) for _ in range(20)}  # it never opens again
    assert len(delays) > 10
    assert max(delays) > 2000
    assert registry.statistics().refused == 23


async def test_the_drain_is_over_when_the_streams_are(mock_clock: MockClock) -> None:
    """It returns as soon as the last stream is gone, whichever way it went."""
    registry = StreamRegistry(drain_window=10)
    streams = [opened(registry, obedient=False) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drained(registry))
        await wait_all_tasks_blocked()
        mock_clock.jump(2)
        for stream in streams:
            await wait_all_tasks_blocked()
            assert nursery.child_tasks
            registry.discard(stream, "disconnected")
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
    assert trio.current_time() == 2


async def test_a_stream_that_is_gone_is_not_asked(autojump_clock: MockClock) -> None:
    """A client that leaves during the drain is done with: only the others are asked to finish."""
    registry = StreamRegistry(drain_window=10, before_drain=partial(trio.sleep, 1))
    gone, stays = opened(registry), opened(registry)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drained(registry))
        await trio.sleep(1)
        await wait_all_tasks_blocked()  # the goodbye is said, and both wait for their moment
        assert gone.asked == stays.asked == []
        registry.discard(gone, "disconnected")
    assert gone.asked == []
    assert len(stays.asked) == 1


async def test_a_drain_without_streams_returns_at_once(autojump_clock: MockClock) -> None:
    """There is nothing to wait for."""
    began = trio.current_time()
    await drained(StreamRegistry())()
    assert trio.current_time() == began


async def test_what_is_left_at_the_end_of_the_window_is_cancelled(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that does not finish is cancelled at the window's end, and not waited for."""
    caplog.set_level(logging.INFO, logger="sselib")
    registry = StreamRegistry(drain_window=10)
    stream = opened(registry, obedient=False)
    began = trio.current_time()
    await drained(registry)()
    assert trio.current_time() - began == 10
    assert [asked[1:3] for asked in stream.asked] == [("finish", "drained"), ("cancel", "drained")]
    assert stream.asked[1][0] - began == 10
    assert [record.getMessage() for record in caplog.records if record.name == "sselib"] == [
        "drain begins: streams=1 window=10",
        "drain ends: duration=10.000 cut=1",
    ]


async def test_goodbye_comes_before_the_first_end(autojump_clock: MockClock) -> None:
    """before_drain is awaited while all streams are still open, and new ones are sent away."""
    seen: list[tuple[int, int]] = []

    async def say_goodbye() -> None:
        await trio.sleep(3)
        seen.append((registry.statistics().streams, refused(registry).status))

    registry = StreamRegistry(drain_window=10, before_drain=say_goodbye)
    streams = [opened(registry) for _ in range(4)]
    began = trio.current_time()
    await drained(registry)()
    assert seen == [(4, 200)]
    ends = [stream.asked[0][0] - began for stream in streams]
    assert 3 <= min(ends) <= max(ends) <= 10


async def test_goodbye_is_said_without_streams_too(autojump_clock: MockClock) -> None:
    """before_drain is awaited in every drain: what it says may not be for streams alone."""
    said = []

    async def say_goodbye() -> None:
        await trio.sleep(1)
        said.append(trio.current_time())

    await drained(StreamRegistry(before_drain=say_goodbye))()
    assert len(said) == 1


async def test_goodbye_cannot_hold_the_exit(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """before_drain is cancelled at half of the window, and the streams get the other half."""
    registry = StreamRegistry(drain_window=10, before_drain=trio.sleep_forever)
    stream = opened(registry)
    began = trio.current_time()
    await drained(registry)()
    [(at, what, _, farewell)] = stream.asked
    assert what == "finish"
    assert 5 <= at - began <= 10
    assert at - began + retry_ms(farewell) / 1000 >= 10
    assert "took more than half of the window" in caplog.text


async def test_goodbye_may_fail(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in before_drain is logged with its traceback, and the drain goes on."""

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("no such channel")

    registry = StreamRegistry(before_drain=fail)
    stream = opened(registry)
    await drained(registry)()
    assert stream.asked[0][1] == "finish"
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.levelname == "ERROR"
    assert "OSError: no such channel" in caplog.text


async def test_servers_that_share_a_registry_drain_together(autojump_clock: MockClock) -> None:
    """The second drain joins the first: one goodbye, one spread, one window, one end."""
    goodbyes = []

    async def say_goodbye() -> None:
        await trio.sleep(2)
        goodbyes.append(registry.statistics().streams)

    registry = StreamRegistry(drain_window=10, before_drain=say_goodbye)
    streams = [opened(registry) for _ in range(4)]
    stuck = opened(registry, obedient=False)
    ends = []
    began = trio.current_time()

    async def server(delay: float) -> None:
        await registry.drained_after(partial(trio.sleep, delay))()
        ends.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server, 0)
        nursery.start_soon(server, 4)
    assert goodbyes == [5]
    assert [len(stream.asked) for stream in streams] == [1, 1, 1, 1]
    assert {asked[1] for asked in stuck.asked} == {"finish", "cancel"}
    assert ends == [10, 10]


async def test_a_cancelled_drain_stops_and_stays_closed(mock_clock: MockClock) -> None:
    """Cancelling leaves the other streams alone, and still admits no new one."""
    registry = StreamRegistry(drain_window=10)
    streams = [opened(registry) for _ in range(10)]
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drained(registry))
            await wait_all_tasks_blocked()
            mock_clock.jump(4.5)
            await wait_all_tasks_blocked()
            scope.cancel()
    ended = sum(bool(stream.asked) for stream in streams)
    assert 1 <= ended <= 6
    assert registry.statistics().streams == 10 - ended
    assert refused(registry).status == 200


async def test_a_drain_is_a_checkpoint(autojump_clock: MockClock) -> None:
    """Even with nothing to do, and when cancelled before it began."""
    with assert_checkpoints():
        await drained(StreamRegistry())()
    registry = StreamRegistry()
    stream = opened(registry)
    with trio.CancelScope() as scope:
        scope.cancel()
        await drained(registry)()
    assert scope.cancelled_caught
    assert stream.asked == []


async def test_a_failing_trigger_is_no_drain() -> None:
    """An error of the trigger reaches the server; the streams are not touched."""

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("no signals here")

    registry = StreamRegistry()
    stream = opened(registry)
    with pytest.raises(RuntimeError, match="no signals here"):
        await registry.drained_after(fail)()
    assert stream.asked == []
    assert not registry.statistics().draining
