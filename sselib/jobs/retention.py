"""Finished jobs are kept for a time, and then forgotten: off the list, and their topics deleted."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import trio

from .crew import RETRY
from .record import Job

_logger: Final = logging.getLogger("sselib.jobs")


class Finished:
    """The finished jobs that a runner knows of, and when they are to be forgotten.

    Args:
        keep: Seconds after which a finished job is forgotten.
        clock: Tells the time.
        forget: Forgets a job.
    """

    def __init__(
        self,
        *,
        keep: float,
        clock: Callable[[], datetime],
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._keep = keep
        self._clock = clock
        self._forget = forget
        self._due: dict[str, float] = {}  # on Trio's clock, the next first
        self._one_more = trio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def remember(self, job: Job) -> None:
        """Have a finished job forgotten when its time is over."""
        if job.completed_at is not None:
            age = (self._clock() - job.completed_at).total_seconds()
            due = trio.current_time() + self._keep - age
            is_next = bool(self._due) and due < next(reversed(self._due.values()))
            self._due.setdefault(job.id, due)
            if is_next:  # which happens to those of other runners
                self._due = dict(sorted(self._due.items(), key=lambda item: item[1]))
            self._one_more.set()

    async def forget_in_time(self) -> None:
        """Forget each when its time is over, until cancelled."""
        while True:
            self._one_more = trio.Event()
            await self._forget_those_due()
            with trio.move_on_at(next(iter(self._due.values()), math.inf)):
                await self._one_more.wait()

    async def forget_next(self) -> None:
        """Forget the one whose time is over first."""
        job_id = next(iter(self._due))
        await self._forget(job_id)
        self._due.pop(job_id, None)

    async def _forget_those_due(self) -> None:  # noqa: ASYNC910 # there may be none
        try:
            while self._due and next(iter(self._due.values())) <= trio.current_time():
                await self.forget_next()
        except Exception:
            _logger.exception("a finished job could not be forgotten")
            await trio.sleep(RETRY)
