"""Heads and chunked bodies, with h11 as the second opinion.

What h11 says about the same bytes is asked with its own connection: :func:`h11_body` and
:func:`h11_head` are the whole of the peer's side. Every body is fed whole, byte by byte and cut in
two at each position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs
import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sselib.errors import InvalidHTTP
from sselib.http1 import (
    LAST_CHUNK,
    MAX_EXTENSION_BYTES,
    MAX_TRAILER_BYTES,
    ChunkedDecoder,
    PlainDecoder,
    encode_chunk,
    encode_head,
)

FRAMING = [(b"transfer-encoding", b"chunked")]


# ---- h11 -----------------------------------------------------------------------------------------


def h11_client(head: bytes) -> h11.Connection:
    """Return a client that has asked, and was given this head of a response."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(head)
    return client


def h11_head(head: bytes) -> h11.Response | h11.InformationalResponse:
    event = h11_client(head).next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    return event


def h11_body(chunks: Iterable[bytes]) -> Reading:
    """Read a chunked body as h11 does."""
    client = h11_client(encode_head(200, FRAMING))
    client.next_event()
    body = b""
    for chunk in filter(None, chunks):  # to h11 nothing is the end of the connection
        if client.their_state is not h11.SEND_BODY:
            break
        client.receive_data(chunk)
        while client.their_state is h11.SEND_BODY:
            try:
                event = client.next_event()
            except h11.RemoteProtocolError:
                return Reading(body, "malformed")
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Data):
                body += event.data
    return Reading(body, "open" if client.their_state is h11.SEND_BODY else "complete")


# ---- ours ----------------------------------------------------------------------------------------


@attrs.frozen
class Reading:
    """What a decoder made of a body."""

    body: bytes
    state: str  # "open", "complete" or "malformed"
    rest: bytes = attrs.field(default=b"", eq=False)


def read(chunks: Iterable[bytes]) -> Reading:
    """Feed the chunks to a new decoder, as far as they belong to the body."""
    decoder = ChunkedDecoder()
    body = rest = b""
    try:
        for chunk in chunks:
            if decoder.complete:
                rest += chunk
                continue
            body += decoder.feed(chunk)
        if not decoder.complete:
            decoder.feed(b"")  # raises if the last chunk gave payload and was malformed then
    except InvalidHTTP:
        return Reading(body, "malformed")
    state = "complete" if decoder.complete else "open"
    return Reading(body, state, decoder.rest + rest)


def every_cut(stream: bytes) -> Iterator[list[bytes]]:
    """Yield the ways to feed a stream: whole, byte by byte, and cut in two at every position."""
    yield [stream]
    yield [stream[i : i + 1] for i in range(len(stream))]
    for i in range(len(stream) + 1):
        yield [stream[:i], stream[i:]]


