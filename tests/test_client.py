"""The processing model of event sources, step by step, each played by a server of ours.

Every step is played in memory and over a real socket, and no test here waits for time to pass:
what waits is in `test_client_waiting`, over memory alone.

Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sselib import (
    Comment,
    EventSourceFailed,
    EventTooLarge,
    Interruption,
    RemoteError,
    RetryPolicy,
    open_event_source,
)
from sselib.http1 import encode_chunk, encode_head

from .scripted import (
    AT_ONCE,
    EVENT_STREAM,
    NO_CONTENT,
    OPEN,
    Asked,
    in_memory,
    on_socket,
    redirect,
    response,
    stream,
    then_stay,
    until_left,
)
from .servers import SOON

Play = Callable[..., Any]


@pytest.fixture(params=["memory", "socket"])
def play(request: pytest.FixtureRequest) -> Play:
    """Give what plays a script."""
    return {"memory": in_memory, "socket": on_socket}[request.param]


async def read_all(open_source: Any, **options: Any) -> list[tuple[str, str, str]]:
    """Iterate an event source to its end."""
    options.setdefault("policy", AT_ONCE)
    async with open_source(**options) as source:
        return [(event.event, event.data, event.id) async for event in source]


# ---- requests ------------------------------------------------------------------------------------


async def test_what_is_asked_for(play: Play) -> None:
    """A request accepts event streams alone, uncached, uncompressed, on its own connection."""
    async with play() as (server, open_source):
        assert await read_all(open_source) == []
    [asked] = server.asked
    host = server.url.split("/")[2]
    assert (asked.method, asked.target, asked.body) == ("GET", "/events", b"")
    assert asked.headers == {
        "host": host,
        "accept": "text/event-stream",
        "cache-control": "no-cache",
        "user-agent": "sselib",
        "accept-encoding": "identity",
        "connection": "close",
    }


async def test_what_can_be_asked(play: Play) -> None:
    """Method, headers, content and the first last event ID are the caller's."""
    async with play() as (server, open_source):
        await read_all(
            open_source,
            method="POST",
            headers={"Accept": "text/event-stream, */*", "X-Who": "é"},
            content=b'{"a": 1}',
            last_event_id="ü 1",
        )
    [asked] = server.asked
    assert (asked.method, asked.body) == ("POST", b'{"a": 1}')
    assert asked.headers["accept"] == "text/event-stream, */*"
    assert asked.headers["x-who"] == "é"
    assert asked.headers["content-length"] == "8"
    assert asked.last_event_id == "ü 1"


async def test_headers_are_asked_for_before_each_attempt(play: Play) -> None:
    """A function for the headers is awaited anew when a connection was lost, not for a redirect."""
    tokens = iter(["a", "b", "c"])

    async def headers() -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return {"authorization": next(tokens)}

    async with play(stream(), redirect("/elsewhere"), stream()) as (server, open_source):
        await read_all(open_source, headers=headers)
    assert [(each.target, each.headers["authorization"]) for each in server.asked] == [
        ("/events", "a"),
        ("/events", "b"),
        ("/elsewhere", "b"),
        ("/events", "c"),
    ]


# ---- good responses ------------------------------------------------------------------------------

TWO = b"id: 1\ndata: one\n\n", b"event: x\nid: 2\ndata: two\n\n"
BOTH = [("message", "one", "1"), ("x", "two", "2")]


@pytest.mark.parametrize(
    "answer",
    [
        stream(*TWO),
        stream(b"".join(TWO)),
        response(body=b"".join(TWO), content_type="text/event-stream"),
        encode_head(200, [EVENT_STREAM]) + b"".join(TWO),
        b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b"".join(TWO),
        b"HTTP/1.1 200\r\nCONTENT-TYPE:Text/Event-Stream ; charset=x\r\n\r\n" + b"".join(TWO),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\n" + stream(*TWO),
        stream(*TWO).replace(b"\r\n\r\n", b"\r\ncontent-encoding: identity\r\n\r\n", 1),
    ],
    ids=["chunks", "chunk", "length", "close", "1.0", "spelling", "informational", "identity"],
)
async def test_a_good_response_is_read(play: Play, answer: bytes) -> None:
    """200 with an event stream is read, however its body is framed, to its end and then anew."""
    async with play(answer) as (server, open_source):
        assert await read_all(open_source) == BOTH
    assert [each.last_event_id for each in server.asked] == [None, "2"]


