"""sselib.testing: what an application does wrong is raised where its test sees it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from sselib.stream import ASGIApp, Message, Receive, Scope, Send
from sselib.testing import ApplicationFault, open_stream

from .applications import (
    START,
    Boom,
    chunk,
    ignoring,
    sending,
    streaming,
    until_disconnect,
    whole,
)

# What fails


async def test_what_is_raised_before_the_head_is_raised_by_opening() -> None:
    """The application's own exception comes out, the very object, without a group."""
    boom = Boom()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise boom

    with pytest.raises(Boom) as info:
        async with open_stream(app):
            pytest.fail("opened")
    assert info.value is boom


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    await sending(START, chunk(b"data: 1\n\ndata: 2"))(scope, receive, send)
    raise Boom


@pytest.mark.parametrize("method", ["receive", "receive_block", "read_body", "wait_ended"])
async def test_what_cuts_a_body_short_is_raised_by_reading_on(method: str) -> None:
    """The client first reads what came whole; then the exception is raised, and only once."""
    async with open_stream(failing) as stream:
        if method != "read_body":
            assert (await stream.receive()).data == "1"
        with pytest.raises(Boom):
            await getattr(stream, method)()
        assert stream.ended


async def test_what_nobody_met_is_raised_at_the_end() -> None:
    """A test cannot pass over an application that failed."""
    with pytest.raises(Boom):
        async with open_stream(failing) as stream:
            assert (await stream.receive()).data == "1"


async def test_a_failure_after_the_response_is_raised_at_the_end() -> None:
    """To the client the response is complete; the failure comes out all the same."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await whole(b"data: 1\n\n")(scope, receive, send)
        raise Boom

    with pytest.raises(Boom):
        async with open_stream(app) as stream:
            assert [event.data async for event in stream] == ["1"]


async def test_a_failure_after_the_disconnect_is_raised_at_the_end() -> None:
    """An application that stumbles over its client's leaving is found."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await streaming(b"")(scope, receive, send)
        raise Boom

    async with open_stream(app) as stream:
        stream.disconnect()
        with pytest.raises(Boom):
            await stream.wait_ended()
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()
    with pytest.raises(Boom):
        async with open_stream(app):
            pass


async def test_a_failure_beside_the_departure_is_raised() -> None:
    """The OSError of a departed client excuses nothing else that is in the same group."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await streaming(b"")(scope, receive, send)
        try:
            await send(chunk(b""))
        except OSError as error:
            group = ExceptionGroup("both", [error, Boom()])
        raise group

    with pytest.RaisesGroup(OSError, Boom):
        async with open_stream(app, spec_version="2.4"):
            pass


async def test_what_the_block_raises_comes_out_unchanged() -> None:
    """No group is made around an exception of the test itself."""
    boom = Boom()
    with pytest.raises(Boom) as info:
        async with open_stream(ignoring):
            raise boom
    assert info.value is boom
    assert boom.__context__ is None


async def test_both_failures_are_shown() -> None:
    """If the block and the application both fail, a group holds both."""
    with pytest.RaisesGroup(AssertionError, Boom):
        async with open_stream(failing):
            raise AssertionError


async def test_the_groups_of_the_application_are_its_own() -> None:
    """A group that the application raises is neither taken apart nor wrapped in another."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ExceptionGroup("its own", [Boom()])

    with pytest.RaisesGroup(pytest.RaisesExc(Boom), match="its own"):
        async with open_stream(app):
            pytest.fail("opened")


