"""A brief as a job: what its work says, and what clients are told of it."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from examples.guild.projects import (
    LIFECYCLE,
    PROJECT,
    build_site,
    events_of,
    project_id,
    project_of,
    site_slug,
    state_of,
)
from sselib import EventStream, MemoryLog, encode, open_topics
from sselib.jobs import Job, JobRunner, open_job_runner
from sselib.testing import open_stream

from ..recording import RecordingLog
from .asking import BRIEF

STATUSES = ("parsing", "decomposing", "executing", "done", "failed")


class Recording(RecordingLog):
    """It knows what clients would be told, too."""

    def told(self) -> list[str]:
        """What clients would be told of all of it, as bytes on the wire."""
        return [encode(event).decode() for c in self.changes for event in events_of(c)]

    def states(self) -> list[dict[str, Any]]:
        return [event.json() for change in self.changes for event in events_of(change)]


@pytest.fixture
def log() -> Recording:
    return Recording()


@asynccontextmanager
async def running(log: MemoryLog) -> AsyncIterator[JobRunner]:
    async with (
        open_topics(log) as topics,
        open_job_runner(topics, name="guild", kinds=[PROJECT]) as runner,
    ):
        yield runner


async def built(log: MemoryLog, folder: Path, brief: str = BRIEF, site: Path | None = None) -> Job:
    """Run the work for a brief, and return the job when it is over."""
    work = partial(
        build_site, brief=brief, title="Crumb", site=site or folder / "site", scratch=folder
    )
    details = {"account": "demo", "title": "Crumb", "slug": "crumb-1"}
    async with running(log) as runner:
        with trio.fail_after(20):
            await runner.submit(work, kind=PROJECT, job_id="prj_1", details=details)
            job = await runner.wait_finished("prj_1")
    assert job is not None
    return job


async def test_the_documented_events_are_what_happens(log: Recording, tmp_path: Path) -> None:
    """Each of the four is sent for what it says, byte for byte, in their order."""
    await built(log, tmp_path)
    told = log.told()
    documented = [
        'data: {"status":"parsing","progress":0.1,"currentStep":"Analyzing brief"}\n\n',
        'data: {"status":"decomposing","progress":0.2,"currentStep":"Breaking into tasks"}\n\n',
        'data: {"status":"executing","progress":0.5,"currentStep":"Mason building site"}\n\n',
        'data: {"status":"done","progress":1,"currentStep":"Complete"}\n\n',
    ]
    assert [line for line in told if line in documented] == documented
    assert told[:2] == documented[:2]
    assert told[-1] == documented[-1]


@pytest.mark.parametrize("brief", [BRIEF, "See [nothing](#nothing).", "A bakery.\n" * 3])
async def test_every_event_is_a_state(log: Recording, tmp_path: Path, brief: str) -> None:
    """Three fields in their order, one of five statuses, progress that never goes back."""
    await built(log, tmp_path, brief)
    states = log.states()
    for state in states:
        assert list(state) == ["status", "progress", "currentStep"]
        assert state["status"] in STATUSES
        assert 0 <= state["progress"] <= 1
        assert isinstance(state["currentStep"], str)
        assert state["currentStep"]
    for before, after in itertools.pairwise(states):
        assert before != after
        assert before["progress"] <= after["progress"]
        assert STATUSES.index(before["status"]) <= STATUSES.index(after["status"])
    assert list(dict.fromkeys(state["status"] for state in states))[:3] == [*STATUSES[:3]]


async def test_workers_are_seen_at_work(log: Recording, tmp_path: Path) -> None:
    """Each task is what happens now, when it does."""
    await built(log, tmp_path)
    steps = {state["currentStep"] for state in log.states() if state["status"] == "executing"}
    assert steps == {
        "Scribe writing headline",
        "Scribe writing Pricing",
        "Sigil mixing colours",
        "Mason building site",
        "QA checking site",
    }


@pytest.mark.parametrize(
    ("brief", "reached", "progress", "reason"),
    [
        ("-- -- -- --", "parsing", 0.1, "the brief says nothing"),
        (
            "Sections: pricing\nA bakery.",
            "decomposing",
            0.2,
            "the section 'pricing' is wanted, and the brief says nothing for it",
        ),
        ("## A\n[[A]]", "decomposing", 0.2, "sections include each other: a → a"),
        (
            "See [it](#it) here.",
            "executing",
            0.8,
            "index.html: the link '#it' leads nowhere",
        ),
    ],
)
async def test_a_brief_that_cannot_be_built_fails_where_that_is_found(
    log: Recording, tmp_path: Path, brief: str, reached: str, progress: float, reason: str
) -> None:
    """The last event says why, at the progress that was reached."""
    job = await built(log, tmp_path, brief)
    *_, before, last = log.states()
    assert before["status"] == reached
    assert last == {"status": "failed", "progress": progress, "currentStep": f"Failed: {reason}"}
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("brief", reason)
    assert not (tmp_path / "site").exists()


async def test_what_is_not_the_briefs_fault_is_told_without_details(
    log: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients read "internal error", and the log has the traceback."""
    missing = tmp_path / "missing" / "site"
    with caplog.at_level(logging.ERROR, "sselib.jobs"):
        await built(log, tmp_path, site=missing)
    assert log.states()[-1]["currentStep"] == "Failed: internal error"
    assert "missing" in caplog.text
    assert "missing" not in "".join(log.told())


