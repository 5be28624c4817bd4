"""How a brief becomes tasks, and which briefs cannot."""

from __future__ import annotations

import re

import pytest

from examples.guild.site import BriefError, Plan, decompose, parse_brief
from examples.guild.site.brief import Include, Paragraph
from examples.guild.site.plan import BUILDING, CHECKING, PREPARING


def plan_of(text: str, project: str = "prj_1") -> Plan:
    return decompose(parse_brief(text), project)


def needs(plan: Plan) -> dict[str, set[str]]:
    """What each task needs, by steps."""
    return {task.step: {plan.tasks[id].step for id in task.needs} for task in plan.tasks.values()}


def test_a_brief_is_decomposed_into_tasks() -> None:
    """Copy and style need nothing, the page needs all of them, and the check needs the page."""
    assert needs(plan_of("We bake.\n## Pricing\n- Loaf: $3\n## Our bread\nRye.")) == {
        "Scribe writing headline": set(),
        "Scribe writing Pricing": set(),
        "Scribe writing Our bread": set(),
        "Sigil mixing colours": set(),
        "Mason building site": {
            "Scribe writing headline",
            "Scribe writing Pricing",
            "Scribe writing Our bread",
            "Sigil mixing colours",
        },
        "QA checking site": {"Mason building site"},
    }


def test_a_section_needs_what_it_includes() -> None:
    """The copy that is included is written before."""
    plan = plan_of(
        "[[Overview]]\n## Overview\n[[prices]]\n[[bread]]\n## Bread\nRye.\n## Pricing\n$3"
    )
    assert needs(plan)["Scribe writing headline"] == {"Scribe writing Overview"}
    assert needs(plan)["Scribe writing Overview"] == {
        "Scribe writing Pricing",
        "Scribe writing Bread",
    }
    assert plan.brief.sections[1].blocks == (Include("pricing"), Include("bread"))


def test_each_task_comes_after_those_that_it_needs() -> None:
    """The tasks of a plan can be done in their order."""
    done: set[str] = set()
    for task in plan_of("[[A]]\n## A\n[[B]]\n## B\n[[C]]\n## C\nText.").tasks.values():
        assert done.issuperset(task.needs)
        done.add(task.id)


def test_ids_are_made_from_the_project_and_the_task() -> None:
    """The same brief again has the same tasks, another project has others."""
    text = "We bake.\n## Pricing\n$3"
    first, again, other = (list(plan_of(text, id).tasks) for id in ("prj_1", "prj_1", "prj_2"))
    assert first == again
    assert not set(first) & set(other)
    assert all(re.fullmatch("task_[0-9a-f]{16}", id) for id in first)
    assert first[0] == "task_" + "08aef535268f5dd9"


@pytest.mark.parametrize("sections", [0, 1, 7])
def test_what_is_prepared_weighs_the_same_however_many_tasks_it_is(sections: int) -> None:
    """So the page is begun at one half, whatever the brief."""
    text = "We bake.\n" + "".join(f"## Number {n}\nText.\n" for n in range(sections))
    *prepared, page, check = plan_of(text).tasks.values()
    assert sum(task.weight for task in prepared) == pytest.approx(PREPARING)
    assert (page.weight, check.weight) == (BUILDING, CHECKING)


@pytest.mark.parametrize(
    ("text", "circle"),
    [
        ("## A\n[[A]]", "a → a"),
        ("## A\n[[B]]\n## B\n[[A]]", "→ b →|→ a →"),
        ("## A\n[[B]]\n## B\n[[C]]\n## C\n[[B]]", "→ c →|→ b →"),
    ],
)
def test_sections_that_include_each_other_are_refused(text: str, circle: str) -> None:
    """The message names the circle."""
    with pytest.raises(BriefError, match=f"include each other: .*(?:{circle})"):
        plan_of(text)


def test_a_section_that_is_included_and_not_there_is_refused() -> None:
    """The message names both."""
    with pytest.raises(BriefError, match="'A' includes 'Bread', and there is no such section"):
        plan_of("## A\n[[Bread]]")


def test_sections_come_in_the_order_in_which_they_are_wanted() -> None:
    """First the hero; what is not on the list follows as it stands in the brief."""
    plan = plan_of("Sections: FAQ, prices, hero\nHi.\n## Z\nz\n## Pricing\n$3\n## FAQ\nWhy? So.")
    assert [section.slug for section in plan.brief.sections] == ["hero", "faq", "pricing", "z"]


def test_a_section_that_is_wanted_is_gathered_from_what_is_said() -> None:
    """Prices, questions with their answers, and addresses are known by what they are."""
    plan = plan_of(
        "Sections: pricing, faq, contact\n"
        "We bake. A loaf is $3. Is it fresh? It is. Write to us at a@b.example."
    )
    assert {section.slug: section.blocks for section in plan.brief.sections[1:]} == {
        "pricing": (Paragraph("A loaf is $3."),),
        "faq": (Paragraph("Is it fresh? It is."),),
        "contact": (Paragraph("Write to us at a@b.example."),),
    }


@pytest.mark.parametrize("name", ["pricing", "faq", "contact", "about", "testimonials"])
def test_a_section_that_is_wanted_and_of_which_nothing_is_said_is_refused(name: str) -> None:
    """Nothing is made up."""
    with pytest.raises(BriefError, match=f"'{name}' is wanted, and the brief says nothing for it"):
        plan_of(f"Sections: {name}\nWe bake.\n- and more")
