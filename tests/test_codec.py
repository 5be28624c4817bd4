"""Events to bytes and back, every stream cut in every way.

The rules stand as rows in `codec_cases`; :func:`check` feeds each of them whole, byte by byte, cut
in two at every position and with more behind it. What rows cannot say is said by Hypothesis, with
a second decoder that is written down from the standard's text, slow and obvious.
"""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from enum import Enum, IntEnum, StrEnum
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sselib import Comment, EventStreamDecoder, EventTooLarge, ServerSentEvent, encode

from .codec_cases import BOM, CASES, Case, seen

# Whatever a stream ended with: its last line, its block, then an event that is not its own.
TRAILER = b"\n\n: trailing\n\nevent: trailing\nid: trailing\ndata: trailing\n\n"


@attrs.frozen
class Reading:
    """What a decoder made of a stream."""

    events: list[ServerSentEvent]
    last_event_id: str
    reconnection_time: int | None
    too_large: bool = False


def read(chunks: Iterable[bytes], **options: Any) -> Reading:
    """Feed the chunks to a new decoder, up to the bound if they break it."""
    decoder = EventStreamDecoder(**options)
    events: list[ServerSentEvent] = []
    too_large = False
    try:
        for chunk in chunks:
            events += decoder.feed(chunk)
        decoder.feed(b"")  # Raises if the last chunk gave events and broke the bound then.
    except EventTooLarge:
        too_large = True
    return Reading(events, decoder.last_event_id, decoder.reconnection_time, too_large)


