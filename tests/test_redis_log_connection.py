"""The connection that all callers share, deterministic: the server is this test, in memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import hiredis
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from sselib.log.redis import RedisRefused, _wire
from sselib.log.redis._connection import BEAT, MAX_CALL_BYTES, MAX_CALLS, Connection
from sselib.log.redis._wire import Lost, Wire

BIG = b"%1\r\n+a\r\n*4\r\n:1\r\n_\r\n$5\r\n1\r\n2\x00\r\n$0\r\n\r\n-ERR x y\r\n>1\r\n+p\r\n"
BIG_READ = [{b"a": [1, None, b"1\r\n2\x00", b""]}, hiredis.ReplyError("ERR x y"), [b"p"]]
PONG = b"+PONG\r\n"


class Peer:
    """The server's end of one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._reader = hiredis.Reader()

    async def any_command(self) -> list[bytes]:
        while (command := self._reader.gets()) is False:
            with trio.fail_after(1000):
                data = await self.stream.receive_some(65_536)
            assert data
            self._reader.feed(bytes(data))
        assert isinstance(command, list)
        return command

    async def command(self) -> list[bytes]:
        """Return the next command but for PINGs, which are answered."""
        while (command := await self.any_command()) == [b"PING"]:
            await self.stream.send_all(PONG)
        return command

    async def arguments(self, count: int) -> list[bytes]:
        """Return the only argument of each of the next commands."""
        return [(await self.command())[0] for _ in range(count)]

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def close(self) -> None:
        await self.stream.aclose()


@attrs.define(eq=False)
class Server:
    """Where the connection connects to."""

    connection: Connection
    news: trio.MemoryReceiveChannel[Peer]
    errors: list[Exception] = attrs.Factory(list)  # what becomes of the next attempts
    attempts: list[float] = attrs.Factory(list)

    async def accept(self) -> Peer:
        with trio.fail_after(1000):
            return await self.news.receive()


@asynccontextmanager
async def serving(*errors: Exception) -> AsyncIterator[Server]:
    """Run a connection during the `async with`, whose first attempts to connect fail so."""
    tell, news = trio.open_memory_channel[Peer](1000)

    async def connect() -> Wire:
        server.attempts.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if server.errors:
            raise server.errors.pop(0)
        here, there = trio.testing.memory_stream_pair()
        tell.send_nowait(Peer(there))
        return Wire(here)

    server = Server(Connection(connect, place="redis://test"), news, list(errors))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.connection.run)
        yield server
        server.connection.close()
        nursery.cancel_scope.cancel()


class Caller:
    """A task that calls."""

    def __init__(self, connection: Connection, argument: bytes) -> None:
        self.connection = connection
        self.argument = argument
        self.scope = trio.CancelScope()
        self.result: Any = None

    async def run(self) -> None:
        with self.scope:
            try:
                self.result = await self.connection.call(self.argument)
            except (RedisRefused, trio.ClosedResourceError) as error:
                self.result = error


async def call(
    nursery: trio.Nursery, connection: Connection, *arguments: bytes
) -> tuple[Caller, ...]:
    """Start callers, one after the other, and return when all of them wait."""
    callers = tuple(Caller(connection, argument) for argument in arguments)
    for caller in callers:
        nursery.start_soon(caller.run)
        await wait_all_tasks_blocked()
    return callers


# ---- the wire ------------------------------------------------------------------------------------


async def replies_of(*pieces: bytes) -> list[Any]:
    """Return what a wire receives that is given these pieces, one after the other."""
    here, there = trio.testing.memory_stream_pair()
    wire = Wire(here)
    found = []
    for piece in pieces:
        await there.send_all(piece)
        with trio.move_on_after(0.001):
            found += await wire.receive()
    return found


