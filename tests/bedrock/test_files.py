"""Drawings on their way in: announced, uploaded, bounded, deleted."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from examples.bedrock import api as api_module
from examples.bedrock.ids import new_id
from sselib.testing import open_stream

from .service import (
    DEMO,
    DRAWING,
    FILE,
    HOST,
    OTHER,
    Service,
    places,
)


async def test_a_file_is_announced_uploaded_and_becomes_a_block(service: Service) -> None:
    """The URL to upload to needs no key, and works once."""
    reply = await service.call("POST", "/files", json=FILE)
    assert reply.status == 201
    file = reply.data
    assert re.fullmatch(r"file_[0-9A-Z]{26}", file["id"])
    assert (file["status"], file["block_id"], file["size_bytes"]) == ("awaiting_upload", None, None)
    assert file["key"] == f"prj_demo/{file['id']}"
    assert file["upload_url"].startswith(f"{HOST}/uploads/{file['id']}?")
    path = file["upload_url"].removeprefix(HOST)
    uploaded = (await service.call("PUT", path, body=DRAWING, headers={})).data
    assert uploaded["status"] == "uploaded"
    assert uploaded["size_bytes"] == len(DRAWING)
    assert uploaded["block_id"] == file["id"].replace("file", "blk")
    assert (await service.call("GET", f"/files/{file['id']}")).data == uploaded
    again = await service.call("PUT", path, body=b"other", headers={})
    assert (again.status, again.json["code"]) == (409, "CONFLICT")


async def test_an_upload_needs_the_url_as_it_was_given(service: Service) -> None:
    """Without its signature, with another's, or for what is not there any more."""
    files = [(await service.call("POST", "/files", json=FILE)).data for _ in range(2)]
    first, second = (file["upload_url"].removeprefix(HOST) for file in files)
    signature = second.partition("?")[2]
    bare = first.partition("?")[0]
    for path in (bare, f"{bare}?{signature}", first.replace("signature=", "signature=0")):
        reply = await service.call("PUT", path, body=DRAWING, headers=DEMO)
        assert (reply.status, reply.json["code"]) == (403, "FORBIDDEN")
    assert (await service.call("DELETE", f"/files/{files[0]['id']}")).status == 204
    assert (await service.call("PUT", first, body=DRAWING, headers={})).status == 404
    assert (await service.call("PUT", second, body=DRAWING, headers={})).status == 200


