"""Answers that are given again: a request that is repeated with its key is not carried out again.

A key belongs to who sent it and to one request. Its answer is kept for a day; an answer that was a
failure of the server is not, and neither is one that was never made, so that the next attempt is
carried out. The table is bounded: the oldest answers go first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import attrs

KEPT: Final = 86_400.0  # seconds
MAX_ANSWERS: Final = 10_000

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")


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


@attrs.define(eq=False)
class _Known:
    fingerprint: bytes
    at: float
    answer: Answer | None = None


def is_key(text: str) -> bool:
    """Return whether that can be an idempotency key."""
    return _KEY.fullmatch(text) is not None


class Answers:
    """The answers that were given, by who asked and with which key.

    Args:
        clock: The time in seconds, of a clock that is never set back.
        kept: Seconds after which an answer is forgotten.
        limit: The most answers to keep.
    """

    def __init__(
        self, clock: Callable[[], float], *, kept: float = KEPT, limit: int = MAX_ANSWERS
    ) -> None:
        self._clock = clock
        self._kept = kept
        self._limit = limit
        self._known: dict[tuple[str, str], _Known] = {}  # the oldest first

    def begin(self, who: str, key: str, fingerprint: bytes) -> Answer | None:
        """Return the answer to give again, or ``None``: then :meth:`end` has to follow.

        Args:
            who: Who asks.
            key: The idempotency key.
            fingerprint: What the request is, in short.

        Raises:
            KeyReused: It was another request that had this key.
            KeyInUse: There is no answer yet.
        """
        self._forget(before=self._clock() - self._kept)
        known = self._known.get((who, key))
        if known is None:
            if len(self._known) == self._limit:
                del self._known[next(iter(self._known))]
            self._known[who, key] = _Known(fingerprint, self._clock())
            return None
        if known.fingerprint != fingerprint:
            raise KeyReused
        if known.answer is None:
            raise KeyInUse
        return known.answer

    def end(self, who: str, key: str, answer: Answer | None) -> None:
        """Keep the answer to the request that began; ``None``, or a 5xx, frees the key."""
        if answer is None or answer.status >= 500:
            self._known.pop((who, key), None)
        elif (who, key) in self._known:
            self._known[who, key].answer = answer

    def _forget(self, *, before: float) -> None:
        for name in list(self._known):
            if self._known[name].at > before:
                break
            del self._known[name]
