"""URLs that need no key: whoever has one may do one thing with one path, for a while.

The signature is over the method, the path and the time at which it ends, so none of the three can
be changed. The path is that within the application, wherever it is mounted.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from typing import Final

_EXPIRES: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class Signer:
    """Signs, and knows its signatures again.

    Args:
        secret: The key: random bytes.
        clock: The time in seconds since the epoch.
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def sign(self, method: str, path: str, *, seconds: float) -> str:
        """Return the path with a query that makes it good for ``method``, for so long."""
        expires = str(round(self._clock() + seconds))
        return f"{path}?expires={expires}&signature={self._signature(method, path, expires)}"

    def is_good(self, method: str, path: str, query: Mapping[str, str]) -> bool:
        """Return whether the query of a request is one that we signed, and still good."""
        expires = query.get("expires", "")
        return (
            _EXPIRES.fullmatch(expires) is not None
            and hmac.compare_digest(
                self._signature(method, path, expires).encode(),
                query.get("signature", "").encode("utf-8", "surrogatepass"),
            )
            and self._clock() < int(expires)
        )

    def _signature(self, method: str, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{method} {path} {expires}".encode(), "sha256").hexdigest()