# ---- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "body", "state"),
    [
        (b"", b"", "open"),
        (LAST_CHUNK, b"", "complete"),
        (b"000\r\n\r\n", b"", "complete"),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", "complete"),
        (b"5\r\nhello\r\n3\r\n wo\r\n3\r\nrld\r\n0\r\n\r\n", b"hello world", "complete"),
        (b"000000000000000A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", "complete"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", "complete"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", "complete"),
        (b"5;a=b;c\r\nhello\r\n0;last\r\n\r\n", b"hello", "complete"),
        (b'5;a="\xe9\t;"\r\nhello\r\n0\r\n\r\n', b"hello", "complete"),
        (b"5  \t\r\nhello\r\n0 \r\n\r\n", b"hello", "complete"),
        (b"5;a  \r\nhello\r\n0\r\n\r\n", b"hello", "complete"),
        (b"1\r\nx\r\n0\r\nA: 1\r\nb:\r\n\r\n", b"x", "complete"),
        (b"5\r\nhel", b"hel", "open"),
        (b"5\r\nhello", b"hello", "open"),
        (b"5\r\nhello\r\n0\r\n", b"hello", "open"),
        (b"5\r\nhello\r\n0\r\na: b\r\n", b"hello", "open"),
        (b"ffffffffffffffff\r\nx", b"x", "open"),
        # A line that is none
        (b"\r\n", b"", "malformed"),
        (b"\n", b"", "malformed"),
        (b"g\r\n", b"", "malformed"),
        (b"-1\r\nx", b"", "malformed"),
        (b"+1\r\nx\r\n", b"", "malformed"),
        (b"0x1\r\nx\r\n", b"", "malformed"),
        (b"1_0\r\nx\r\n", b"", "malformed"),
        (b" 1\r\nx\r\n", b"", "malformed"),
        (b"\xd9\xa1\r\nx\r\n", b"", "malformed"),
        (b"10000000000000000\r\nx", b"", "malformed"),
        (b"1 ;a\r\nx\r\n", b"", "malformed"),
        (b"1,a\r\nx\r\n", b"", "malformed"),
        (b"1;a\x00\r\nx\r\n", b"", "malformed"),
        (b"1;a\rb\r\nx\r\n", b"", "malformed"),
        (b"1;a\nb\r\nx\r\n", b"", "malformed"),
        (b"1\nx\n0\n\n", b"", "malformed"),
        # A chunk that is longer, or shorter, than it says
        (b"5\r\nhello!\r\n", b"hello", "malformed"),
        (b"5\r\nhello\n0\r\n\r\n", b"hello", "malformed"),
        (b"5\r\nhello\r\r\n", b"hello", "malformed"),
        (b"6\r\nhello\r\n0\r\n\r\n", b"hello\r", "malformed"),
        # Fields that are none
        (b"0\r\n: a\r\n\r\n", b"", "malformed"),
        (b"0\r\na b: c\r\n\r\n", b"", "malformed"),
        (b"0\r\na: b\r\n c\r\n\r\n", b"", "malformed"),
        (b"0\r\na: b\0\r\n\r\n", b"", "malformed"),
        (b"1\r\nx\r\n0\r\na\r\n\r\n", b"x", "malformed"),
    ],
)
def test_a_body_reads_the_same_however_it_is_cut(stream: bytes, body: bytes, state: str) -> None:
    """A body has its payload and its end, or its fault, wherever the bytes are cut."""
    for chunks in every_cut(stream):
        assert read(chunks) == Reading(body, state), chunks


def test_what_stands_behind_the_end_is_kept() -> None:
    """Bytes behind the last chunk are the next message's."""
    stream = b"5\r\nhello\r\n0\r\na: b\r\n\r\n"
    for chunks in every_cut(stream + b"HTTP/1.1 200 OK\r\n"):
        reading = read(chunks)
        assert reading == Reading(b"hello", "complete")
        assert reading.rest == b"HTTP/1.1 200 OK\r\n"


def test_nothing_is_fed_behind_the_end() -> None:
    """A decoder whose body is complete refuses bytes, for they are not the body's."""
    decoder = ChunkedDecoder()
    decoder.feed(LAST_CHUNK)
    with pytest.raises(ValueError, match="complete"):
        decoder.feed(b"")


def test_a_fault_stays() -> None:
    """Payload in front of a fault is given out; from then on each call raises."""
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1\r\nx\r\n1\r\ny!") == b"xy"
    for data in (b"", b"0\r\n\r\n"):
        with pytest.raises(InvalidHTTP, match="does not end where its size says: b'!'"):
            decoder.feed(data)
    assert not decoder.complete


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_will_do(kind: type) -> None:
    """Bytes are fed in whichever type they come; payload is always bytes."""
    decoder = ChunkedDecoder()
    bodies = [decoder.feed(kind(data)) for data in (b"5", b"\r\nhel", b"lo\r\n0\r\n\r\n!")]
    assert bodies == [b"", b"hel", b"lo"]
    assert {type(body) for body in bodies} == {bytes}
    assert type(decoder.rest) is bytes


