"""A plan is carried out by workers in parallel.

One task holds the order: it hands out whatever is ready, at most one piece of work to each worker,
waits for the next that is finished, and is the only one that reports. So reports are in order, and
what they say of progress never goes backwards. A worker does its work in a thread and says when it
is done. The first that fails ends all others; what they wrote is in the plan's own folder, which
goes with them.

A site is moved to where it is served only when it has passed its check, in one step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import attrs
import trio

from .brief import BriefError
from .check import check_site
from .pages import Workplace
from .plan import TOTAL, Plan, Task

WORKERS: Final = 4  # pieces of work of one plan at a time
_SHOWN: Final = 3  # problems in one message


@attrs.frozen
class Report:
    """A task has begun or ended.

    Attributes:
        task: Which one.
        status: What it is now.
        finished: How much of the plan's work is done, from 0 to 1.
        step: What is happening now, for people.
    """

    task: Task
    status: Literal["running", "completed", "failed"]
    finished: float
    step: str


@attrs.frozen
class Deliverable:
    """A file of a site.

    Attributes:
        filename: Its path in the site.
        size: In bytes.
    """

    filename: str
    size: int


async def carry_out(
    plan: Plan,
    destination: Path,
    *,
    scratch: Path,
    tell: Callable[[Report], Awaitable[None]],
    workers: int = WORKERS,
) -> list[Deliverable]:
    """Build the site of a plan, and return its files.

    Args:
        plan: What to do.
        destination: The folder that is to be the site. Its parent exists; if it does itself, it
            is replaced when the new site is well.
        scratch: A folder on the same file system that nobody serves.
        tell: Called with each report, one after the other.
        workers: How many work at a time.

    Raises:
        BriefError: The site cannot be built as the brief says.
        OSError: Files cannot be written.

    An error leaves ``destination`` as it was.

    Cancellation: so does that, and nothing remains of what was written.
    """
    with TemporaryDirectory(dir=scratch) as folder:
        place = Workplace(Path(folder))
        await trio.to_thread.run_sync(place.prepare)
        await _work(plan, place, tell, workers)
        return await trio.to_thread.run_sync(_deliver, place, destination)


async def _work(
    plan: Plan, place: Workplace, tell: Callable[[Report], Awaitable[None]], workers: int
) -> None:
    order = TopologicalSorter({task.id: task.needs for task in plan.tasks.values()})
    order.prepare()
    ready: list[Task] = []
    running: dict[Task, None] = {}
    finished = 0.0
    failure: BriefError | None = None
    send, receive = trio.open_memory_channel[tuple[Task, BriefError | None]](workers)

    async def work(task: Task) -> None:
        try:
            await trio.to_thread.run_sync(_do, task, plan, place)
        except BriefError as error:
            await send.send((task, error))
        else:
            await send.send((task, None))

    async with trio.open_nursery() as nursery:
        while order.is_active():
            ready += [plan.tasks[id] for id in order.get_ready()]
            while ready and len(running) < workers:
                task = ready.pop(0)
                running[task] = None
                await tell(Report(task, "running", finished / TOTAL, task.step))
                nursery.start_soon(work, task)
            task, failure = await receive.receive()
            del running[task]
            if failure is not None:
                await tell(Report(task, "failed", finished / TOTAL, task.step))
                break
            order.done(task.id)
            finished += task.weight
            now = next(iter(running), task)
            await tell(Report(task, "completed", finished / TOTAL, now.step))
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _do(task: Task, plan: Plan, place: Workplace) -> None:
    """Do a piece of work. This blocks."""
    match task.work:
        case "copy":
            (section,) = (each for each in plan.brief.sections if each.slug == task.section)
            place.write_copy(section)
        case "style":
            place.write_style(plan.brief)
        case "page":
            place.write_page(plan.brief)
        case "check":
            if problems := check_site(place.site):
                more = len(problems) - _SHOWN
                shown = "; ".join(map(str, problems[:_SHOWN]))
                raise BriefError(f"{shown}; and {more} more" if more > 0 else shown)


def _deliver(place: Workplace, destination: Path) -> list[Deliverable]:
    files = sorted(path for path in place.site.rglob("*") if path.is_file())
    deliverables = [
        Deliverable(path.relative_to(place.site).as_posix(), path.stat().st_size) for path in files
    ]
    shutil.rmtree(destination, ignore_errors=True)
    os.rename(place.site, destination)
    return deliverables