async def test_replies_are_read_wherever_they_are_split(autojump_clock: object) -> None:
    """Whole, byte by byte, and in two pieces at each place: the same replies."""
    for pieces in (
        [BIG],
        [BIG[i : i + 1] for i in range(len(BIG))],
        *([BIG[:cut], BIG[cut:]] for cut in range(1, len(BIG))),
    ):
        assert str(await replies_of(*pieces)) == str(BIG_READ)


async def test_a_reply_larger_than_the_bound_ends_the_wire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not finished may not grow without end."""
    monkeypatch.setattr(_wire, "MAX_REPLY_BYTES", 1000)
    here, there = trio.testing.memory_stream_pair()
    wire = Wire(here)
    await there.send_all(b"$5000\r\n" + b"x" * 2000)
    with pytest.raises(Lost, match="exceeds 1000 bytes"):
        await wire.receive()


async def test_replies_that_come_in_pieces_do_not_add_up(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """The bound is for one reply, however many there are."""
    monkeypatch.setattr(_wire, "MAX_REPLY_BYTES", 1000)
    here, there = trio.testing.memory_stream_pair()
    wire = Wire(here)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(there.send_all, b"$300\r\n" + b"x" * 200)
            await wait_all_tasks_blocked()
            with trio.move_on_after(0.01):
                await wire.receive()
            nursery.start_soon(there.send_all, b"x" * 100 + b"\r\n")
            assert await wire.receive() == [b"x" * 300]


# ---- callers -------------------------------------------------------------------------------------


async def test_each_caller_gets_its_own_reply() -> None:
    """Replies come in the order of the commands, several in one piece."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        one, two, three = await call(nursery, server.connection, b"1", b"2", b"3")
        assert await peer.arguments(3) == [b"1", b"2", b"3"]
        await peer.say(b"+A\r\n-OOM no room\r\n*")
        await wait_all_tasks_blocked()
        assert one.result == b"A"
        assert isinstance(two.result, RedisRefused)
        assert (two.result.code, two.result.log) == ("OOM", "redis://test")
        assert three.result is None
        await peer.say(b"1\r\n:3\r\n")
        await wait_all_tasks_blocked()
        assert three.result == [3]


async def test_what_is_called_at_once_is_sent_at_once() -> None:
    """While a write is under way commands gather, and go out together."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        callers = [Caller(server.connection, b"%d" % number) for number in range(50)]
        for caller in callers:
            nursery.start_soon(caller.run)
        await wait_all_tasks_blocked()
        data = await peer.stream.receive_some()
        assert data.count(b"*1\r\n") >= 50
        nursery.cancel_scope.cancel()


async def test_a_command_that_is_given_up_before_it_is_sent_is_never_sent() -> None:
    """Cancelled while there is no connection, it is as if it had never been called."""
    async with serving(*[OSError("away")] * 3) as server, trio.open_nursery() as nursery:
        one, two = await call(nursery, server.connection, b"1", b"2")
        one.scope.cancel()
        await wait_all_tasks_blocked()
        assert one.scope.cancelled_caught
        peer = await server.accept()
        assert await peer.arguments(1) == [b"2"]
        await peer.say(b"+B\r\n")
        await wait_all_tasks_blocked()
        assert two.result == b"B"


async def test_the_reply_to_a_command_that_was_given_up_is_dropped() -> None:
    """Cancelled in the middle, also of its reply, it leaves the next one's to the next."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        one, two = await call(nursery, server.connection, b"1", b"2")
        await peer.arguments(2)
        await peer.say(b"$4\r\nA")
        await wait_all_tasks_blocked()
        one.scope.cancel()
        await wait_all_tasks_blocked()
        await peer.say(b"AAA\r\n+B\r\n")
        await wait_all_tasks_blocked()
        assert (one.result, two.result) == (None, b"B")


