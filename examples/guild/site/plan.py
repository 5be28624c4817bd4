"""How a brief becomes tasks: who does what, and what has to be there before.

Each section's copy is a task of its own and the style is another; the page needs all of them, and
the check needs the page. A section that includes another needs that one's copy first, so sections
that include each other have no first task, and the plan is refused.

A task's id is made from the project's and from what the task is, so that the same brief decomposed
again has the same tasks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final, Literal

import attrs

from .brief import (
    Block,
    Brief,
    BriefError,
    Include,
    Kind,
    Paragraph,
    Section,
    heading_of,
    kind_of,
    sentences,
)

# Parts of the whole. Copy and style share theirs, however many tasks they are. The last is no task:
# a site that is checked is put where it is served.
PREPARING: Final = 3.0
BUILDING: Final = 3.0
CHECKING: Final = 1.0
DELIVERING: Final = 1.0
TOTAL: Final = PREPARING + BUILDING + CHECKING + DELIVERING

# By what a sentence shows that it belongs to a section that is wanted and has no text of its own.
_EVIDENCE: Final[dict[Kind, re.Pattern[str]]] = {
    "pricing": re.compile(r"[$€£]\s?\d|\d\s?(?:€|EUR|USD|GBP)"),
    "faq": re.compile(r"\?\s*$"),
    "contact": re.compile(r"[\w.+-]@[\w-]|\+\d[\d ()-]{5}|https?://"),
}


@attrs.frozen(kw_only=True)
class Task:
    """A piece of work.

    Attributes:
        id: ``task_`` and sixteen hex digits.
        agent: Who does it.
        step: What is happening while it is done, for people.
        work: What is to be done.
        section: The slug of its section, for copy.
        needs: The ids of the tasks that have to be finished before.
        weight: Its part of :data:`TOTAL`.
    """

    id: str
    agent: str
    step: str
    work: Literal["copy", "style", "page", "check"]
    section: str | None = None
    needs: tuple[str, ...] = ()
    weight: float


@attrs.frozen
class Plan:
    """What is to be built, and by which tasks.

    Attributes:
        brief: What the brief says; every section that is wanted is there and every include is
            resolved: its name is the slug of a section.
        tasks: By id, each after those that it needs.
    """

    brief: Brief
    tasks: dict[str, Task]


def decompose(brief: Brief, project: str) -> Plan:
    """Break a brief into tasks.

    Args:
        brief: What to build.
        project: The project's id.

    Raises:
        BriefError: A section that is wanted or included cannot be resolved, or sections include
            each other.
    """
    sections = _resolved(_with_wanted(brief))
    included = {section.slug: _includes(section) for section in sections}
    try:
        order = list(TopologicalSorter(included).static_order())
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise BriefError(f"sections include each other: {circle}") from None
    ids = {slug: _task_id(project, f"copy:{slug}") for slug in order}
    headings = {section.slug: section.heading for section in sections}
    share = PREPARING / (len(sections) + 1)
    tasks = [
        Task(
            id=ids[slug],
            agent="Scribe",
            step=f"Scribe writing {'headline' if slug == 'hero' else headings[slug]}",
            work="copy",
            section=slug,
            needs=tuple(ids[other] for other in included[slug]),
            weight=share,
        )
        for slug in order
    ]
    style = Task(
        id=_task_id(project, "style"),
        agent="Sigil",
        step="Sigil mixing colours",
        work="style",
        weight=share,
    )
    page = Task(
        id=_task_id(project, "page"),
        agent="Mason",
        step="Mason building site",
        work="page",
        needs=(*ids.values(), style.id),
        weight=BUILDING,
    )
    check = Task(
        id=_task_id(project, "check"),
        agent="QA",
        step="QA checking site",
        work="check",
        needs=(page.id,),
        weight=CHECKING,
    )
    return Plan(
        attrs.evolve(brief, sections=tuple(sections)),
        {task.id: task for task in (*tasks, style, page, check)},
    )


def _task_id(project: str, name: str) -> str:
    return f"task_{hashlib.sha256(f'{project}:{name}'.encode()).hexdigest()[:16]}"


def _includes(section: Section) -> tuple[str, ...]:
    names = (block.name for block in section.blocks if isinstance(block, Include))
    return tuple(dict.fromkeys(names))


def _with_wanted(brief: Brief) -> list[Section]:
    """Return the sections, first the hero, then those that are wanted in their order."""
    left = list(brief.sections)
    ordered = [left.pop(0)]
    for name in brief.wanted:
        if any(section.is_called(name) for section in ordered):
            continue
        section = _named(name, left)
        if section is None:
            section = _gathered(name, brief.sections)
        else:
            left.remove(section)
        ordered.append(section)
    return ordered + left


def _gathered(name: str, sections: Sequence[Section]) -> Section:
    """Make a section that is wanted out of what is said elsewhere."""
    kind = kind_of(name)
    evidence = _EVIDENCE.get(kind)
    found: list[str] = []
    if evidence is not None:
        for block in (block for section in sections for block in section.blocks):
            if isinstance(block, Paragraph):
                said = sentences(block.text)
                for number, sentence in enumerate(said):
                    if evidence.search(sentence):
                        # An answer follows its question.
                        found += said[number : number + (2 if kind == "faq" else 1)]
    if not found:
        raise BriefError(f"the section {name!r} is wanted, and the brief says nothing for it")
    return Section(kind, heading_of(name), kind, (Paragraph(" ".join(found)),))


def _resolved(sections: list[Section]) -> list[Section]:
    """Return the sections with the slugs of what they include."""
    resolved = []
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Include):
                target = _named(block.name, sections)
                if target is None:
                    raise BriefError(
                        f"{section.heading!r} includes {block.name!r}, and there is no such section"
                    )
                blocks.append(Include(target.slug))
            else:
                blocks.append(block)
        resolved.append(attrs.evolve(section, blocks=tuple(blocks)))
    return resolved


def _named(name: str, sections: Sequence[Section]) -> Section | None:
    return next((section for section in sections if section.is_called(name)), None)
