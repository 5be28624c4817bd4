"""JSON in events: what is taken apart, what comes back, and what a peer may send instead."""

from __future__ import annotations

import contextlib
import math
from datetime import UTC, date, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sselib import EventStreamDecoder, InvalidEventData, ServerSentEvent, encode


class Name(str, Enum):  # noqa: UP042 # formats as `Name.A`, unlike a StrEnum
    A = "a"


class Line(StrEnum):
    A = "a"


class Number(int, Enum):
    FIVE = 5


class Count(IntEnum):
    FIVE = 5


class Colour(Enum):
    RED = "red"


@attrs.frozen
class Step:
    name: str
    took: float | None = None


@attrs.frozen
class Progress:
    at: datetime
    steps: list[Step]
    colour: Colour


PROGRESS = Progress(
    datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    [Step("één", 1.5), Step("two")],
    Colour.RED,
)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"a": [1, 2.5, "x", None, True]}, '{"a":[1,2.5,"x",null,true]}'),
        ("é\u2028😀", '"é\u2028😀"'),
        ("\n\r\0\x7f", '"\\n\\r\\u0000\x7f"'),
        (Step("a", 0.1), '{"name":"a","took":0.1}'),
        (
            Progress(datetime(2025, 1, 2, tzinfo=UTC), [Step("één")], Colour.RED),
            '{"at":"2025-01-02T00:00:00+00:00","steps":[{"name":"één","took":null}],"colour":"red"}',
        ),
        ([{"on": date(2025, 1, 2)}, Step("a", 1)], '[{"on":"2025-01-02"},{"name":"a","took":1}]'),
        ([Colour.RED, Name.A, Line.A, Number.FIVE, Count.FIVE], '["red","a","a",5,5]'),
        ({Name.A: 1, 5: 2}, '{"a":1,"5":2}'),
        ((1, (2,)), "[1,[2]]"),
        ({}, "{}"),
        (10**30, "1" + "0" * 30),
    ],
    ids=str,
)  # fmt: skip
def test_of_json(value: object, data: str) -> None:
    """Whatever cattrs takes apart becomes JSON on one line, in its own characters."""
    assert ServerSentEvent.of_json(value) == ServerSentEvent(data)


def test_of_json_spaced() -> None:
    """`spaced` writes as json.dumps does, and is off unless asked for."""
    value = {"a": [1, 2], "b": {"c": 3}}
    assert ServerSentEvent.of_json(value, spaced=True).data == '{"a": [1, 2], "b": {"c": 3}}'
    assert ServerSentEvent.of_json(value).data == '{"a":[1,2],"b":{"c":3}}'


def test_of_json_with_the_other_fields() -> None:
    """The other fields are those of the class, and are checked as there."""
    event = ServerSentEvent.of_json([], event="a", id="b", retry=5)
    assert event == ServerSentEvent("[]", event="a", id="b", retry=5)
    with pytest.raises(ValueError, match=r"^event may not contain CR or LF"):
        ServerSentEvent.of_json([], event="\n")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "wrap",
    [float, lambda x: [x], lambda x: {x: 1}, lambda x: Step("a", x)],
    ids=["alone", "in a list", "as a key", "in a class"],
)
def test_of_json_refuses_what_is_no_number(number: float, wrap: Any) -> None:
    """NaN and the infinities have no JSON form, wherever they stand."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        ServerSentEvent.of_json(wrap(number))


@pytest.mark.parametrize(
    "value", [object(), UUID(int=1), 1j, {"a": object()}, [print], {(1, 2): 3}]
)
def test_of_json_refuses_unknown_types(value: object) -> None:
    """What has no JSON form is a TypeError, not a repr."""
    with pytest.raises(TypeError):
        ServerSentEvent.of_json(value)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def referring_to_itself() -> tuple[object, object]:
    a_list: list[object] = []
    a_list.append(a_list)
    a_dict: dict[str, object] = {}
    a_dict["a"] = [a_dict]
    return a_list, a_dict


@pytest.mark.parametrize(
    "value", [*referring_to_itself(), nested(100_000)], ids=["list", "dict", "deep"]
)
def test_of_json_refuses_what_has_no_end(value: object) -> None:
    """A value that holds itself, or is too deep, is a ValueError."""
    with pytest.raises(ValueError, match=r"^value refers to itself, or is nested too deeply$"):
        ServerSentEvent.of_json(value)


@pytest.mark.parametrize(
    "value", ["\ud800", {"\udfff": 1}, 10**5000], ids=["text", "key", "number"]
)
def test_of_json_refuses_what_cannot_be_written(value: object) -> None:
    """Lone surrogates and numbers without end are ValueErrors."""
    with pytest.raises(ValueError, match=r"lone surrogate|digits"):
        ServerSentEvent.of_json(value)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ('{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        ("[\n1,\n2]", [1, 2]),
        ('"é\\u00e9"', "éé"),
        (Name.A.join(['"', '"']), "a"),
        ("-0", 0),
        ("1" * 4000, int("1" * 4000)),
    ],
)
def test_json(data: str, value: object) -> None:
    """Data is read as JSON, over several lines too."""
    assert ServerSentEvent(data).json() == value


NOT_JSON = {
    "nothing": "",
    "a word": "hello",
    "a Python repr": "{'a': None}",
    "half": '{"a": ',
    "two": "1 2",
    "NaN": "NaN",
    "NaN inside": '{"a": [NaN]}',
    "an infinity": "Infinity",
    "the other infinity": "-Infinity",
    "a BOM": "\ufeff1",
    "a control character": '"\x01"',
    "a huge int": "1" * 5000,
    "depth": "[" * 100_000,
    "depth with an end": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 100_000,
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_data_that_is_not_json(name: str) -> None:
    """A peer's data that is not JSON raises nothing but InvalidEventData, which holds it."""
    event = ServerSentEvent(NOT_JSON[name])
    for read in (event.json, lambda: event.structure(Step)):
        with pytest.raises(InvalidEventData, match=r"^data is not JSON: ") as caught:
            read()
        assert caught.value.data == event.data


