"""The API's description, and whether a response is as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from examples import guild

DOCUMENT: Final[dict[str, Any]] = json.loads(
    (Path(guild.__file__).parent / "openapi.json").read_text(encoding="utf-8")
)
_REGISTRY: Final[Registry[Any]] = Registry().with_resource(
    "urn:guild", DRAFT202012.create_resource(DOCUMENT)
)


def schema_at(*steps: str) -> Draft202012Validator:
    """Return what validates against the schema that stands there in the document."""
    pointer = "/".join(step.replace("~", "~0").replace("/", "~1") for step in steps)
    return Draft202012Validator({"$ref": f"urn:guild#/{pointer}"}, registry=_REGISTRY)


def described(path: str) -> str | None:
    """Return the path of the document that a request's path is an instance of."""
    path = path.partition("?")[0]
    for template in DOCUMENT["paths"]:
        pattern = re.sub(r"\\\{(\w+)\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path):
            return str(template)
    return None


def complaints(method: str, path: str, status: int, kind: str, body: bytes) -> list[str]:
    """Return what in a response is not as described; nothing if it is, or is not described."""
    template = described(path)
    if template is None or method.lower() not in DOCUMENT["paths"][template]:
        return []
    steps = ["paths", template, method.lower(), "responses", str(status)]
    responses = DOCUMENT["paths"][template][method.lower()]["responses"]
    if str(status) not in responses:
        return [f"{method} {template}: {status} is not described"]
    response = responses[str(status)]
    if "$ref" in response:
        steps = response["$ref"].removeprefix("#/").split("/")
        response = DOCUMENT["components"]["responses"][steps[-1]]
    content = response.get("content", {"": None})
    kind = kind.partition(";")[0]
    if kind not in content and "*/*" not in content:
        return [f"{method} {template}: {status} is not described as {kind}"]
    if kind != "application/json":
        return []
    found = schema_at(*steps, "content", kind, "schema").iter_errors(json.loads(body))
    return [f"{method} {template}: {error.json_path}: {error.message}" for error in found]
