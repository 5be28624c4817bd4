"""What goes wrong with a request, as the API says it: a status and a problem in JSON.

A handler raises an :class:`ApiError`; what becomes of it on the wire is decided here alone. Every
error is decided before a response begins, so a stream that has begun is never one.

Spec: https://www.rfc-editor.org/rfc/rfc9457 (but for the media type, which is documented otherwise)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import JSONResponse

_TYPES: Final = "https://docs.bedrock.cv/errors/"


class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The status code.
        kind: The last part of the problem's ``type``.
        title: What all problems of this type are called.
        detail: What it is this time, for whoever sent the request.
        code: What it is, for a program.
        members: Further members of the body.
        headers: Further headers.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        code: str,
        *,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.code = code
        self.members = dict(members or {})
        self.headers = dict(headers or {})

    def response(self, request_id: str) -> JSONResponse:
        """Return the response to the request of that id."""
        body = {
            "type": _TYPES + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            **self.members,
        }
        return JSONResponse(body, self.status, self.headers)


def bad_request(path: str, detail: str) -> ApiError:
    """Return the error for a request that cannot be read."""
    return ApiError(
        *(400, "bad-request", "Bad Request", detail, "BAD_REQUEST"), members={"instance": path}
    )


def invalid_fields(path: str, errors: Mapping[str, Sequence[str]]) -> ApiError:
    """Return the error for a request with wrong fields; it names each, and its rules."""
    return ApiError(
        *(400, "bad-request", "Bad Request"),
        "One or more request fields are invalid.",
        "VALIDATION_ERROR",
        members={
            "instance": path,
            "errors": {name: list(rules) for name, rules in errors.items()},
        },
    )


def unauthorized() -> ApiError:
    """Return the error for a request without a key that is known. It does not say which it was."""
    return ApiError(
        *(401, "authentication", "Unauthorized", "Invalid or missing API key.", "UNAUTHORIZED"),
        headers={"WWW-Authenticate": "Bearer"},
    )


def forbidden(detail: str) -> ApiError:
    """Return the error for a signed URL that is not good (any more)."""
    return ApiError(403, "forbidden", "Forbidden", detail, "FORBIDDEN")


def not_found(what: str) -> ApiError:
    """Return the error for what is not there, or is another project's, which looks the same."""
    return ApiError(404, "not-found", "Not found", f"{what} not found.", "NOT_FOUND")


def method_not_allowed(headers: Mapping[str, str]) -> ApiError:
    """Return the error for a path that is there, but not with this method."""
    detail = "The endpoint has no such method."
    return ApiError(
        *(405, "method-not-allowed", "Method not allowed", detail, "METHOD_NOT_ALLOWED"),
        headers=headers,
    )


def conflict(detail: str) -> ApiError:
    """Return the error for what contradicts the state of things."""
    return ApiError(409, "conflict", "Conflict", detail, "CONFLICT")


def too_large(limit: int) -> ApiError:
    """Return the error for a body of more bytes than are taken."""
    detail = f"The request body is larger than {limit} bytes."
    return ApiError(413, "too-large", "Content too large", detail, "TOO_LARGE")


def rate_limited(seconds: int) -> ApiError:
    """Return the error for a key that has used up its requests for so many seconds."""
    return ApiError(
        *(429, "rate-limit", "Rate limited"),
        f"Rate limit exceeded. Try again in {seconds} seconds.",
        "RATE_LIMITED",
        headers={"Retry-After": str(seconds)},
    )


def storage_full() -> ApiError:
    """Return the error for a project that may not store more."""
    detail = "The project's storage is full. Delete files or overlays."
    return ApiError(507, "storage-full", "Insufficient storage", detail, "STORAGE_FULL")


def overloaded() -> ApiError:
    """Return the error for one job more than the server holds."""
    detail = "Too many jobs are waiting. Try again later."
    return ApiError(
        *(503, "overloaded", "Service unavailable", detail, "OVERLOADED"),
        headers={"Retry-After": "60"},
    )
