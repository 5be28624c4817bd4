"""The values that travel in an event stream: events and comments.

A value is checked once, when it is made, and is frozen afterwards. So whatever holds one may
write it without looking again: no field of it can end a line early and inject another. A wrong
value is an error and is never repaired, with one exception that the format itself makes: CR, LF
and CRLF in ``data`` are all line breaks, and a reader gets them back as LF.

JSON goes through `cattrs <https://catt.rs>`_, so attrs classes, dataclasses, datetimes and enums
need no code of their own on either side.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import attrs
from cattrs.errors import StructureHandlerNotFoundError
from cattrs.preconf.json import make_converter

from .errors import InvalidEventData

T = TypeVar("T")

_CONVERTER: Final = make_converter()
_SHOWN_CHARACTERS: Final = 80  # of a wrong value in an error: enough to know it by


@attrs.frozen
class ServerSentEvent:
    """One event.

    Args:
        data: The payload. Line breaks (LF, CR, CRLF) are kept as line breaks.
        event: The event type that listeners are registered for. ``None`` and ``""`` both mean
            ``message`` to a reader.
        id: What a client sends back as ``Last-Event-ID`` after this event. ``""`` makes it
            forget the one it had; ``None`` leaves that as it is. An event that is published to
            a channel has none: the log gives it one.
        retry: The reconnection time that the client is to use from now on, in milliseconds.
            ``None`` leaves it as it is.

    Raises:
        TypeError: ``data``, ``event`` or ``id`` is not a string, or ``retry`` is not an int
            (bools are none).
        ValueError: CR or LF in ``event`` or ``id``, NUL in ``id``, a lone surrogate anywhere (it
            has no UTF-8 form), or a negative ``retry``.

    Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """

    data: str
    event: str | None = attrs.field(default=None, kw_only=True)
    id: str | None = attrs.field(default=None, kw_only=True)
    retry: int | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check_text("data", self.data)
        if self.event is not None:
            _check_line("event", self.event)
        if self.id is not None:
            _check_line("id", self.id)
            if "\0" in self.id:
                raise ValueError(f"id may not contain NUL: {_shown(self.id)}")
        if self.retry is not None:
            _check_retry(self.retry)

    @classmethod
    def of_json(
        cls,
        value: object,
        *,
        spaced: bool = False,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
    ) -> ServerSentEvent:
        """Make an event whose data is ``value`` as JSON on one line.

        Args:
            value: Anything that cattrs takes apart into JSON: dicts, lists, numbers, attrs
                classes, dataclasses, datetimes (ISO 8601), enums (their values) ...
            spaced: Put a space after ``,`` and ``:``, as ``json.dumps`` does by default.
            event: As in the class.
            id: As in the class.
            retry: As in the class.

        Raises:
            TypeError: Something in ``value`` has no JSON form.
            ValueError: A NaN or an infinity, which JSON does not have; a reference to itself, or
                a thousand levels; or what the class refuses.
        """
        try:
            text = json.dumps(
                _CONVERTER.unstructure(value),
                ensure_ascii=False,
                allow_nan=False,
                separators=(", ", ": ") if spaced else (",", ":"),
            )
        except RecursionError:
            raise ValueError("value refers to itself, or is nested too deeply") from None
        return cls(text, event=event, id=id, retry=retry)

    def json(self) -> Any:
        """Return the data, read as JSON.

        Raises:
            InvalidEventData: It is not JSON. NaN and the infinities are not.
        """
        try:
            return json.loads(self.data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidEventData(f"data is not JSON: {error}", self.data) from error

    def structure(self, cls: type[T]) -> T:
        """Return the data, read as JSON and structured into ``cls``.

        Raises:
            InvalidEventData: It is not JSON, or does not fit ``cls``.
            TypeError: cattrs knows no way to make a ``cls``, or something in it, from JSON.
        """
        value = self.json()
        name = getattr(cls, "__name__", cls)  # a union has none
        try:
            return _CONVERTER.structure(value, cls)
        except StructureHandlerNotFoundError as error:
            raise TypeError(f"data cannot be structured into {name}: {error}") from error
        except Exception as error:
            # A hook for a type may raise anything when a peer's value does not suit it.
            raise InvalidEventData(f"data is no {name}: {error}", self.data) from error


@attrs.frozen
class Comment:
    """Lines that every reader ignores. Servers send them as heartbeats.

    Args:
        text: What to say. Each of its lines becomes a comment line of its own.

    Raises:
        TypeError: ``text`` is not a string.
        ValueError: It contains a lone surrogate.
    """

    text: str

    def __attrs_post_init__(self) -> None:
        _check_text("text", self.text)


_new = ServerSentEvent.__new__
_set = object.__setattr__


def event_from_wire(data: str, event: str, id: str) -> ServerSentEvent:
    """Make an event of strings that a decoder cut out of lines, so that no check can fail."""
    value = _new(ServerSentEvent)
    _set(value, "data", data)
    _set(value, "event", event)
    _set(value, "id", id)
    _set(value, "retry", None)
    return value


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}: {_shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name} may not contain a lone surrogate (index {error.start}): {_shown(value)}"
            ) from None


def _check_line(name: str, value: str) -> None:
    _check_text(name, value)
    if "\n" in value or "\r" in value:
        raise ValueError(f"{name} may not contain CR or LF: {_shown(value)}")


def _check_retry(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"retry must be an int, not {type(value).__name__}: {_shown(value)}")
    if value < 0:
        raise ValueError(f"retry may not be negative: {value}")
    # Python bounds the digits of a number that it turns into text, and says so clearly.
    int.__repr__(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