async def test_a_keyboard_interrupt_is_nobodys_fault() -> None:
    """What is no Exception goes through at once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(START, chunk(b""))(scope, receive, send)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with open_stream(app):
            await trio.sleep_forever()


# The rules of ASGI

BROKEN: dict[str, tuple[ASGIApp, str]] = {
    "nothing": (sending(), "returned without a response"),
    "body first": (sending(chunk(b"")), "start comes before the first"),
    "two heads": (sending(START, chunk(b""), START), "has one http.response.start"),
    "head after end": (sending(*[START, chunk(b"", more_body=False)] * 2), "has one"),
    "head alone": (sending(START), "returned before the last http.response.body"),
    "no last body": (sending(START, chunk(b"")), "returned before the last http.response.body"),
    "body after end": (sending(START, *[chunk(b"", more_body=False)] * 2), "no .* follows"),
    "str body": (sending(START, {**chunk(b""), "body": "data"}), "body is bytes, not str"),
    "bytearray": (sending(START, {**chunk(b""), "body": bytearray()}), "bytes, not bytearray"),
    "status 99": (sending({**START, "status": 99}), "int from 200 to 599, not 99"),
    "status 600": (sending({**START, "status": 600}), "int from 200 to 599"),
    "status 101": (sending({**START, "status": 101}), "int from 200 to 599"),
    "status str": (sending({**START, "status": "200"}), "int from 200 to 599, not '200'"),
    "status float": (sending({**START, "status": 200.0}), "int from 200 to 599"),
    "status bool": (sending({**START, "status": True}), "int from 200 to 599"),
    "upper case": (sending({**START, "headers": [(b"Vary", b"*")]}), "in lower case, not b'Vary'"),
    "pseudo header": (sending({**START, "headers": [(b":status", b"200")]}), "is a token"),
    "no name": (sending({**START, "headers": [(b"", b"")]}), "is a token"),
    "space in name": (sending({**START, "headers": [(b"vary ", b"")]}), "is a token"),
    "line end in name": (sending({**START, "headers": [(b"vary\n", b"")]}), "is a token"),
    "str name": (sending({**START, "headers": [("vary", b"*")]}), "are bytes, not 'vary'"),
    "str value": (sending({**START, "headers": [(b"vary", "*")]}), "are bytes"),
    "CR in value": (sending({**START, "headers": [(b"a", b"b\rc")]}), "no CR, LF or NUL"),
    "LF in value": (sending({**START, "headers": [(b"a", b"b\nc")]}), "no CR, LF or NUL"),
    "NUL in value": (sending({**START, "headers": [(b"a", b"\0")]}), "no CR, LF or NUL"),
    "204": (sending({**START, "status": 204}, chunk(b"x", more_body=False)), "204 has no body"),
    "304": (sending({**START, "status": 304}, chunk(b"x", more_body=False)), "304 has no body"),
    "trailers": (sending(START, {"type": "http.response.trailers"}), "no extension"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_rule_is_named(name: str) -> None:
    """Whatever breaks a rule of ASGI fails the test, and says which rule it was."""
    app, rule = BROKEN[name]
    with pytest.raises(ApplicationFault, match=f"^ASGI: .*{rule}"):
        async with open_stream(app) as stream:
            await stream.read_body()


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_rule_cannot_be_swallowed(name: str) -> None:
    """An application that catches the fault has broken the rule all the same."""
    app, rule = BROKEN[name]

    async def swallowing(scope: Scope, receive: Receive, send: Send) -> None:
        async def careless(message: Message) -> None:
            try:
                await send(message)
            except ApplicationFault:
                await until_disconnect(receive)

        await app(scope, receive, careless)

    with pytest.raises(ApplicationFault, match=f"^ASGI: .*{rule}"):
        async with open_stream(swallowing):
            pass


async def test_a_fault_is_raised_where_it_was_made() -> None:
    """send() raises the fault, so that its traceback leads to the line that is wrong."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(chunk(b"too early"))

    with pytest.raises(ApplicationFault) as info:
        async with open_stream(app):
            pytest.fail("opened")
    assert str(app.__code__.co_name) in [entry.name for entry in info.traceback]


async def test_a_broken_rule_goes_before_what_follows_from_it() -> None:
    """What an application raises because it met a fault does not hide the fault."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(chunk(b"too early"))
        except ApplicationFault as error:
            raise Boom from error

    with pytest.raises(ApplicationFault):
        async with open_stream(app):
            pytest.fail("opened")


async def test_a_body_may_be_meant_to_be_cut_off() -> None:
    """Who expects the cut where it is met finds nothing more at the end of the block."""
    async with open_stream(sending(START, chunk(b"data: 1\n\n"))) as stream:
        assert (await stream.receive()).data == "1"
        with pytest.raises(ApplicationFault, match="returned before the last"):
            await stream.receive()


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(status: int) -> None:
    """The empty body message that ASGI asks for is no body."""
    app = sending({**START, "status": status}, chunk(b"", more_body=False))
    async with open_stream(app) as stream:
        assert stream.status == status


async def test_an_event_stream_without_first_bytes_is_a_fault(autojump_clock: MockClock) -> None:
    """A head that waits for the first event is found, and the clock did not have to move."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(1)  # before the head an application may take its time
        await send(START)
        await trio.sleep(1)
        await send(chunk(b"data: late\n\n", more_body=False))

    with pytest.raises(ApplicationFault, match="head waits for a first body message"):
        async with open_stream(app):
            pytest.fail("opened")
    assert trio.current_time() == 1
    async with open_stream(app, late_head=True) as stream:
        assert trio.current_time() == 2
        assert stream.unread == b""
        assert (await stream.receive()).data == "late"


async def test_other_responses_may_begin_late(autojump_clock: MockClock) -> None:
    """Only an event stream owes its first bytes at once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await trio.sleep(1)
        await send(chunk(b"late", more_body=False))

    async with open_stream(app) as stream:
        assert await stream.read_body() == b"late"


@pytest.mark.parametrize("chunks", [1, 9])
async def test_opening_does_not_wait_for_a_busy_world(chunks: int) -> None:
    """Where something never rests, a stream still opens: all was said, or the window is full."""

    async def never_rest() -> None:
        while True:  # noqa: ASYNC110 # waiting for nothing is its task
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(never_rest)
        async with open_stream(whole(*[bytes(100)] * chunks), window=250) as stream:
            assert len(stream.unread) == min(100 * chunks, 300)
            stream.disconnect()
            await stream.wait_ended()
        nursery.cancel_scope.cancel()
