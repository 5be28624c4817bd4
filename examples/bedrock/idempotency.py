"""Answers that are given again: a request that is repeated with its key is not carried out again.

A key belongs to who sent it and to one request. Its answer is kept for a day; an answer that was a
failure of the server is not, and neither is one that was never made, so that the next attempt is
carried out. The table is bounded: the oldest answers go first.

Whoever carries a request out has a claim on its key meanwhile, so that a repetition is told to wait
by every process, and taken for the next attempt as soon as the first was cancelled or its process
killed. The attempts at one request name what they make by the same id, and find it if it is there:
a job that was submitted just before the end of its process is not submitted twice.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import attrs

from .ids import new_id
from .shared import Claim, Shared, is_claimed

KEPT: Final = 86_400.0  # seconds
MAX_ANSWERS: Final = 10_000

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")


_FIND: Final = (
    "SELECT number, fingerprint, made_as, claim, status, body FROM answer WHERE who = ? AND key = ?"
)
_BEGIN: Final = (
    "INSERT INTO answer (who, key, fingerprint, made_as, claim, at) VALUES (?, ?, ?, ?, ?, ?)"
)
_KEEP: Final = "UPDATE answer SET status = ?, body = ? WHERE number = ?"


class KeyReused(Exception):
    """The key belongs to another request."""


class KeyInUse(Exception):
    """The first request with this key is still being carried out."""


@attrs.frozen(kw_only=True)
class Answer:
    """An answer to be given again.

    Attributes:
        status: The status code.
        body: The body, whole.
    """

    status: int
    body: bytes


@attrs.frozen(kw_only=True)
class Attempt:
    """A request that is being carried out, to its :meth:`end`.

    Attributes:
        made_as: An id for what it makes.
        number: Which attempt it is.
    """

    made_as: str
    number: int
    _claim: Claim

    def end(self) -> None:
        """Let the key go. It is free, unless an answer was kept."""
        self._claim.end()


def is_key(text: str) -> bool:
    """Return whether that can be an idempotency key."""
    return _KEY.fullmatch(text) is not None


class Answers:
    """The answers that were given, by who asked and with which key.

    Args:
        shared: Where they are.
        clock: The time in seconds since the epoch.
        kept: Seconds after which an answer is forgotten.
        limit: The most answers to keep.
    """

    def __init__(
        self,
        shared: Shared,
        clock: Callable[[], float] = time.time,
        *,
        kept: float = KEPT,
        limit: int = MAX_ANSWERS,
    ) -> None:
        self._shared = shared
        self._clock = clock
        self._kept = kept
        self._limit = limit

    async def begin(self, who: str, key: str, fingerprint: bytes) -> Answer | Attempt:
        """Return the answer to give again, or what has to be carried out.

        Args:
            who: Who asks.
            key: The idempotency key.
            fingerprint: What the request is, in short.

        Raises:
            KeyReused: It was another request that had this key.
            KeyInUse: There is no answer yet.

        Cancellation: nothing has begun.
        """
        return await self._shared.write_claiming(partial(self._begin, who, key, fingerprint))

    async def keep(self, attempt: Attempt, answer: Answer) -> None:  # noqa: ASYNC910 # a 5xx is not kept
        """Keep the answer to a request that has not ended, unless it is a 5xx.

        Cancellation: it is kept or not.
        """
        if answer.status < 500:
            values = (answer.status, answer.body, attempt.number)
            await self._shared.write(lambda db: db.execute(_KEEP, values))

    def _begin(
        self, who: str, key: str, fingerprint: bytes, claim: Claim, db: sqlite3.Connection
    ) -> Answer | Attempt:
        now = self._clock()
        self._forget(db, "at <= ?", now - self._kept)
        made_as = new_id("any")
        row = db.execute(_FIND, (who, key)).fetchone()
        if row is not None:
            number, known, known_as, name, status, body = row
            is_free = status is None and not is_claimed(self._shared.directory / name)
            if known != fingerprint and not is_free:
                raise KeyReused
            if status is not None:
                claim.end()
                return Answer(status=status, body=body)
            if not is_free:
                raise KeyInUse
            if known == fingerprint:
                made_as = known_as
            self._forget(db, "number = ?", number)
        values = (who, key, fingerprint, made_as, claim.path.name, now)
        number = db.execute(_BEGIN, values).lastrowid
        assert number is not None
        self._forget(
            db,
            "number IN (SELECT number FROM answer ORDER BY number DESC LIMIT -1 OFFSET ?)",
            self._limit,
        )
        return Attempt(made_as=made_as, number=number, claim=claim)

    def _forget(self, db: sqlite3.Connection, which: str, value: float) -> None:
        where = f"FROM answer WHERE {which}"
        for (name,) in db.execute(f"SELECT claim {where} AND status IS NULL", (value,)).fetchall():
            with suppress(OSError):  # It was left by a process that was killed, or is not there.
                os.rmdir(self._shared.directory / name)
        db.execute(f"DELETE {where}", (value,))
