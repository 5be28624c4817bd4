"""The scheduler: rules that say when the queue may be worked on.

Values, and a decision that depends on nothing but them. What is compared with a rule is gathered by
:func:`observe`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any, Final, Literal

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn

CHECK_SECONDS: Final = 30.0  # as documented

_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "lt": lt,
    "lte": le,
    "gt": gt,
    "gte": ge,
}
_BETWEEN: Final = ("between", "not_between")


class InvalidSchedule(ValueError):
    """The schedule says something that cannot be; the message says where and why."""


@attrs.frozen(kw_only=True)
class Conditions:
    """What rules are compared with.

    Attributes:
        minute: Of the day, here.
        cpu_load: Processes that want to run, per processor, over the last minute.
        queue_size: Items in the queue.
    """

    minute: int
    cpu_load: float
    queue_size: int


def observe(queue_size: int) -> Conditions:
    """Return the conditions as they are now."""
    now = time.localtime()
    return Conditions(
        minute=now.tm_hour * 60 + now.tm_min,
        cpu_load=os.getloadavg()[0] / (os.cpu_count() or 1),
        queue_size=queue_size,
    )


@attrs.frozen(kw_only=True)
class Rule:
    """One condition under which the queue may be worked on.

    Attributes:
        rule: ``time_window``, ``cpu_load`` (per processor) or ``queue_size``.
        operator: ``between`` or ``not_between`` for a window; else ``lt``, ``lte``, ``gt`` or
            ``gte``.
        value: ``["22:00", "06:00"]`` for a window, which may go over midnight and does not hold its
            end; else a number.
        enabled: Whether it counts.
    """

    rule: Literal["time_window", "cpu_load", "queue_size"]
    operator: Literal["between", "not_between", "lt", "lte", "gt", "gte"]
    value: float | tuple[str, str]
    enabled: bool = True

    def __attrs_post_init__(self) -> None:
        if (self.rule == "time_window") != (self.operator in _BETWEEN):
            raise InvalidSchedule(f"{self.rule} has no operator {self.operator!r}")
        if self.rule == "time_window" and isinstance(self.value, tuple):
            start, end = map(_minute, self.value)
            if start == end:
                raise InvalidSchedule(f"a window from {self.value[0]} to itself is none")
        elif self.rule == "time_window" or isinstance(self.value, tuple):
            raise InvalidSchedule(f"{self.rule} has no value {self.value!r}")
        elif not 0 <= self.value < 1e9:
            raise InvalidSchedule(f"{self.rule} has a value from 0 up, not {self.value!r}")

    def is_met(self, now: Conditions) -> bool:
        """Whether the conditions satisfy it."""
        if isinstance(self.value, tuple):
            start, end = map(_minute, self.value)
            inside = (now.minute - start) % 1440 < (end - start) % 1440
            return inside == (self.operator == "between")
        found = now.cpu_load if self.rule == "cpu_load" else now.queue_size
        return _COMPARE[self.operator](found, self.value)


@attrs.frozen(kw_only=True)
class Schedule:
    """All rules.

    Attributes:
        enabled: Whether there is a scheduler at all.
        combine_mode: Whether ``ALL`` rules that count must be met, or ``ANY`` of them.
        check_interval_seconds: How often they are looked at, from 1 to 86,400.
        rules: The rules. Without one that counts, the queue may be worked on.
    """

    enabled: bool = False
    combine_mode: Literal["ALL", "ANY"] = "ALL"
    check_interval_seconds: float = CHECK_SECONDS
    rules: tuple[Rule, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.check_interval_seconds <= 86_400:
            raise InvalidSchedule(
                f"check_interval_seconds is from 1 to 86400, not {self.check_interval_seconds!r}"
            )

    def allows(self, now: Conditions) -> bool:
        """Whether the queue may be worked on."""
        counting = [rule.is_met(now) for rule in self.rules if rule.enabled]
        if not self.enabled or not counting:
            return True
        return all(counting) if self.combine_mode == "ALL" else any(counting)


def schedule_of(value: object) -> Schedule:
    """Return the schedule that a value of JSON says.

    Raises:
        InvalidSchedule: It says none.
    """
    try:
        return _CONVERTER.structure(value, Schedule)
    except cattrs.BaseValidationError as error:
        faults = cattrs.transform_error(error, path="schedule", format_exception=_fault)
        raise InvalidSchedule("; ".join(faults)) from error
    except (TypeError, ValueError) as error:
        raise InvalidSchedule(f"schedule: {error}") from error


def as_json(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the API shows it."""
    return attrs.asdict(schedule)


def _minute(text: str) -> int:
    hour, colon, minute = text.partition(":")
    if colon and hour.isascii() and minute.isascii() and hour.isdigit() and minute.isdigit():
        found = int(hour) * 60 + int(minute)
        if len(minute) == 2 and int(minute) < 60 and found < 1440:
            return found
    raise InvalidSchedule(f"a time of day is HH:MM, not {text!r}")


def _fault(error: BaseException, kind: type | None) -> str:
    if isinstance(error, KeyError | cattrs.ForbiddenExtraKeysError):
        return cattrs.v.format_exception(error, kind)
    return str(error)


def _strict(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{getattr(kind, '__name__', 'number')} expected, not {value!r}")
    return value


def _number(value: Any, _: Any) -> float:
    return float(_strict(value, int | float))


def _number_or_window(value: Any, _: Any) -> float | tuple[str, str]:
    if isinstance(value, list) and len(value) == 2:
        return _strict(value[0], str), _strict(value[1], str)
    return _number(value, None)


def _make_converter() -> cattrs.Converter:
    """Return a converter that takes nothing for what it is not."""
    converter = cattrs.Converter()
    converter.register_structure_hook(bool, _strict)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(float | tuple[str, str], _number_or_window)
    converter.register_structure_hook_func(
        lambda kind: kind == tuple[Rule, ...],
        lambda value, _: tuple(converter.structure(_strict(value, list), list[Rule])),
    )
    for kind in (Rule, Schedule):
        of_dict = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)
        converter.register_structure_hook(
            kind, lambda value, kind, of_dict=of_dict: of_dict(_strict(value, dict), kind)
        )
    return converter


_CONVERTER: Final = _make_converter()
