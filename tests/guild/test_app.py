"""The HTTP API in memory: who gets in, what is taken, and what the stream does."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount
from trio.testing import MockClock

from examples.guild import app as app_module
from examples.guild.app import Api, open_app, sweep
from examples.guild.projects import PROJECT, events_of
from examples.guild.submission import BODY_BYTES
from sselib import EventLog, MemoryLog, StreamPolicy, open_sqlite_log, open_topics
from sselib.jobs import JobRunner, Outcome, RunningJob, open_job_runner
from sselib.stream import ASGIApp, Message, Scope
from sselib.testing import ReceivedStream, advance, open_stream

from .asking import BRIEF, ask, submit, watch

HEADERS = {"authorization": "Bearer acc_demo"}
CONNECTED = b": connected\n\n"
TOKENS = {"acc_demo": "demo", "acc_other": "other"}
DONE = {"status": "done", "progress": 1, "currentStep": "Complete"}


@attrs.define(eq=False)
class Stage:
    """The API over a runner of which a test decides what its one project does, and when.

    The project is `prj_1`, of the account of `acc_demo`.
    """

    app: ASGIApp
    runner: JobRunner
    job: RunningJob | None = None
    _over: trio.Event = attrs.field(factory=trio.Event)

    async def begin(self) -> RunningJob:
        """Begin the project, and give what its work speaks through."""
        begun = trio.Event()

        async def work(job: RunningJob) -> Outcome:
            self.job = job
            begun.set()
            await self._over.wait()
            return Outcome(message="Complete")

        details = {"account": "demo", "title": "Crumb", "slug": "crumb"}
        await self.runner.submit(work, kind=PROJECT, job_id="prj_1", details=details)
        await begun.wait()
        assert self.job is not None
        return self.job

    async def execute(self) -> RunningJob:
        """Begin the project and bring it to one half."""
        job = await self.begin()
        await job.move("parsing", progress=0.1, message="Analyzing brief")
        await job.move("decomposing", progress=0.2, message="Breaking into tasks")
        await job.move("executing", progress=0.5, message="Mason building site")
        return job

    async def finish(self) -> None:
        self._over.set()
        await self.runner.wait_finished("prj_1")

    def subscribers(self) -> int:
        return self.runner.channel("prj_1", events_of).statistics().subscribers


@asynccontextmanager
async def staged(folder: Path, max_jobs: int = 100) -> AsyncIterator[Stage]:
    async with (
        open_topics(MemoryLog()) as topics,
        open_job_runner(topics, name="guild", kinds=[PROJECT], max_jobs=max_jobs) as runner,
    ):
        policy = StreamPolicy(ids="none")
        api = Api(runner, folder, folder, TOKENS, policy, public_url=None)
        yield Stage(api.routes(), runner)


def streaming(app: ASGIApp, **options: Any) -> Any:
    return open_stream(app, "/projects/prj_1/sse", **{"headers": HEADERS, **options})


async def rest(stream: ReceivedStream) -> bytes:
    with trio.fail_after(20):
        return await stream.read_body()


# ---- the stream ----------------------------------------------------------------------------------


async def test_the_stream_is_as_documented(tmp_path: Path) -> None:
    """Byte for byte what the documentation shows, a comment before it, and its end after it."""
    async with staged(tmp_path) as stage:
        job = await stage.begin()
        async with streaming(stage.app) as stream:
            assert stream.status == 200
            assert stream.headers["content-type"] == "text/event-stream"
            assert "no-cache" in stream.headers["cache-control"]
            assert "content-length" not in stream.headers
            assert await stream.receive_block() == CONNECTED
            await job.move("parsing", progress=0.1, message="Analyzing brief")
            body = await stream.receive_block()
            await job.move("decomposing", progress=0.2, message="Breaking into tasks")
            body += await stream.receive_block()
            await job.move("executing", progress=0.5, message="Mason building site")
            body += await stream.receive_block()
            await stage.finish()
            body += await rest(stream)
            await stream.wait_ended()
        assert body == (
            b'data: {"status":"parsing","progress":0.1,"currentStep":"Analyzing brief"}\n\n'
            b'data: {"status":"decomposing","progress":0.2,"currentStep":"Breaking into tasks"}\n\n'
            b'data: {"status":"executing","progress":0.5,"currentStep":"Mason building site"}\n\n'
            b'data: {"status":"done","progress":1,"currentStep":"Complete"}\n\n'
        )


async def test_every_connection_begins_with_the_present_state(tmp_path: Path) -> None:
    """Once, whatever came before it, whatever id a client brings, and for each client."""
    async with staged(tmp_path) as stage:
        job = await stage.execute()
        await job.progress(0.8, "QA checking site")
        now = b'data: {"status":"executing","progress":0.8,"currentStep":"QA checking site"}\n\n'
        headers = HEADERS | {"last-event-id": "x-1-1"}
        async with streaming(stage.app) as one, streaming(stage.app, headers=headers) as two:
            assert one.unread == two.unread == CONNECTED + now
            await stage.finish()
            assert (await rest(one)).count(b"data: ") == (await rest(two)).count(b"data: ") == 2


async def test_a_finished_project_says_its_end_and_ends(tmp_path: Path) -> None:
    """Also to who never saw it running, as often as it is asked."""
    async with staged(tmp_path) as stage:
        await stage.execute()
        await stage.finish()
        for _ in range(2):
            async with streaming(stage.app) as stream:
                assert await rest(stream) == (
                    CONNECTED + b'data: {"status":"done","progress":1,"currentStep":"Complete"}\n\n'
                )


async def test_parts_of_a_project_are_not_on_its_stream(tmp_path: Path) -> None:
    """Tasks are for who asks for the project."""
    async with staged(tmp_path) as stage:
        job = await stage.execute()
        async with streaming(stage.app) as stream:
            before = stream.unread
            await job.update("task_1", "running")
            await trio.testing.wait_all_tasks_blocked()
            assert stream.unread == before


async def test_a_client_that_leaves_frees_its_stream_and_not_the_project(tmp_path: Path) -> None:
    """The stream's task ends at once, and the project goes on to its end."""
    async with staged(tmp_path) as stage:
        job = await stage.execute()
        async with streaming(stage.app) as stream:
            assert stage.subscribers() == 1
            stream.disconnect()
            await stream.wait_ended()
            assert stage.subscribers() == 0
        await job.progress(0.8, "QA checking site")
        await stage.finish()
        answer = await ask(stage.app, "/projects/prj_1/status")
        assert answer.json() == DONE


