"""Names for what is made here: ``job_01JABCD...``, and the time as the API writes it.

An id is a ULID behind a prefix that says what it is of: 48 bits of milliseconds and 80 of chance in
Crockford's base 32, so that ids sort by age and cannot be guessed.

Spec: https://github.com/ulid/spec
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Final

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(prefix: str) -> str:
    """Return an id that nobody has."""
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))


def with_prefix(id: str, prefix: str) -> str:
    """Return the id of what belongs to the owner of ``id``, one to one."""
    return f"{prefix}_{id.partition('_')[2]}"


def timestamp(moment: datetime | None = None) -> str:
    """Return a moment, by default now, as in ``2026-01-01T12:00:00.000Z``."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
