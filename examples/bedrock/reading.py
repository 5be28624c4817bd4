"""Requests read: bodies within their bounds, and fields by their rules.

A wrong field is noted, not raised, so that one answer names all that is wrong, before anything has
changed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from starlette.requests import Request

from .errors import bad_request, invalid_fields, too_large

MAX_JSON_BYTES: Final = 64 * 1024
MAX_TEXT: Final = 255  # characters of a field


class Body:
    """The body of a request, of at most so many bytes.

    Raises:
        ApiError: The request says that its body is larger.
    """

    def __init__(self, request: Request, limit: int) -> None:
        self._request = request
        self._limit = limit
        self._size = 0
        self._is_over = False
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > len(str(limit)) or int(length) > limit):
            raise too_large(limit)

    async def receive(self) -> bytes:
        """Return the next piece; ``b""`` at the end.

        Raises:
            ApiError: It is too large, or its client has left.

        Cancellation: loses nothing but what the server has taken.
        """
        while not self._is_over:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise bad_request(self._request.url.path, "The request body was cut off.")
            self._is_over = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            self._size += len(piece)
            if self._size > self._limit:
                raise too_large(self._limit)
            if piece:
                return piece
        return b""  # noqa: ASYNC910 # there is nothing to wait for

    async def read(self) -> bytes:
        """Return the body, whole.

        Raises: as :meth:`receive`.

        Cancellation: it cannot be read again.
        """
        content = b""
        while piece := await self.receive():
            content += piece
        return content  # noqa: ASYNC910 # as in receive()


class Fields:
    """The fields of a request, from its JSON or its query, as they are read.

    Args:
        values: The fields by their names.
        path: The path of the request, for its error.
    """

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self._values = values
        self._path = path
        self._errors: dict[str, list[str]] = {}

    @classmethod
    def of_json(cls, content: bytes, path: str) -> Fields:
        """Read the fields of a JSON object.

        Raises:
            ApiError: It is none.
        """
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            raise bad_request(path, "The request body is not JSON.") from None
        if not isinstance(values, dict):
            raise bad_request(path, "The request body is not a JSON object.")
        return cls(values, path)

    def text(self, name: str) -> str:
        """Return a field that has to be there, and text."""
        value = self._values.get(name)
        if value is None:
            self.refuse(name, "is required")
        elif not isinstance(value, str):
            self.refuse(name, "must be a string")
        elif not 1 <= len(value) <= MAX_TEXT:
            self.refuse(name, f"must have from 1 to {MAX_TEXT} characters")
        else:
            return value
        return ""

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """Return a field that is one of these, if it is there."""
        value = self._values.get(name)
        if value is None or value in choices:
            return value
        self.refuse(name, f"must be one of {', '.join(choices)}")
        return None

    def choices(self, name: str, choices: Collection[str]) -> list[str]:
        """Return a field that is a list of these, if it is there."""
        value = self._values.get(name, [])
        if isinstance(value, list) and all(each in choices for each in value):
            return value
        self.refuse(name, f"must be a list of {', '.join(choices)}")
        return []

    def number(self, name: str, *, default: int, largest: int) -> int:
        """Return a field of a query that is a number from 1 to ``largest``."""
        value = str(self._values.get(name, default))
        if value.isdecimal() and len(value) <= len(str(largest)) and 1 <= int(value) <= largest:
            return int(value)
        self.refuse(name, f"must be a number from 1 to {largest}")
        return default

    def refuse(self, name: str, rule: str) -> None:
        """Note that a field breaks a rule."""
        self._errors.setdefault(name, []).append(rule)

    def check(self) -> None:
        """Do nothing if all was well.

        Raises:
            ApiError: With what was not.
        """
        if self._errors:
            raise invalid_fields(self._path, self._errors)