async def test_a_slow_client_is_given_the_newest_state_and_always_the_last(tmp_path: Path) -> None:
    """What it had no time for is skipped; nobody waits for it."""
    async with staged(tmp_path) as stage:
        job = await stage.execute()
        async with streaming(stage.app, window=1) as stream:
            for number in range(51, 100):
                await job.progress(number / 100, "Mason building site")
            await stage.finish()
            states = [event.json() async for event in stream]
        assert len(states) < 5
        assert states[-1] == DONE


async def test_a_comment_comes_after_fifteen_seconds_without_an_event(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """An event begins the fifteen seconds anew."""
    async with staged(tmp_path) as stage:
        job = await stage.execute()
        async with streaming(stage.app) as stream:
            assert await stream.receive_block() == CONNECTED
            await stream.receive()
            await advance(14)
            await job.progress(0.6, "Mason building site")
            assert (await stream.receive()).json()["progress"] == 0.6
            await advance(14.9)
            assert stream.unread == b""
            await advance(0.1)
            assert stream.unread == b": keepalive\n\n"


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the projects of this test begin, and go no further."""

    async def work(job: RunningJob, **_: object) -> None:
        await job.move("parsing", progress=0.1, message="Analyzing brief")
        await trio.sleep_forever()

    monkeypatch.setattr(app_module, "build_site", work)


@pytest.mark.parametrize(("options", "seconds"), [({}, 15), ({"heartbeat": 5}, 5)])
@pytest.mark.usefixtures("endless")
async def test_a_stream_lasts_as_long_as_its_project(
    mock_clock: MockClock, options: dict[str, Any], seconds: float
) -> None:
    """It has no age at which it ends, whatever that of others is; comments come all the time."""
    async with open_app(**options) as app:
        id = await submit(app)
        async with open_stream(app, f"/projects/{id}/sse", headers=HEADERS) as stream:
            assert await stream.receive_block() == CONNECTED
            assert (await stream.receive()).json()["status"] == "parsing"
            for _ in range(25):
                await advance(seconds - 0.1)
                assert stream.unread == b""
                await advance(0.1)
                assert await stream.receive_block() == b": keepalive\n\n"


@pytest.mark.usefixtures("endless")
async def test_as_many_projects_are_held_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the application as it is opened."""
    monkeypatch.setattr(app_module, "MAX_PROJECTS", 1)
    async with open_app() as app:
        await submit(app)
        body = {"title": "Crumb", "briefText": BRIEF}
        assert (await ask(app, "/briefs", method="POST", body=body)).status == 429


async def test_the_stream_needs_no_accept_header(tmp_path: Path) -> None:
    """One of the documented clients sends none."""
    async with staged(tmp_path) as stage:
        await stage.execute()
        async with streaming(stage.app, headers=HEADERS | {"accept": None}) as stream:
            assert stream.status == 200


async def test_a_browser_can_be_stopped_by_the_last_id(tmp_path: Path) -> None:
    """As an option: the last event says an id, and who comes back with it is answered 204."""
    async with open_app(stop_at_end=True) as app:
        id = await submit(app)
        await watch(app, id)
        async with open_stream(app, f"/projects/{id}/sse", headers=HEADERS) as stream:
            assert (await stream.receive()).json() == DONE
            last = stream.last_event_id
            assert last
        headers = HEADERS | {"last-event-id": last}
        answer = await ask(app, f"/projects/{id}/sse", headers=headers)
        assert (answer.status, answer.body) == (204, b"")


# ---- projects, whole -----------------------------------------------------------------------------


async def test_a_brief_becomes_a_site() -> None:
    """Submitted, watched to its end, asked for, and looked at."""
    async with open_app() as app:
        body = {"title": "Crumb & Co", "briefText": BRIEF}
        answer = await ask(app, "/briefs", method="POST", body=body)
        assert answer.status == 201
        submitted = answer.json()
        id = submitted["projectId"]
        assert submitted == {
            "jobId": id,
            "projectId": id,
            "estimatedPriceCents": None,
            "status": "pending",
            "sseUrl": f"http://127.0.0.1:8000/projects/{id}/sse",
        }
        assert (await watch(app, id))[-1] == DONE
        assert (await ask(app, f"/projects/{id}/status")).json() == DONE
        project = (await ask(app, f"/projects/{id}")).json()
        slug = project["siteUrl"].split("/")[-2]
        assert project["siteUrl"] == f"http://127.0.0.1:8000/sites/{slug}/"
        for path in ("", "index.html"):
            site = await ask(app, f"/sites/{slug}/{path}", token=None)
            assert site.status == 200
            assert b"<h1>Crumb &amp; Co</h1>" in site.body
            assert "sandbox" in site.headers["content-security-policy"]
            assert site.headers["x-content-type-options"] == "nosniff"
        for file in project["deliverables"]:
            found = await ask(app, f"/sites/{slug}/{file['filename']}", token=None)
            assert len(found.body) == file["fileSizeBytes"]


async def test_a_failed_project_says_why_and_has_no_site(tmp_path: Path) -> None:
    """On its stream, when asked, and nowhere is there anything to look at."""
    async with open_app(data=tmp_path) as app:
        id = await submit(app, "See [our plans](#plans).")
        reason = "index.html: the link '#plans' leads nowhere"
        failed = {"status": "failed", "progress": 0.8, "currentStep": f"Failed: {reason}"}
        assert (await watch(app, id))[-1] == failed
        assert await watch(app, id) == [failed]
        project = (await ask(app, f"/projects/{id}")).json()
        assert project["errorMessage"] == reason
        assert (project["siteUrl"], project["deliverables"]) == (None, [])
        assert list((tmp_path / "sites").iterdir()) == []


async def test_two_hundred_projects_at_once() -> None:
    """Each comes to its end, each with a site of its own."""
    async with open_app() as app:
        ids: list[str] = []
        ended: list[str] = []

        async def one(number: int) -> None:
            id = await submit(app, title=f"Site {number}")
            ids.append(id)
            ended.append((await watch(app, id))[-1]["status"])

        with trio.fail_after(50):
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(one, number)
        assert ended == ["done"] * 200
        projects = (await ask(app, "/projects")).json()["projects"]
        assert {project["id"] for project in projects} == set(ids)
        assert len({project["siteUrl"] for project in projects}) == 200
        created = [project["createdAt"] for project in projects]
        assert created == sorted(created, reverse=True)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_projects_outlive_the_server_that_ran_them(tmp_path: Path, kind: str) -> None:
    """On a log that does: what was done is there, and what was not is said to be interrupted."""
    memory = MemoryLog()

    def open_log() -> AbstractAsyncContextManager[EventLog]:
        return nullcontext(memory) if kind == "memory" else open_sqlite_log(tmp_path / "log")

    async with open_log() as log, open_app(log=log, data=tmp_path) as app:
        done = await submit(app)
        await watch(app, done)
        for number in range(20):  # more than can be built before it is left
            last = await submit(app, title=f"Site {number}")
    async with open_log() as log, open_app(log=log, data=tmp_path) as app:
        assert await watch(app, done) == [DONE]
        site = (await ask(app, f"/projects/{done}")).json()["siteUrl"]
        assert (await ask(app, site.partition("8000")[2], token=None)).status == 200
        (state,) = await watch(app, last)
        reason = "interrupted: the server stopped before it was done"
        assert (state["status"], state["currentStep"]) == ("failed", f"Failed: {reason}")


async def test_sites_of_forgotten_projects_are_removed(tmp_path: Path) -> None:
    """And what a killed process was building; what is known or young stays."""
    sites, scratch = tmp_path / "sites", tmp_path / "scratch"
    kept = sites / "crumb"
    gone = sites / "crumb-0123456789abcdef"
    for folder in (kept, gone, sites / "lost+found", scratch / "old", scratch / "young"):
        folder.mkdir(parents=True)
        (folder / "index.html").touch()
    os.utime(scratch / "old", (0, 0))
    async with staged(tmp_path) as stage:
        await stage.execute()
        await sweep(stage.runner, sites, scratch)
    assert list(sites.iterdir()) == [kept]
    assert list(scratch.iterdir()) == [scratch / "young"]


async def test_the_folders_are_kept_swept(tmp_path: Path) -> None:
    """From the beginning."""
    forgotten = tmp_path / "sites" / "crumb-1"
    forgotten.mkdir(parents=True)
    async with open_app(data=tmp_path) as app:
        id = await submit(app)
        await watch(app, id)
        with trio.fail_after(20):
            while forgotten.exists():
                await ask(app, "/health")


# ---- who may ask ---------------------------------------------------------------------------------


PATHS = ["/projects", "/projects/{id}", "/projects/{id}/status", "/projects/{id}/sse"]


@pytest.mark.parametrize("path", [*PATHS, "/briefs"])
@pytest.mark.parametrize(
    ("authorization", "code", "error"),
    [
        (None, "AUTH_REQUIRED", "Authentication required"),
        ("Bearer ", "AUTH_REQUIRED", "Authentication required"),
        ("Basic YTpi", "AUTH_REQUIRED", "Authentication required"),
        ("acc_demo", "AUTH_REQUIRED", "Authentication required"),
        ("Bearer acc_nobody", "AUTH_INVALID_TOKEN", "Invalid or expired token"),
        ("Bearer demo", "AUTH_INVALID_TOKEN", "Invalid or expired token"),
    ],
)
async def test_without_a_token_nothing_is_answered(
    tmp_path: Path, path: str, authorization: str | None, code: str, error: str
) -> None:
    """401 in the same words, whether there is such a project or not."""
    async with staged(tmp_path) as stage:
        await stage.execute()
        method = "POST" if path == "/briefs" else "GET"
        headers = {} if authorization is None else {"authorization": authorization}
        for id in ("prj_1", "prj_2"):
            answer = await ask(
                stage.app, path.format(id=id), method=method, token=None, headers=headers
            )
            assert answer.status == 401
            assert answer.json() == {"code": code, "error": error}
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization", ["Bearer acc_demo", "bearer acc_demo", "BEARER  acc_demo"]
)
async def test_a_token_lets_in(tmp_path: Path, authorization: str) -> None:
    """The scheme's case does not matter."""
    async with staged(tmp_path) as stage:
        headers = {"authorization": authorization}
        assert (await ask(stage.app, "/projects", token=None, headers=headers)).status == 200