async def test_a_response_may_come_byte_by_byte(play: Play) -> None:
    """Wherever its bytes are cut, a response gives the same events."""

    async def dribble(peer: trio.abc.Stream) -> None:
        for byte in stream(*TWO, "id: 3\ndata: drei ßü\n\n".encode()):
            await peer.send_all(bytes([byte]))
            await trio.lowlevel.checkpoint()

    async with play(dribble) as (_, open_source):
        assert await read_all(open_source) == [*BOTH, ("message", "drei ßü", "3")]


async def test_the_state_is_what_the_standard_says(play: Play) -> None:
    """It is connecting before there is a response, open while there is one, then closed."""
    async with play(then_stay(stream(TWO[0], end=b""))) as (server, open_source):
        async with open_source() as source:
            assert (source.state, server.connected) == ("connecting", 0)
            await source.wait_open()
            await source.wait_open()
            assert source.state == "open"
            await source.receive()
            assert source.state == "open"
        assert source.state == "closed"
        with pytest.raises(trio.ClosedResourceError):
            await source.receive()


async def test_no_content_ends_it(play: Play) -> None:
    """204 ends an event source well, and for good."""
    async with (
        play(stream(*TWO), NO_CONTENT, stream(*TWO)) as (server, open_source),
        open_source(policy=AT_ONCE) as source,
    ):
        assert len([event async for event in source]) == 2
        assert (source.state, source.ended_by) == ("closed", "no content")
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await source.receive()
        assert [event async for event in source] == []
        assert len(server.asked) == 2


async def test_the_event_that_is_the_last(play: Play) -> None:
    """`until` names the event that ends the stream well; what stands behind it is nobody's."""
    done = stream(*TWO, b"event: done\ndata: 3\n\n", b"data: 4\n\n", end=b"")
    async with (
        play(stream(TWO[0]), then_stay(done)) as (server, open_source),
        open_source(policy=AT_ONCE, until=lambda event: event.event == "done") as source,
    ):
        data = [event.data async for event in source]
        assert data == ["one", "one", "two", "3"]
        assert (source.state, source.ended_by) == ("closed", "until")
        assert source.statistics().events_waiting == 0
        with trio.fail_after(SOON):
            await server.all_closed.wait()
        assert len(server.asked) == 2


# ---- lost connections ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (stream(*TWO), "ended"),
        (response(body=b"".join(TWO), content_type="text/event-stream"), "ended"),
        (encode_head(200, [EVENT_STREAM]) + b"".join(TWO), "ended"),
        (stream(*TWO, end=b""), "cut"),
        (stream(*TWO, b"id: 3\ndata: three\n")[:-15], "cut"),
        (stream(*TWO, "id: 3\ndata: ü".encode())[:-8], "cut"),
        (response(body=b"".join(TWO) + b"!", content_type="text/event-stream")[:-1], "cut"),
        (stream(*TWO, end=b"nonsense\r\n"), "malformed"),
        (OPEN + encode_chunk(TWO[0] + TWO[1])[:-2] + b"id: 3\ndata: three\n\n", "malformed"),
    ],
    ids=[
        *("ended", "ended by length", "ended by close", "between chunks"),
        *("in a chunk", "in UTF-8", "longer than it is", "nonsense", "shorter than it is"),
    ],
)
async def test_a_lost_connection_is_made_anew(play: Play, first: bytes, reason: str) -> None:
    """Whatever ends a response, what was complete is given, and the stream continued behind it."""
    interruptions: list[Interruption] = []
    async with play(first, stream(b"id: 3\ndata: three\n\n")) as (server, open_source):
        events = await read_all(open_source, on_interruption=interruptions.append)
    assert events == [*BOTH, ("message", "three", "3")]
    assert [each.last_event_id for each in server.asked] == [None, "2", "3"]
    assert [each.reason for each in interruptions] == [reason, "ended"]
    assert all(each.wait == 0 and each.message for each in interruptions)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-ty",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000,
        b"\0" * 200_000,
    ],
    ids=[
        *("nothing", "half a head", "SSH", "two lengths", "gzip", "absurd length"),
        *("101", "100", "endless head", "zeros"),
    ],
)
async def test_a_bad_head_is_a_network_error(play: Play, first: bytes) -> None:
    """What is no response is tried again, and takes no more memory than its bound."""
    interruptions: list[Interruption] = []
    async with play(first, stream(*TWO)) as (_, open_source):
        events = await read_all(open_source, on_interruption=interruptions.append)
    assert events == BOTH
    assert interruptions[0].reason in {"cut", "malformed"}


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    """Where nobody listens, it is tried until somebody does."""
    sock = trio.socket.socket()
    await sock.bind(("127.0.0.1", 0))  # and does not listen
    url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    with sock:
        interruptions: list[Interruption] = []
        policy = RetryPolicy(backoff=0, max_failures=2)
        async with open_event_source(
            url, policy=policy, on_interruption=interruptions.append
        ) as source:
            with pytest.raises(EventSourceFailed) as caught:
                await source.receive()
            assert (caught.value.reason, caught.value.url) == ("gave up", url)
            assert "Connection refused" in str(caught.value)
            assert [each.reason for each in interruptions] == ["unreachable"] * 2
            assert [each.failures for each in interruptions] == [1, 2]
            with pytest.raises(EventSourceFailed):
                await source.receive()
            assert source.statistics().attempts == 3


