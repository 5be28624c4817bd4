"""Event streams and what a reader gets from them: one row per rule of the standard.

A row's name says its rule. Its bytes are whole: the tests cut them wherever they can be cut. The
rows of :data:`EXAMPLES` are the standard's own; those of :data:`PEERS` are streams that other
implementations were seen to get wrong.

Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import attrs

from sselib import ServerSentEvent

BOM = b"\xef\xbb\xbf"


def seen(data: str, event: str = "message", id: str = "") -> ServerSentEvent:
    """Make an event as a reader gets it: with an event type and an id, and without `retry`."""
    return ServerSentEvent(data, event=event, id=id)


@attrs.frozen
class Case:
    name: str
    wire: bytes
    events: tuple[ServerSentEvent, ...]
    last_event_id: str
    reconnection_time: int | None


def case(
    name: str,
    wire: bytes,
    *events: ServerSentEvent,
    last_event_id: str = "",
    retry: int | None = None,
) -> Case:
    return Case(name, wire, events, last_event_id, retry)


BYTE_ORDER_MARK = [
    case("nothing at all", b""),
    case("a BOM is skipped", BOM + b"data: 1\n\n", seen("1")),
    case("a BOM alone is nothing", BOM),
    case("a BOM and a blank line", BOM + b"\n"),
    case("a BOM in front of a comment", BOM + b": hello\n\ndata: 1\n\n", seen("1")),
    case("a second BOM is part of the name", BOM + BOM + b"data: 1\ndata: 2\n\n", seen("2")),
    case("a BOM on a later line is part of the name", b"\n" + BOM + b"data: 1\n\n"),
    case("a BOM in front of the second event", b"data: 1\n\n" + BOM + b"data: 2\n\n", seen("1")),
    case("a BOM in a value stays", b"data:" + BOM + b"1\n\n", seen("\ufeff1")),
    case("half a BOM is part of the name", BOM[:2] + b"data: 1\ndata: 2\n\n", seen("2")),
    case("a third of a BOM is part of the name", BOM[:1] + b"data: 1\ndata: 2\n\n", seen("2")),
    case("half a BOM and a line end", BOM[:2] + b"\ndata: 2\n\n", seen("2")),
]

LINE_ENDS = [
    case("LF", b"data: 1\n\n", seen("1")),
    case("CR", b"data: 1\r\r", seen("1")),
    case("CRLF", b"data: 1\r\n\r\n", seen("1")),
    case("LF, then CR", b"data: 1\n\r", seen("1")),
    case("LF, then CRLF", b"data: 1\n\r\n", seen("1")),
    case("CRLF, then CR", b"data: 1\r\n\r", seen("1")),
    case("CRLF, then LF", b"data: 1\r\n\n", seen("1")),
    case("CR LF is one line end", b"data: 1\r\ndata: 2\r\n\r\n", seen("1\n2")),
    case("LF CR is two", b"data: 1\n\rdata: 2\n\r", seen("1"), seen("2")),
    case("CR CR LF is two", b"data: 1\r\r\ndata: 2\r\r\n", seen("1"), seen("2")),
    case("all three in one event", b"data: 1\rdata: 2\ndata: 3\r\n\r", seen("1\n2\n3")),
    case("blank lines do nothing", b"\n\r\r\n\n\ndata: 1\n\n\n\r\n\r\r", seen("1")),
    case(
        "U+2028 and U+2029 end no line",
        "data: 1\u2028data\u20292\n\n".encode(),
        seen("1\u2028data\u20292"),
    ),
    case("U+0085 ends no line", "data: 1\u0085data: 2\n\n".encode(), seen("1\u0085data: 2")),
    case(
        "VT, FF, FS, GS and RS end no line",
        b"data: \v\f\x1c\x1d\x1e1\n\n",
        seen("\v\f\x1c\x1d\x1e1"),
    ),
    case("NUL ends no line", b"data: 1\x00\n\n", seen("1\0")),
]

FIELDS = [
    case("a line that starts with a colon is a comment", b":data: 1\ndata: 2\n\n", seen("2")),
    case("comments alone give no event", b":\n\n: a\n\n:\r\r"),
    case("a comment may stand inside an event", b"data: 1\n: x\ndata: 2\n\n", seen("1\n2")),
    case("a field without a colon has an empty value", b"data\n\n", seen("")),
    case("a field without a value", b"data:\n\n", seen("")),
    case("a value of one space is empty", b"data: \n\n", seen("")),
    case("one space is removed", b"data: 1\n\n", seen("1")),
    case("no space need be there", b"data:1\n\n", seen("1")),
    case("only one space is removed", b"data:  1 \n\n", seen(" 1 ")),
    case("a tab is not removed", b"data:\t1\n\n", seen("\t1")),
    case("no other space is removed", "data:\u00a01\n\n".encode(), seen("\u00a01")),
    case("the first colon ends the name", b"data: a: b:c\n\n", seen("a: b:c")),
    case("a colon may begin the value", b"data::\n\n", seen(":")),
    case("a space in front is part of the name", b" data: 1\ndata: 2\n\n", seen("2")),
    case("a space behind is part of the name", b"data : 1\ndata: 2\n\n", seen("2")),
    case("names have their case", b"Data: 1\nDATA: 1\nEvent: x\nID: x\ndata: 2\n\n", seen("2")),
    case("unknown fields are ignored", b"dat: 1\ndatas: 1\nfoo\nfoo: 1\ndata: 2\n\n", seen("2")),
    case("a name with NUL is unknown", b"data\x00: 1\ndata: 2\n\n", seen("2")),
]

DATA = [
    case("data lines are joined by LF", b"data: 1\ndata: 2\n\n", seen("1\n2")),
    case("empty data lines count", b"data\ndata:\ndata: \n\n", seen("\n\n")),
    case(
        "data lines need not be neighbours",
        b"data: 1\nid: a\ndata: 2\n\n",
        seen("1\n2", id="a"),
        last_event_id="a",
    ),
    case("no data, no event", b"event: a\n\n"),
    case("data is reset at the blank line", b"data: 1\n\ndata: 2\n\n", seen("1"), seen("2")),
    case("an unterminated block is dropped", b"data: 1\n\ndata: 2\n", seen("1")),
    case("an unterminated line is dropped", b"data: 1\n\ndata: 2", seen("1")),
    case("a blank line may not be half of CRLF", b"data: 1\r\n"),
    case("a long line", b"data: " + b"x" * 300 + b"\n\n", seen("x" * 300)),
]

EVENT_TYPES = [
    case("the type", b"event: a\ndata: 1\n\n", seen("1", "a")),
    case("the type after the data", b"data: 1\nevent: a\n\n", seen("1", "a")),
    case("the last type wins", b"event: a\nevent: b\ndata: 1\n\n", seen("1", "b")),
    case("an empty type is message", b"event: a\nevent\ndata: 1\n\n", seen("1")),
    case("a type of spaces is one", b"event:  \ndata: 1\n\n", seen("1", " ")),
    case(
        "the type is reset at the blank line",
        b"event: a\ndata: 1\n\ndata: 2\n\n",
        seen("1", "a"),
        seen("2"),
    ),
    case("the type is reset without data too", b"event: a\n\ndata: 2\n\n", seen("2")),
    case(
        "the type may hold anything but line ends",
        "event: é:\0 \ndata: 1\n\n".encode(),
        seen("1", "é:\0 "),
    ),
]

IDS = [
    case("the id", b"id: a\ndata: 1\n\n", seen("1", id="a"), last_event_id="a"),
    case("the id after the data", b"data: 1\nid: a\n\n", seen("1", id="a"), last_event_id="a"),
    case("the last id wins", b"id: a\nid: b\ndata: 1\n\n", seen("1", id="b"), last_event_id="b"),
    case(
        "the id persists",
        b"id: a\ndata: 1\n\ndata: 2\n\n",
        *(seen("1", id="a"), seen("2", id="a")),
        last_event_id="a",
    ),
    case("an id without data is kept", b"id: a\n\n", last_event_id="a"),
    case(
        "an id without data persists",
        b"id: a\n\n: x\n\ndata: 1\n\n",
        seen("1", id="a"),
        last_event_id="a",
    ),
    case(
        "an id takes effect at the blank line",
        b"id: a\ndata: 1\n\nid: b\n",
        seen("1", id="a"),
        last_event_id="a",
    ),
    case("an unterminated id does nothing", b"id: a"),
    case(
        "an empty id resets",
        b"id: a\ndata: 1\n\nid\ndata: 2\n\n",
        *(seen("1", id="a"), seen("2")),
    ),
    case("an empty id resets without data", b"id: a\n\nid:\n\n"),
    case(
        "an id with NUL is ignored",
        b"id: a\ndata: 1\n\nid: b\x00\ndata: 2\n\nid: \x00\n\n",
        *(seen("1", id="a"), seen("2", id="a")),
        last_event_id="a",
    ),
    case(
        "an id with NUL leaves the one before it in its block",
        b"id: a\nid: b\x00c\ndata: 1\n\n",
        seen("1", id="a"),
        last_event_id="a",
    ),
    case("an id may have spaces and colons", b"id:  a:b \n\n", last_event_id=" a:b "),
    case("an id may be any text", "id: é\u2028\n\n".encode(), last_event_id="é\u2028"),
]

RETRY = [
    case("retry", b"retry: 1500\n\n", retry=1500),
    case("retry takes effect at once", b"retry: 1500\n", retry=1500),
    case("an unterminated retry does nothing", b"retry: 1\nretry: 2", retry=1),
    case("the last retry wins", b"retry: 1\ndata: 1\n\nretry: 2\n", seen("1"), retry=2),
    case("retry gives no event", b"retry: 1\n\n\n", retry=1),
    case("retry of 0", b"retry: 0\n", retry=0),
    case("retry with leading zeros", b"retry: 007\n", retry=7),
    case("retry with very many leading zeros", b"retry:" + b"0" * 5000 + b"5\n", retry=5),
    case("retry of very many zeros", b"retry:" + b"0" * 5000 + b"\n", retry=0),
    case("retry of 40 digits", b"retry: " + b"9" * 40 + b"\n", retry=10**40 - 1),
    *(
        case(f"retry ignores {what}", b"retry: 1\nretry:" + value + b"\n", retry=1)
        for what, value in [
            ("a plus", b" +5"),
            ("a minus", b" -3"),
            ("underscores", b" 1_000"),
            ("a second space", b"  5"),
            ("a space behind", b" 5 "),
            ("a tab", b"\t5"),
            ("a VT behind", b" 5\v"),
            ("a NUL", b" 5\x00"),
            ("a point", b" 5.0"),
            ("an exponent", b" 5e3"),
            ("hexadecimal", b" 0x5"),
            ("letters", b" five"),
            ("nothing", b""),
            ("a space", b" "),
            ("Arabic digits", " ٣".encode()),
            ("full-width digits", " ５".encode()),  # noqa: RUF001 # they are what is tried
            ("superscripts", " ²".encode()),
            ("invalid UTF-8", b" 5\xff"),
            ("5,000 digits", b" " + b"9" * 5000),
        ]
    ),
]

REPLACED = "\ufffd"

UTF_8 = [
    case("two, three and four bytes", "data: é€😀\n\n".encode(), seen("é€😀")),
    case("an invalid byte is replaced", b"data: a\xffb\n\n", seen(f"a{REPLACED}b")),
    case("Latin-1 is replaced", b"data: \xe9t\xe9\n\n", seen(f"{REPLACED}t{REPLACED}")),
    case("a sequence cut by another character", b"data: \xe2\x82a\n\n", seen(f"{REPLACED}a")),
    case("a sequence cut by LF", b"data: \xe2\x82\n\n", seen(REPLACED)),
    case("a sequence cut by CR", b"data: \xe2\x82\r\r", seen(REPLACED)),
    case(
        "a sequence does not go on over a line end",
        b"data: \xe2\x82\ndata:\xac\n\n",
        seen(f"{REPLACED}\n{REPLACED}"),
    ),
    case("a sequence of four cut after three", b"data: \xf0\x9f\x98\n\n", seen(REPLACED)),
    case("an overlong form", b"data: \xc0\xaf\n\n", seen(REPLACED * 2)),
    case("an overlong LF is none", b"data: 1\xc0\x8a\n\n", seen(f"1{REPLACED * 2}")),
    case("a surrogate", b"data: \xed\xa0\x80\n\n", seen(REPLACED * 3)),
    case("beyond U+10FFFF", b"data: \xf4\x90\x80\x80\n\n", seen(REPLACED * 4)),
    case("invalid bytes in a type", b"event: \xff\ndata: 1\n\n", seen("1", REPLACED)),
    case(
        "invalid bytes in an id",
        b"id: \xff\ndata: 1\n\n",
        seen("1", id=REPLACED),
        last_event_id=REPLACED,
    ),
    case("invalid bytes in a name", b"data\xff: 1\ndata: 2\n\n", seen("2")),
    case("a sequence cut by the colon", b"data\xe2\x82: 1\ndata: 2\n\n", seen("2")),
    case("a sequence cut by the space", b"data:\xe2\x82 1\n\n", seen(f"{REPLACED} 1")),
    case("invalid bytes in a comment", b":\xff\xe2\x82\ndata: 1\n\n", seen("1")),
]

# The streams shown in the standard, under "Interpreting an event stream" and in its introduction.
EXAMPLES = [
    case(
        "messages of the introduction",
        b"data: This is the first message.\n\n"
        b"data: This is the second message, it\ndata: has two lines.\n\n"
        b"data: This is the third message.\n\n",
        seen("This is the first message."),
        seen("This is the second message, it\nhas two lines."),
        seen("This is the third message."),
    ),
    case(
        "types of the introduction",
        b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        seen("73857293", "add"),
        seen("2153", "remove"),
        seen("113411", "add"),
    ),
    case("stocks", b"data: YHOO\ndata: +2\ndata: 10\n\n", seen("YHOO\n+2\n10")),
    case(
        "four blocks",
        b": test stream\n\n"
        b"data: first event\nid: 1\n\n"
        b"data:second event\nid\n\n"
        b"data:  third event\n\n",
        seen("first event", id="1"),
        seen("second event"),
        seen(" third event"),
    ),
    case("empty data", b"data\n\ndata\ndata\n\ndata:", seen(""), seen("\n")),
    case("the space after the colon", b"data:test\n\ndata: test\n\n", seen("test"), seen("test")),
]

PEERS = [
    case(
        "httpx-sse: no event for a comment after an id",
        b"id: 1\ndata: a\n\n: keepalive\n\n: keepalive\n\n\n",
        seen("a", id="1"),
        last_event_id="1",
    ),
    case(
        "httpx-sse: the first event after a BOM",
        BOM + b"data: a\n\ndata: b\n\n",
        seen("a"),
        seen("b"),
    ),
    case("httpx-sse: retry with a plus", b"retry: +5\n\n"),
    case("LaunchDarkly: retry is kept", b"retry: 5\ndata: a\n\n", seen("a"), retry=5),
    case(
        "LaunchDarkly: the first type after a BOM", BOM + b"event: e\ndata: a\n\n", seen("a", "e")
    ),
    case("LaunchDarkly: invalid UTF-8", b"data: \xc3(\n\n", seen(f"{REPLACED}(")),
    case("nchan: a bare CR ends a line", b"data: a\rb\ndata: c\n\n", seen("a\nc")),
    case("eventsource-parser: CR framing", b"data: a\r\rdata: b\r\r", seen("a"), seen("b")),
]

CASES = [
    *(*BYTE_ORDER_MARK, *LINE_ENDS, *FIELDS, *DATA, *EVENT_TYPES, *IDS, *RETRY, *UTF_8),
    *(*EXAMPLES, *PEERS),
]