@pytest.mark.parametrize(
    ("fits", "exceeds"),
    [
        (
            b"1;" + b"a" * MAX_EXTENSION_BYTES + b"\r\nx",
            b"1;" + b"a" * (MAX_EXTENSION_BYTES + 1) + b"\r\nx",
        ),
        (
            b"1" + b" " * MAX_EXTENSION_BYTES + b"\r\nx",
            b"1" + b" " * (MAX_EXTENSION_BYTES + 1) + b"\r\nx",
        ),
        (
            b"0\r\na:" + b"b" * (MAX_TRAILER_BYTES - 6) + b"\r\n\r\n",
            b"0\r\na:" + b"b" * (MAX_TRAILER_BYTES - 5) + b"\r\n\r\n",
        ),
        (
            b"0\r\n" + b"a:b\r\n" * (MAX_TRAILER_BYTES // 5) + b"\r\n",
            b"0\r\n" + b"a:b\r\n" * (MAX_TRAILER_BYTES // 5 + 1) + b"\r\n",
        ),
    ],
    ids=["extension", "padding", "field", "fields"],
)
def test_what_is_not_payload_is_bounded(fits: bytes, exceeds: bytes) -> None:
    """Extensions and trailers are taken up to their bounds, and not a byte beyond."""
    for stream, allowed in ((fits, True), (exceeds, False)):
        for step in (len(stream), 1, 1000):
            chunks = [stream[i : i + step] for i in range(0, len(stream), step)]
            assert (read(chunks).state != "malformed") is allowed


@pytest.mark.parametrize("endless", [b"1", b"1;", b"1 ", b"1\r\nx\r\n", b"0\r\n", b"0\r\na:"])
@pytest.mark.parametrize("filling", [b"1", b" ", b"a", b"\r"])
def test_no_line_is_waited_for_without_end(endless: bytes, filling: bytes) -> None:
    """A line that does not end is a fault before it takes more than its bound."""
    assert read([endless, *[filling * 8] * (MAX_TRAILER_BYTES // 8 + 1)]).state == "malformed"


pieces = st.lists(st.binary(max_size=40), max_size=6)
cuts = st.lists(st.integers(0, 200), max_size=6)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(stream)) for place in places} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(pieces, cuts)
def test_what_we_encode_comes_back(payload: list[bytes], places: list[int]) -> None:
    """Chunks that we make are read alike by us and by h11, and an empty one is none."""
    stream = b"".join(map(encode_chunk, payload)) + LAST_CHUNK
    expected = Reading(b"".join(payload), "complete")
    assert read(cut(stream, places)) == expected
    assert h11_body(cut(stream, places)) == expected


# What bodies are made of, and what could be mistaken for it.
tokens = st.sampled_from(
    [
        *(
            b"0",
            b"1",
            b"2",
            b"a",
            b"0A",
            b"xx",
            b"-",
            b"0x",
            b"\x00",
            b"\x80",
            b";x",
            b":",
            b"a: b",
        ),
        *(b"\r\n", b"\r\n", b"\r\n", b"\r", b"\n", b" ", b"\t", b"0\r\n\r\n", b"data: 1\n\n"),
    ]
)
chunked = st.builds(
    lambda data, extension: b"%x%b\r\n%b\r\n" % (len(data), extension, data),
    st.binary(max_size=20),
    st.sampled_from([b"", b"", b";a", b";a=b", b" "]),
)
streams = st.lists(st.one_of(tokens, chunked, st.binary(max_size=3)), max_size=12).map(b"".join)


@given(streams, cuts)
def test_whatever_we_accept_h11_accepts(stream: bytes, places: list[int]) -> None:
    """No body ends elsewhere for us than for h11, nor has other payload; we are only stricter."""
    ours, theirs = read(cut(stream, places)), h11_body([stream])
    assert ours == read([stream])
    if ours.state == "complete":
        assert ours == theirs
    elif ours.state == "open":
        # h11 may have found an end that we do not accept, or complain before the line ends.
        assert theirs.body == ours.body
    else:
        assert theirs.body.startswith(ours.body)


@given(streams)
def test_nothing_else_is_raised(stream: bytes) -> None:
    """Any bytes at all are a body, the beginning of one, or malformed."""
    assert read([stream]).state in {"open", "complete", "malformed"}


@pytest.mark.parametrize(
    ("length", "stream", "body"),
    [
        (5, b"hello", b"hello"),
        (5, b"hel", b"hel"),
        (5, b"hello, world", b"hello"),
        (None, b"hello, world", b"hello, world"),
    ],
)
def test_a_plain_body_has_its_length(length: int | None, stream: bytes, body: bytes) -> None:
    """A body of a known length ends there, and one of unknown length with the connection."""
    for chunks in every_cut(stream):
        decoder = PlainDecoder(length)
        found, rest = b"", b""
        for chunk in chunks:
            if decoder.complete:
                rest += chunk
            else:
                found += decoder.feed(memoryview(chunk))
        assert (found, decoder.complete) == (body, len(body) == length)
        assert decoder.rest + rest == stream[len(body) :]


def test_an_empty_body_is_complete_from_the_start() -> None:
    """A body of no bytes takes none."""
    assert PlainDecoder(0).complete
    with pytest.raises(ValueError, match="complete"):
        PlainDecoder(0).feed(b"")


# ---- heads ---------------------------------------------------------------------------------------


def test_a_head_is_its_lines() -> None:
    """A head is the status line, the headers as they are given, and a blank line."""
    headers = [(b"Content-Type", b"text/event-stream"), (b"x", b""), (b"x", b"a \t\xe9")]
    assert encode_head(200, headers) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx: \r\nx: a \t\xe9\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (204, None, b"HTTP/1.1 204 No Content"),
        (100, None, b"HTTP/1.1 100 Continue"),
        (299, None, b"HTTP/1.1 299 "),
        (999, None, b"HTTP/1.1 999 "),
        (200, b"", b"HTTP/1.1 200 "),
        (404, b"Nothing h\xe9re", b"HTTP/1.1 404 Nothing h\xe9re"),
    ],
)
def test_a_status_has_its_reason(status: int, reason: bytes | None, line: bytes) -> None:
    """The reason is the one given, else that of the standard, else empty behind a space."""
    assert encode_head(status, [], reason) == line + b"\r\n\r\n"


@pytest.mark.parametrize(
    "name", [b"", b"a b", b"a:", b"a\r\nb", b"a\n", b"\xe9", b"a\0", b" a", b'"']
)
def test_a_name_is_a_token(name: bytes) -> None:
    """A name that is no token is refused and named."""
    with pytest.raises(ValueError, match="must be a token") as caught:
        encode_head(200, [(b"ok", b"1"), (name, b"2")])
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\n", b"\r\n", b"a\0b", b"a\x1bb", b"\x7f", b" a", b"a\t"],
)
def test_a_value_ends_with_its_line(value: bytes) -> None:
    """A value that could end its line, or be read as another value, is refused and named."""
    with pytest.raises(ValueError, match="may not contain CR, LF, NUL") as caught:
        encode_head(200, [(b"ok", b"1"), (b"name", value)])
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("header", [("name", b"value"), (b"name", "value"), (b"name", 1)])
def test_a_header_is_bytes(header: tuple[bytes, bytes]) -> None:
    """Whoever hands over text or numbers is told so."""
    with pytest.raises(TypeError, match="a header is two bytes"):
        encode_head(200, [header])