async def test_an_id_outlives_what_has_none(play: Play) -> None:
    """The last event ID and the reconnection time are the stream's, over all its connections."""
    answers = [
        stream(b"retry: 0\nid: a\ndata: 1\n\n"),
        stream(b"data: 2\n\n"),
        stream(b"id: b\n\ndata: 3\n"),
        stream(b"id\ndata: 4\n\n"),
    ]
    async with play(*answers) as (server, open_source), open_source(policy=AT_ONCE) as source:
        assert [(event.data, event.id) async for event in source] == [
            ("1", "a"),
            ("2", "a"),
            ("4", ""),
        ]
        assert (source.last_event_id, source.reconnection_time) == ("", 0)
        assert [each.last_event_id for each in server.asked] == [None, "a", "a", "b", None]


async def test_the_last_event_id_is_that_of_what_was_returned(play: Play) -> None:
    """To continue in another run, an event counts when it was returned, not when it was read."""
    together = b"".join([*TWO, b"id: 3\n\n"])
    async with (
        play(then_stay(stream(together, end=b""))) as (_, open_source),
        open_source(last_event_id="0") as source,
    ):
        assert source.last_event_id == "0"
        await source.wait_open()
        await source.receive()
        assert source.last_event_id == "1"
        assert source.statistics().events_waiting == 1
        await source.receive()
        assert source.last_event_id == "3"


async def test_the_last_event_id_never_goes_back(play: Play) -> None:
    """An id without an event counts as soon as it is read, and stays while events are read."""

    async def answer(peer: trio.abc.Stream) -> None:
        await peer.send_all(OPEN + encode_chunk(TWO[0]) + encode_chunk(b"id: 5\n\n"))
        await go_on.wait()
        await peer.send_all(encode_chunk(b"data: a\n\nid: 6\ndata: b\n\n"))
        await until_left(peer)

    go_on = trio.Event()
    async with play(answer) as (_, open_source), open_source() as source:
        await source.receive()
        assert source.last_event_id == "5"
        go_on.set()
        seen = [((await source.receive()).data, source.last_event_id) for _ in range(2)]
        assert seen == [("a", "5"), ("b", "6")]


# ---- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        *((response(status), "status", status) for status in (201, 205, 206, 300, 304, 400, 401)),
        *((response(status), "status", status) for status in (403, 404, 410, 500, 501, 599)),
        (response(body=b"<html>", content_type="text/html; charset=utf-8"), "content type", 200),
        (response(body=b"data: 1\n\n", content_type="text/event-streams"), "content type", 200),
        (response(body=b"data: 1\n\n"), "content type", 200),
        (
            response(200, ("content-encoding", "gzip"), content_type="text/event-stream"),
            "content encoding",
            200,
        ),
    ],
)
async def test_other_responses_fail_for_good(
    play: Play, answer: bytes, reason: str, status: int
) -> None:
    """Any other status, content type or encoding ends the event source, and says why."""
    async with (
        play(answer, stream(*TWO)) as (server, open_source),
        open_source(policy=AT_ONCE) as source,
    ):
        for _ in range(2):
            with pytest.raises(EventSourceFailed) as caught:
                await source.receive()
            assert (caught.value.reason, caught.value.status) == (reason, status)
            assert caught.value.url == server.url
            assert source.state == "closed"
            assert source.ended_by is None
        assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_is_temporary_is_tried_again(play: Play, status: int) -> None:
    """A server that is busy or away is tried again, except by the policy of the standard."""
    interruptions: list[Interruption] = []
    async with play(response(status), stream(*TWO)) as (_, open_source):
        assert await read_all(open_source, on_interruption=interruptions.append) == BOTH
    assert [(each.reason, each.status) for each in interruptions] == [
        ("status", status),
        ("ended", None),
    ]
    async with play(response(status), stream(*TWO)) as (_, open_source):
        with pytest.raises(EventSourceFailed) as caught:
            await read_all(open_source, policy=RetryPolicy.standard)
    assert (caught.value.reason, caught.value.status) == ("status", status)


