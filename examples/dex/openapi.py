"""The description of the API: OpenAPI 3.1, as it is served at ``/openapi.json``.

What the documentation of the API says stands here in its words, with two differences: the updates
stream is an event stream, and there are the answers that it leaves out (401, 404, 409, 413).
"""

from __future__ import annotations

from typing import Any, Final

_STRING: Final = {"type": "string"}
_INTEGER: Final = {"type": "integer"}
_OBJECT: Final = {"type": "object"}
_TIME: Final = {"type": "string", "format": "date-time"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": schema, **more}


def _object(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _answers(ok: dict[str, Any], *errors: int, status: int = 200) -> dict[str, Any]:
    responses = {str(status): {"description": "Successful Response", **ok}}
    for error in sorted({401, *errors}):
        schema = _ref("HTTPValidationError" if error == 422 else "Error")
        responses[str(error)] = {
            "description": _ERRORS[error],
            "content": {"application/json": {"schema": schema}},
        }
    return responses


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _operation(
    tag: str,
    id: str,
    summary: str,
    responses: dict[str, Any],
    *,
    description: str = "",
    body: dict[str, Any] | None = None,
    media_type: str = "application/json",
    parameters: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [tag],
        "summary": summary,
        "operationId": id,
        "responses": responses,
    }
    if description:
        operation["description"] = description
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {media_type: {"schema": body}}}
    return operation


def _path(name: str) -> dict[str, Any]:
    title = name.replace("_", " ").title()
    return {"name": name, "in": "path", "required": True, "schema": _STRING | {"title": title}}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


_ERRORS: Final = {
    401: "Unauthorized",
    404: "Not Found",
    409: "Conflict",
    413: "Content Too Large",
    422: "Validation Error",
    507: "Insufficient Storage",
}
OPERATIONS: Final = [
    *("parse", "batch_parse", "extract", "research", "vector_store", "chunk", "summarization"),
    *("create_index", "update_index"),
]
_STATUSES: Final = [
    *("pending", "running", "succeeded", "partially_succeeded", "failed", "cancelled"),
]

_CHUNKING_OPTIONS: Final = _object(
    strategy={"const": "token_size", "default": "token_size"},
    chunk_size={"type": "integer", "minimum": 1, "maximum": 8192, "default": 512},
    chunk_overlap={
        "type": "integer",
        "minimum": 0,
        "description": "At most half of chunk_size. By default 50, or half if that is less.",
    },
    encoding_name={
        "type": "string",
        "default": "cl100k_base",
        "description": "Accepted; tokens are words and marks of punctuation, as results say.",
    },
)
_PARAMETERS: Final = _object(
    options=_or_null(_OBJECT),
    engine=_STRING,
    chunking_options=_ref("ChunkingOptions"),
    advanced_options=_or_null(_OBJECT),
    experimental_options=_or_null(_OBJECT),
    priority={"type": "boolean"},
    vector_store_metadata=_or_null(_OBJECT),
) | {"description": "There is one engine: what is meant for others is accepted, without effect."}

_SCHEMAS: Final = {
    "HTTPValidationError": _object(detail=_list_of(_ref("ValidationError"), title="Detail"))
    | {"title": "HTTPValidationError"},
    "ValidationError": _object(
        *("loc", "msg", "type"),
        loc=_list_of({"anyOf": [_STRING, _INTEGER]}, title="Location"),
        msg=_STRING | {"title": "Message"},
        type=_STRING | {"title": "Error Type"},
        input={"title": "Input"},
        ctx=_OBJECT | {"title": "Context"},
    )
    | {"title": "ValidationError"},
    "Error": _object("detail", detail=_STRING),
    "Project": _object(
        *("id", "name", "created_at"),
        id=_STRING,
        name=_STRING,
        created_at=_TIME,
        object={"const": "project"},
    ),
    "NewProject": _object("name", name={"type": "string", "minLength": 1, "maxLength": 200}),
    "File": _object(
        *("id", "project_id", "filename", "size_bytes", "mime_type", "status", "created_at"),
        id=_STRING,
        project_id=_STRING,
        filename=_STRING,
        size_bytes=_INTEGER,
        mime_type=_STRING,
        status={"enum": ["uploading", "uploaded", "failed", "deleted"]},
        created_at=_TIME,
        storage_key=_STRING,
        object={"const": "file"},
    ),
    "ChunkingOptions": _CHUNKING_OPTIONS,
    "ParseParameters": _PARAMETERS,
    "NewParse": _object(
        *("source_document_id", "parameters"),
        source_document_id=_STRING,
        parameters=_ref("ParseParameters"),
    ),
    "NewBatch": _object(
        *("source_document_ids", "parameters"),
        source_document_ids=_list_of(_STRING, minItems=1, maxItems=50),
        parameters=_ref("ParseParameters"),
    ),
    "NewChunks": _object("chunking_options", chunking_options=_ref("ChunkingOptions")),
    "ParseResult": _object(
        *("id", "project_id", "source_document_id", "job_id", "format", "blocks", "chunks"),
        id=_STRING,
        project_id=_STRING,
        source_document_id=_STRING,
        object={"const": "parse_result"},
        job_id=_STRING,
        format={"enum": ["csv", "docx", "html", "json", "md", "txt"]},
        created_at=_TIME,
        tokenizer=_STRING,
        chunking_options=_ref("ChunkingOptions"),
        blocks=_list_of(
            _object(
                *("kind", "text"),
                kind={"enum": ["heading", "paragraph", "list_item", "table_row", "code"]},
                text=_STRING,
            )
        ),
        chunks=_list_of(
            _object(
                *("index", "text", "tokens", "start", "end"),
                index=_INTEGER,
                text=_STRING,
                tokens=_INTEGER,
                start=_INTEGER,
                end=_INTEGER,
            )
        ),
    ),
    "Job": _object(
        *("id", "project_id", "operation", "status", "created_at"),
        id=_STRING | {"description": "ID of the entity"},
        project_id=_STRING | {"description": "ID of the project"},
        operation={"enum": OPERATIONS, "description": "Operation type (e.g., 'parse')"},
        status={"enum": _STATUSES, "description": "Current job status"},
        created_at=_TIME | {"description": "When the job was created"},
        object={"const": "job", "default": "job"},
        source_id=_or_null(_STRING) | {"description": "Source document/file ID"},
        correlation_id=_or_null(_STRING) | {"description": "Request correlation ID for tracing"},
        started_at=_or_null(_TIME) | {"description": "When the job started processing"},
        completed_at=_or_null(_TIME) | {"description": "When the job completed"},
        result=_or_null(_OBJECT) | {"description": "Job result payload when completed"},
        progress=_or_null(_ref("BatchParseProgress"))
        | {"description": "Live progress payload (used by batch jobs)"},
        error=_or_null(_STRING) | {"description": "Error message if job failed"},
        history=_or_null(_list_of(_ref("JobHistoryEvent")))
        | {"description": "Timeline of job execution events"},
    )
    | {"description": "Job response model representing an asynchronous operation."},
    "BatchCounters": _object(
        *("total", "succeeded", "failed", "cancelled", "pending"),
        total=_INTEGER,
        succeeded=_INTEGER,
        failed=_INTEGER,
        cancelled=_INTEGER,
        pending=_INTEGER | {"description": "Not yet begun, or running"},
    ),
    "BatchParseProgress": {
        "allOf": [
            _ref("BatchCounters"),
            _object("child_jobs", child_jobs=_list_of(_ref("ChildJob"))),
        ]
    },
    "ChildJob": _object(
        *("source_document_id", "job_id", "status", "parse_result_id", "error"),
        source_document_id=_STRING,
        job_id=_STRING,
        status={"enum": _STATUSES},
        parse_result_id=_or_null(_STRING),
        error=_or_null(_STRING),
    ),
    "JobHistoryEvent": _object(
        *("step", "timestamp", "duration_ms", "status", "details"),
        step=_STRING,
        timestamp=_TIME,
        duration_ms=_or_null(_INTEGER),
        status=_STRING,
        details=_OBJECT,
    ),
    "TraceSpan": _object(
        *("id", "trace_id", "parent_id", "name", "start_timestamp", "end_timestamp", "status"),
        *("input", "output", "metadata", "object"),
        id=_STRING,
        trace_id=_STRING,
        parent_id=_or_null(_STRING),
        name=_STRING,
        start_timestamp=_TIME,
        end_timestamp=_or_null(_TIME),
        status=_or_null({"enum": ["SUCCESS", "ERROR", "CANCELED"]}),
        input=_or_null(_OBJECT),
        output=_or_null(_OBJECT),
        metadata=_or_null(_OBJECT),
        object={"const": "span"},
    ),
    "JobStatus": _object(
        *("job_id", "status"),
        job_id=_STRING,
        status={"enum": _STATUSES},
        progress=_ref("BatchCounters"),
        error=_STRING,
    ),
    "Done": _object(*("job_id", "status"), job_id=_STRING, status={"enum": _STATUSES}),
}


def _page_of(name: str) -> dict[str, Any]:
    return _json(
        _object(
            *("items", "total_count", "next_token", "prev_token"),
            items=_list_of(_ref(name)),
            total_count=_INTEGER,
            next_token=_or_null(_STRING),
            prev_token=_or_null(_STRING),
        )
    )


_JOB: Final = _json(_ref("Job"))
_IN_PROJECT: Final = "/v1/projects/{project_id}"

_UPDATES: Final = """\
Stream job trace spans as Server-Sent Events.

Emits three event types:
- ``trace_update``: a new or updated ``TraceSpan`` (JSON-serialised span)
- ``job_status``:   emitted when the database job status changes
- ``done``:         terminal event; the stream closes after this

Clients should reconnect on transient network errors.

Each connection begins with every span as it is, and the status. Clients put a span in the place
of the one of the same ``id``. The ``data`` of the events are a TraceSpan, a JobStatus and a Done.
The ``id`` of the ``done`` event, sent as ``Last-Event-ID``, is answered 204: nothing is to come."""

_PATHS: Final[dict[str, Any]] = {
    "/v1/projects": {
        "post": _operation(
            *("Projects", "create_project", "Create Project"),
            _answers(_json(_ref("Project")), 413, 422, 507),
            body=_ref("NewProject"),
        ),
        "get": _operation(
            *("Projects", "list_projects", "List Projects"), _answers(_page_of("Project"))
        ),
    },
    _IN_PROJECT: {
        "get": _operation(
            *("Projects", "get_project", "Get Project"), _answers(_json(_ref("Project")), 404)
        ),
    },
    f"{_IN_PROJECT}/files": {
        "post": _operation(
            *("Files", "upload_file", "Upload File"),
            _answers(_json(_ref("File")), 404, 413, 422, 507),
            media_type="multipart/form-data",
            body=_object("file", file=_STRING | {"contentMediaType": "application/octet-stream"}),
        ),
        "get": _operation(*("Files", "list_files", "List Files"), _answers(_page_of("File"), 404)),
    },
    f"{_IN_PROJECT}/parse": {
        "post": _operation(
            *("Parse", "create_parse_job", "Create Parse Job"),
            _answers(_JOB, 404, 413, 422, 507),
            body=_ref("NewParse"),
        ),
    },
    f"{_IN_PROJECT}/parse/batch": {
        "post": _operation(
            *("Parse", "create_batch_parse_job", "Create Batch Parse Job"),
            _answers(_JOB, 404, 413, 422, 507),
            body=_ref("NewBatch"),
        ),
    },
    f"{_IN_PROJECT}/parse/{{parse_result_id}}": {
        "get": _operation(
            *("Parse", "get_parse_result", "Get Parse Result"),
            _answers(_json(_ref("ParseResult")), 404),
        ),
    },
    f"{_IN_PROJECT}/parse/{{parse_result_id}}/rechunk": {
        "post": _operation(
            *("Parse", "create_chunk_job", "Create Chunk Job"),
            _answers(_JOB, 404, 413, 422, 507),
            body=_ref("NewChunks"),
        ),
    },
    f"{_IN_PROJECT}/jobs": {
        "get": _operation(
            *("Jobs", "list_jobs", "List Jobs"),
            _answers(_page_of("Job"), 404, 422),
            parameters=(
                _query("ids", _list_of(_STRING)),
                *(
                    _query(f"{name}_{end}", _TIME)
                    for name in ("created_at", "completed_at")
                    for end in ("start", "end")
                ),
                _query("status", _list_of({"enum": _STATUSES})),
                _query("operation", _list_of({"enum": OPERATIONS})),
                _query(
                    "page_size", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
                ),
                _query("continuation_token", _STRING),
                _query(
                    "sort_by", {"enum": ["created_at", "completed_at"], "default": "created_at"}
                ),
                _query("sort_order", {"enum": ["asc", "desc"], "default": "desc"}),
            ),
        ),
    },
    f"{_IN_PROJECT}/jobs/{{job_id}}": {
        "get": _operation(*("Jobs", "get_job", "Get Job"), _answers(_JOB, 404, 422)),
    },
    f"{_IN_PROJECT}/jobs/{{job_id}}/cancel": {
        "post": _operation(
            *("Jobs", "cancel_job", "Cancel Job"),
            _answers(_JOB, 404, 409, 422)
            | {
                "202": {"description": "The job runs, and is cancelled when it has unwound", **_JOB}
            },
            description="Cancel a running or pending job. Idempotent: cancelling an "
            "already-cancelled job returns 200.",
        ),
    },
    f"{_IN_PROJECT}/jobs/{{job_id}}/updates": {
        "get": _operation(
            "Jobs",
            "stream_job_updates_v1_projects__project_id__jobs__job_id__updates_get",
            "Stream Job Updates",
            _answers({"content": {"text/event-stream": {"schema": _STRING}}}, 404, 422)
            | {"204": {"description": "The client has seen the end: nothing is to come"}},
            description=_UPDATES,
        ),
    },
}
for _name, _item in _PATHS.items():
    _names = [part[1:-1] for part in _name.split("/") if part.startswith("{")]
    if _names:
        _item["parameters"] = [_path(each) for each in _names]

DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Document Understanding API",
        "description": "API for uploading and processing documents",
        "version": "0.4.5",
    },
    "servers": [],
    "security": [{"ApiKey": [], "AccountId": []}],
    "tags": [
        {
            "name": "Projects",
            "description": "Operations related to project creation and management",
        },
        {"name": "Files", "description": "Operations related to file upload and access"},
        {
            "name": "Parse",
            "description": "Operations related to starting parse jobs and accessing their results",
        },
        {
            "name": "Vector Stores",
            "description": "Operations related to vector store creation and management",
        },
        {
            "name": "Extract",
            "description": "Operations related to starting extract jobs and accessing their "
            "results",
        },
        {"name": "Research", "description": "Dex Research agent kickoff and results."},
        {"name": "Jobs", "description": "Operations related to monitoring jobs and their status"},
    ],
    "paths": _PATHS,
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {
            "ApiKey": {
                "type": "apiKey",
                "in": "header",
                "name": "x-api-key",
                "description": "API key for authentication",
            },
            "AccountId": {
                "type": "apiKey",
                "in": "header",
                "name": "x-selected-account-id",
                "description": "Selected Account ID",
            },
        },
    },
}