def test_structure_gives_back_what_of_json_took() -> None:
    """What was taken apart is put together again."""
    assert ServerSentEvent.of_json(PROGRESS).structure(Progress) == PROGRESS
    assert ServerSentEvent.of_json([Step("a")]).structure(list[Step]) == [Step("a")]
    assert ServerSentEvent.of_json(PROGRESS.at).structure(datetime) == PROGRESS.at
    assert ServerSentEvent.of_json({"a": Colour.RED}).structure(dict[str, Colour]) == {
        "a": Colour.RED
    }


# A union is a value to type checkers, and no class: this is what a program may well pass.
OPTIONAL_STEP: Any = Step | None


@pytest.mark.parametrize(
    ("data", "cls", "name"),
    [
        ("5", Step, "Step"),
        ("null", Step, "Step"),
        ("{}", Step, "Step"),
        ('{"name": "a", "took": "soon"}', Step, "Step"),
        ('{"at": "now", "steps": [], "colour": "red"}', Progress, "Progress"),
        ('{"at": 5, "steps": [], "colour": "red"}', Progress, "Progress"),
        ('{"at": "2025-01-02", "steps": [5], "colour": "red"}', Progress, "Progress"),
        ('"green"', Colour, "Colour"),
        ("[]", Colour, "Colour"),
        ('"x"', int, "int"),
        ("1e999", int, "int"),
        ('["x"]', list[int], "list"),
        ("5", list[Step], "list"),
        ("5", OPTIONAL_STEP, r".*Step \| None"),
    ],
)
def test_data_that_does_not_fit(data: str, cls: type, name: str) -> None:
    """A peer's JSON of another shape raises nothing but InvalidEventData, which holds it."""
    with pytest.raises(InvalidEventData, match=f"^data is no {name}: ") as caught:
        ServerSentEvent(data).structure(cls)
    assert caught.value.data == data
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("cls", [object, list[object], dict[str, object]])
def test_a_type_that_nothing_can_be_structured_into(cls: type) -> None:
    """Asking for what cattrs cannot make is the program's mistake and not the peer's."""
    with pytest.raises(TypeError, match=r"^data cannot be structured into "):
        ServerSentEvent('{"a": 1}').structure(cls)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
    ),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)


@given(value=JSON_VALUES, spaced=st.booleans())
def test_json_comes_back_over_the_wire(value: object, *, spaced: bool) -> None:
    """Any JSON value takes one line of data and is the same at the other end."""
    event = ServerSentEvent.of_json(value, spaced=spaced)
    assert encode(event).count(b"\n") == 2
    (received,) = EventStreamDecoder().feed(encode(event))
    assert received.json() == value


@given(data=TEXTS | st.text('[]{}",:0.e-truNa\\'))
def test_any_data_is_json_or_refused(data: str) -> None:
    """No data makes `json` or `structure` raise anything but InvalidEventData."""
    event = ServerSentEvent(data)
    for read in (event.json, lambda: event.structure(Progress), lambda: event.structure(int)):
        with contextlib.suppress(InvalidEventData):
            read()
