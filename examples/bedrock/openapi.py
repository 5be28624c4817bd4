"""What the API is, for programs: an OpenAPI 3.1 document, made for where the server is.

The operation of the stream, its error responses and the schema of errors are as they are published,
word for word; the rest is written in their manner. All objects are closed, so that a field that is
not described here cannot slip into a response.

Spec: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any, Final

from .gate import API_VERSION
from .jobs import ANALYSES, LIFECYCLE
from .overlay import PICTURES
from .reading import MAX_TEXT

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_SHORT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_NUMBER: Final[Schema] = {"type": "number"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_STATUS: Final[Schema] = {"type": "string", "enum": list(LIFECYCLE.states)}

_STATUSES: Final = {
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "Conflict": 409,
    "TooLarge": 413,
    "RateLimited": 429,
    "Overloaded": 503,
    "StorageFull": 507,
}


def document(base_url: str) -> dict[str, Any]:
    """Return the document of the API that is served at ``base_url``."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bedrock API",
            "version": "1.0.0",
            "description": (
                "REST API for construction document management and computer vision intelligence."
            ),
        },
        "servers": [{"url": base_url}],
        "security": [{"BearerAuth": []}, {"ApiKeyAuth": []}],
        "paths": _paths(),
        "components": {
            "parameters": _parameters(),
            "responses": _responses(),
            "schemas": _schemas(),
            "securitySchemes": {
                "BearerAuth": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": (
                        "API key prefixed with `sk_`. Example: `Authorization: Bearer sk_xxx`"
                    ),
                },
                "ApiKeyAuth": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _paths() -> dict[str, Any]:
    job, file, overlay = (_id(name) for name in ("job", "file", "overlay"))
    return {
        "/jobs/{job_id}/stream": {"get": _stream()},
        "/jobs": {
            "get": _operation(
                *("Jobs", "listJobs", "List jobs"),
                parameters=[
                    *(
                        _query(name, _TEXT)
                        for name in ("project_id", "type", "target_type", "target_id", "parent_id")
                    ),
                    _query("status", _STATUS),
                    *_paging(),
                ],
                ok=(200, "Jobs, the newest first.", _json(_list_of("Job"))),
                errors=["BadRequest"],
            )
        },
        "/jobs/{job_id}": {
            "get": _operation(
                *("Jobs", "getJob", "Get job"),
                parameters=[job],
                ok=(200, "The job.", _json(_data("Job"))),
                errors=["BadRequest", "NotFound"],
            )
        },
        "/jobs/{job_id}/cancel": {
            "post": _operation(
                *("Jobs", "cancelJob", "Cancel job"),
                parameters=[job, _reference("parameters", "IdempotencyKey")],
                ok=(200, "The job is canceled.", _json(_reference("schemas", "JobStatus"))),
                more={
                    "202": {
                        "description": "The job runs, and will be canceled.",
                        "content": _json(_reference("schemas", "JobStatus")),
                    }
                },
                errors=["BadRequest", "NotFound", "Conflict", "TooLarge"],
            )
        },
        "/openapi.json": {
            "get": _operation(
                *("Documents", "getDocument", "Get this document"),
                parameters=[],
                ok=(200, "This document.", _json({"type": "object"})),
                errors=[],
                is_open=True,
            )
        },
        "/files": {
            "post": _operation(
                *("Files", "createFile", "Announce a file"),
                parameters=[_reference("parameters", "IdempotencyKey")],
                body=_json(
                    _object(project_id=_SHORT, filename=_SHORT, content_type={"const": "image/png"})
                ),
                ok=(201, "The file, and where to put it.", _json(_data("NewFile"))),
                errors=["BadRequest", "NotFound", "Conflict", "TooLarge", "StorageFull"],
            )
        },
        "/uploads/{file_id}": {
            "put": _operation(
                *("Files", "uploadFile", "Upload a file to its signed URL"),
                parameters=[file, *_signature()],
                body={"image/png": {}},
                ok=(200, "The file.", _json(_data("File"))),
                errors=["Forbidden", "NotFound", "Conflict", "TooLarge", "StorageFull"],
                is_open=True,
            )
        },
        "/files/{file_id}": {
            "get": _operation(
                *("Files", "getFile", "Get file"),
                parameters=[file],
                ok=(200, "The file.", _json(_data("File"))),
                errors=["BadRequest", "NotFound"],
            ),
            "delete": _operation(
                *("Files", "deleteFile", "Delete file"),
                parameters=[file],
                ok=(204, "The file is gone.", None),
                errors=["BadRequest", "NotFound"],
            ),
        },
        "/compare": {
            "post": _operation(
                *("Compare", "compare", "Compare two blocks"),
                parameters=[_reference("parameters", "IdempotencyKey")],
                body=_json(
                    _object(
                        {"analyze": {"type": "array", "items": {"enum": list(ANALYSES)}}},
                        old_id=_SHORT,
                        new_id=_SHORT,
                        type={"const": "Block"},
                    )
                ),
                ok=(202, "The job that does it.", _json(_reference("schemas", "JobStatus"))),
                errors=["BadRequest", "NotFound", "Conflict", "TooLarge", "Overloaded"],
            )
        },
        "/overlays": {
            "get": _operation(
                *("Overlays", "listOverlays", "List overlays"),
                parameters=_paging(),
                ok=(200, "Overlays, the newest first.", _json(_list_of("Overlay"))),
                errors=["BadRequest"],
            )
        },
        "/overlays/{overlay_id}": {
            "get": _operation(
                *("Overlays", "getOverlay", "Get overlay"),
                parameters=[overlay],
                ok=(200, "The overlay.", _json(_data("Overlay"))),
                errors=["BadRequest", "NotFound"],
            ),
            "delete": _operation(
                *("Overlays", "deleteOverlay", "Delete overlay"),
                parameters=[overlay],
                ok=(204, "The overlay is gone.", None),
                errors=["BadRequest", "NotFound"],
            ),
        },
        "/overlays/{overlay_id}/{picture}.png": {
            "get": _operation(
                *("Overlays", "getPicture", "Get a picture from its signed URL"),
                parameters=[
                    overlay,
                    _parameter("path", "picture", {"enum": list(PICTURES)}, "Which picture"),
                    *_signature(),
                ],
                ok=(200, "The picture.", {"image/png": {}}),
                errors=["Forbidden", "NotFound"],
                is_open=True,
            )
        },
    }