async def test_a_project_has_its_tasks_and_deliverables(log: Recording, tmp_path: Path) -> None:
    """Tasks in the order of the plan; files with their sizes and addresses."""
    job = await built(log, tmp_path)
    project = project_of(job, "https://x.example/guild")
    assert [(task["agentName"], task["status"]) for task in project["tasks"]] == [
        *[("Scribe", "completed")] * 2,
        *[(agent, "completed") for agent in ("Sigil", "Mason", "QA")],
    ]
    assert project["tasks"][3]["needs"] == [task["id"] for task in project["tasks"][:3]]
    assert [
        (each["filename"], each["fileType"], each["fileSizeBytes"], each["status"], each["url"])
        for each in project["deliverables"]
    ] == [
        (
            path.name,
            path.suffix[1:],
            path.stat().st_size,
            "ready",
            f"https://x.example/guild/sites/crumb-1/{path.name}",
        )
        for path in sorted((tmp_path / "site").iterdir())
    ]
    assert project["siteUrl"] == "https://x.example/guild/sites/crumb-1/"
    assert project["errorMessage"] is None
    assert project["completedAt"].endswith("Z")


async def test_tasks_that_a_failure_stopped_are_cancelled(log: Recording, tmp_path: Path) -> None:
    """The one that failed says so, and none is said to be running any more."""
    project = project_of(await built(log, tmp_path, "See [it](#it) here."), "")
    assert [task["status"] for task in project["tasks"]] == ["completed"] * 3 + ["failed"]
    job = await built(Recording(), tmp_path)
    early = attrs.evolve(
        job, parts={"plan": job.parts["plan"], job.parts["plan"][0]["id"]: "running"}
    )
    assert {task["status"] for task in project_of(early, "")["tasks"]} == {"cancelled"}
    unfinished = attrs.evolve(early, finished=False)
    assert [task["status"] for task in project_of(unfinished, "")["tasks"]] == [
        "running",
        *["pending"] * 4,
    ]


async def test_the_work_moves_as_its_table_says() -> None:
    """No state is skipped, none comes again, every one can fail, and nobody cancels."""
    ways = {state: LIFECYCLE.allowed(state) for state in LIFECYCLE.states}
    assert ways == {
        "pending": ("parsing", "failed"),
        "parsing": ("decomposing", "failed"),
        "decomposing": ("executing", "failed"),
        "executing": ("done", "failed"),
        "done": (),
        "failed": (),
    }
    assert LIFECYCLE.cancelled is None


async def test_a_project_that_waits_is_told_only_when_asked(log: Recording) -> None:
    """Its stream says nothing before it begins; one of the five statuses is the answer."""
    gate = trio.Event()

    async def work(_: object) -> None:
        await gate.wait()

    async with running(log) as runner:
        job = await runner.submit(work, kind=PROJECT, job_id="prj_1", details={})
        assert state_of(job) == {
            "status": "parsing",
            "progress": 0,
            "currentStep": "Waiting to start",
        }
        async with open_stream(_stream(runner)) as stream:
            assert stream.unread == b": connected\n\n"
    assert log.states()[-1] == {
        "status": "failed",
        "progress": 0,
        "currentStep": "Failed: interrupted: the server stopped before it was done",
    }


def _stream(runner: JobRunner) -> Any:
    return EventStream(runner.channel("prj_1", events_of))


def test_an_id_is_that_of_an_accounts_key() -> None:
    """The same key of the same account is the same project, and nothing else is."""
    assert project_id("a", "k") == project_id("a", "k")
    pairs = [("a", "k"), ("b", "k"), ("a", "l"), ("a:k", "l"), ("a", "k:l")]
    assert len({project_id(*pair) for pair in pairs}) == len(pairs)
    assert project_id("a", "k").startswith("prj_")


def test_a_slug_is_readable_and_not_to_be_guessed() -> None:
    """Whatever is known of the project, its site is found by who is told where it is."""
    for title, words in (("Brook Coffee!", "brook-coffee"), ("日本", "site"), ("../..", "site")):
        slug = site_slug(title)
        assert re.fullmatch(rf"{words}-[0-9a-f]{{16}}", slug)
        assert site_slug(title) != slug
    assert site_slug("x" * 200).startswith("x" * 40 + "-")