async def test_what_was_not_answered_is_asked_again_in_the_old_order(
    autojump_clock: object,
) -> None:
    """A lost connection is replaced; what was answered or given up is not repeated."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        one, two, three, four = await call(nursery, server.connection, b"1", b"2", b"3", b"4")
        await peer.arguments(4)
        await peer.say(b"+A\r\n")
        await wait_all_tasks_blocked()
        three.scope.cancel()
        await peer.say(b"$9\r\nlost")
        await peer.close()
        peer = await server.accept()
        (five,) = await call(nursery, server.connection, b"5")
        answers = await echoes(peer)
        assert answers.replace(b"+PING\r\n", b"") == b"+2\r\n+4\r\n+5\r\n"
        await peer.say(answers)
        await wait_all_tasks_blocked()
        assert [one.result, two.result, four.result, five.result] == [b"A", b"2", b"4", b"5"]


async def test_what_is_given_up_between_two_connections_is_not_asked_again(
    mock_clock: trio.testing.MockClock,
) -> None:
    """It was sent once, and nobody waits for it any more."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        one, two = await call(nursery, server.connection, b"1", b"2")
        await peer.arguments(2)
        server.errors = [OSError("away")] * 5
        await peer.close()
        await wait_all_tasks_blocked()
        assert len(server.attempts) > 1
        one.scope.cancel()
        mock_clock.autojump_threshold = 0
        peer = await server.accept()
        assert (await echoes(peer)).replace(b"+PING\r\n", b"") == b"+2\r\n"
        await peer.say(b"+B\r\n+PONG\r\n")
        await wait_all_tasks_blocked()
        assert two.result == b"B"


@pytest.mark.parametrize(
    "answer",
    [
        b"-NOSCRIPT No matching script.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
        b"what\r\n",
        b"+1\r\n+2\r\n+3\r\n",
        b">3\r\n+subscribe\r\n+channel\r\n:1\r\n",
    ],
)
async def test_a_server_of_which_nothing_can_be_had_now_is_left(
    answer: bytes, autojump_clock: object
) -> None:
    """Errors of the moment and what is not the protocol: another connection, and asked again."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        await peer.stream.receive_some()  # a PING, which is not answered
        (one,) = await call(nursery, server.connection, b"1")
        await peer.say(answer if answer.startswith(b">") else PONG + answer)
        if answer.startswith(b"+1"):  # more replies than there were commands
            await wait_all_tasks_blocked()
            assert one.result == b"1"
            await server.accept()
        else:
            peer = await server.accept()
            assert await peer.arguments(1) == [b"1"]
            await peer.say(b"+A\r\n")
            await wait_all_tasks_blocked()
            assert one.result == b"A"


async def test_who_is_closed_out_is_told() -> None:
    """Those who wait for a reply, those at the door, and those who come later."""
    async with serving() as server, trio.open_nursery() as nursery:
        await server.accept()
        waiting = [Caller(server.connection, b"x") for _ in range(MAX_CALLS + 2)]
        for caller in waiting:
            nursery.start_soon(caller.run)
        await wait_all_tasks_blocked()
        server.connection.close()
        (later,) = await call(nursery, server.connection, b"y")
        for caller in (*waiting, later):
            assert isinstance(caller.result, trio.ClosedResourceError)


# ---- bounds --------------------------------------------------------------------------------------


async def test_callers_beyond_the_bound_wait_at_the_door(autojump_clock: object) -> None:
    """In the order in which they came; one that is cancelled there has left no trace."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        for _ in range(MAX_CALLS):
            nursery.start_soon(Caller(server.connection, b"x").run)
        await wait_all_tasks_blocked()
        one, two, three = await call(nursery, server.connection, b"1", b"2", b"3")
        assert await peer.arguments(MAX_CALLS) == [b"x"] * MAX_CALLS
        two.scope.cancel()
        await peer.say(b"+A\r\n")
        assert await peer.arguments(1) == [b"1"]
        with trio.move_on_after(1) as scope:
            await peer.command()
        assert scope.cancelled_caught
        await peer.say(b"+A\r\n" * (MAX_CALLS - 1))
        assert await peer.arguments(1) == [b"3"]
        await peer.say(b"+B\r\n+C\r\n")
        await wait_all_tasks_blocked()
        assert (one.result, two.result, three.result) == (b"B", None, b"C")