@pytest.mark.parametrize("reason", [b"a\r\n", b"a\nb", b"\0"])
def test_a_reason_ends_with_its_line(reason: bytes) -> None:
    """A reason that could end its line is refused."""
    with pytest.raises(ValueError, match="reason may not contain"):
        encode_head(200, [], reason)


@pytest.mark.parametrize("status", [0, 99, 1000, -200])
def test_a_status_has_three_digits(status: int) -> None:
    """A number that is no status code is refused."""
    with pytest.raises(ValueError, match="from 100 to 999"):
        encode_head(status, [])


names = st.one_of(
    st.sampled_from([b"a", b"X-Y", b"a\r\n", b"a ", b":", b""]), st.binary(max_size=3)
)
parts = [b"a", b"b: c", b" ", b"\t", b"\r", b"\n", b"\0", b"\x0b", b"\xff", b"\x7f", b"\x01"]
values = st.lists(st.sampled_from(parts), max_size=5).map(b"".join)


@given(st.integers(200, 999), st.lists(st.tuples(names, values), max_size=5))
def test_what_is_not_refused_reads_as_it_was_meant(
    status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    """A head is refused, or h11 reads from it exactly the headers that went in."""
    try:
        head = encode_head(status, headers)
    except ValueError:
        return
    response = h11_head(head)
    assert response.status_code == status
    assert list(response.headers.raw_items()) == headers
