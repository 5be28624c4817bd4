"""What clients send, structured and checked; what is wrong with it, as the API says it.

A request is checked whole before anything is done. Each problem names its place, as a list from
the part of the request (``path``, ``query``, ``body``) inwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeVar

import attrs
from cattrs import Converter
from cattrs.errors import ClassValidationError, IterableValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.types import Message

from sselib import Job

from .chunking import ChunkingOptions

MAX_UPLOAD_BYTES: Final = 10 * 1024 * 1024
MAX_JSON_BYTES: Final = 1024 * 1024
MAX_BATCH: Final = 50
MAX_TEXT: Final = 200

T = TypeVar("T")
Place: TypeAlias = tuple[str | int, ...]


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: The HTTP status.
        detail: What is said of it.
    """

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


def invalid(place: Place, message: str, kind: str = "value_error", **more: Any) -> ApiError:
    """Return the error for one problem with a request."""
    return ApiError(422, [{"loc": list(place), "msg": message, "type": kind, **more}])


def _nonempty(_: object, __: attrs.Attribute[str], value: str) -> None:
    if not 1 <= len(value) <= MAX_TEXT:
        raise ValueError(f"String should have 1 to {MAX_TEXT} characters")


def _batch(_: object, __: attrs.Attribute[list[str]], value: list[str]) -> None:
    if not 1 <= len(value) <= MAX_BATCH:
        raise ValueError(f"List should have 1 to {MAX_BATCH} items")


@attrs.frozen(kw_only=True)
class NewProject:
    """The body that makes a project."""

    name: str = attrs.field(validator=_nonempty)


@attrs.frozen(kw_only=True)
class ParseParameters:
    """How to parse. What is here for other engines than this one is accepted and has no effect."""

    options: dict[str, Any] | None = None
    engine: str = "reducto"
    chunking_options: ChunkingOptions = attrs.field(factory=ChunkingOptions)
    advanced_options: dict[str, Any] | None = None
    experimental_options: dict[str, Any] | None = None
    priority: bool = False
    vector_store_metadata: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class NewParse:
    """The body that starts a parse job."""

    source_document_id: str
    parameters: ParseParameters


@attrs.frozen(kw_only=True)
class NewBatch:
    """The body that starts a batch."""

    source_document_ids: list[str] = attrs.field(validator=_batch)
    parameters: ParseParameters


@attrs.frozen(kw_only=True)
class NewChunks:
    """The body that has a parse result cut anew."""

    chunking_options: ChunkingOptions


def _exactly(value: Any, cls: type) -> Any:
    if type(value) is not cls:
        raise TypeError(f"Input should be a valid {_JSON_NAMES[cls]}")
    return value


_JSON_NAMES: Final = {str: "string", int: "integer", bool: "boolean", dict: "object"}
_CONVERTER: Final = Converter(detailed_validation=True)
for _cls in (str, int, bool):
    _CONVERTER.register_structure_hook(_cls, _exactly)


async def body(request: Request, cls: type[T]) -> T:
    """Read the JSON body of a request.

    Raises:
        ApiError: It is too large, is no JSON, or does not fit ``cls``.
    """
    data = await bounded(request, MAX_JSON_BYTES).body()
    try:
        value = json.loads(data)
        json.dumps(value, ensure_ascii=False).encode()  # Half a character can be escaped in JSON.
    except (ValueError, RecursionError) as error:
        raise invalid(("body",), f"JSON decode error: {error}", "json_invalid") from error
    if not isinstance(value, dict):
        raise invalid(("body",), "Input should be a valid object", "dict_type", input=value)
    try:
        return _CONVERTER.structure(value, cls)
    except ClassValidationError as error:
        raise ApiError(422, list(_problems(error, ("body",)))) from error


