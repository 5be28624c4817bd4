"""The states of a kind of job, as a table that is checked when it is defined.

The table says which state may follow which. What it says is all there is: nothing else in the
library knows a state by name, so every API keeps its own words. A few of the states have a part
to play, and the table names them: where a job begins, what it becomes when its work is begun, when
it returns, fails or is cancelled.

A state that nothing follows is final. The first final state that a job reaches is its last, which
is no rule of its own: no way leads out of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from .errors import InvalidTransition


@attrs.frozen
class Lifecycle:
    """The states of a kind of job and the ways between them.

    Args:
        transitions: The states that may follow each state. One that follows another and is no
            key itself is final.
        initial: Where a job begins.
        started: What it becomes when its work is begun. ``None``: the work says it itself.
        succeeded: What it becomes when its work returns, unless that names another final state.
        failed: What it becomes when its work raises. That can happen in any state.
        cancelled: What it becomes when it is cancelled, in any state. ``None``: a job of this
            kind cannot be cancelled.

    Raises:
        ValueError: A state named here that the table does not have, one that cannot be reached,
            one from which a job could not fail or be cancelled; a part that is to be final and
            is not, or the other way round.
    """

    transitions: Mapping[str, tuple[str, ...]] = attrs.field()
    initial: str = attrs.field(kw_only=True)
    started: str | None = attrs.field(kw_only=True)
    succeeded: str = attrs.field(kw_only=True)
    failed: str = attrs.field(kw_only=True)
    cancelled: str | None = attrs.field(kw_only=True, default=None)

    def __attrs_post_init__(self) -> None:
        states = self.states
        for part in ("initial", "started", "succeeded", "failed", "cancelled"):
            state: str | None = getattr(self, part)
            if state is None:
                continue
            if state not in states:
                raise ValueError(f"{part}={state!r} is not in the table")
            is_end = part not in {"initial", "started"}
            if is_end != self.is_final(state):
                raise ValueError(f"{part}={state!r} must {'be final' if is_end else 'lead on'}")
        unreached = set(states) - self._reached()
        if unreached:
            raise ValueError(f"nothing leads from {self.initial!r} to {sorted(unreached)}")
        if self.started is not None and self.started not in self.transitions[self.initial]:
            raise ValueError(f"{self.started!r} does not follow {self.initial!r}")
        for state, followers in self.transitions.items():
            for needed in (self.failed, self.cancelled):
                if followers and needed is not None and needed not in followers:
                    raise ValueError(f"{needed!r} does not follow {state!r}, and may have to")

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, in the order of the table."""
        named = [*self.transitions, *(state for to in self.transitions.values() for state in to)]
        return tuple(dict.fromkeys(named))

    def allowed(self, state: str) -> tuple[str, ...]:
        """Return the states that may follow ``state``.

        Raises:
            ValueError: There is no such state.
        """
        if state not in self.states:
            raise ValueError(f"no state of this lifecycle: {state!r}")
        return tuple(self.transitions.get(state, ()))

    def is_final(self, state: str) -> bool:
        """Return whether nothing follows ``state``.

        Raises:
            ValueError: There is no such state.
        """
        return not self.allowed(state)

    def check(self, state: str, to: str) -> None:
        """Do nothing if ``to`` may follow ``state``.

        Raises:
            InvalidTransition: It may not.
            ValueError: There is no such state as ``state``.
        """
        allowed = self.allowed(state)
        if to not in allowed:
            raise InvalidTransition(state, to, allowed)

    def diagram(self) -> str:
        """Return the table as a `Mermaid <https://mermaid.js.org>`_ state diagram."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        for state in self.states:
            lines += [f"    {state} --> {to}" for to in self.allowed(state) or ["[*]"]]
        return "\n".join(lines) + "\n"

    def _reached(self) -> set[str]:
        reached = {self.initial}
        ahead = [self.initial]
        while ahead:
            new = set(self.transitions.get(ahead.pop(), ())) - reached
            reached |= new
            ahead += new
        return reached
