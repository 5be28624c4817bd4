"""What a brief says: its marks by name, and that any text at all is read or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.guild.site import BriefError, parse_brief
from examples.guild.site.brief import (
    MAX_SECTIONS,
    Bullets,
    Include,
    Kind,
    Paragraph,
    Section,
    slug_of,
)


def sections(text: str) -> dict[str, Section]:
    return {section.slug: section for section in parse_brief(text).sections}


def test_headings_begin_sections() -> None:
    """What stands under a heading is that section's; what stands before the first is the hero's."""
    brief = parse_brief("We bake.\n\n## Our bread\nRye\nand wheat.\n\n## Opening hours\nAlways.")
    assert brief.sections == (
        Section("hero", "Untitled", "hero", (Paragraph("We bake."),)),
        Section("our-bread", "Our bread", "text", (Paragraph("Rye and wheat."),)),
        Section("opening-hours", "Opening hours", "text", (Paragraph("Always."),)),
    )


def test_the_first_main_heading_is_the_title() -> None:
    """It names the site, whatever the request says, and those after it begin sections."""
    brief = parse_brief("# Crumb\nWe bake.\n# Bread\nRye.", title="Bakery")
    assert brief.title == "Crumb"
    assert [section.slug for section in brief.sections] == ["hero", "bread"]


@pytest.mark.parametrize(
    ("text", "title"),
    [("Title: Crumb\nWe bake.", "Crumb"), ("We bake.", "Bakery"), ("# Pricing\n$1", "Bakery")],
)
def test_the_title_is_what_the_brief_says_or_the_request(text: str, title: str) -> None:
    """A label says it too; a heading that names a known section does not."""
    assert parse_brief(text, title=" Bakery ").title == title


def test_without_any_title_the_site_is_untitled() -> None:
    """A brief needs no title."""
    assert parse_brief("We bake.").title == "Untitled"


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("Pricing", "pricing"),
        ("PLANS!", "pricing"),
        ("Frequently asked questions", "faq"),
        ("What we do", "features"),
        ("Get in touch", "contact"),
        ("Our story", "about"),
        ("Pricing policy", "text"),
        ("価格", "text"),
    ],
)
def test_known_sections_are_known_by_their_names(heading: str, kind: Kind) -> None:
    """In any case and with any marks; anything else is text."""
    assert parse_brief(f"## {heading}\nWords.").sections[1].kind == kind


def test_labels_begin_known_sections_anywhere() -> None:
    """At the beginning of a line, and of a sentence within one."""
    found = sections("We bake. Pricing: $3 a loaf. FAQ: Fresh? Always. Contact: a@b.example")
    assert found["hero"].blocks == (Paragraph("We bake."),)
    assert found["pricing"].blocks == (Paragraph("$3 a loaf."),)
    assert found["faq"].heading == "FAQ"
    assert found["faq"].blocks == (Paragraph("Fresh? Always."),)
    assert found["contact"].blocks == (Paragraph("a@b.example"),)


def test_a_word_that_is_no_label_is_text() -> None:
    """Only the known names are labels, and only in front of a colon."""
    assert parse_brief("Note: pricing is fair.").sections[0].blocks == (
        Paragraph("Note: pricing is fair."),
    )


def test_the_hero_has_the_lead_and_its_own_text() -> None:
    """There is one hero, and it comes first."""
    brief = parse_brief("Before.\n## About\nUs.\n## Hero\nBold.")
    assert [section.slug for section in brief.sections] == ["hero", "about"]
    assert brief.sections[0].blocks == (Paragraph("Before."), Paragraph("Bold."))


def test_bullets_are_a_list() -> None:
    """Any of the usual marks; a line that follows belongs to its bullet, a blank one ends all."""
    assert sections("## List\n- one\n* two\n3. three,\nand more\n\nAfter.")["list"].blocks == (
        Bullets(("one", "two", "three, and more")),
        Paragraph("After."),
    )
    assert sections("## List\nBefore.\n- one")["list"].blocks == (
        Paragraph("Before."),
        Bullets(("one",)),
    )


def test_a_section_can_include_another() -> None:
    """By its name in double brackets on a line of its own."""
    assert sections("## A\nText.\n[[ Our bread ]]\nMore.\n## B\nSee [[A]].")["a"].blocks == (
        Paragraph("Text."),
        Include("Our bread"),
        Paragraph("More."),
    )


def test_sections_of_one_name_have_slugs_of_their_own() -> None:
    """A number tells them apart."""
    brief = parse_brief("## Bread\nRye.\n## Bread\nWheat.\n## bread!\nOat.")
    assert [each.slug for each in brief.sections] == ["hero", "bread", "bread-2", "bread-3"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Our  Bread!", "our-bread"),
        ("价格", "价格"),
        ("Ünder", "ünder"),
        ("-- ../ --", "section"),
        ("", "section"),
        ("x" * 100, "x" * 40),
    ],
)
def test_slugs(name: str, slug: str) -> None:
    """Letters and digits of any script, hyphens between them, and nothing else."""
    assert slug_of(name) == slug


def test_colours_are_found_in_their_order() -> None:
    """Digits anywhere but in a link; names where colour is spoken of; each once."""
    assert parse_brief("Colors: teal, #FFD166 and gold").colours == (
        "#0f766e",
        "#ffd166",
        "#c9971c",
    )
    assert parse_brief("Use #abc, then #AABBCC.").colours == ("#aabbcc",)
    assert parse_brief("Colour: forest green").colours == ("#1f5130",)
    assert parse_brief("Green tea, [facts](#fac), item #12 and &#123;").colours == ()


def test_what_is_wanted_is_a_list() -> None:
    """Commas, semicolons and "and" separate it."""
    brief = parse_brief("Sections: hero, our bread; FAQ and contact.\nWe bake.")
    assert brief.wanted == ("hero", "our bread", "FAQ", "contact")


@pytest.mark.parametrize("text", ["", "   \n\n", "----------", "# \n- \n* !?", "\0\0"])
def test_a_brief_without_a_word_is_refused(text: str) -> None:
    """There is nothing to build."""
    with pytest.raises(BriefError, match="says nothing"):
        parse_brief(text)


def test_what_is_too_much_is_refused() -> None:
    """A site has a bounded number of sections, and headings are no essays."""
    parse_brief("## A\n" * MAX_SECTIONS)
    with pytest.raises(BriefError, match=f"more than {MAX_SECTIONS} sections"):
        parse_brief("## A\n" * (MAX_SECTIONS + 1))
    for text in ("# ", "## ", "Title: "):
        with pytest.raises(BriefError, match="longer than 80 characters: aaa"):
            parse_brief(text + "a" * 81)


@given(st.text(max_size=300) | st.lists(st.sampled_from(list("#-*[]().:?! a1\n@$\0\ud800"))))
def test_any_text_is_read_or_refused(text: str | list[str]) -> None:
    """And what was read can be written, and has slugs of its own."""
    try:
        brief = parse_brief("".join(text))
    except BriefError:
        return
    assert len({section.slug for section in brief.sections}) == len(brief.sections)
    assert brief.sections[0].kind == "hero"
    repr(brief).encode("utf-8")
    assert "\0" not in repr(brief)