async def test_an_event_that_is_too_large_fails_for_good(play: Play) -> None:
    """What came before a flood is given, then the bound is the end: it would only come again."""
    flood = stream(TWO[0] + b"data: " + b"x" * 2000, end=b"")
    async with (
        play(then_stay(flood), stream(*TWO)) as (server, open_source),
        open_source(policy=AT_ONCE, max_event_bytes=1000) as source,
    ):
        assert (await source.receive()).data == "one"
        for _ in range(2):
            with pytest.raises(EventTooLarge):
                await source.receive()
        assert source.state == "closed"
        assert len(server.asked) == 1


@pytest.mark.parametrize("id", [b"a\x01", b"\x7f", b"\x0b"])
async def test_an_id_that_no_header_can_carry(play: Play, id: bytes) -> None:
    """A stream that could not be continued where it was is not continued elsewhere unsaid."""
    async with play(stream(b"id: " + id + b"\ndata: 1\n\n")) as (server, open_source):
        async with open_source(policy=AT_ONCE) as source:
            assert (await source.receive()).id == id.decode()
            with pytest.raises(EventSourceFailed) as caught:
                await source.receive()
        assert caught.value.reason == "last event id"
    assert len(server.asked) == 1


async def test_white_space_around_an_id_is_not_sent(play: Play) -> None:
    """An id keeps its white space here; a header has none around its value."""
    async with play(stream(b"id:   a b\t\ndata: 1\n\n")) as (server, open_source):
        assert await read_all(open_source) == [("message", "1", "  a b\t")]
    assert server.asked[1].last_event_id == "a b"


# ---- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(play: Play, status: int) -> None:
    """A redirect leads to its URL, in this attempt: the next one begins where it was told to."""
    async with play(redirect("/b?c#d", status), stream(*TWO)) as (server, open_source):
        assert await read_all(open_source, last_event_id="0") == BOTH
    assert [(each.target, each.last_event_id) for each in server.asked] == [
        ("/events", "0"),
        ("/b?c", "0"),
        ("/events", "2"),
    ]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (301, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
    ],
)
async def test_what_a_redirect_makes_of_a_request(
    play: Play, status: int, method: str, then: str
) -> None:
    """301, 302 and 303 turn a POST into a GET without content; 307 and 308 leave it as it is."""
    async with play(redirect("/b", status)) as (server, open_source):
        headers = {"content-type": "text/plain", "x-key": "k"}
        await read_all(open_source, method=method, content=b"hello", headers=headers)
    first, second = server.asked
    assert (first.method, first.body) == (method, b"hello")
    assert second.method == then
    assert second.headers["x-key"] == "k"
    kept = then != "GET"
    assert second.body == (b"hello" if kept else b"")
    assert ("content-type" in second.headers) is kept
    assert ("content-length" in second.headers) is kept


async def test_another_origin_learns_no_secrets(play: Play) -> None:
    """Across origins go the headers that say how to answer, and none that could say who asks."""
    secrets = {"Authorization": "Bearer x", "Cookie": "a=b", "X-API-Key": "k", "Host": "h"}
    harmless = {"Accept-Language": "de", "User-Agent": "me", "Content-Type": "text/plain"}
    async with on_socket() as (other, _), play(redirect(other.url, 307)) as (server, open_source):
        await read_all(open_source, method="POST", headers=secrets | harmless)
        asked: list[Asked] = server.asked + other.asked  # in memory, every host is the same
        first, second = asked
    assert set(map(str.lower, secrets)) <= first.headers.keys()
    assert second.headers["host"] != "h"
    assert not {"authorization", "cookie", "x-api-key"} & second.headers.keys()
    assert {
        name.lower(): value for name, value in harmless.items()
    }.items() <= second.headers.items()


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("ftp://test/", "begins with http"),
        ("http://user:secret@test/", "password"),
        ("https://", "no host"),
        ("http://[", "Invalid IPv6 URL"),
        ("http://a:99999/", "not a URL"),
        ("http://.a/", "no host"),
        ("http://" + "a" * 64 + ".b/", "no host"),
        ("http://ü/", "no host"),
        ("http://a b/", "no host"),
    ],
)
async def test_a_redirect_to_nowhere_fails_for_good(
    play: Play, location: str, complaint: str
) -> None:
    """A Location that is no URL for us ends the event source, and nothing else happens."""
    async with play(redirect(location)) as (server, open_source):
        with pytest.raises(EventSourceFailed, match=complaint) as caught:
            await read_all(open_source)
    assert (caught.value.reason, caught.value.status) == ("redirect", 302)
    assert len(server.asked) == 1