async def test_a_token_in_the_query_lets_nobody_in(tmp_path: Path) -> None:
    """It would stand in logs."""
    async with staged(tmp_path) as stage:
        await stage.execute()
        answer = await ask(stage.app, "/projects/prj_1/sse?token=acc_demo", token=None)
        assert answer.status == 401


@pytest.mark.parametrize("path", PATHS[1:])
async def test_a_project_of_somebody_else_is_not_there(tmp_path: Path, path: str) -> None:
    """The answer is that to an unknown id, to the byte."""
    async with staged(tmp_path) as stage:
        await stage.execute()
        foreign = await ask(stage.app, path.format(id="prj_1"), token="acc_other")
        unknown = await ask(stage.app, path.format(id="prj_2"), token="acc_other")
        assert foreign.status == 404
        assert foreign.json() == {"code": "JOB_NOT_FOUND", "error": "Job not found"}
        assert foreign == unknown
        assert (await ask(stage.app, "/projects", token="acc_other")).json() == {"projects": []}


# ---- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"1" * 10_000, "the body is not JSON"),
        ([], "the body is not a JSON object"),
        ({}, "title: a string is needed"),
        ({"title": 1, "briefText": BRIEF}, "title: a string is needed"),
        ({"title": "", "briefText": BRIEF}, "title: 1 to 200 characters, not 0"),
        ({"title": "x" * 201, "briefText": BRIEF}, "title: 1 to 200 characters, not 201"),
        ({"title": "x"}, "briefText: a string is needed"),
        ({"title": "x", "briefText": "too short"}, "briefText: 10 to 50000 characters, not 9"),
        (
            {"title": "\ud800", "briefText": BRIEF},
            "title: half a surrogate pair is no character",
        ),
        ({"title": "x", "briefText": BRIEF, "mode": "proposals"}, "not known here: mode"),
    ],
)
async def test_what_is_not_a_brief_is_refused(tmp_path: Path, body: object, error: str) -> None:
    """The message names what is wrong, and nothing was begun."""
    async with staged(tmp_path) as stage:
        answer = await ask(stage.app, "/briefs", method="POST", body=body)
        assert answer.status == 400
        assert answer.json() == {"code": "VALIDATION_ERROR", "error": error}
        assert await stage.runner.list() == []


