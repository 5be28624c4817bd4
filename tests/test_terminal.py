"""Events as lines."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from sselib import Comment, Interruption, ServerSentEvent
from sselib.terminal import JsonLines, Output, ProgressBar, TextLines, printable


def event(data: str, kind: str = "message", id: str = "") -> ServerSentEvent:
    """Return an event as a decoder gives it."""
    return ServerSentEvent(data, event=kind, id=id)


def at(progress: Any, **more: Any) -> ServerSentEvent:
    return event(json.dumps({"progress": progress} | more))


LOST = Interruption(reason="cut", message="it broke", status=None, failures=1, wait=1.26)


def shown(output: Output, *items: ServerSentEvent | Comment | Interruption) -> None:
    for item in items:
        if isinstance(item, ServerSentEvent):
            output.show(item)
        else:
            output.note(item)
    output.close()


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is its type and data, with further lines of the data below its first one."""
    shown(TextLines(), event("hello"), event("a\nb\n", "said", "1"), event(""))
    assert capsys.readouterr() == ("message: hello\nsaid: a\n      b\n      \nmessage: \n", "")


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is an object on one line, whatever it holds."""
    events = [event('a\nb "ü" \x1b\u2028', "said", "1"), event("")]
    shown(JsonLines(), *events)
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": each.event, "id": each.id, "data": each.data} for each in events
    ]
    assert err == ""


@pytest.mark.parametrize("output", [TextLines(), JsonLines(), ProgressBar("progress")])
def test_what_is_no_event_goes_to_standard_error(
    output: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    """Comments and lost connections are told apart from events, and do not stand among them."""
    shown(output, Comment("a\nb"), Comment(""), LOST)
    assert capsys.readouterr() == ("", ": a\n: b\n: \nsselib: cut: it broke; again in 1.3 s\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ü 漢 a\tb", "ü 漢 a\tb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x07\x00\x7f\x9b", "\\x07\\x00\\x7f\\x9b"),
        ("\u202e\u200b", "\\u202e\\u200b"),
        ("a\rb", "a\\rb"),
    ],
)
def test_no_peer_commands_the_terminal(
    text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a terminal could take for a command is written out, in events, notes and captions."""
    assert printable(text) == said
    id_free = text.replace("\r", "")
    shown(TextLines(), event(id_free, "x"))
    shown(ProgressBar("progress"), at(0.5, message=text))
    shown(TextLines(), Comment(id_free))
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\x07" not in out + err


# ---- progress ------------------------------------------------------------------------------------

HALF = "[" + "#" * 15 + " " * 15 + "]  50%  "


def test_progress_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Each progress is a line, but for repetitions; what carries none is shown as it is."""
    shown(
        ProgressBar("progress"),
        at(0.5, message="drawing"),
        at(0.5, message="drawing"),
        at(1, status="done", currentStep="last\nstep"),
        event("hello"),
    )
    full = "[" + "#" * 30 + "] 100%  last step\n"
    assert capsys.readouterr() == (f"{HALF}drawing\n{full}message: hello\n", "")


NO_PROGRESS: list[Any] = [None, "0.5", True, -0.1, 1.1, 65, [], {}]


@pytest.mark.parametrize(
    "data",
    [
        *("hello", "[0.5]", "{}", '{"progress": NaN}', '{"progress": 1e999}'),
        *(json.dumps({"progress": each}) for each in NO_PROGRESS),
    ],
)
def test_what_is_no_progress(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only a number from 0 to 1 is progress; anything else is shown like any event."""
    shown(ProgressBar("progress"), event(data))
    assert capsys.readouterr().out == f"message: {data}\n"


def test_any_field_may_carry_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """The field is named by who asks."""
    shown(ProgressBar("done"), event('{"done": 0.5, "progress": 0.1}'))
    assert capsys.readouterr().out == HALF + "\n"


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a terminal of 60 columns."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")


CLEAR = "\r\x1b[K"


def test_progress_is_one_line_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar is drawn over itself, cut to the width, and ends with its line."""
    pretend(monkeypatch)
    shown(ProgressBar("progress"), at(0.5), at(0.5, message="x" * 100))
    assert capsys.readouterr().out == f"{CLEAR}{HALF}{CLEAR}{(HALF + 'x' * 100)[:59]}\n"


def test_what_is_no_progress_stands_above_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other events and notes are written above the bar, which is drawn again below them."""
    pretend(monkeypatch)
    shown(ProgressBar("progress"), event("a"), at(0.5), event("b"), LOST)
    out, err = capsys.readouterr()
    assert out.split(CLEAR)[1:] == ["message: a\n", "", HALF, "message: b\n", HALF, "", HALF + "\n"]
    assert err == "sselib: cut: it broke; again in 1.3 s\n"