async def test_a_command_that_was_given_up_takes_room_until_its_reply(
    autojump_clock: object,
) -> None:
    """Else a program that gives up again and again would fill the memory."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        callers = [Caller(server.connection, b"x") for _ in range(MAX_CALLS)]
        for caller in callers:
            nursery.start_soon(caller.run)
        assert await peer.arguments(MAX_CALLS) == [b"x"] * MAX_CALLS
        for caller in callers:
            caller.scope.cancel()
        (one,) = await call(nursery, server.connection, b"1")
        with trio.move_on_after(1) as scope:
            await peer.command()
        assert scope.cancelled_caught
        await peer.close()  # what nobody waits for is not repeated
        peer = await server.accept()
        assert await peer.arguments(1) == [b"1"]
        one.scope.cancel()


async def test_callers_have_a_bounded_number_of_bytes_in_here() -> None:
    """A large command waits for room, and one that is larger than the bound goes alone."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        half = b"h" * (MAX_CALL_BYTES // 2)
        await call(nursery, server.connection, half, half, b"x" * MAX_CALL_BYTES, b"last")
        assert await peer.arguments(1) == [half]
        await wait_all_tasks_blocked()
        await peer.say(b"+A\r\n")
        assert await peer.arguments(1) == [half]
        await peer.say(b"+A\r\n")
        assert await peer.arguments(1) == [b"x" * MAX_CALL_BYTES]
        await peer.say(b"+A\r\n")
        assert await peer.arguments(1) == [b"last"]
        await peer.say(b"+A\r\n")


# ---- coming back ---------------------------------------------------------------------------------


async def test_a_server_that_is_away_is_tried_often(autojump_clock: object) -> None:
    """At once, and then at least every quarter of a second, whatever it fails with."""
    errors = [OSError("away"), Lost("not ready"), RedisRefused("redis://test", "WRONGPASS no")]
    async with serving(*errors * 10) as server:
        await server.accept()
        gaps = [
            after - before
            for before, after in zip(server.attempts, server.attempts[1:], strict=False)
        ]
        assert len(gaps) == 30
        assert gaps[0] == 0
        assert all(0 < gap <= 0.25 for gap in gaps[1:])
        assert min(gaps[10:]) >= 0.125


@pytest.mark.parametrize("says", [b"", PONG], ids=["nothing", "PONG"])
async def test_a_server_that_hangs_up_at_once_is_not_stormed(
    says: bytes, autojump_clock: object
) -> None:
    """Connecting alone is no success: the pauses grow until a caller was answered."""
    async with serving() as server, trio.open_nursery() as nursery:
        for _ in range(20):
            peer = await server.accept()
            await peer.stream.receive_some()
            await peer.say(says)
            await peer.close()
        (one,) = await call(nursery, server.connection, b"1")
        gaps = server.attempts[-1] - server.attempts[-2]
        assert gaps >= 0.125
        peer = await server.accept()
        await peer.arguments(1)
        await peer.say(b"+A\r\n")
        await wait_all_tasks_blocked()
        assert one.result == b"A"
        await peer.close()
        before = trio.current_time()
        await server.accept()
        assert trio.current_time() == before


async def test_a_silent_server_is_left(autojump_clock: object) -> None:
    """One that takes commands and answers none is as good as gone, within two beats."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        (one,) = await call(nursery, server.connection, b"1")
        await peer.stream.receive_some()
        began = trio.current_time()
        peer = await server.accept()
        assert trio.current_time() - began <= 2 * BEAT
        assert await peer.arguments(1) == [b"1"]
        await peer.say(b"+A\r\n")
        await wait_all_tasks_blocked()
        assert one.result == b"A"


async def test_a_quiet_server_is_not_left(autojump_clock: object) -> None:
    """It answers the PING of each beat, and that is enough."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()

        async def answer() -> None:
            await peer.command()

        nursery.start_soon(answer)
        await trio.sleep(3600)
        assert len(server.attempts) == 1
        nursery.cancel_scope.cancel()