@pytest.mark.parametrize(
    "body", [b"x" * (BODY_BYTES + 1), {"title": "x", "briefText": "x" * 50_001}]
)
async def test_a_brief_that_is_too_large_is_refused(tmp_path: Path, body: object) -> None:
    """By its characters, and before that by the bytes of its request."""
    async with staged(tmp_path) as stage:
        answer = await ask(stage.app, "/briefs", method="POST", body=body)
        assert answer.status == 413
        assert answer.json()["code"] == "JOB_BRIEF_TOO_LARGE"


async def test_the_largest_brief_is_taken_however_it_is_written() -> None:
    """Fifty thousand characters, each of them an escape."""
    async with open_app() as app:
        body = json.dumps({"title": "x", "briefText": "é" * 50_000}).encode()
        assert len(body) > 300_000
        answer = await ask(app, "/briefs", method="POST", body=body)
        assert answer.status == 201
        assert (await watch(app, answer.json()["jobId"]))[-1] == DONE


async def test_a_body_that_never_ends_is_given_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """After half a minute, with an answer."""
    began = trio.current_time()
    status, body = await _raw(tmp_path, [{"type": "http.request", "body": b"{", "more_body": True}])
    assert trio.current_time() - began == 30
    assert status == 408
    assert json.loads(body)["code"] == "REQUEST_TIMEOUT"


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_failure(tmp_path: Path) -> None:
    """Nothing was begun, and nothing is raised."""
    status, _ = await _raw(
        tmp_path,
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}],
    )
    assert status == 400