def _problems(error: Exception, place: Place) -> Iterator[dict[str, Any]]:
    if isinstance(error, ClassValidationError):
        with_notes, others = error.group_exceptions()
        for each, note in with_notes:
            yield from _problems(each, (*place, note.name))
        for each in others:
            yield from _problems(each, place)
    elif isinstance(error, IterableValidationError):
        for each, item in error.group_exceptions()[0]:
            assert isinstance(item.index, int)
            yield from _problems(each, (*place, item.index))
    elif isinstance(error, KeyError):
        yield {"loc": list(place), "msg": "Field required", "type": "missing"}
    elif isinstance(error, TypeError):
        yield {"loc": list(place), "msg": str(error), "type": "type_error"}
    else:
        yield {"loc": list(place), "msg": str(error), "type": "value_error"}


def bounded(request: Request, most: int) -> Request:
    """Return the request with a body that is refused when it comes to more bytes than ``most``."""
    refusal = ApiError(413, f"The body may have at most {most} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise refusal
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise refusal
        return message

    return Request(request.scope, receive)


@attrs.frozen(kw_only=True)
class JobQuery:
    """Which jobs to list, and in which order."""

    ids: list[str]
    statuses: list[str]
    operations: list[str]
    created_at: tuple[datetime | None, datetime | None]
    completed_at: tuple[datetime | None, datetime | None]
    sort_by: str
    descending: bool
    page_size: int
    offset: int

    @classmethod
    def of(
        cls, query: QueryParams, *, statuses: Sequence[str], operations: Sequence[str]
    ) -> JobQuery:
        """Read the query of a request.

        Raises:
            ApiError: Something in it is out of range.
        """
        return cls(
            ids=_many(query, "ids"),
            statuses=[_one_of(each, "status", statuses) for each in _many(query, "status")],
            operations=[
                _one_of(each, "operation", operations) for each in _many(query, "operation")
            ],
            created_at=(_time(query, "created_at_start"), _time(query, "created_at_end")),
            completed_at=(_time(query, "completed_at_start"), _time(query, "completed_at_end")),
            sort_by=_one_of(
                query.get("sort_by", "created_at"), "sort_by", ["created_at", "completed_at"]
            ),
            descending=_one_of(query.get("sort_order", "desc"), "sort_order", ["asc", "desc"])
            == "desc",
            page_size=_number(query, "page_size", default=20, least=1, most=100),
            offset=_number(query, "continuation_token", default=0, least=0, most=10**9),
        )

    def takes(self, job: Job) -> bool:
        """Return whether a job is one of those asked for."""
        return (
            (not self.ids or job.id in self.ids)
            and (not self.statuses or job.status in self.statuses)
            and (not self.operations or job.kind in self.operations)
            and _is_between(job.created_at, *self.created_at)
            and _is_between(job.completed_at, *self.completed_at)
        )

    def place_of(self, job: Job) -> tuple[bool, datetime, str]:
        """Return what a job is sorted by; one that is not completed comes after all that are."""
        time = getattr(job, self.sort_by)
        return (time is None, time or job.created_at, job.id)


def _many(query: QueryParams, name: str) -> list[str]:
    return [*query.getlist(name), *query.getlist(f"{name}[]")]


def _one_of(value: str, name: str, known: Sequence[str]) -> str:
    if value not in known:
        wanted = " or ".join(filter(None, [", ".join(map(repr, known[:-1])), repr(known[-1])]))
        raise invalid(("query", name), f"Input should be {wanted}", "enum", input=value)
    return value


def _number(query: QueryParams, name: str, *, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise invalid(("query", name), "Input should be a valid integer", "int_parsing", input=text)
    if not least <= int(text) <= most:
        raise invalid(
            ("query", name), f"Input should be from {least} to {most}", "out_of_range", input=text
        )
    return int(text)


def _time(query: QueryParams, name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(
            ("query", name), "Input should be a valid datetime", "datetime_parsing", input=text
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _is_between(time: datetime | None, start: datetime | None, end: datetime | None) -> bool:
    if time is None:
        return start is None and end is None
    return (start is None or start <= time) and (end is None or time <= end)