async def test_an_upload_url_expires_after_fifteen_minutes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is refused like one that was never signed."""
    file = (await service.call("POST", "/files", json=FILE)).data
    path = file["upload_url"].removeprefix(HOST)

    expires = int(re.findall(r"expires=(\d+)", path)[0])
    assert 895 <= expires - time.time() <= 901
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api_module, "UPLOAD_SECONDS", -1)
        file = (await service.call("POST", "/files", json=FILE)).data
    path = file["upload_url"].removeprefix(HOST)
    assert (await service.call("PUT", path, body=DRAWING, headers={})).status == 403


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"filename": None}, {"filename": ["is required"]}),
        ({"filename": 7}, {"filename": ["must be a string"]}),
        ({"filename": ""}, {"filename": ["must have from 1 to 255 characters"]}),
        ({"filename": "x" * 256}, {"filename": ["must have from 1 to 255 characters"]}),
        ({"content_type": "application/pdf"}, {"content_type": [r"must be image/png"]}),
        (
            {"project_id": None, "content_type": None},
            {"project_id": ["is required"], "content_type": ["is required"]},
        ),
        *(
            ({"filename": name}, {"filename": ["without a path"]})
            for name in ("../../etc/passwd", "/etc/passwd", "..\\x", "a\0b", "a\nb", "a/b.png")
        ),
    ],
)
async def test_wrong_fields_are_named_with_their_rules(
    service: Service, change: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    """All of them at once, as published, and nothing has changed."""
    reply = await service.call("POST", "/files", json=FILE | change)
    assert reply.status == 400
    problem = reply.json
    assert problem["type"] == "https://docs.bedrock.cv/errors/bad-request"
    assert problem["title"] == "Bad Request"
    assert problem["detail"] == "One or more request fields are invalid."
    assert problem["code"] == "VALIDATION_ERROR"
    assert problem["instance"] == "/files"
    assert set(problem["errors"]) == set(errors)
    for name, rules in errors.items():
        assert rules[0] in problem["errors"][name][0]
    assert await service.stored() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 60_000])
async def test_a_body_that_is_no_json_object_is_refused(service: Service, body: bytes) -> None:
    """400, whatever it is."""
    reply = await service.call("POST", "/files", body=body)
    assert (reply.status, reply.json["code"]) == (400, "BAD_REQUEST")


async def test_a_file_in_another_project_is_refused(service: Service) -> None:
    """As if there were no such project."""
    for project_id in ("prj_other", "prj_nobody"):
        reply = await service.call("POST", "/files", json=FILE | {"project_id": project_id})
        assert (reply.status, reply.json["detail"]) == (404, "Project not found.")


async def test_what_belongs_to_another_project_is_not_there(service: Service) -> None:
    """Files, blocks and overlays of others are answered like those that never were."""
    block_id = await service.upload(DRAWING)
    file_id = block_id.replace("blk", "file")
    for some_id in (file_id, new_id("file")):
        for method in ("GET", "DELETE"):
            reply = await service.call(method, f"/files/{some_id}", headers=OTHER)
            assert (reply.status, reply.json["detail"]) == (404, "File not found.")
    own = await service.upload(DRAWING, headers=OTHER)
    for some_id in (block_id, new_id("blk"), file_id):
        body = {"old_id": own, "new_id": some_id, "type": "Block"}
        reply = await service.call("POST", "/compare", json=body, headers=OTHER)
        assert (reply.status, reply.json["detail"]) == (404, f"Block {some_id} not found.")
    job_id = await service.compare(block_id, block_id)
    overlay_id = (await service.finished(job_id))["results"]["overlay"]["overlay_id"]
    for some_id in (overlay_id, new_id("ovl")):
        for method in ("GET", "DELETE"):
            reply = await service.call(method, f"/overlays/{some_id}", headers=OTHER)
            assert (reply.status, reply.json["detail"]) == (404, "Overlay not found.")
    assert (await service.call("GET", "/overlays", headers=OTHER)).data == []
    assert (await service.call("GET", f"/overlays/{overlay_id}")).status == 200


@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "undeclared"])
async def test_uploads_are_bounded(
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_declared: bool,  # noqa: FBT001 # a parameter of the test
) -> None:
    """413 before the first byte if the size is declared, at the limit if not; nothing is kept."""
    monkeypatch.setattr(api_module, "MAX_UPLOAD_BYTES", 1000)
    file = (await service.call("POST", "/files", json=FILE)).data
    path = file["upload_url"].removeprefix(HOST)
    headers = {"content-length": "1001"} if is_declared else {}
    body = b"x" * (1 if is_declared else 1001)
    reply = await service.call("PUT", path, body=body, headers=headers)
    assert (reply.status, reply.json["code"]) == (413, "TOO_LARGE")
    assert places(tmp_path) == []
    assert (await service.call("PUT", path, body=b"x" * 1000, headers={})).status == 200


async def test_json_bodies_are_bounded(service: Service) -> None:
    """64 KiB, declared or not, and a number without end is no number."""
    for headers in ({}, {"content-length": "65537"}, {"content-length": "9" * 5000}):
        body = b" " * 65_537 if not headers else b""
        reply = await service.call("POST", "/files", body=body, headers=DEMO | headers)
        assert (reply.status, reply.json["code"]) == (413, "TOO_LARGE")


async def test_a_client_that_leaves_while_it_uploads_leaves_nothing(
    service: Service, tmp_path: Path
) -> None:
    """Not even an error in the server's log."""
    file = (await service.call("POST", "/files", json=FILE)).data
    path = file["upload_url"].removeprefix(HOST)

    async def cut_off(scope: Any, receive: Any, send: Any) -> None:
        messages = [
            {"type": "http.request", "body": DRAWING[:100], "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive_cut_off() -> Any:
            await trio.lowlevel.checkpoint()
            return messages.pop(0)

        await service.app(scope, receive_cut_off, send)

    async with open_stream(cut_off, path, method="PUT") as stream:
        assert stream.status == 400
        await stream.read_body()
        await stream.wait_ended()
    assert places(tmp_path) == []
    assert (await service.call("PUT", path, body=DRAWING, headers={})).status == 200


async def test_a_full_project_can_make_room(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """507 when something is announced or uploaded, until something was deleted."""
    block_id = await service.upload(DRAWING)
    file = (await service.call("POST", "/files", json=FILE)).data
    path = file["upload_url"].removeprefix(HOST)
    monkeypatch.setattr(service.store, "_max_bytes", len(DRAWING) + 1)
    reply = await service.call("PUT", path, body=DRAWING, headers={})
    assert (reply.status, reply.json["code"]) == (507, "STORAGE_FULL")
    monkeypatch.setattr(service.store, "_max_objects", 2)
    assert (await service.call("POST", "/files", json=FILE)).status == 507
    file_id = block_id.replace("blk", "file")
    assert (await service.call("DELETE", f"/files/{file_id}")).status == 204
    assert (await service.call("GET", f"/files/{file_id}")).status == 404
    assert (await service.call("PUT", path, body=DRAWING, headers={})).status == 200
    assert (await service.call("POST", "/files", json=FILE)).status == 201