async def _raw(folder: Path, messages: list[Message]) -> tuple[int, bytes]:
    """Submit by these messages and then none."""
    sent: list[Message] = []
    left = iter(messages)

    async def receive() -> Message:
        message = next(left, None)
        if message is None:
            await trio.sleep_forever()
            raise AssertionError
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/briefs",
        "headers": [(b"authorization", b"Bearer acc_demo")],
        "query_string": b"",
    }
    async with staged(folder) as stage:
        await stage.app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_key_makes_a_submission_once() -> None:
    """Repeated, also at the same time, it is answered as the first; keys are each account's own."""
    async with open_app(tokens=TOKENS) as app:
        ids: list[str] = []

        async def one(key: str, token: str) -> None:
            ids.append(await submit(app, headers={"x-idempotency-key": key}, token=token))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one, "a", "acc_demo")
        await watch(app, ids[0])
        await one("a", "acc_demo")
        assert len(set(ids)) == 1
        await one("b", "acc_demo")
        await one("a", "acc_other")
        assert len(set(ids)) == 3
        assert len((await ask(app, "/projects")).json()["projects"]) == 2


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_a_length(tmp_path: Path, key: str) -> None:
    """From 1 to 255 characters."""
    async with staged(tmp_path) as stage:
        headers = {"x-idempotency-key": key}
        answer = await ask(stage.app, "/briefs", method="POST", headers=headers)
        assert answer.status == 400
        assert answer.json()["error"].startswith("X-Idempotency-Key: 1 to 255 characters")


