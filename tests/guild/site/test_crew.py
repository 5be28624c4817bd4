"""A plan is carried out: in parallel, in order, and wholly or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from examples import guild
from examples.guild.site import (
    BriefError,
    Deliverable,
    Plan,
    Report,
    carry_out,
    decompose,
    parse_brief,
)
from examples.guild.site.pages import Workplace

SAMPLE = (Path(guild.__file__).parent / "page/brief.md").read_text(encoding="utf-8")


def plan_of(text: str) -> Plan:
    return decompose(parse_brief(text), "prj_1")


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


async def build(
    plan: Plan, reports: list[Report], scratch: Path, workers: int = 4
) -> list[Deliverable]:
    async def tell(report: Report) -> None:
        reports.append(report)

    return await carry_out(
        plan, scratch.parent / "site", scratch=scratch, tell=tell, workers=workers
    )


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_site_is_built(reports: list[Report], scratch: Path) -> None:
    """Its files are what is delivered, with their sizes, and nothing else remains."""
    deliverables = await build(plan_of(SAMPLE), reports, scratch)
    site = scratch.parent / "site"
    assert {each.filename: each.size for each in deliverables} == {
        path.name: path.stat().st_size for path in site.iterdir()
    }
    assert [each.filename for each in deliverables] == ["index.html", "logo.svg", "style.css"]
    assert "Brook Coffee" in (site / "index.html").read_text()
    assert left_in(scratch) == []


@pytest.mark.parametrize("workers", [1, 2, 4, 100])
async def test_each_task_is_reported_running_and_completed(
    reports: list[Report], scratch: Path, workers: int
) -> None:
    """After those that it needs, no more at a time than there are workers, progress in between."""
    plan = plan_of(f"[[pricing]]\n{SAMPLE}")
    await build(plan, reports, scratch, workers)
    completed: set[str] = set()
    running: set[str] = set()
    most = 0
    progress = 0.0
    for report in reports:
        id = report.task.id
        if report.status == "running":
            assert completed.issuperset(report.task.needs)
            assert report.step == report.task.step
            running.add(id)
        else:
            running.remove(id)
            completed.add(id)
        most = max(most, len(running))
        assert progress <= report.finished
        progress = report.finished
    assert completed == set(plan.tasks)
    assert most == min(workers, 5)  # all copy but the hero's, which includes, and the style
    assert progress == pytest.approx(7 / 8)


async def test_the_page_is_begun_at_three_eighths(reports: list[Report], scratch: Path) -> None:
    """Whatever the brief: what is left is the page, its check and its delivery."""
    await build(plan_of(SAMPLE), reports, scratch)
    (begun,) = (r for r in reports if r.status == "running" and r.step == "Mason building site")
    assert begun.finished == pytest.approx(3 / 8)


async def test_while_others_work_the_step_is_one_of_theirs(
    reports: list[Report], scratch: Path
) -> None:
    """What is said to be happening is not what has just ended, as long as anything is happening."""
    await build(plan_of(SAMPLE), reports, scratch)
    running: set[str] = set()
    for report in reports:
        if report.status == "running":
            running.add(report.task.step)
        else:
            running.remove(report.task.step)
        assert report.step in (running or {report.task.step})


async def test_a_broken_link_fails_the_check_and_nothing_is_served(
    reports: list[Report], scratch: Path
) -> None:
    """The site that was built is not delivered; the message names the link."""
    plan = plan_of("See [our plans](#plans), [terms](terms.html), [a](a), [b](b) and [c](c).")
    with pytest.raises(BriefError) as caught:
        await build(plan, reports, scratch)
    assert str(caught.value) == (
        "index.html: the link '#plans' leads nowhere; index.html: the link 'terms.html' leads"
        " nowhere; index.html: the link 'a' leads nowhere; and 2 more"
    )
    assert (reports[-1].status, reports[-1].task.agent) == ("failed", "QA")
    assert left_in(scratch.parent) == ["scratch"]
    assert left_in(scratch) == []


async def test_the_first_failure_ends_the_others(
    reports: list[Report], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised alone, and what depends on it is never begun."""

    def fail(place: Workplace, section: object) -> None:
        raise BriefError("no words")

    monkeypatch.setattr(Workplace, "write_copy", fail)
    with pytest.raises(BriefError, match=re.escape("no words")):
        await build(plan_of(SAMPLE), reports, scratch)
    assert [report.status for report in reports].count("failed") == 1
    assert not any(report.task.agent in ("Mason", "QA") for report in reports)
    assert left_in(scratch) == []


async def test_a_disk_that_cannot_be_written_is_no_fault_of_the_brief(
    reports: list[Report], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other errors come out as they are, and leave nothing either."""

    def fail(place: Workplace, brief: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Workplace, "write_style", fail)
    with pytest.RaisesGroup(OSError):
        await build(plan_of(SAMPLE), reports, scratch)
    assert left_in(scratch) == []


@pytest.mark.parametrize("number", [0, 3, -1])
async def test_cancelling_leaves_nothing(scratch: Path, number: int) -> None:
    """At the first report, in the middle, and at the last: there is no site and no scratch."""
    plan = plan_of(SAMPLE)
    count = 0

    async def tell(report: Report) -> None:
        nonlocal count
        count += 1
        if count == number % (2 * len(plan.tasks) + 1):
            scope.cancel()
        await trio.lowlevel.checkpoint()

    with trio.CancelScope() as scope:
        scope.deadline = trio.current_time() - 1 if number == 0 else float("inf")
        await carry_out(plan, scratch.parent / "site", scratch=scratch, tell=tell)
    assert scope.cancelled_caught
    assert left_in(scratch.parent) == ["scratch"]
    assert left_in(scratch) == []