def every_byte(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def every_cut(stream: bytes) -> Iterator[list[bytes]]:
    """Yield the ways to feed a stream: whole, byte by byte, and cut in two at every position."""
    yield [stream]
    yield every_byte(stream)
    for i in range(len(stream) + 1):
        yield [stream[:i], stream[i:]]
        yield [stream[:i], b"", stream[i:]]


def check(stream: bytes, expected: Reading) -> None:
    """Check that the stream reads as expected, however it is cut and whatever comes behind."""
    for chunks in every_cut(stream):
        assert read(chunks) == expected, chunks
    count = len(expected.events)
    for chunks in ([stream + TRAILER], [stream, TRAILER], every_byte(stream + TRAILER)):
        more = read(chunks).events
        assert more[:count] == expected.events
        assert more[-1] == seen("trailing", "trailing", "trailing")
        assert len(more) <= count + 2  # its own, one that was not complete, the trailing one


# The rules of the standard


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rules(case: Case) -> None:
    """A stream reads as the standard says, however it is cut."""
    check(case.wire, Reading(list(case.events), case.last_event_id, case.reconnection_time))


@pytest.mark.parametrize("line_end", [b"\r", b"\r\n"], ids=["CR", "CRLF"])
@pytest.mark.parametrize(
    "case", [case for case in CASES if b"\r" not in case.wire], ids=lambda case: case.name
)
def test_rules_with_other_line_ends(case: Case, line_end: bytes) -> None:
    """A stream with LF alone reads the same with CR or CRLF in its place."""
    wire = case.wire.replace(b"\n", line_end)
    check(wire, Reading(list(case.events), case.last_event_id, case.reconnection_time))


@pytest.mark.parametrize(
    ("stream", "at"),
    [
        (b"data: 1\n\n", 9),
        (b"data: 1\r\r", 9),
        (b"data: 1\r\n\r\n", 10),
        (b"data: 1\n\r\n", 9),
        (b"data: 1\r\n\n", 10),
        (BOM + b"data: 1\r\r\n", 12),
    ],
)
def test_an_event_is_out_with_its_blank_line(stream: bytes, at: int) -> None:
    """The byte that makes the blank line certain gives the event: a CR does not wait for a LF."""
    decoder = EventStreamDecoder()
    counts = [len(decoder.feed(byte)) for byte in every_byte(stream)]
    assert [i for i, count in enumerate(counts, 1) if count] == [at]


def test_a_cr_before_the_end_of_a_chunk_gives_its_event_in_that_chunk() -> None:
    """CR-framed events come with the chunk that ends them, not with the one after it."""
    decoder = EventStreamDecoder()
    assert decoder.feed(b"data: 1\r\r") == [seen("1")]
    assert decoder.feed(b"data: 2\r\r") == [seen("2")]
    assert decoder.feed(b"\ndata: 3\r\n\r") == [seen("3")]
    assert decoder.feed(b"\n") == []


def test_the_attributes_change_where_the_standard_says() -> None:
    """The last event ID waits for the blank line; the reconnection time does not."""
    decoder = EventStreamDecoder()
    assert (decoder.last_event_id, decoder.reconnection_time) == ("", None)
    decoder.feed(b"id: a\nretry: 5\ndata: 1\n")
    assert (decoder.last_event_id, decoder.reconnection_time) == ("", 5)
    decoder.feed(b"\n")
    assert (decoder.last_event_id, decoder.reconnection_time) == ("a", 5)


def test_comments_are_told_to_who_asks() -> None:
    """Each comment line is handed over once, without its colon and one space, however it is cut."""
    stream = b": a\n:b\ndata: 1\n:\n:  \xff:c\ndata: 2\n\n:d\r\n"
    for chunks in every_cut(stream):
        comments: list[Comment] = []
        decoder = EventStreamDecoder(on_comment=comments.append)
        events = [event for chunk in chunks for event in decoder.feed(chunk)]
        assert events == [seen("1\n2")]
        assert comments == [Comment(text) for text in ("a", "b", "", " \ufffd:c", "d")]


def test_a_stream_that_is_continued() -> None:
    """A decoder given a last event ID gives it to events without an id, until one changes it."""
    reading = read([b"data: 1\n\nid\ndata: 2\n\n"], last_event_id="a")
    assert reading == Reading([seen("1", id="a"), seen("2")], "", None)
    assert read([], last_event_id="é a").last_event_id == "é a"


@pytest.mark.parametrize("wrong", ["a\n", "a\r", "\0", "\ud800"])
def test_a_last_event_id_that_no_stream_can_have(wrong: str) -> None:
    """A decoder is not given an id that could not have been read."""
    with pytest.raises(ValueError, match="id may not contain"):
        EventStreamDecoder(last_event_id=wrong)


@pytest.mark.parametrize("wrong", [None, 5, b"a"])
def test_a_last_event_id_that_is_no_text(wrong: Any) -> None:
    """A decoder is given its last event ID as a string."""
    with pytest.raises(TypeError, match="id must be a str"):
        EventStreamDecoder(last_event_id=wrong)


def test_chunks_of_any_bytes_type() -> None:
    """Chunks may be bytearrays and memoryviews, which may change afterwards."""
    buffer = bytearray(b"data: 1\ndata")
    decoder = EventStreamDecoder()
    assert decoder.feed(buffer) == []
    buffer[:] = b"!" * len(buffer)
    assert decoder.feed(memoryview(b"..: 2\n\n")[2:]) == [seen("1\n2")]


@pytest.mark.parametrize("wrong", ["data: 1\n\n", None, 5, [100]])
def test_chunks_that_are_no_bytes(wrong: Any) -> None:
    """What is not bytes is refused, and the stream can go on."""
    decoder = EventStreamDecoder()
    decoder.feed(b"da")
    with pytest.raises(TypeError, match="feed takes bytes, not"):
        decoder.feed(wrong)
    assert decoder.feed(b"ta: 1\n\n") == [seen("1")]


# The bound


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
@pytest.mark.parametrize(
    ("lines", "size"),
    [
        ([b"data: 12345"], 11),
        ([b"data:1", b"data:2", b"data"], 16),
        ([b"id: 1", b"event: a", b"data: 1"], 20),
        ([b"id:1\x00", b"data"], 9),
        ([b"event:1", b"event:2", b"data"], 18),
        ([b": 3456789", b"retry:7890", b"ignored", b"data: 8"], 10),
        ([b"data: 7", b": 9"], 10),
        ([b":23456789"], 9),
        ([b"retry: 89"], 9),
        ([b"unknown"], 7),
        ([b"\xff\xff"], 2),
    ],
)
def test_the_bound_is_met_to_the_byte(lines: list[bytes], size: int, line_end: bytes) -> None:
    """What takes as many bytes as the bound passes; with one byte less allowed it does not."""
    stream = b"".join(line + line_end for line in [*lines, b""])
    for chunks in every_cut(stream):
        assert not read(chunks, max_event_bytes=size).too_large
        assert read(chunks, max_event_bytes=size - 1).too_large
        assert read([*chunks, *chunks, stream], max_event_bytes=size) == read([stream * 3])


def test_a_byte_order_mark_does_not_count() -> None:
    """The BOM is no part of the first line."""
    for chunks in every_cut(BOM + b"data\n\n"):
        assert read(chunks, max_event_bytes=4) == Reading([seen("")], "", None)


def test_what_was_complete_before_the_bound_broke_is_returned() -> None:
    """The call that breaks the bound returns the events before; every later call raises."""
    decoder = EventStreamDecoder(max_event_bytes=10)
    stream = b"id: 1\ndata\n\nid: 2\ndata: 123456\n\ndata: 3\n\n"
    assert decoder.feed(stream) == [seen("", id="1")]
    for chunk in (b"", b"data: 4\n\n", b"\n\n"):
        with pytest.raises(EventTooLarge) as caught:
            decoder.feed(chunk)
        assert caught.value.max_event_bytes == 10
    assert decoder.last_event_id == "1"


def test_the_bound_breaks_before_the_line_is_complete() -> None:
    """A line that never ends is noticed with the byte that is one too many."""
    for start in (b"data: 7890", b"data:\ndata:", b"id:34\n:7890"):
        decoder = EventStreamDecoder(max_event_bytes=10)
        decoder.feed(start)
        with pytest.raises(EventTooLarge):
            decoder.feed(b"1")


def test_no_bound() -> None:
    """With None, an event may be as large as it likes."""
    data = "x" * 2_000_000
    assert read([f"data: {data}\n\n".encode()]).too_large
    chunks = [b"data: ", *[b"x" * 1000] * 2000, b"\n\n"]
    assert read(chunks, max_event_bytes=None).events == [seen(data)]


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_bound_that_allows_nothing(wrong: int) -> None:
    """0 is no way to lift the bound."""
    with pytest.raises(ValueError, match="max_event_bytes must be at least 1 or None"):
        EventStreamDecoder(max_event_bytes=wrong)


def held(decoder: EventStreamDecoder) -> int:
    """Return the bytes of memory that the decoder holds."""
    values = [getattr(decoder, name) for name in EventStreamDecoder.__slots__]
    parts = [part for value in values if isinstance(value, list | tuple) for part in value]
    return sum(map(sys.getsizeof, values + parts))


FLOODS = {
    "comments": b": x\n",
    "long comments": b":" + b"x" * 5000 + b"\n",
    "unknown fields": b"x: x\n",
    "retry": b"retry: 1\n",
    "data": b"data: x\n",
    "data of two bytes": b"data:ab\n",
    "empty data": b"data\n",
    "CR data": b"data:ab\r",
    "much data": b"data:" + b"x" * 300 + b"\n",
    "long data": b"data:" + b"x" * 5000 + b"\n",
    "types": b"event: x\n",
    "long types": b"event: " + b"x" * 5000 + b"\n",
    "ids": b"id: x\n",
    "long ids": b"id: " + b"x" * 5000 + b"\n",
    "a line": b"x",
    "a line of data": b"data: ",
    "events": b"data: 1\n\n",
    "ids of their own": b"id: x\n\n",
    "blank lines": b"\r\n",
}


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 65_536])
@pytest.mark.parametrize("flood", FLOODS)
def test_what_a_decoder_holds_is_bounded(flood: str, chunk_bytes: int) -> None:
    """Whatever a peer floods it with, a decoder holds hardly more than the bound."""
    bound = 10_000
    stream = FLOODS[flood] * (30_000 // len(FLOODS[flood]))
    decoder = EventStreamDecoder(max_event_bytes=bound)
    most = 0
    try:
        for i in range(0, len(stream), chunk_bytes):
            decoder.feed(stream[i : i + chunk_bytes])
            most = max(most, held(decoder))
    except EventTooLarge:
        assert held(decoder) < 7000  # a long type or id may be there still; data is not
    assert most < bound * 9 / 8 + 1000  # CPython's bytearray makes room for an eighth more


@pytest.mark.parametrize(
    ("start", "chunk"),
    [
        (b"data: " + b"x" * 4_000_000, b"x" * 500),
        (b":" + b"x" * 4_000_000, b"x" * 500),
        ((b"data: " + b"x" * 1000 + b"\n") * 4000 + b"data", b": x\ndata: x\ndata"),
    ],
    ids=["a line of data", "a comment", "lines of data"],
)
def test_a_chunk_costs_no_more_for_what_came_before(start: bytes, chunk: bytes) -> None:
    """Bytes read earlier are not copied again by each chunk, so time is linear in the input."""
    decoder = EventStreamDecoder(max_event_bytes=None)
    tracemalloc.start()
    try:
        decoder.feed(start)
        for _ in range(100):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            decoder.feed(chunk)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 1_000_000  # a copy would take 4 MB
    finally:
        tracemalloc.stop()


# Writing


@pytest.mark.parametrize(
    ("item", "wire"),
    [
        (ServerSentEvent("1"), b"data: 1\n\n"),
        (ServerSentEvent(""), b"data: \n\n"),
        (ServerSentEvent("1", event="a"), b"event: a\ndata: 1\n\n"),
        (ServerSentEvent("1", event=""), b"event: \ndata: 1\n\n"),
        (ServerSentEvent("1", id="a"), b"id: a\ndata: 1\n\n"),
        (ServerSentEvent("1", id=""), b"id: \ndata: 1\n\n"),
        (ServerSentEvent("1", retry=0), b"retry: 0\ndata: 1\n\n"),
        (
            ServerSentEvent("1", event="a", id="b", retry=5),
            b"retry: 5\nid: b\nevent: a\ndata: 1\n\n",
        ),
        (ServerSentEvent("1\n2\r3\r\n4"), b"data: 1\ndata: 2\ndata: 3\ndata: 4\n\n"),
        (ServerSentEvent("\n"), b"data: \ndata: \n\n"),
        (ServerSentEvent("\r\r\n"), b"data: \ndata: \ndata: \n\n"),
        (ServerSentEvent("é", event="é", id="é"), "id: é\nevent: é\ndata: é\n\n".encode()),
        (Comment("keepalive"), b": keepalive\n\n"),
        (Comment(""), b": \n\n"),
        (Comment("é\ndata: 1\r\r\n2"), ": é\n: data: 1\n: \n: 2\n\n".encode()),
    ],
)  # fmt: skip
def test_encode(item: ServerSentEvent | Comment, wire: bytes) -> None:
    """An item has exactly these bytes."""
    assert encode(item) == wire


class Name(str, Enum):  # noqa: UP042 # formats as `Name.A`, unlike a StrEnum
    A = "a"


class Line(StrEnum):
    A = "a"


class Number(int, Enum):
    FIVE = 5


class Count(IntEnum):
    FIVE = 5


@pytest.mark.parametrize("text", [Name.A, Line.A], ids=type)
@pytest.mark.parametrize("number", [Number.FIVE, Count.FIVE], ids=type)
def test_enums_are_written_as_their_values(text: str, number: int) -> None:
    """Strings and ints that are enums go out as what they are, not as they format."""
    event = ServerSentEvent(text, event=text, id=text, retry=number)
    assert encode(event) == b"retry: 5\nid: a\nevent: a\ndata: a\n\n"
    assert encode(Comment(text)) == b": a\n\n"


@pytest.mark.parametrize("wrong", [None, "data", b"data: 1\n\n", {"data": "1"}])
def test_encode_takes_events_and_comments_only(wrong: Any) -> None:
    """Nothing else has a form on the wire, least of all its Python repr."""
    with pytest.raises(TypeError, match="encode takes a ServerSentEvent or a Comment, not"):
        encode(wrong)


# What holds for every stream and every event

TOKENS = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b":", b" ", b"\0", b"\t", b"\v", b"\x1c", b"\x85", b"a"),
    *(b"data", b"data:", b"data: ", b"event: ", b"event", b"id: ", b"id", b"retry: ", b"retry"),
    *(b"0", b"1", b"23", b"+", b"-", b"_", BOM, b"\xef", b"\xbb", b"\xbf", b"\xff", b"\x80"),
    *(b"\xe2\x82", b"\xac", b"\xf0\x9f", b"\xed\xa0", "٣\u2028\u0085é😀".encode()),
]
STREAMS = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=3), max_size=40).map(b"".join)
# Positions to cut at, taken modulo the length; those that coincide make empty chunks.
CUTS = st.lists(st.integers(0, 2**16), max_size=12)
BOUNDS = st.integers(1, 24)