async def test_more_projects_than_are_held_are_refused(tmp_path: Path) -> None:
    """With a time after which to try again; there is room as soon as one is finished."""
    async with staged(tmp_path, max_jobs=1) as stage:
        await stage.begin()
        body = {"title": "x", "briefText": BRIEF}
        answer = await ask(stage.app, "/briefs", method="POST", body=body)
        assert answer.status == 429
        assert answer.headers["retry-after"] == "10"
        assert answer.json() == {
            "code": "JOB_LIMIT_EXCEEDED",
            "error": "Concurrent job limit exceeded",
            "retryAfter": 10,
        }
        for state in ("parsing", "decomposing", "executing"):
            assert stage.job is not None
            await stage.job.move(state)
        await stage.finish()
        id = await submit(stage.app)
        await stage.runner.wait_finished(id)


# ---- where it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("public_url", "base"),
    [
        (None, "https://h.example:1/apps/guild"),
        ("https://public.example/g/", "https://public.example/g"),
    ],
)
async def test_urls_are_those_that_clients_can_use(public_url: str | None, base: str) -> None:
    """Mounted under a path below another, as the request says or as configured; they lead back."""
    async with open_app(public_url=public_url) as guild:
        app = Starlette(routes=[Mount("/apps", Starlette(routes=[Mount("/guild", guild)]))])
        where: dict[str, Any] = {"scheme": "https", "host": "h.example:1"}
        body = {"title": "Crumb", "briefText": BRIEF}
        answer = await ask(app, "/apps/guild/briefs", method="POST", body=body, **where)
        url = answer.json()["sseUrl"]
        assert url == f"{base}/projects/{answer.json()['jobId']}/sse"
        path = "/apps/guild" + url.removeprefix(base)
        with trio.fail_after(20):
            async with open_stream(app, path, headers=HEADERS) as stream:
                assert [event async for event in stream][-1].json() == DONE
        project = (await ask(app, path.removesuffix("/sse"), **where)).json()
        assert project["siteUrl"].startswith(f"{base}/sites/crumb-")
        site = await ask(app, "/apps/guild" + project["siteUrl"].removeprefix(base), token=None)
        assert site.status == 200


