"""The OpenAPI document: sound in itself, and served. Every other test holds responses to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from examples.guild.app import open_app
from examples.guild.projects import LIFECYCLE
from examples.guild.submission import BRIEF_CHARACTERS, KEY_CHARACTERS, TITLE_CHARACTERS

from .asking import ask, submit, watch
from .description import DOCUMENT, complaints, schema_at


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in the document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from parts(inner)


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    """Nothing is misspelled."""
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for part in parts(DOCUMENT):
        if "$ref" in part:
            found = DOCUMENT
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
        if isinstance(part.get("schema"), dict):
            Draft202012Validator.check_schema(part["schema"])


def test_every_placeholder_is_a_parameter() -> None:
    """A path says what stands in it."""
    for path, item in DOCUMENT["paths"].items():
        given = {
            DOCUMENT["components"]["parameters"]["Id"]["name"] if "$ref" in each else each["name"]
            for each in item.get("parameters", ())
        }
        assert set(re.findall(r"\{(\w+)\}", path)) == given


def test_the_bounds_are_those_that_are_kept() -> None:
    """Of titles, briefs and keys; and the statuses are those of the lifecycle that are shown."""
    brief = DOCUMENT["components"]["schemas"]["Brief"]["properties"]
    for name, bounds in (("title", TITLE_CHARACTERS), ("briefText", BRIEF_CHARACTERS)):
        assert (brief[name]["minLength"], brief[name]["maxLength"]) == bounds
    (key,) = DOCUMENT["paths"]["/briefs"]["post"]["parameters"]
    assert key["schema"]["maxLength"] == KEY_CHARACTERS
    states = DOCUMENT["components"]["schemas"]["StateFields"]["properties"]["status"]["enum"]
    assert {*states, LIFECYCLE.initial} == {*LIFECYCLE.states}


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "application/json", b'{"status":"done","progress":1}'),
        (200, "application/json", b'{"status":"pending","progress":1,"currentStep":""}'),
        (200, "application/json", b'{"status":"done","progress":65,"currentStep":""}'),
        (200, "application/json", b'{"status":"done","progress":1,"currentStep":"","jobId":"x"}'),
        (200, "text/html", b""),
        (418, "application/json", b"{}"),
        (404, "application/json", b'{"error":"Job not found"}'),
        (404, "application/json; charset=utf-8", b'{"code":"WHAT","error":"Job not found"}'),
    ],
)
def test_what_is_not_as_described_is_found(status: int, kind: str, body: bytes) -> None:
    """The check that all tests rely on can fail."""
    assert complaints("GET", "/projects/prj_1/status", status, kind, body)


async def test_the_document_is_served_with_where_it_is() -> None:
    """To anybody; it is the API's to describe itself."""
    async with open_app() as app:
        answer = await ask(app, "/openapi.json", token=None)
        assert answer.json() == DOCUMENT | {"servers": [{"url": "http://127.0.0.1:8000"}]}


async def test_the_server_says_that_it_is_there() -> None:
    """To anybody."""
    async with open_app() as app:
        answer = await ask(app, "/health", token=None)
        assert (answer.status, answer.body) == (200, b'{"status":"ok"}')


async def test_events_are_states_as_described() -> None:
    """Each one of a whole project, from its first to its last."""
    state = schema_at("components", "schemas", "State")
    async with open_app() as app:
        for event in await watch(app, await submit(app)):
            assert list(state.iter_errors(event)) == []
            assert json.dumps(event)
