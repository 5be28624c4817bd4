"""Errors as this API tells them: ``{"code", "error"}``, and when to come back if that helps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        code: The error's name.
        message: What is wrong.
        retry_after: Seconds after which to try again, if that helps.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


async def answer_error(_: Request, error: Exception) -> Response:
    """Answer what this API refuses."""
    assert isinstance(error, ApiError)
    body: dict[str, Any] = {"code": error.code, "error": error.message}
    headers = {}
    if error.retry_after is not None:
        body["retryAfter"] = error.retry_after
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body, status_code=error.status, headers=headers)  # noqa: ASYNC910 # nothing here blocks


async def answer_http_error(_: Request, error: Exception) -> Response:
    """Answer what there is no route for, or no such file."""
    assert isinstance(error, HTTPException)
    code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "HTTP_ERROR")
    body = {"code": code, "error": error.detail}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)  # noqa: ASYNC910 # as above


async def answer_crash(_: Request, __: Exception) -> Response:
    """Answer what went wrong here; the log has the rest."""
    body = {"code": "INTERNAL_ERROR", "error": "Internal error"}
    return JSONResponse(body, status_code=500)  # noqa: ASYNC910 # as above


HANDLERS: Final[Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]]] = {
    ApiError: answer_error,
    HTTPException: answer_http_error,
    500: answer_crash,
}