async def test_a_server_that_says_its_root_path_is_honoured(tmp_path: Path) -> None:
    """As behind a proxy that strips a prefix."""
    async with staged(tmp_path) as stage:
        answer = await ask(
            stage.app,
            "/briefs",
            method="POST",
            body={"title": "x", "briefText": BRIEF},
            root_path="/guild",
        )
        assert answer.json()["sseUrl"].startswith("http://127.0.0.1:8000/guild/projects/prj_")
        await stage.runner.wait_finished(answer.json()["jobId"])


@pytest.mark.parametrize(
    "path",
    [
        *("/sites/", "/sites/..", "/sites/../secret", "/sites/%2e%2e/secret", "/sites//etc/passwd"),
        *("/sites/%2Fetc/passwd", "/sites/..%2fsecret", "/sites/%00", "/sites/crumb/../../secret"),
        *("/shared/../app.py", "/../app.py", "/%2e%2e/app.py", "/sites/crumb/link"),
    ],
)
async def test_no_path_leads_out_of_the_sites(tmp_path: Path, path: str) -> None:
    """Whatever it is spelled like, it is not there."""
    (tmp_path / "secret").write_text("secret")
    sites = tmp_path / "sites"
    (sites / "crumb").mkdir(parents=True)
    (sites / "crumb" / "link").symlink_to(tmp_path / "secret")
    async with staged(sites) as stage:
        answer = await ask(stage.app, path, token=None)
        assert answer.status == 404
        assert answer.json() == {"code": "NOT_FOUND", "error": "Not Found"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
async def test_other_methods_are_refused(tmp_path: Path, method: str) -> None:
    """In the words of this API."""
    async with staged(tmp_path) as stage:
        answer = await ask(stage.app, "/projects/prj_1", method=method)
        assert answer.status == 405
        assert answer.json()["code"] == "METHOD_NOT_ALLOWED"


async def test_what_goes_wrong_inside_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client reads that it was not its fault; the server's log has the rest."""

    async def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    async with staged(tmp_path) as stage:
        monkeypatch.setattr(stage.runner, "list", broken)
        answers = []

        async def ask_and_note() -> None:
            async with open_stream(stage.app, "/projects", headers=HEADERS) as response:
                answers.append((response.status, json.loads(await response.read_body())))

        with pytest.raises(RuntimeError, match="a secret"):
            await ask_and_note()
        assert answers == [(500, {"code": "INTERNAL_ERROR", "error": "Internal error"})]


async def test_the_page_is_at_the_root(tmp_path: Path) -> None:
    """With its script and its style, its own and those that the examples share."""
    folder = Path(app_module.__file__).parent
    files = {
        "/": folder / "page" / "index.html",
        "/page.js": folder / "page" / "page.js",
        "/page.css": folder / "page" / "page.css",
        "/brief.md": folder / "page" / "brief.md",
        "/shared/stream.js": folder.parent / "page" / "stream.js",
        "/shared/page.css": folder.parent / "page" / "page.css",
    }
    async with staged(tmp_path) as stage:
        for path, file in files.items():
            assert (await ask(stage.app, path, token=None)).body == file.read_bytes()
