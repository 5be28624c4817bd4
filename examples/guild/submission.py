"""Reading a submission: whatever anybody sends, it is read within bounds or refused."""

from __future__ import annotations

import json
from typing import Any, Final

import trio
from starlette.requests import Request

from .errors import ApiError

TITLE_CHARACTERS: Final = (1, 200)
BRIEF_CHARACTERS: Final = (10, 50_000)
KEY_CHARACTERS: Final = 255
# Fifty thousand characters, each written as an escape of its own.
BODY_BYTES: Final = 512 * 1024
BODY_SECONDS: Final = 30.0


def read_key(request: Request) -> str | None:
    """Return the idempotency key of a request, if it has one.

    Raises:
        ApiError: It is empty or too long.
    """
    key = request.headers.get("x-idempotency-key")
    if key is not None and not 1 <= len(key) <= KEY_CHARACTERS:
        raise _invalid(f"X-Idempotency-Key: 1 to {KEY_CHARACTERS} characters, not {len(key)}")
    return key


async def read_submission(request: Request) -> tuple[str, str]:
    """Return the title and the brief that a request submits.

    Raises:
        ApiError: It is not as documented, or does not come in time.

    Cancellation: nothing was taken.
    """
    try:
        said = json.loads(await _body(request))
    except (ValueError, RecursionError):
        raise _invalid("the body is not JSON") from None
    if not isinstance(said, dict):
        raise _invalid("the body is not a JSON object")
    if unknown := sorted(said.keys() - {"title", "briefText"}):
        raise _invalid(f"not known here: {', '.join(unknown)}")
    title = _text(said, "title", *TITLE_CHARACTERS)
    brief = said.get("briefText")
    if isinstance(brief, str) and len(brief) > BRIEF_CHARACTERS[1]:
        raise _too_large()
    return title, _text(said, "briefText", *BRIEF_CHARACTERS)


def _text(said: dict[str, Any], name: str, least: int, most: int) -> str:
    text = said.get(name)
    if not isinstance(text, str):
        raise _invalid(f"{name}: a string is needed")
    if not least <= len(text) <= most:
        raise _invalid(f"{name}: {least} to {most} characters, not {len(text)}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _invalid(f"{name}: half a surrogate pair is no character")
    return text


async def _body(request: Request) -> bytes:
    """Read a body, no longer and no larger than it may be."""
    body = bytearray()
    with trio.move_on_after(BODY_SECONDS) as scope:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise _invalid("the body is not whole")
            body += message.get("body", b"")
            if len(body) > BODY_BYTES:
                raise _too_large()
            if not message.get("more_body", False):
                break
    if scope.cancelled_caught:
        raise ApiError(408, "REQUEST_TIMEOUT", f"no whole body within {BODY_SECONDS:.0f} s")
    return bytes(body)


def _invalid(message: str) -> ApiError:
    return ApiError(400, "VALIDATION_ERROR", message)


def _too_large() -> ApiError:
    return ApiError(
        413, "JOB_BRIEF_TOO_LARGE", f"briefText: at most {BRIEF_CHARACTERS[1]} characters"
    )