LINES = st.text(
    st.sampled_from(" :\0a1é😀\u2028\u0085\v\ufeff") | st.characters(exclude_categories=["Cs"])
).map(lambda text: text.translate({0x0A: None, 0x0D: None}))
TEXTS = st.lists(LINES | st.sampled_from(["\n", "\r", "\r\n", ""]), max_size=8).map("".join)
EVENTS = st.builds(
    ServerSentEvent,
    TEXTS,
    event=st.none() | LINES,
    id=st.none() | LINES.map(lambda text: text.replace("\0", "")),
    retry=st.none() | st.integers(0, 10**30),
)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted(place % (len(stream) + 1) for place in cuts)
    return [stream[a:b] for a, b in pairwise([0, *places, len(stream)])]


def as_the_standard_says(stream: bytes) -> Reading:
    """Read what has come of a stream, by the standard's own words and nothing else."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    data = event_type = id_buffer = last_event_id = ""
    reconnection_time = None
    events = []
    for line in re.findall(r"([^\r\n]*)(?:\r\n|\n|\r)", text):
        if line == "":
            last_event_id = id_buffer
            if data != "":
                data = data.removesuffix("\n")
                events.append(seen(data, event_type if event_type != "" else "message", id_buffer))
            data = event_type = ""
            continue
        if line[0] == ":":
            continue
        field, colon, value = line.partition(":")
        if colon and value[:1] == " ":
            value = value[1:]
        match field:
            case "event":
                event_type = value
            case "data":
                data += value + "\n"
            case "id" if "\0" not in value:
                id_buffer = value
            case "retry" if re.fullmatch("[0-9]+", value):
                reconnection_time = int(value)
            case _:
                pass
    return Reading(events, last_event_id, reconnection_time)


def is_too_large(stream: bytes, bound: int) -> bool:
    """Return whether a decoder that has read exactly this much may not hold what is open."""
    if BOM.startswith(stream):
        return False
    stream = stream.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, partial = re.split(b"\n", stream)
    size = 0
    for line in lines:
        if size + len(line) > bound:
            return True
        if line == b"":
            size = 0
        elif re.match(b"(data|event|id)(:|$)", line):
            size += len(line)
    return size + len(partial) > bound


def up_to_the_bound(stream: bytes, bound: int) -> Reading:
    """Read the stream up to the byte that breaks the bound, if one does."""
    for length in range(len(stream) + 1):
        if is_too_large(stream[:length], bound):
            return attrs.evolve(as_the_standard_says(stream[: length - 1]), too_large=True)
    return as_the_standard_says(stream)


@given(event=EVENTS, cuts=CUTS)
def test_the_law_of_the_round_trip(event: ServerSentEvent, cuts: list[int]) -> None:
    """A fresh decoder gets the one event that was encoded, wherever its block is cut."""
    data = event.data.replace("\r\n", "\n").replace("\r", "\n")
    expected = seen(data, event.event or "message", event.id or "")
    assert read(cut(encode(event), cuts)) == Reading([expected], event.id or "", event.retry)


@given(items=st.lists(EVENTS | st.builds(Comment, TEXTS), max_size=6), cuts=CUTS)
def test_items_one_after_another(items: list[ServerSentEvent | Comment], cuts: list[int]) -> None:
    """Blocks do not touch each other but for the id, which persists; comments are not seen."""
    expected = Reading([], "", None)
    for item in items:
        if isinstance(item, ServerSentEvent):
            reading = read([encode(item)], last_event_id=expected.last_event_id)
            retry = expected.reconnection_time if item.retry is None else item.retry
            expected = Reading(expected.events + reading.events, reading.last_event_id, retry)
    assert read(cut(b"".join(map(encode, items)), cuts)) == expected
    assert len(expected.events) == sum(isinstance(item, ServerSentEvent) for item in items)


@given(stream=STREAMS, cuts=CUTS)
def test_any_stream_reads_as_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    """Any bytes, cut anywhere, read as the standard's text says and raise nothing."""
    expected = as_the_standard_says(stream)
    assert read([stream]) == expected
    assert read(cut(stream, cuts)) == expected
    assert read(every_byte(stream)) == expected


