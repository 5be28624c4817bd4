"""Values that travel: what can be made, what is refused, and why."""

from __future__ import annotations

import math
from enum import Enum, IntEnum, StrEnum
from typing import Any

import attrs
import pytest

from sselib import Comment, EventStreamDecoder, ServerSentEvent, encode

# What may be made


def test_an_event_is_a_frozen_value() -> None:
    """Events compare, hash and show by their fields, and cannot change."""
    event = ServerSentEvent("1", event="a", id="b", retry=5)
    assert event == ServerSentEvent("1", event="a", id="b", retry=5)
    assert event != ServerSentEvent("1", event="a", id="b")
    assert len({event, attrs.evolve(event), ServerSentEvent("1")}) == 2
    assert repr(event) == "ServerSentEvent(data='1', event='a', id='b', retry=5)"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.data = "2"  # type: ignore[misc] # what must not be


def test_a_comment_is_a_frozen_value() -> None:
    """Comments are values as events are."""
    assert Comment("1") == Comment("1")
    assert Comment("1") != Comment("2")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Comment("1").text = "2"  # type: ignore[misc] # what must not be


def test_only_data_has_a_place() -> None:
    """Everything but the data is named where it is given."""
    assert ServerSentEvent("1") == ServerSentEvent(data="1", event=None, id=None, retry=None)
    with pytest.raises(TypeError, match="positional"):
        ServerSentEvent("1", "a")  # type: ignore[call-arg] # what must not be


@pytest.mark.parametrize(
    "fields",
    [
        {"data": ""},
        {"data": "\n\r\r\n\0\ufeff: \u2028é😀"},
        {"data": "", "event": "", "id": ""},
        {"data": "", "event": ": \0\t\v\f\u0085\u2028é😀"},
        {"data": "", "id": " : \t\v\f\u0085\u2028é😀"},
        {"data": "", "retry": 0},
        {"data": "", "retry": 10**4000},
    ],
)
def test_what_an_event_may_hold(fields: dict[str, Any]) -> None:
    """Everything that a stream can carry is taken as it is."""
    event = ServerSentEvent(**fields)
    assert attrs.asdict(event, filter=attrs.filters.include(*fields)) == fields


# Each of these went out on the wire of another library.
INJECTIONS = ["1\ndata: injected\n\n", "1\rdata: injected", "1\r\n", "\n", "\r"]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("field", ["event", "id"])
def test_no_field_ends_its_line(field: str, text: Any) -> None:
    """CR and LF in a type or an id would inject what follows them, and are refused."""
    with pytest.raises(ValueError, match=f"^{field} may not contain CR or LF: ") as caught:
        ServerSentEvent("1", **{field: text})
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", INJECTIONS)
def test_data_and_comments_inject_nothing(text: str) -> None:
    """CR and LF in data or a comment stay inside it."""
    decoder = EventStreamDecoder()
    (event,) = decoder.feed(encode(Comment(text)) + encode(ServerSentEvent(text)))
    assert event.data.split("\n") == text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def test_an_id_has_no_nul() -> None:
    """A reader would ignore an id with NUL."""
    with pytest.raises(ValueError, match=r"^id may not contain NUL: 'a\\x00b'$"):
        ServerSentEvent("1", id="a\0b")


@pytest.mark.parametrize("text", ["\ud800", "a\ud83dé", "éa\udfff", "\udc00\ud800"], ids=ascii)
@pytest.mark.parametrize("field", ["data", "event", "id"])
def test_lone_surrogates(field: str, text: Any) -> None:
    """What has no UTF-8 form is refused when the event is made, not when it is written."""
    at = min(i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    with pytest.raises(
        ValueError, match=rf"^{field} may not contain a lone surrogate \(index {at}\): '"
    ) as caught:
        ServerSentEvent(**{"data": "1", field: text})
    assert type(caught.value) is ValueError
    str(caught.value).encode()


def test_a_comment_has_no_lone_surrogate() -> None:
    """A comment must have a UTF-8 form too."""
    with pytest.raises(ValueError, match=r"^text may not contain a lone surrogate"):
        Comment("\ud800")


@pytest.mark.parametrize("wrong", [b"bytes", 5, 1.5, True, {"a": 1}, ["a"], object])
@pytest.mark.parametrize("field", ["data", "event", "id"])
def test_fields_that_are_no_text(field: str, wrong: Any) -> None:
    """Nothing is turned into its Python repr: what is not a string is refused."""
    with pytest.raises(TypeError) as caught:
        ServerSentEvent(**{"data": "1", field: wrong})
    kind = type(wrong).__name__
    assert str(caught.value) == f"{field} must be a str, not {kind}: {wrong!r}"


def test_data_is_not_optional() -> None:
    """None is no data."""
    with pytest.raises(TypeError, match=r"^data must be a str, not NoneType: None$"):
        ServerSentEvent(None)  # type: ignore[arg-type] # what must not be


@pytest.mark.parametrize("wrong", [None, b"bytes", 5])
def test_a_comment_is_text(wrong: Any) -> None:
    """A comment is a string and nothing else."""
    with pytest.raises(TypeError, match=r"^text must be a str, not "):
        Comment(wrong)


@pytest.mark.parametrize("wrong", [True, False, 5.0, math.nan, "5", b"5", [5]], ids=repr)
def test_a_retry_that_is_no_int(wrong: Any) -> None:
    """Bools are no times, and neither are floats and strings."""
    with pytest.raises(TypeError) as caught:
        ServerSentEvent("1", retry=wrong)
    assert str(caught.value) == f"retry must be an int, not {type(wrong).__name__}: {wrong!r}"


@pytest.mark.parametrize("wrong", [-1, -5, -(10**30)])
def test_a_retry_below_zero(wrong: int) -> None:
    """No reader takes a negative time."""
    with pytest.raises(ValueError, match=f"^retry may not be negative: {wrong}$"):
        ServerSentEvent("1", retry=wrong)


def test_a_retry_that_python_writes_to_nobody() -> None:
    """A number with more digits than Python turns into text is refused when the event is made."""
    with pytest.raises(ValueError, match="digits"):
        ServerSentEvent("1", retry=10**5000)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ServerSentEvent("1", id="x" * 10_000 + "\n"),
        lambda: ServerSentEvent("\ud800" * 10_000),
        lambda: ServerSentEvent(b"x" * 10_000),  # type: ignore[arg-type] # what must not be
    ],
    ids=["id", "surrogates", "bytes"],
)
def test_a_wrong_value_is_not_shown_whole(make: Any) -> None:
    """An error shows as much of a value as one needs to know it by."""
    with pytest.raises((ValueError, TypeError), match=r"\.\.\.$") as caught:
        make()
    assert len(str(caught.value)) < 160


class Name(str, Enum):  # noqa: UP042 # formats as `Name.A`, unlike a StrEnum
    A = "a"
    BREAK = "a\n"


class Line(StrEnum):
    A = "a"


class Number(int, Enum):
    FIVE = 5
    BELOW = -5


class Count(IntEnum):
    FIVE = 5


def test_enums_that_are_strings_and_ints() -> None:
    """An enum of strings or ints is its value, and is checked like it."""
    for text, number in [(Name.A, Number.FIVE), (Line.A, Count.FIVE)]:
        event = ServerSentEvent(text, event=text, id=text, retry=number)
        assert event == ServerSentEvent("a", event="a", id="a", retry=5)
    with pytest.raises(ValueError, match="CR or LF"):
        ServerSentEvent("1", id=Name.BREAK)
    with pytest.raises(ValueError, match="negative"):
        ServerSentEvent("1", retry=Number.BELOW)