async def test_a_redirect_without_a_location_fails_for_good(play: Play) -> None:
    """A redirect that does not say whereto ends the event source."""
    async with play(response(302)) as (_, open_source):
        with pytest.raises(EventSourceFailed, match="without a Location"):
            await read_all(open_source)


async def test_redirects_in_circles_end(play: Play) -> None:
    """As many redirects are followed as the policy says, in each attempt, and no more."""
    round_and_round = [redirect(f"/{number}") for number in range(100)]
    async with play(*round_and_round) as (server, open_source):
        with pytest.raises(EventSourceFailed, match="more than 3 redirects") as caught:
            await read_all(open_source, policy=RetryPolicy(max_redirects=3))
    assert caught.value.reason == "redirect"
    assert len(server.asked) == 4
    three = [redirect("/1"), redirect("/2"), redirect("/3")]
    async with play(*three, stream(TWO[0]), *three, stream(TWO[1])) as (_, open_source):
        policy = RetryPolicy(max_redirects=3, backoff=0)
        assert await read_all(open_source, policy=policy) == BOTH


async def test_a_location_is_quoted(play: Play) -> None:
    """What may not stand in a request is quoted, and what is quoted is left alone."""
    location = "/a b/%20ü?q=ä|%7c"
    answer = encode_head(302, [(b"location", location.encode()), (b"content-length", b"0")])
    async with play(answer) as (server, open_source):
        await read_all(open_source)
    assert server.asked[1].target == "/a%20b/%20%C3%BC?q=%C3%A4%7C%7c"


# ---- what else one can ask for -------------------------------------------------------------------


async def test_comments_are_told_to_who_asks(play: Play) -> None:
    """Comments of all connections are handed over, in their order."""
    comments: list[Comment] = []
    answers = [stream(b": a\n\n", *TWO, b":b\n\n"), stream(b": c\n\n")]
    async with play(*answers) as (_, open_source):
        assert await read_all(open_source, on_comment=comments.append) == BOTH
    assert comments == [Comment("a"), Comment("b"), Comment("c")]


async def test_what_a_callers_function_raises_loses_no_event(play: Play) -> None:
    """An error in a function of the caller's comes out of receive(), which can be called again."""
    wrong = iter([True, True, False, False, False])

    def maybe(_: object) -> bool:
        if next(wrong):
            raise KeyError
        return False

    async with (
        play(stream(b": a\n\n" + b"".join(TWO))) as (_, open_source),
        open_source(policy=AT_ONCE, on_comment=maybe, until=maybe) as source,
    ):
        for _ in range(2):
            with pytest.raises(KeyError):
                await source.receive()
        assert (await source.receive()).data == "one"
        assert (await source.receive()).data == "two"


async def test_what_the_headers_function_raises_can_be_tried_again(play: Play) -> None:
    """A failure to get headers is the caller's to see; the next call asks for them anew."""
    given = iter([{"content-length": "3"}, {"a": "b\r\nc: d"}, {"a": "b"}])
    failures = iter([OSError("no token")])

    async def headers() -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        for failure in failures:
            raise failure
        return next(given)

    async with play(stream(*TWO)) as (server, open_source), open_source(headers=headers) as source:
        with pytest.raises(OSError, match="no token"):
            await source.receive()
        with pytest.raises(ValueError, match="for the event source to say"):
            await source.receive()
        with pytest.raises(ValueError, match="may not contain CR"):
            await source.receive()
        assert (await source.receive()).data == "one"
        assert len(server.asked) == 1


