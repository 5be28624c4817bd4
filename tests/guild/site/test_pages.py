"""What the workers write."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.guild.site import BriefError, parse_brief
from examples.guild.site.brief import Kind, Section
from examples.guild.site.pages import MAX_PART_BYTES, Workplace, contrast, inline, palette_of


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    place = Workplace(tmp_path / "work")
    place.prepare()
    return place


def written(place: Workplace, text: str) -> str:
    """Write the copy of a brief's last section, and return it in one line."""
    section = parse_brief(text).sections[-1]
    place.write_copy(section)
    html = place.part(section.slug).read_text(encoding="utf-8")
    return " ".join(line.strip() for line in html.splitlines())


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("[what](#x)", '<a href="#x">what</a>'),
        ('[<b>](x"y)', '<a href="x&quot;y">&lt;b&gt;</a>'),
        ("so **very** good", "so <strong>very</strong> good"),
        ("**<i>**", "<strong>&lt;i&gt;</strong>"),
        ("at a.b@c-d.example.", 'at <a href="mailto:a.b@c-d.example">a.b@c-d.example</a>.'),
        (
            "see https://a.example/?b=1&c=2.",
            'see <a href="https://a.example/?b=1&amp;c=2">https://a.example/?b=1&amp;c=2</a>.',
        ),
        ("[open (x", "[open (x"),
    ],
)
def test_text_becomes_html(text: str, html: str) -> None:
    """Links, emphasis and addresses are what they are; all else is escaped."""
    assert inline(text) == html


@given(st.text())
def test_what_a_browser_reads_is_the_text(text: str) -> None:
    """Nothing that a brief says is markup, except for what the marks make of it."""
    tags: set[str] = set()
    read: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.add(tag)

        def handle_data(self, data: str) -> None:
            read.append(data)

    reader = Reader(convert_charrefs=True)
    reader.feed(inline(text))
    reader.close()
    assert tags <= {"a", "strong"}
    if not tags:
        assert "".join(read) == text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("## Text\nSome <words>.", "<p>Some &lt;words&gt;.</p>"),
        ("## Text\n- a: b\n- c", "<ul> <li>a: b</li> <li>c</li> </ul>"),
        (
            "## Features\n- Fresh: always.\n- Warm",
            '<ul class="cards"> <li><h3>Fresh</h3><p>always.</p></li> <li><p>Warm</p></li> </ul>',
        ),
        (
            "## Pricing\n- Loaf: $3.50 / day, sliced\n- Free bread: on Sundays\n- 20 EUR for all",
            (
                '<ul class="cards">'
                ' <li><h3>Loaf</h3><p class="price">$3.50 / day</p><p>sliced</p></li>'
                " <li><h3>Free bread</h3><p>on Sundays</p></li>"
                ' <li><p class="price">20 EUR</p><p>for all</p></li> </ul>'
            ),
        ),
        (
            "Pricing: Loaf $3. Cake $9.",
            (
                '<ul class="cards"> <li><p class="price">$3</p><p>Loaf</p></li>'
                ' <li><p class="price">$9</p><p>Cake</p></li> </ul>'
            ),
        ),
        ("## Pricing\nA loaf is $3. It is big.", "<p>A loaf is $3. It is big.</p>"),
        (
            "## FAQ\nRead this. Fresh? Yes. Very.\n\nWhy? So.",
            (
                "<p>Read this.</p>"
                " <details><summary>Fresh?</summary><p>Yes. Very.</p></details>"
                " <details><summary>Why?</summary><p>So.</p></details>"
            ),
        ),
        (
            "## FAQ\n- Fresh? Yes.\n- Why? So.",
            (
                "<details><summary>Fresh?</summary><p>Yes.</p></details>"
                " <details><summary>Why?</summary><p>So.</p></details>"
            ),
        ),
        ("## FAQ\nAsk us.", "<p>Ask us.</p>"),
    ],
)
def test_copy_looks_like_what_its_section_is(place: Workplace, text: str, html: str) -> None:
    """Offers and features are cards, questions open to their answers, the rest is text."""
    assert written(place, text) == html


