"""The real work, from two uploaded drawings to an overlay, and what can go wrong with it."""

from __future__ import annotations

import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import trio
from PIL import Image

from examples.bedrock import jobs as jobs_module
from examples.bedrock.overlay import Comparison
from sselib import MemoryLog

from .drawings import DOOR, WINDOW, bomb, plan, png
from .service import DEMO, HOST, PATIENCE, Service, Work, hold_to_schema, open_service, places

OLD = png(plan(DOOR))
NEW = png(plan(WINDOW, at=(5, 3)))


async def failure(service: Service, old: bytes, new: bytes) -> str:
    """Compare two files, and return the message of the job, which fails."""
    job_id = await service.compare(await service.upload(old), await service.upload(new))
    job = await service.finished(job_id)
    assert (job["status"], job["results"]) == ("FAILED", None)
    assert job["error"]["code"] == "PROCESSING_ERROR"
    assert not any(id.startswith("ovl_") for id in await service.stored())
    return str(job["error"]["message"])


async def test_two_drawings_are_compared(service: Service) -> None:
    """Progress is told for each row of tiles that is done, and the results are what was drawn."""
    old, new = await service.upload(OLD), await service.upload(NEW)
    job_id = await service.compare(old, new)
    async with service.stream(job_id) as stream:
        with trio.fail_after(PATIENCE):
            events = [event async for event in stream]
    for event in events:
        hold_to_schema({"$ref": "#/components/schemas/JobEvent"}, event.json())
    assert [event.event for event in events[1:-1] if event.event != "progress"] in (
        [],  # it ran when the client came,
        ["status"],  # or began to
    )
    results = events[-1].json()["results"]
    job = await service.finished(job_id)
    assert job["results"] == results
    assert [step["status"] for step in job["events"]] == ["PENDING", "RUNNING", "COMPLETED"]
    assert job["payload"] == {"type": "Block", "old_id": old, "new_id": new}
    assert (job["progress"], job["error"], job["target_id"]) == (1, None, new)
    window, door = results["changes"]
    assert (window["category"], door["category"]) == ("added", "removed")
    left, top, right, bottom = WINDOW
    assert window["bounds"] == {
        "x_min": 5 + left,
        "y_min": 3 + top,
        "x_max": 5 + right + 1,
        "y_max": 3 + bottom + 1,
    }
    assert 0.8 < results["overlay"]["score"] < 1


