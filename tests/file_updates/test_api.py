"""The endpoints: what they answer, and what they make of what nobody should ask."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from examples.file_updates.api import MAX_BODY
from sselib.testing import open_stream

from .conftest import Client, using

EVERY_PATH = [
    ("GET", "/api/status"),
    ("GET", "/api/watch/jobs"),
    ("GET", "/api/queue/status"),
    ("GET", "/api/queue/items"),
    ("POST", "/api/queue/pause"),
    ("POST", "/api/queue/resume"),
    ("GET", "/api/queue/scheduler"),
    ("GET", "/api/files/stats"),
]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(("method", "path"), EVERY_PATH)
async def test_each_path_has_a_slash_or_none(method: str, path: str, slash: str) -> None:
    """Both are answered, and neither is sent elsewhere."""
    async with using() as client:
        status, _ = await client.ask(method, path + slash)
        assert status == 200


# ---- watches -------------------------------------------------------------------------------------


async def test_a_directory_is_watched(root: Path) -> None:
    """The documented answers to the first request, to the same again, and to one below."""
    below = root / "below"
    below.mkdir()
    async with using() as client:
        assert await client.ask("POST", "/api/watch", {"directory_path": str(root)}) == (
            201,
            {
                "success": True,
                "message": f"Started watching directory: {root}",
                "files_indexed": 0,
            },
        )
        assert await client.ask("POST", "/api/watch/", {"directory_path": str(root)}) == (
            400,
            {
                "success": False,
                "message": f"Directory '{root}' is already being watched",
                "files_indexed": 0,
            },
        )
        status, value = await client.ask("POST", "/api/watch/", {"directory_path": str(below)})
        assert status == 400
        assert "already being watched" in value["message"]
        assert await client.get("/api/status/") == {"jobs": 1}


async def test_watches_are_listed_and_removed(root: Path) -> None:
    """With all that is documented of them; the second removal is a 404."""
    async with using() as client:
        body = {"directory_path": str(root), "recursive": False}
        await client.ask("POST", "/api/watch/", body)
        said = await client.until("status_update")
        assert ("watch_started", {"path": str(root), "recursive": False}) in said
        (job,) = (await client.get("/api/watch/jobs"))["jobs"]
        times = [job.pop(name) for name in ("created_at", "last_scan", "updated_at")]
        assert times == sorted(times)
        id = job.pop("id")
        assert job == {
            "path": str(root),
            "is_active": True,
            "recursive": False,
            "file_pattern": None,
        }
        assert await client.ask("DELETE", f"/api/watch/jobs/{id}") == (
            200,
            {"success": True, "message": "Stopped watching directory", "job_id": id},
        )
        assert await client.ask("DELETE", f"/api/watch/jobs/{id}/") == (
            404,
            {"success": False, "message": f"Watch job '{id}' not found", "job_id": id},
        )


@pytest.mark.parametrize(
    "path",
    [
        "/does/not/exist",
        "/etc/passwd",
        "/proc/self/mem",
        "\0",
        "/tmp/\0",
        "\ud800",
        "/x" * 5000,
        "../../../nowhere",
        "~",
    ],
)
async def test_what_cannot_be_watched_is_refused(path: str) -> None:
    """A 400 that says why, whatever the path is, and nothing is watched."""
    async with using() as client:
        status, value = await client.ask("POST", "/api/watch/", {"directory_path": path})
        assert (status, value["success"], value["files_indexed"]) == (400, False, 0)
        assert await client.get("/api/status") == {"jobs": 0}


# ---- the queue -----------------------------------------------------------------------------------


async def test_the_queue_is_shown(root: Path) -> None:
    """Its counts, and its items with all that is documented of them."""
    async with using(cooldown=60) as client:
        await client.watch(root)
        (root / "a.txt").write_text("x")
        await client.until("queue_item_added")
        (root / "a.txt").rename(root / "b.txt")
        (_, (_, told)) = await client.until("queue_item_updated")
        assert await client.get("/api/queue/status") == {
            "paused": False,
            "manually_paused": False,
            "scheduler_paused": False,
            "total_items": 1,
            "cooling_down": 1,
            "ready": 0,
            "processing": 0,
        }
        (item,) = (await client.get("/api/queue/items"))["items"]
        assert 59 < item["cooldown_expires_at"] - item["enqueued_at"] < 70
        assert {name: item[name] for name in told} == told
        assert item["dest_path"] == str(root / "b.txt")
        assert item["retry_count"] == 0
        assert (await client.get("/api/queue/items?limit=0"))["items"] == []
        for wrong in ("-1", "1001", "9" * 5000, "²", "x", ""):
            status, value = await client.ask("GET", f"/api/queue/items?limit={quote(wrong)}")
            assert (status, value["error"]) == (
                400,
                f"limit is a number from 0 to 1000, not {wrong!r}",
            )


async def test_a_long_queue_is_shown_in_part() -> None:
    """What is processed, then what is due first; so that no answer holds up the others."""
    async with using() as client:
        await client.ask("POST", "/api/queue/pause")
        queue = client.app._backend.queue  # noqa: SLF001 # to fill it without so many files
        for number in range(1500):
            queue.change(f"/{number}", "index", 1500 - number)
        queue.take(math.inf)
        for given, count in (("", 1000), ("?limit=3", 3), ("?limit=1", 1)):
            items = (await client.get(f"/api/queue/items{given}"))["items"]
            assert [item["file_path"] for item in items] == [f"/{1499 - n}" for n in range(count)]
            assert [item["status"] for item in items] == ["processing", *["ready"] * (count - 1)]


async def test_an_item_is_taken_out(root: Path) -> None:
    """It is announced with its last status; the second time it is a 404."""
    async with using(cooldown=60) as client:
        await client.watch(root)
        (root / "a.txt").write_text("x")
        (_, (_, item)) = await client.until("queue_item_added")
        path = f"/api/queue/items/{item['id']}"
        assert await client.ask("DELETE", path) == (
            200,
            {"success": True, "message": "Queue item removed"},
        )
        assert await client.update() == ("queue_item_removed", item)
        assert await client.ask("DELETE", path) == (
            404,
            {"success": False, "message": f"Queue item '{item['id']}' not found"},
        )


async def test_an_item_in_process_is_not_taken_out(root: Path) -> None:
    """It is a 409, and the item goes on."""
    async with using() as client:
        await client.watch(root)
        (root / "a.txt").write_text("x")
        for _ in range(2):
            await client.update()
        backend = client.app._backend  # noqa: SLF001 # to be in the middle of it
        await client.until("queue_item_completed")
        step = backend.queue.change("/a", "index", 0)[0]
        backend.queue.take(backend.now())
        status, value = await client.ask("DELETE", f"/api/queue/items/{step.item.id}")
        assert (status, value["success"]) == (409, False)
        backend.queue.complete(step.item, 0)


async def test_pausing_and_resuming_is_answered_as_documented() -> None:
    """Each time, also when nothing changes."""
    async with using() as client:
        for _ in range(2):
            assert await client.ask("POST", "/api/queue/pause") == (
                200,
                {"success": True, "message": "Queue paused"},
            )
        for _ in range(2):
            assert await client.ask("POST", "/api/queue/resume/") == (
                200,
                {"success": True, "message": "Queue resumed"},
            )
        assert [await client.update() for _ in range(2)] == [
            ("queue_paused", {"source": "manual"}),
            ("queue_resumed", {"source": "manual"}),
        ]


async def test_the_scheduler_is_shown_and_set() -> None:
    """What was set is shown, with whether its conditions are met; what is wrong changes nothing."""
    async with using() as client:
        before = await client.get("/api/queue/scheduler")
        assert before == {
            "enabled": False,
            "combine_mode": "ALL",
            "check_interval_seconds": 30,
            "rules": [],
            "conditions_met": True,
        }
        status, value = await client.ask("PUT", "/api/queue/scheduler", {"enabled": "yes"})
        assert status == 400
        assert "'yes'" in value["error"]
        assert await client.get("/api/queue/scheduler") == before
        rule = {"rule": "queue_size", "operator": "lt", "value": 1, "enabled": True}
        schedule = {"enabled": True, "combine_mode": "ANY", "rules": [rule]}
        status, after = await client.ask("PUT", "/api/queue/scheduler", schedule)
        assert (status, after) == (200, before | schedule | {"conditions_met": True})


# ---- search --------------------------------------------------------------------------------------


async def test_a_search_has_its_limits(root: Path) -> None:
    """A directory, which is outside of what is watched as any other, and a number of results."""
    (root / "d").mkdir()
    async with using() as client:
        await client.watch(root)
        for name in ("a.txt", "d/b.txt"):
            (root / name).write_text("A zebra.")
        await client.completed(2)
        assert len(await client.search("zebra")) == 2
        assert len(await client.search("zebra", limit=1)) == 1
        assert await client.search("zebra", directory=f"{root}/d/") == [f"{root}/d/b.txt"]
        assert await client.search("zebra", directory=f"{root}/d/../d") == [f"{root}/d/b.txt"]
        for outside in ("/etc", "/", f"{root}-2", f"{root}/d/b"):
            expected = 2 if outside == "/" else 0
            assert len(await client.search("zebra", directory=outside)) == expected


# ---- what nobody should ask ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/api/watch", {}, "directory_path"),
        ("/api/watch", {"directory_path": ""}, "not empty"),
        ("/api/watch", {"directory_path": 5}, "not 5"),
        ("/api/watch", {"directory_path": "/tmp", "recursive": 1}, "recursive"),
        ("/api/watch", {"directory_path": "/tmp", "pattern": "*"}, "pattern"),
        ("/api/watch", [], "not a JSON object"),
        ("/api/search", {}, "query"),
        ("/api/search", {"query": " "}, "query"),
        ("/api/search", {"query": "x" * 1001}, "1000"),
        ("/api/search", {"query": "x", "limit": 0}, "not 0"),
        ("/api/search", {"query": "x", "limit": True}, "not True"),
        ("/api/search", {"query": "x", "limit": 1e3}, "1000.0"),
        ("/api/search", {"query": "x", "directory": 1}, "directory"),
        ("/api/search", {"query": "x", "directory": "a\0"}, "no path"),
        ("/api/search", {"query": "x", "directory": "\ud800"}, "no path"),
    ],
)
async def test_a_wrong_body_is_refused(path: str, body: Any, message: str) -> None:
    """A 400 with the value and the rule."""
    async with using() as client:
        status, value = await client.ask("POST", path, body)
        assert status == 400
        assert message in value["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 50_000, 400),
        (b" " * (MAX_BODY + 1), 413),
    ],
)
async def test_a_body_that_is_no_json(body: bytes, status: int) -> None:
    """It is refused, and one that is too large is not read to its end."""
    async with using() as client:
        headers = {"content-type": "application/json"}
        async with open_stream(
            client.app, "/api/search", method="POST", body=body, headers=headers
        ) as answer:
            assert answer.status == status
            assert "error" in json.loads(await answer.read_body())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/api/watch/jobs/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/..%2f..%2fapp.py", 404),
        ("GET", "/%00", 404),
        ("DELETE", "/api/watch/jobs/%ff%00", 404),
        ("DELETE", "/api/queue/items/%22;DROP%20TABLE%20queue", 404),
        ("PUT", "/api/search", 405),
        ("POST", "/api/updates", 405),
    ],
)
async def test_a_hostile_path_is_an_error(method: str, path: str, status: int) -> None:
    """In JSON, and nothing else comes of it."""
    async with using() as client:
        found, value = await client.ask(method, path)
        assert found == status
        assert {"error"} <= value.keys() or value["success"] is False


async def ask_from(client: Client, method: str, path: str, headers: dict[str, str]) -> int:
    async with open_stream(client.app, path, method=method, headers=headers) as answer:
        await answer.read_body()
        await answer.wait_ended()
        return answer.status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://evil.example", 400),
        ("http://127.0.0.1:8001", 400),
        ("http://127.0.0.1:8000.evil.example", 400),
        ("null", 400),
        ("http://[", 400),
    ],
)
async def test_the_page_of_another_site_changes_nothing(origin: str, status: int) -> None:
    """A browser says whose page asks; only our own may."""
    async with using() as client:
        assert await ask_from(client, "POST", "/api/queue/pause", {"origin": origin}) == status
        paused = (await client.get("/api/queue/status"))["paused"]
        assert paused == (status == 200)


async def test_a_form_of_another_site_changes_nothing(root: Path) -> None:
    """What a form can send is no JSON."""
    async with using() as client:
        headers = {"content-type": "text/plain"}
        body = json.dumps({"directory_path": str(root)}).encode()
        async with open_stream(
            client.app, "/api/watch", method="POST", body=body, headers=headers
        ) as answer:
            assert answer.status == 415
            await answer.read_body()
        assert await client.get("/api/status") == {"jobs": 0}


async def test_the_application_may_be_mounted_below_a_path() -> None:
    """As one of several: the API, the stream and the page answer there."""
    async with using() as client:
        for path in ("/api/status", "/", "/page.js"):
            async with open_stream(client.app, f"/files{path}", root_path="/files") as answer:
                assert answer.status == 200
                await answer.read_body()
                await answer.wait_ended()
        async with open_stream(client.app, "/files/api/updates", root_path="/files") as stream:
            assert stream.status == 200