async def test_one_task_at_a_time(play: Play) -> None:
    """A second task that waits for events is told that there is one already."""
    async with (
        play(then_stay(OPEN)) as (_, open_source),
        open_source() as source,
        trio.open_nursery() as nursery,
    ):
        await source.wait_open()
        nursery.start_soon(source.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await source.receive()
        nursery.cancel_scope.cancel()


async def test_statistics_count(play: Play) -> None:
    """The statistics say how often and how much."""
    answers = [redirect("/b"), stream(*TWO), response(503), then_stay(stream(*TWO, end=b""))]
    async with play(*answers) as (_, open_source), open_source(policy=AT_ONCE) as source:
        for _ in range(4):
            await source.receive()
        found = source.statistics()
    assert (found.attempts, found.opened, found.events) == (3, 2, 4)
    assert found.body_bytes == 2 * len(b"".join(TWO))
    assert (found.failures, found.events_waiting) == (2, 0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"url": "ws://test/"}, "begins with http: or https:"),
        ({"url": "test/events"}, "begins with http: or https:"),
        ({"url": "http://"}, "no host"),
        ({"url": "http://test:0/"}, "port 0"),
        ({"url": "http://test/\n"}, "control characters"),
        ({"url": "http://me:secret@test/"}, "say who you are in a header"),
        ({"url": "http://test/\ud800"}, "surrogates"),
        ({"method": "HEAD"}, "'HEAD'"),
        ({"method": "GET /"}, "'GET /'"),
        ({"method": ""}, "''"),
        ({"headers": {"a b": "c"}}, "must be a token"),
        ({"headers": {"a": "b\nc"}}, "may not contain CR, LF"),
        ({"headers": [("Last-Event-ID", "1")]}, "for the event source to say"),
        ({"headers": {"Accept-Encoding": "gzip"}}, "for the event source to say"),
        ({"last_event_id": "a\n"}, "may not contain CR"),
        ({"last_event_id": "a\x01"}, "may not contain CR"),
        ({"max_event_bytes": 0}, "max_event_bytes"),
        ({"max_head_bytes": 0}, "max_head_bytes"),
    ],
)
async def test_wrong_arguments(options: dict[str, Any], complaint: str) -> None:
    """What cannot be asked is refused on entering, before anything is connected."""
    async with in_memory() as (server, open_source):
        with pytest.raises(ValueError, match=complaint):
            async with partial(open_source.func, **{"url": "http://test/"} | options)():
                pass
    assert server.connected == 0


@pytest.mark.parametrize(
    "options", [{"headers": {"a": 1}}, {"headers": {b"a": "b"}}, {"last_event_id": None}]
)
async def test_arguments_of_a_wrong_type(options: dict[str, Any]) -> None:
    """What is of another type is refused on entering."""
    async with in_memory() as (_, open_source):
        with pytest.raises(TypeError):
            async with open_source(**options):
                pass


# ---- any bytes at all ----------------------------------------------------------------------------

PIECES = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302 Found\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 100 C"),
    *(
        b"HTTP/1.1 503 Busy\r\n",
        b"content-type: text/event-stream\r\n",
        b"location: /\r\n",
        b"\r\n",
    ),
    *(b"transfer-encoding: chunked\r\n", b"content-length: 9\r\n", b"retry-after: 3\r\n"),
    *(b"location: http://[\xff]:x/\r\n", b"retry-after: Wed, 99 Nov\r\n", b"date: \xff\r\n"),
    *(b"content-type: \xff\r\n", b"content-encoding: \xff\r\n", OPEN, TWO[0], TWO[1]),
    *(
        b"c\r\n",
        b"id: \x01\n\n",
        b"retry: 1" + b"0" * 5000 + b"\n",
        b"data: \xff\n\n",
        b"0\r\n\r\n",
    ),
    *(b"id: \xff\xf0\x9f\n", b"\0", b"\n", b":", b"\xef\xbb\xbf", encode_chunk(TWO[0])),
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=8))
async def test_no_peer_raises_anything_else(pieces: list[bytes]) -> None:
    """Whatever a server sends, what comes out are events, an end or a RemoteError."""
    answer = b"".join(pieces)
    policy = RetryPolicy(max_failures=2, backoff=0, max_server_wait=0, max_redirects=2)
    async with (
        in_memory(*[answer] * 20) as (_, open_source),
        open_source(policy=policy) as source,
    ):
        try:
            for _ in range(100):
                await source.receive()
        except (RemoteError, trio.EndOfChannel):
            assert source.state == "closed"