def _stream() -> Schema:
    """Return the operation as it is published, and what it may answer besides."""
    example = (
        "event: status\n"
        'data: {"job_id":"job_01JABCD123","type":"overlay.generate","status":"RUNNING"}\n\n'
        "event: completed\n"
        'data: {"job_id":"job_01JABCD123","type":"overlay.generate","status":"COMPLETED"}\n\n'
    )
    return {
        "tags": ["Jobs"],
        "summary": "Stream job updates",
        "description": (
            "Stream real-time status updates for a job via Server-Sent Events (SSE). Events "
            "include status changes, progress updates, and terminal states (completed, failed, "
            "canceled). The connection sends heartbeats every 15 seconds and closes automatically "
            "after 5 minutes or when the job reaches a terminal state."
        ),
        "operationId": "streamJob",
        "parameters": [_reference("parameters", "ApiVersionHeader"), _id("job")],
        "responses": {
            "200": {
                "description": "SSE event stream.",
                "content": {
                    "text/event-stream": {
                        "schema": {
                            "type": "string",
                            "description": (
                                "Server-Sent Events stream. Events: `status` (status changed), "
                                "`progress` (progress update), `completed` (job finished), "
                                "`failed` (job errored), `canceled` (job canceled). Each event "
                                "has a JSON `data` field with `job_id`, `type`, `status`, and "
                                "optional `progress` or `error` fields."
                            ),
                            "example": example,
                        }
                    }
                },
            },
            "400": _reference("responses", "BadRequest"),
            "401": _reference("responses", "Unauthorized"),
            "404": _reference("responses", "NotFound"),
            "429": _reference("responses", "RateLimited"),
        },
    }


def _parameters() -> Schema:
    return {
        "ApiVersionHeader": {
            "name": "X-API-Version",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "default": API_VERSION},
            "description": "API version",
        },
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"},
            "description": "A request that is repeated with its key is carried out once.",
        },
    }


def _responses() -> Schema:
    return {
        "Unauthorized": _problem(
            "Unauthorized",
            {
                "type": "https://docs.bedrock.cv/errors/authentication",
                "title": "Unauthorized",
                "status": 401,
                "detail": "Invalid or missing API key.",
                "code": "UNAUTHORIZED",
                "request_id": "req_01JABCD123",
            },
        ),
        "RateLimited": _problem(
            "Rate limited",
            {
                "type": "https://docs.bedrock.cv/errors/rate-limit",
                "title": "Rate limited",
                "status": 429,
                "detail": "Rate limit exceeded. Try again in 60 seconds.",
                "code": "RATE_LIMITED",
                "request_id": "req_01JABCD123",
            },
        ),
        "BadRequest": _problem("The request cannot be read, or has wrong fields."),
        "Forbidden": _problem("The URL is not signed, or has expired."),
        "NotFound": _problem("There is no such thing in the key's project."),
        "Conflict": _problem("It contradicts the state of things."),
        "TooLarge": _problem("The request body is too large."),
        "StorageFull": _problem("The project's storage is full."),
        "Overloaded": _problem("Too many jobs are waiting."),
    }


