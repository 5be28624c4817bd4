"""The scheduler's rules: what they may say, and what they decide."""

from __future__ import annotations

from typing import Any

import pytest

from examples.file_updates.scheduler import (
    Conditions,
    InvalidSchedule,
    Schedule,
    as_json,
    observe,
    schedule_of,
)


def now(time: str = "12:00", *, load: float = 0.5, size: int = 3) -> Conditions:
    hour, minute = map(int, time.split(":"))
    return Conditions(minute=hour * 60 + minute, cpu_load=load, queue_size=size)


def with_rules(*rules: dict[str, Any], **more: Any) -> Schedule:
    return schedule_of({"enabled": True, "rules": list(rules), **more})


def rule(rule: str, operator: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"rule": rule, "operator": operator, "value": value, **more}


@pytest.mark.parametrize(
    ("operator", "value", "time", "allowed"),
    [
        ("between", ["09:00", "17:00"], "08:59", False),
        ("between", ["09:00", "17:00"], "09:00", True),
        ("between", ["09:00", "17:00"], "16:59", True),
        ("between", ["09:00", "17:00"], "17:00", False),
        ("between", ["22:00", "06:00"], "23:59", True),
        ("between", ["22:00", "06:00"], "00:00", True),
        ("between", ["22:00", "06:00"], "06:00", False),
        ("not_between", ["22:00", "06:00"], "06:00", True),
        ("not_between", ["22:00", "06:00"], "05:59", False),
    ],
)
def test_a_time_window(operator: str, value: list[str], time: str, *, allowed: bool) -> None:
    """It holds its begin and not its end, and may go over midnight."""
    assert with_rules(rule("time_window", operator, value)).allows(now(time)) is allowed


@pytest.mark.parametrize(
    ("operator", "allowed"), [("lt", "no"), ("lte", "yes"), ("gt", "no"), ("gte", "yes")]
)
def test_numbers_are_compared(operator: str, allowed: str) -> None:
    """The load, per processor, and the size of the queue."""
    for each in (rule("cpu_load", operator, 0.5), rule("queue_size", operator, 3)):
        assert with_rules(each).allows(now()) is (allowed == "yes")


def test_rules_are_combined() -> None:
    """ALL must be met, or ANY; those that are not enabled do not count."""
    met, unmet = rule("queue_size", "gt", 2), rule("queue_size", "gt", 9)
    assert not with_rules(met, unmet).allows(now())
    assert with_rules(met, unmet, combine_mode="ANY").allows(now())
    assert not with_rules(unmet, combine_mode="ANY").allows(now())
    assert with_rules(met, unmet | {"enabled": False}).allows(now())


def test_without_rules_that_count_everything_is_allowed() -> None:
    """Whether there are none, none is enabled, or the scheduler is not."""
    unmet = rule("queue_size", "gt", 9)
    assert with_rules().allows(now())
    assert with_rules(unmet | {"enabled": False}, combine_mode="ANY").allows(now())
    assert with_rules(unmet, enabled=False).allows(now())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "dict expected"),
        (None, "dict expected"),
        ({"enabled": 1}, "bool expected, not 1 @ schedule.enabled"),
        ({"unknown": 1}, "unknown"),
        ({"combine_mode": "NONE"}, "NONE"),
        ({"check_interval_seconds": 0}, "from 1 to 86400, not 0"),
        ({"check_interval_seconds": "1"}, "number expected"),
        ({"check_interval_seconds": True}, "number expected"),
        ({"check_interval_seconds": float("nan")}, "nan"),
        ({"check_interval_seconds": 10**400}, "too large"),
        ({"rules": {}}, "list expected"),
        ({"rules": [1]}, r"dict expected, not 1 @ schedule.rules\[0\]"),
        ({"rules": [{"rule": "cpu_load"}]}, "required"),
        ({"rules": [rule("weather", "lt", 1)]}, "weather"),
        ({"rules": [rule("cpu_load", "between", 1)]}, "no operator 'between'"),
        ({"rules": [rule("time_window", "lt", 1)]}, "no operator 'lt'"),
        ({"rules": [rule("time_window", "between", 1)]}, "no value 1"),
        ({"rules": [rule("cpu_load", "lt", ["09:00", "10:00"])]}, "no value"),
        ({"rules": [rule("cpu_load", "lt", -1)]}, "from 0 up, not -1"),
        ({"rules": [rule("time_window", "between", ["9:00", "25:00"])]}, "'25:00'"),
        ({"rules": [rule("time_window", "between", ["09:60", "10:00"])]}, "'09:60'"),
        ({"rules": [rule("time_window", "between", ["nine", "10:00"])]}, "'nine'"),
        ({"rules": [rule("time_window", "between", ["²:00", "10:00"])]}, "HH:MM"),
        ({"rules": [rule("time_window", "between", ["10:00", "10:00"])]}, "to itself"),
        ({"rules": [rule("time_window", "between", [9, 10])]}, "str expected, not 9"),
    ],
)
def test_what_cannot_be_is_refused(value: Any, message: str) -> None:
    """The error names the value and the place."""
    with pytest.raises(InvalidSchedule, match=message):
        schedule_of(value)


def test_a_schedule_is_shown_as_it_was_given() -> None:
    """With the defaults filled in."""
    window = rule("time_window", "between", ["22:00", "06:00"], enabled=False)
    given = {"enabled": True, "combine_mode": "ANY", "check_interval_seconds": 5, "rules": [window]}
    shown = as_json(schedule_of(given))
    assert schedule_of(shown | {"rules": [window]}) == schedule_of(given)
    assert as_json(schedule_of({})) == {
        "enabled": False,
        "combine_mode": "ALL",
        "check_interval_seconds": 30,
        "rules": (),
    }


def test_the_conditions_are_those_of_the_machine() -> None:
    """A minute of the day, a load, and the size that was given."""
    found = observe(7)
    assert 0 <= found.minute < 1440
    assert found.cpu_load >= 0
    assert found.queue_size == 7