async def test_a_reply_that_takes_its_time_is_awaited(autojump_clock: object) -> None:
    """A large one over a slow line: as long as bytes come, the server is there."""
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        (one,) = await call(nursery, server.connection, b"1")
        await peer.stream.receive_some()
        await peer.say(PONG + b"$100\r\n")
        for _ in range(100):
            await trio.sleep(BEAT / 2)
            await peer.say(b"x")
        await peer.say(b"\r\n")
        await wait_all_tasks_blocked()
        assert one.result == b"x" * 100
        assert len(server.attempts) == 1


async def test_connecting_has_a_bound(autojump_clock: object) -> None:
    """A server that accepts and never greets is given up, and tried again."""
    attempts = []

    async def connect() -> Wire:
        attempts.append(trio.current_time())
        await trio.sleep_forever()
        raise AssertionError

    connection = Connection(connect, place="redis://test")
    with trio.move_on_after(60):
        await connection.run()
    assert len(attempts) > 3
    assert "does not answer" in connection.trouble


async def test_a_server_that_will_not_have_us_is_told_when_opening() -> None:
    """There is nothing to wait for."""

    async def connect() -> Wire:
        await trio.lowlevel.checkpoint()
        raise RedisRefused("redis://test", "WRONGPASS invalid")

    with pytest.raises(RedisRefused, match="redis://test: WRONGPASS"):
        await Connection(connect, place="redis://test").open()


