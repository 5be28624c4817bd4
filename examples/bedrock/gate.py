"""What every request meets before a handler does, and what every response says.

* :class:`Envelope`, around everything: the request gets an id, and its response says it, together
  with the headers that were settled on the way.
* :class:`Guard`, around all that needs a key: who asks, whether they may do so now, and in which
  version of the API; in this order, so that without a key nothing is learned.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from typing import Final

import attrs
from starlette.datastructures import Headers

from sselib.stream import ASGIApp, Message, Receive, Scope, Send

from .errors import bad_request, rate_limited, unauthorized
from .ids import new_id
from .rate_limit import Allowance, RateLimiter

API_VERSION: Final = "2026-01-01"  # the only one there is

_KEY_PREFIX: Final = "sk_"


@attrs.frozen
class Account:
    """Whom a key belongs to."""

    organization_id: str
    project_id: str


@attrs.define(eq=False)
class Seen:
    """What is known of a request, in ``scope["state"]["seen"]``.

    Attributes:
        request_id: Its id.
        base_url: Where the application is for this client, without a final slash.
        headers: What its response is to say in any case.
        account: Who asks; ``None`` where no key is needed.
    """

    request_id: str
    base_url: str
    headers: dict[str, str] = attrs.field(factory=dict)
    account: Account | None = None


class Envelope:
    """An application whose responses say which request they belong to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Cancellation: as of the application.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = Seen(new_id("req"), _base_url(scope))
        seen.headers["x-request-id"] = seen.request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = [(name.encode(), value.encode()) for name, value in seen.headers.items()]
                message = {**message, "headers": [*message.get("headers", ()), *said]}
            await send(message)

        state = {**(scope.get("state") or {}), "seen": seen}
        await self._app({**scope, "state": state}, receive, send_with_headers)


class Guard:
    """An application for those who have a key.

    Args:
        app: The application.
        keys: Whom each key belongs to. A key begins with ``sk_``.
        limiter: How many requests a key may make.

    Raises:
        ValueError: A key that does not begin so, which would never be taken.
    """

    def __init__(self, app: ASGIApp, keys: Mapping[str, Account], limiter: RateLimiter) -> None:
        for key in keys:
            if not key.startswith(_KEY_PREFIX):
                raise ValueError(f"a key begins with {_KEY_PREFIX}: {key!r}")
        self._app = app
        # By their hashes, so that how long a look-up takes says nothing about a key.
        self._accounts = {_hash(key): account for key, account in keys.items()}
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            ApiError: It has no key that is known, too many came before it, or it asks for a
                version that there is not.

        Cancellation: as of the application.
        """
        seen: Seen = scope["state"]["seen"]
        headers = Headers(scope=scope)
        key = self._known_key(headers)
        if key is None:
            raise unauthorized()
        allowance = await self._limiter.take(key)
        seen.headers |= _limit_headers(allowance)
        if allowance.retry_after is not None:
            raise rate_limited(allowance.retry_after)
        version = headers.get("x-api-version", API_VERSION)
        if version != API_VERSION:
            raise bad_request(
                _path(scope), f"X-API-Version {version!r} is not supported: {API_VERSION} is."
            )
        seen.headers["x-api-version"] = version
        seen.account = self._accounts[key]
        await self._app(scope, receive, send)

    def _known_key(self, headers: Headers) -> str | None:
        """Return the hash of the key that the request has; either header is enough."""
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        bearer = credentials.strip() if scheme.lower() == "bearer" else ""
        for key in (bearer, headers.get("x-api-key", "")):
            if _hash(key) in self._accounts:
                return _hash(key)
        return None


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _limit_headers(allowance: Allowance) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(allowance.limit),
        "x-ratelimit-remaining": str(allowance.remaining),
        "x-ratelimit-reset": str(math.ceil(time.time()) + allowance.full_in),
    }


def _base_url(scope: Scope) -> str:
    host = Headers(scope=scope).get("host")
    if host is None:
        server = scope.get("server") or ("localhost", None)
        host = server[0] if server[1] is None else f"{server[0]}:{server[1]}"
    return f"{scope['scheme']}://{host}{scope.get('root_path', '').rstrip('/')}"


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
