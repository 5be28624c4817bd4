"""Lifecycles: what a table may say, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from sselib import InvalidTransition, Lifecycle

TABLE = {
    "pending": ("running", "failed", "cancelled"),
    "running": ("succeeded", "failed", "cancelled"),
}
PARTS: dict[str, Any] = {
    "initial": "pending",
    "started": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}


def lifecycle(**changes: Any) -> Lifecycle:
    return Lifecycle(changes.pop("transitions", TABLE), **PARTS | changes)


def test_the_table_says_what_may_follow() -> None:
    """Every pair of states is allowed or refused as the table says, and nothing follows an end."""
    life = lifecycle()
    assert life.states == ("pending", "running", "failed", "cancelled", "succeeded")
    for state in life.states:
        for to in life.states:
            if to in TABLE.get(state, ()):
                life.check(state, to)
            else:
                with pytest.raises(InvalidTransition) as caught:
                    life.check(state, to)
                assert caught.value.state == state
                assert caught.value.to == to
                assert caught.value.allowed == TABLE.get(state, ())
        assert life.is_final(state) == (state not in TABLE)


def test_an_error_names_the_way_that_is_not_there() -> None:
    """The state, the one asked for, and those that are allowed."""
    with pytest.raises(InvalidTransition, match=r"'pending' to 'succeeded', only to: running, "):
        lifecycle().check("pending", "succeeded")
    with pytest.raises(InvalidTransition, match="'failed' to 'running', only to: nothing"):
        lifecycle().check("failed", "running")


def test_an_unknown_state_is_an_error() -> None:
    """One to go to is refused like any other; one to be in is a mistake of the caller's."""
    with pytest.raises(InvalidTransition):
        lifecycle().check("pending", "done")
    for ask in (lifecycle().allowed, lifecycle().is_final):
        with pytest.raises(ValueError, match="no state of this lifecycle: 'done'"):
            ask("done")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"initial": "new"}, "initial='new' is not in the table"),
        ({"succeeded": "done"}, "succeeded='done' is not in the table"),
        ({"initial": "failed"}, "initial='failed' must lead on"),
        ({"started": "succeeded"}, "started='succeeded' must lead on"),
        ({"failed": "running"}, "failed='running' must be final"),
        ({"cancelled": "pending"}, "cancelled='pending' must be final"),
        (
            {"transitions": TABLE | {"paused": ("running", "failed", "cancelled")}},
            r"nothing leads from 'pending' to \['paused'\]",
        ),
        ({"started": "pending"}, "'pending' does not follow 'pending'"),
        (
            {"transitions": TABLE | {"pending": ("running", "cancelled")}},
            "'failed' does not follow 'pending', and may have to",
        ),
        (
            {"transitions": TABLE | {"running": ("succeeded", "failed")}},
            "'cancelled' does not follow 'running', and may have to",
        ),
        (
            # A loop without a way out.
            {
                "transitions": TABLE
                | {
                    "running": ("failed", "cancelled", "succeeded", "checking"),
                    "checking": ("running",),
                }
            },
            "'failed' does not follow 'checking', and may have to",
        ),
    ],
)
def test_a_table_that_cannot_be_lived_is_refused(changes: dict[str, Any], complaint: str) -> None:
    """When it is defined: unknown, unreached and endless states, and ends that are none."""
    with pytest.raises(ValueError, match=complaint):
        lifecycle(**changes)


def test_a_job_need_not_be_cancelled_nor_be_told_that_it_has_begun() -> None:
    """Both parts may be left out, and the ways to them with them."""
    life = Lifecycle(
        {"new": ("reading", "failed"), "reading": ("reading", "done", "failed")},
        initial="new",
        started=None,
        succeeded="done",
        failed="failed",
    )
    assert life.cancelled is None
    life.check("reading", "reading")


def test_a_state_that_is_said_to_lead_nowhere_is_final() -> None:
    """An empty list of followers is as good as none."""
    assert lifecycle(transitions=TABLE | {"failed": ()}).is_final("failed")


def test_the_diagram_is_the_table() -> None:
    """Every way is a line, from the first state to the last."""
    assert lifecycle().diagram() == (
        "stateDiagram-v2\n"
        "    [*] --> pending\n"
        "    pending --> running\n"
        "    pending --> failed\n"
        "    pending --> cancelled\n"
        "    running --> succeeded\n"
        "    running --> failed\n"
        "    running --> cancelled\n"
        "    failed --> [*]\n"
        "    cancelled --> [*]\n"
        "    succeeded --> [*]\n"
    )