async def test_going_and_coming_is_logged(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each trouble, and once when it is over."""
    caplog.set_level(logging.INFO, "sselib")
    async with serving(*[OSError("away")] * 5) as server:
        peer = await server.accept()
        await wait_all_tasks_blocked()
        await peer.close()
        await server.accept()
        await wait_all_tasks_blocked()
    assert [record.getMessage() for record in caplog.records] == [
        "no connection for commands to redis://test: away",
        "connected for commands to redis://test",
        "no connection for commands to redis://test: the server closed the connection",
        "connected for commands to redis://test",
    ]


# ---- hints ---------------------------------------------------------------------------------------


def push(*items: bytes) -> bytes:
    """Return a push message."""
    return b">3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(item), item) for item in items)


def told(kind: bytes, channel: bytes) -> bytes:
    """Return the server's reply to one who subscribes or unsubscribes."""
    return b">3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n" % (len(kind), kind, len(channel), channel)


async def test_a_watch_is_woken_when_it_stands_and_by_each_hint() -> None:
    """Until it is given up; two watches of a channel are one for the server."""
    woken = []
    async with serving() as server:
        peer = await server.accept()
        unwatch = server.connection.watch(b"c", lambda: woken.append(1))
        also = server.connection.watch(b"c", lambda: woken.append(2))
        assert await peer.command() == [b"SUBSCRIBE", b"c"]
        await wait_all_tasks_blocked()
        assert woken == []
        await peer.say(told(b"subscribe", b"c"))
        await wait_all_tasks_blocked()
        assert woken == [1, 2]
        unwatch()
        await peer.say(push(b"message", b"c", b""))
        await peer.say(push(b"message", b"other", b""))
        await wait_all_tasks_blocked()
        assert woken == [1, 2, 2]
        also()
        also()
        assert await peer.command() == [b"UNSUBSCRIBE", b"c"]
        await peer.say(told(b"unsubscribe", b"c"))
        await peer.say(push(b"message", b"c", b""))
        await wait_all_tasks_blocked()
        assert woken == [1, 2, 2]


async def test_a_watch_that_was_interrupted_is_woken_when_it_stands_again() -> None:
    """On the next connection the server is asked anew, before anything else."""
    woken = []
    async with serving() as server, trio.open_nursery() as nursery:
        peer = await server.accept()
        server.connection.watch(b"c", lambda: woken.append(1))
        await peer.command()
        await peer.say(told(b"subscribe", b"c"))
        (one,) = await call(nursery, server.connection, b"1")
        await peer.close()
        peer = await server.accept()
        assert await peer.command() == [b"SUBSCRIBE", b"c"]
        assert await peer.command() == [b"1"]
        await peer.say(told(b"subscribe", b"c") + b"+A\r\n")
        await wait_all_tasks_blocked()
        assert woken == [1, 1]
        assert one.result == b"A"


async def test_watches_that_come_and_go_cost_nothing() -> None:
    """What is not wanted any more when there is something to send, is not asked for."""
    async with serving(OSError("away")) as server, trio.open_nursery() as nursery:
        for _ in range(1000):
            server.connection.watch(b"c", lambda: None)()
        peer = await server.accept()
        server.connection.watch(b"c", lambda: None)()
        await call(nursery, server.connection, b"1")
        assert await peer.command() == [b"1"]
        await peer.say(b"+A\r\n")


async def test_a_server_that_does_not_let_us_watch_is_no_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said, and tried again: nobody waits for hints that never come without a word."""
    async with serving() as server:
        peer = await server.accept()
        server.connection.watch(b"c", lambda: None)
        await peer.command()
        await peer.say(b"-NOPERM this user has no permissions to access one of the channels\r\n")
        peer = await server.accept()
        assert await peer.command() == [b"SUBSCRIBE", b"c"]
    assert "NOPERM" in caplog.text


# ---- a search ------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("call")),
        st.tuples(st.just("call")),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("answer"), st.integers(1, 40)),
        st.tuples(st.just("answer"), st.integers(1, 40)),
        st.tuples(st.just("cut")),
        st.tuples(st.just("watch")),
        st.tuples(st.just("unwatch")),
    ),
    max_size=40,
)


@given(steps)
def test_whatever_happens_each_caller_gets_its_own_reply(program: list[tuple[Any, ...]]) -> None:
    """The server echoes, a few bytes at a time, and hangs up; callers come and give up."""

    async def run() -> None:
        async with serving() as server, trio.open_nursery() as nursery:
            callers: list[Caller] = []
            unwatch: list[Callable[[], None]] = []
            peer, unsaid = await server.accept(), b""
            for name, *arguments in program:
                match name:
                    case "call":
                        callers += await call(nursery, server.connection, b"%d" % len(callers))
                    case "cancel":
                        for caller in callers[-arguments[0] - 1 : -arguments[0] or None]:
                            caller.scope.cancel()
                    case "answer":
                        unsaid += await echoes(peer)
                        await peer.say(unsaid[: arguments[0]])
                        unsaid = unsaid[arguments[0] :]
                    case "cut":
                        await peer.close()
                        peer, unsaid = await server.accept(), b""
                    case "watch":
                        unwatch.append(server.connection.watch(b"c", lambda: None))
                    case "unwatch":
                        while unwatch:
                            unwatch.pop()()
                await wait_all_tasks_blocked()
            await peer.say(unsaid + await echoes(peer))
            await wait_all_tasks_blocked()
            for caller in callers:
                cancelled = caller.scope.cancelled_caught
                assert caller.result == (None if cancelled else caller.argument)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


async def echoes(peer: Peer) -> bytes:
    """Take the commands that are there, and return the replies to them."""
    found = b""
    with trio.move_on_after(0.001):
        while True:
            match await peer.any_command():
                case [kind, channel]:
                    found += told(kind.lower(), channel)
                case [argument]:
                    found += b"+%s\r\n" % argument
    return found