def test_copy_that_is_included_stands_where_it_is_included(place: Workplace) -> None:
    """In its order among the rest."""
    brief = parse_brief("## Bread\nRye.\n## All\nFirst.\n[[bread]]\nLast.")
    for section in brief.sections:
        place.write_copy(section)
    assert place.part("all").read_text() == "    <p>First.</p>\n    <p>Rye.</p>\n    <p>Last.</p>"


def test_copy_that_doubles_with_each_inclusion_is_refused(place: Workplace) -> None:
    """Forty sections that include the next one twice would be a page of terabytes."""
    count = 40
    text = "".join(f"## S{n}\n[[s{n + 1}]]\n[[s{n + 1}]]\n" for n in range(count - 1))
    brief = parse_brief(f"{text}## S{count - 1}\nText, and more of it.")
    sections = reversed(brief.sections)
    with pytest.raises(BriefError, match=f"longer than {MAX_PART_BYTES:,} bytes"):
        any(place.write_copy(section) for section in sections)  # type: ignore[func-returns-value] # any() only goes through them
    assert sum(path.stat().st_size for path in place.folder.rglob("*.html")) < 4 * MAX_PART_BYTES


def test_a_page_that_is_too_long_altogether_is_refused(place: Workplace) -> None:
    """Sections that are long enough by themselves are too long together."""
    text = "x" * 100_000
    includes = "[[long]]\n" * 2
    brief = parse_brief(f"## Long\n{text}\n" + "".join(f"## S{n}\n{includes}" for n in range(6)))
    for section in brief.sections:
        place.write_copy(section)
    with pytest.raises(BriefError, match="the page is longer"):
        place.write_page(brief)


def test_the_page_links_to_each_section(place: Workplace) -> None:
    """In the navigation; and the hero calls to the contact, or else to the prices."""
    for text, call in (
        ("Hi.\n## Pricing\n$3\n## Contact\na@b.example", "contact"),
        ("Hi.\n## Pricing\n$3", "pricing"),
        ("Hi.\n## Bread & butter\nRye", None),
    ):
        brief = parse_brief(text, title="A <b> & c")
        for section in brief.sections:
            place.write_copy(section)
        place.write_page(brief)
        html = (place.site / "index.html").read_text()
        assert "<title>A &lt;b&gt; &amp; c</title>" in html
        for section in brief.sections[1:]:
            assert f'<a href="#{section.slug}">' in html
            assert f'<section id="{section.slug}"' in html
        assert re.findall('class="call" href="#(.*?)"', html) == ([call] if call else [])


def test_the_style_has_the_colours_of_the_brief(place: Workplace) -> None:
    """In the style sheet and in the logo, which has the title's initial."""
    place.write_style(parse_brief("Colours: #123456 and gold", title="<crumb>"))
    style = (place.site / "style.css").read_text()
    logo = (place.site / "logo.svg").read_text()
    assert "--accent: #123456;" in style
    assert "--second: #c9971c;" in style
    assert 'fill="#123456"' in logo
    assert ">C</text>" in logo


def test_colours_that_the_brief_does_not_say_come_from_the_title() -> None:
    """Always the same, and others for another title."""
    one, again, other = (palette_of(parse_brief("x", title=title)) for title in ("A", "A", "B"))
    assert one == again
    assert one["accent"] != other["accent"]


@given(st.integers(0, 0xFFFFFF))
def test_text_can_be_read_whatever_the_colours(colour: int) -> None:
    """On the accent, and in it on light and dark ground, with the contrast that WCAG asks for."""
    palette = palette_of(parse_brief(f"Colour #{colour:06x}"))
    assert contrast(palette["ink_light"], "#ffffff") >= 4.5
    assert contrast(palette["ink_dark"], "#15171a") >= 4.5
    assert contrast(palette["on_accent"], palette["accent"]) >= 4.4
    assert contrast(palette["call_ink"], palette["on_accent"]) >= 4.5


@pytest.mark.parametrize("kind", ["hero", "about", "features", "pricing", "faq", "contact", "text"])
def test_a_section_may_say_nothing(place: Workplace, kind: Kind) -> None:
    """Then there is nothing under its heading."""
    place.write_copy(Section("empty", "Empty", kind))
    assert place.part("empty").read_text() == ""