async def test_progress_is_told_for_each_finished_row(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not before: while a row is being compared, its progress has not been told."""
    may_go = threading.Semaphore(0)
    compare_row = Comparison.compare_row

    def compare_slowly(self: Comparison, row: int) -> None:
        assert may_go.acquire(timeout=PATIENCE)
        compare_row(self, row)

    monkeypatch.setattr(Comparison, "compare_row", compare_slowly)
    old, new = [await service.upload(png(plan(box, size=(400, 384)))) for box in (DOOR, WINDOW)]
    job_id = await service.compare(old, new)
    seen: list[tuple[float, str]] = []
    async with service.stream(job_id) as stream:
        with trio.fail_after(PATIENCE):
            async for event in stream:
                data = event.json()
                if event.event != "progress":
                    continue
                seen.append((data["progress"], data["message"]))
                # Only what was just said lets the next row begin.
                if data["message"] == "Aligning the drawings" or "row" in data["message"]:
                    may_go.release()
    assert seen[-4:] == [
        (1 / 3, "Comparing tile row 1 of 3"),
        (2 / 3, "Comparing tile row 2 of 3"),
        (1, "Comparing tile row 3 of 3"),
        (1, "Writing the overlay images"),
    ]


async def test_an_overlay_has_its_pictures(service: Service) -> None:
    """Its URLs need no key, and are good for nothing else; they end with the overlay."""
    job_id = await service.compare(await service.upload(OLD), await service.upload(NEW))
    results = (await service.finished(job_id))["results"]
    overlay_id = results["overlay"]["overlay_id"]
    overlay = (await service.call("GET", f"/overlays/{overlay_id}")).data
    assert overlay["job_id"] == job_id
    assert overlay["score"] == results["overlay"]["score"]
    assert overlay["changes"] == results["changes"]
    assert overlay["summary"]["changes"] == 2
    assert overlay["summary"]["changed_percent"] == round(100 * (1 - overlay["score"]), 2)
    sizes = set()
    for name in ("uri", "addition_uri", "deletion_uri", "aligned_a_uri", "aligned_b_uri"):
        path = overlay[name].removeprefix(HOST)
        reply = await service.call("GET", path, headers={})
        assert reply.status == 200
        with Image.open(BytesIO(reply.body)) as picture:
            assert picture.format == "PNG"
            sizes.add(picture.size)
        assert (await service.call("GET", path.partition("?")[0])).status == 403
        other = path.replace("overlay.png", "addition.png").replace("aligned_a", "aligned_b")
        if other != path:
            assert (await service.call("GET", other, headers={})).status == 403
    assert sizes == {(405, 303)}
    listed = (await service.call("GET", "/overlays")).data
    assert [each["id"] for each in listed] == [overlay_id]
    assert (await service.call("DELETE", f"/overlays/{overlay_id}")).status == 204
    assert (await service.call("GET", f"/overlays/{overlay_id}")).status == 404
    uri = overlay["uri"].removeprefix(HOST)
    assert (await service.call("GET", uri, headers={})).status == 404


async def test_changes_are_told_if_asked_for(service: Service) -> None:
    """Without ``analyze`` the results are the overlay alone."""
    blocks = [await service.upload(content) for content in (OLD, NEW)]
    body = {"old_id": blocks[0], "new_id": blocks[1], "type": "Block"}
    job_id = (await service.call("POST", "/compare", json=body)).json["job_id"]
    assert list((await service.finished(job_id))["results"]) == ["overlay"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GIF89a" + bytes(100), "not a PNG file"),
        (b"{}", "not a PNG file"),
        (NEW[: len(NEW) // 2], "damaged"),
        (bomb(30_000, 20_000), "30000 x 20000 pixels are more than"),
        (png(plan(size=(800, 600))), "differ too much in size: 400 x 300 and 800 x 600"),
    ],
    ids=["other format", "no picture", "cut off", "bomb", "other size"],
)
async def test_a_drawing_that_cannot_be_compared_fails_the_job(
    service: Service, content: bytes, message: str
) -> None:
    """The event and the job say why, so that whoever uploaded it can do something about it."""
    assert message in await failure(service, OLD, content)


@pytest.mark.parametrize("when", ["before", "while it is read"])
async def test_a_block_that_is_gone_fails_the_job(tmp_path: Path, when: str) -> None:
    """It was there when the job was submitted, and is deleted before its turn or during it."""
    async with open_service(tmp_path, capacity=1) as service:
        blocking = Work()
        await service.submit(blocking)
        old, new = await service.upload(OLD), await service.upload(NEW)
        job_id = await service.compare(old, new)
        file_id = old.replace("blk", "file")
        if when == "before":
            assert (await service.call("DELETE", f"/files/{file_id}")).status == 204
        else:
            file = await service.store.file(file_id)
            assert file is not None
            service.store.content(file).unlink()
        blocking.proceed.set()
        job = await service.finished(job_id)
        assert job["error"]["message"] == f"block {old} is gone"


async def test_a_result_without_room_fails_the_job(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it stays behind."""
    old, new = await service.upload(OLD), await service.upload(NEW)
    monkeypatch.setattr(service.store, "_max_bytes", len(OLD) + len(NEW) + 10)
    job = await service.finished(await service.compare(old, new))
    assert job["error"]["message"] == "the project's storage is full"
    assert len(await service.stored()) == len(places(tmp_path)) == 2


async def test_a_comparison_is_canceled_between_two_steps(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row that is being compared comes to its end, and no other begins; nothing is kept."""
    rows: list[int] = []
    begun, may_go = trio.Event(), threading.Event()
    compare_row = Comparison.compare_row

    def compare_slowly(self: Comparison, row: int) -> None:
        rows.append(row)
        trio.from_thread.run_sync(begun.set)
        assert may_go.wait(PATIENCE)
        compare_row(self, row)

    monkeypatch.setattr(Comparison, "compare_row", compare_slowly)
    job_id = await service.compare(await service.upload(OLD), await service.upload(NEW))
    with trio.fail_after(PATIENCE):
        await begun.wait()
    assert (await service.call("POST", f"/jobs/{job_id}/cancel")).status == 202
    may_go.set()
    job = await service.finished(job_id)
    assert (job["status"], job["results"], job["error"]) == ("CANCELED", None, None)
    assert rows == [0]
    assert len(await service.stored()) == 2


async def test_a_comparison_that_is_canceled_while_it_writes_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that were written are gone."""
    begun, may_go = trio.Event(), threading.Event()
    save = jobs_module._save  # noqa: SLF001 # the step to stop in

    def save_slowly(*arguments: Any) -> None:
        save(*arguments)
        trio.from_thread.run_sync(begun.set)
        assert may_go.wait(PATIENCE)

    monkeypatch.setattr(jobs_module, "_save", save_slowly)
    async with open_service(tmp_path) as service:
        old, new = await service.upload(OLD), await service.upload(NEW)
        job_id = await service.compare(old, new)
        with trio.fail_after(PATIENCE):
            await begun.wait()
        assert len(places(tmp_path)) == 3
        await service.call("POST", f"/jobs/{job_id}/cancel")
        may_go.set()
        assert (await service.finished(job_id))["status"] == "CANCELED"
        assert len(await service.stored()) == len(places(tmp_path)) == 2


async def test_a_job_survives_its_server_in_the_log(tmp_path: Path) -> None:
    """What was interrupted is told to have failed; what was stored is there."""
    log = MemoryLog()
    async with open_service(tmp_path, log=log) as service:
        old, new = await service.upload(OLD), await service.upload(NEW)
        done = await service.compare(old, new)
        await service.finished(done)
        running = await service.submit()
    async with open_service(tmp_path, log=log) as service:
        assert (await service.finished(done))["status"] == "COMPLETED"
        job = await service.finished(running.id)
        assert (job["status"], job["error"]["code"]) == ("FAILED", "interrupted")
        assert (await service.finished(await service.compare(old, new)))["status"] == "COMPLETED"
        assert len((await service.call("GET", "/overlays", headers=DEMO)).data) == 2