def _schemas() -> Schema:
    error = _object(code=_TEXT, message=_TEXT)
    bounds = _object(x_min=_COUNT, y_min=_COUNT, x_max=_COUNT, y_max=_COUNT)
    file = {
        "id": _TEXT,
        "project_id": _TEXT,
        "key": _TEXT,
        "filename": _TEXT,
        "content_type": {"const": "image/png"},
        "status": {"enum": ["awaiting_upload", "uploaded"]},
        "size_bytes": _nullable(_COUNT),
        "block_id": _nullable(_TEXT),
        "created_at": _TIME,
    }
    return {
        "ApiError": {
            "type": "object",
            "properties": {
                "type": _TEXT,
                "title": _TEXT,
                "status": {"type": "integer"},
                "detail": _TEXT,
                "code": _TEXT,
                "request_id": _TEXT,
                "instance": _TEXT,
                "errors": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "items": _TEXT},
                },
            },
            "required": ["type", "title", "status", "detail"],
            "example": {
                "type": "https://docs.bedrock.cv/errors/bad-request",
                "title": "Bad Request",
                "status": 400,
                "detail": "One or more request fields are invalid.",
                "instance": "/projects",
            },
        },
        "Job": _object(
            id=_TEXT,
            organization_id=_TEXT,
            project_id=_TEXT,
            type=_TEXT,
            status=_STATUS,
            target_type=_TEXT,
            target_id=_TEXT,
            parent_id=_nullable(_TEXT),
            payload=_object(type={"const": "Block"}, old_id=_TEXT, new_id=_TEXT),
            events={"type": "array", "items": _object(status=_STATUS, timestamp=_TIME)},
            progress=_nullable(_SHARE),
            message=_nullable(_TEXT),
            results=_nullable(_reference("schemas", "Results")),
            error=_nullable(error),
            created_at=_TIME,
            updated_at=_TIME,
            completed_at=_nullable(_TIME),
        ),
        "JobStatus": _object(job_id=_TEXT, status=_STATUS),
        # The data of each event of a stream.
        "JobEvent": _object(
            {
                "progress": _nullable(_SHARE),
                "message": _nullable(_TEXT),
                "results": _reference("schemas", "Results"),
                "error": error,
            },
            job_id=_TEXT,
            type=_TEXT,
            status=_STATUS,
            timestamp=_TIME,
        ),
        "Results": _object(
            {"changes": {"type": "array", "items": _reference("schemas", "Change")}},
            overlay=_object(overlay_id=_TEXT, score=_SHARE),
        ),
        "Change": _object(
            category={"enum": ["added", "removed", "modified"]},
            description=_TEXT,
            bounds=bounds,
            severity={"enum": ["low", "medium", "high"]},
        ),
        "File": _object(**file),
        "NewFile": _object(**file, upload_url={"type": "string", "format": "uri"}),
        "Overlay": _object(
            id=_TEXT,
            block_a_id=_TEXT,
            block_b_id=_TEXT,
            job_id=_TEXT,
            **{
                name: {"type": "string", "format": "uri"}
                for name in (
                    *("uri", "addition_uri", "deletion_uri"),
                    *("aligned_a_uri", "aligned_b_uri"),
                )
            },
            score=_SHARE,
            summary=_object(
                added_area=_COUNT, removed_area=_COUNT, changed_percent=_NUMBER, changes=_COUNT
            ),
            changes={"type": "array", "items": _reference("schemas", "Change")},
            created_at=_TIME,
        ),
    }


def _operation(
    tag: str,
    id: str,
    summary: str,
    *,
    parameters: list[Schema],
    ok: tuple[int, str, Schema | None],
    errors: list[str],
    body: Schema | None = None,
    more: Schema | None = None,
    is_open: bool = False,
) -> Schema:
    """Return an operation; one that is not open has a version, and may want a key or patience."""
    status, description, content = ok
    responses: Schema = {str(status): {"description": description}}
    if content is not None:
        responses[str(status)]["content"] = content
    if not is_open:
        parameters = [_reference("parameters", "ApiVersionHeader"), *parameters]
        errors = [*errors, "Unauthorized", "RateLimited"]
    responses |= more or {}
    responses |= {str(_STATUSES[name]): _reference("responses", name) for name in errors}
    operation: Schema = {
        "tags": [tag],
        "summary": summary,
        "operationId": id,
        "parameters": parameters,
        "responses": responses,
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    if is_open:
        operation["security"] = []
    return operation


def _object(optional: Schema | None = None, **required: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _nullable(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _reference(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _data(name: str) -> Schema:
    return _object(data=_reference("schemas", name))


def _list_of(name: str) -> Schema:
    items = {"type": "array", "items": _reference("schemas", name)}
    return _object(data=items, _meta=_object(next=_nullable(_TEXT)))


def _problem(description: str, example: Schema | None = None) -> Schema:
    content = _json(_reference("schemas", "ApiError"))
    if example is not None:
        content["application/json"]["example"] = example
    return {"description": description, "content": content}


def _parameter(where: str, name: str, schema: Schema, description: str) -> Schema:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": schema,
        "description": description,
    }


def _id(kind: str) -> Schema:
    return _parameter("path", f"{kind}_id", _TEXT, f"{kind.capitalize()} ID")


def _query(name: str, schema: Schema) -> Schema:
    return _parameter("query", name, schema, f"Only those with this {name}")


def _paging() -> list[Schema]:
    limit = {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}
    return [
        _parameter("query", "limit", limit, "The most items to return"),
        _parameter("query", "cursor", _TEXT, "The `next` of the page before"),
    ]


def _signature() -> list[Schema]:
    return [
        _parameter("query", "expires", _TEXT, "As in the URL that was given"),
        _parameter("query", "signature", _TEXT, "As in the URL that was given"),
    ]