@given(stream=STREAMS, cuts=CUTS)
def test_events_come_as_soon_as_they_are_complete(stream: bytes, cuts: list[int]) -> None:
    """After each chunk, everything is there that the standard gives for the bytes so far."""
    decoder = EventStreamDecoder()
    events: list[ServerSentEvent] = []
    fed = b""
    for chunk in cut(stream, cuts):
        fed += chunk
        events += decoder.feed(chunk)
        reading = Reading(events, decoder.last_event_id, decoder.reconnection_time)
        assert reading == as_the_standard_says(fed)


@given(stream=STREAMS, cuts=CUTS, bound=BOUNDS)
def test_the_bound_does_not_depend_on_the_chunks(
    stream: bytes, cuts: list[int], bound: int
) -> None:
    """However a stream is cut, the bound breaks at the same byte and after the same events."""
    expected = up_to_the_bound(stream, bound)
    assert read([stream], max_event_bytes=bound) == expected
    assert read(cut(stream, cuts), max_event_bytes=bound) == expected


@given(stream=STREAMS, bound=BOUNDS)
def test_the_bound_breaks_at_its_byte(stream: bytes, bound: int) -> None:
    """Fed byte by byte, exactly the byte that is one too many raises."""
    decoder = EventStreamDecoder(max_event_bytes=bound)
    for length, byte in enumerate(every_byte(stream), 1):
        if is_too_large(stream[:length], bound):
            with pytest.raises(EventTooLarge):
                decoder.feed(byte)
            break
        decoder.feed(byte)
