"""The OpenAPI document, which every response in these tests is held to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from openapi_spec_validator import validate

from examples.bedrock.api import Api
from examples.bedrock.idempotency import Answers
from examples.bedrock.signing import Signer

from .service import DOCUMENT, RATE_LIMITED, STREAM, UNAUTHORIZED, Service

PUBLISHED = Path(__file__).with_name("published.json")


def test_the_document_contains_what_is_published() -> None:
    """All of it, word for word: the stream, its errors and their schema, how to have a key."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    assert _missing(published, DOCUMENT) == []


def test_the_document_is_an_openapi_document() -> None:
    """By the specification's own schema, and by what that cannot say."""
    validate(DOCUMENT)


def test_the_stream_may_answer_a_little_more_than_is_published() -> None:
    """A version that there is not and a job that there is not; and needs either key."""
    operation = DOCUMENT["paths"]["/jobs/{job_id}/stream"]["get"]
    assert set(operation["responses"]) == {"200", "401", "429", "400", "404"}
    assert "security" not in operation
    assert DOCUMENT["security"] == [{"BearerAuth": []}, {"ApiKeyAuth": []}]


def test_examples_are_what_is_sent() -> None:
    """The example of the stream and those of errors have the bytes of the golden tests."""
    operation = DOCUMENT["paths"]["/jobs/{job_id}/stream"]["get"]
    example = operation["responses"]["200"]["content"]["text/event-stream"]["schema"]["example"]
    assert example.encode() == STREAM
    for name, published in (("Unauthorized", UNAUTHORIZED), ("RateLimited", RATE_LIMITED)):
        response = DOCUMENT["components"]["responses"][name]
        assert response["content"]["application/json"]["example"] == json.loads(published)


def test_all_references_of_the_document_lead_somewhere() -> None:
    """None is dangling, and nothing is described that nobody refers to."""
    text = json.dumps(DOCUMENT)
    references = set(re.findall(r'"#/components/(\w+)/(\w+)"', text))
    components = DOCUMENT["components"]
    described = {
        (kind, name) for kind in ("parameters", "responses", "schemas") for name in components[kind]
    }
    assert references | {("schemas", "JobEvent")} == described


async def test_every_endpoint_is_in_the_document(service: Service) -> None:
    """And everything in the document is an endpoint."""
    described = {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item
    }
    api = Api(
        store=service.store,
        runner=service.runner,
        answers=Answers(service.shared),
        signer=Signer(b"secret"),
    )
    served = {
        (method, route.path)
        for route in [*api.routes(), *api.open_routes()]
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert served == described


def _missing(published: Any, ours: Any, path: str = "") -> list[str]:
    """Return the paths at which ours is not what is published; more members are no difference."""
    if isinstance(published, dict) and isinstance(ours, dict):
        return [
            found
            for name, value in published.items()
            for found in _missing(value, ours.get(name), f"{path}/{name}")
        ]
    return [] if published == ours else [path]
