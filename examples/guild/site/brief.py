"""What a brief says: a title, sections with their text, colours, and which sections are wanted.

A brief is plain text with the marks that people use anyway: headings (``## Pricing``), labels
(``Pricing: ...``, at the beginning of a line or of a sentence), bullets, blank lines,
``[links](#contact)``, ``**emphasis**``, and ``[[Pricing]]`` on a line of its own, which puts the
text of that section there. Three labels are about the site itself: ``Title:``, ``Colours:`` and
``Sections:``, a list of what the site must have.

Nothing is made up: the site says what the brief says. Every pattern here is linear in the brief,
whatever it holds; it comes from anybody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, Literal, get_args

import attrs

Kind = Literal["hero", "about", "features", "pricing", "faq", "contact", "text"]

MAX_SECTIONS: Final = 40  # each is a task and a part of one page
MAX_HEADING: Final = 80  # characters; what is longer is a sentence
MAX_SLUG: Final = 40

_NAMES: Final[dict[str, Kind]] = {
    **dict.fromkeys(("hero", "headline", "intro", "introduction"), "hero"),
    **dict.fromkeys(("about", "about us", "story", "our story"), "about"),
    **dict.fromkeys(("features", "services", "what we do"), "features"),
    **dict.fromkeys(("pricing", "prices", "plans"), "pricing"),
    **dict.fromkeys(("faq", "faqs", "questions", "frequently asked questions"), "faq"),
    **dict.fromkeys(("contact", "contact us", "get in touch"), "contact"),
}
_ABOUT_THE_SITE: Final = ("title", "colours", "colors", "colour", "color", "sections")
_LABELS: Final = sorted((*_NAMES, *_ABOUT_THE_SITE), key=len, reverse=True)

_HEADING: Final = re.compile(r"(#{1,6})[ \t]+(.*)")
_BULLET: Final = re.compile(r"(?:[-*•]|\d{1,3}[.)])[ \t]+(.*)")
_LABEL: Final = re.compile(rf"({'|'.join(_LABELS)})[ \t]*:[ \t]*(.*)", re.IGNORECASE)
_INCLUDE: Final = re.compile(r"\[\[([^\[\]\n]{1,80})\]\]")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[ \t]+")
_WORD: Final = re.compile(r"\w")
# Control characters have no place in HTML, and halves of surrogate pairs cannot be written at all.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LIST_SEPARATOR: Final = re.compile(r",|;|\band\b")

_COLOURS: Final = {
    "black": "#111111", "white": "#ffffff", "grey": "#6b7280", "gray": "#6b7280",
    "red": "#c62828", "crimson": "#b3123c", "coral": "#ff6f59", "orange": "#e8710a",
    "amber": "#f2a900", "yellow": "#f4c20d", "gold": "#c9971c", "olive": "#6b7a1e",
    "lime": "#7cb518", "forest green": "#1f5130", "green": "#2e7d32", "teal": "#0f766e",
    "turquoise": "#1aa6a6", "cyan": "#0891b2", "navy": "#1b2a5c", "blue": "#1d4ed8",
    "indigo": "#4338ca", "violet": "#7c3aed", "purple": "#6d28d9", "magenta": "#b5179e",
    "pink": "#d6457f", "brown": "#6f4e37", "beige": "#d8c8a8", "cream": "#f3ead7",
}  # fmt: skip
# Digits are no colour after a bracket, where they are the target of a link. Names are colours in a
# line that speaks of colour: green tea is none.
_HEX_COLOUR: Final = r"(?<![\w(#&])#(?:[0-9a-f]{6}|[0-9a-f]{3})(?!\w)"
_COLOUR: Final = re.compile(_HEX_COLOUR, re.IGNORECASE)
_NAMED_COLOUR: Final = re.compile(rf"{_HEX_COLOUR}|\b(?:{'|'.join(_COLOURS)})\b", re.IGNORECASE)


class BriefError(Exception):
    """The site cannot be built as the brief says; the message says why."""


@attrs.frozen
class Paragraph:
    """Some sentences."""

    text: str


@attrs.frozen
class Bullets:
    """A list."""

    items: tuple[str, ...]


@attrs.frozen
class Include:
    """The text of another section.

    Attributes:
        name: What the brief calls it.
    """

    name: str


Block = Paragraph | Bullets | Include


@attrs.frozen
class Section:
    """A part of the page.

    Attributes:
        slug: Its name in links, unique in its brief.
        heading: What stands above it.
        kind: What it looks like.
        blocks: What it says.
    """

    slug: str
    heading: str
    kind: Kind
    blocks: tuple[Block, ...] = ()

    def is_called(self, name: str) -> bool:
        """Return whether ``name`` means this section: its name, or what it is."""
        return slug_of(name) == self.slug or "text" != kind_of(name) == self.kind


@attrs.frozen(kw_only=True)
class Brief:
    """What a brief says.

    Attributes:
        title: The name of the site.
        sections: In their order; the first is the hero.
        colours: ``#rrggbb``, in the order in which they are named.
        wanted: The names in ``Sections:``.
    """

    title: str
    sections: tuple[Section, ...]
    colours: tuple[str, ...]
    wanted: tuple[str, ...] = ()


def parse_brief(text: str, *, title: str = "") -> Brief:
    """Read a brief.

    Args:
        text: The brief.
        title: The name of the site if the brief does not say one.

    Raises:
        BriefError: It says nothing, or has more sections than a site may have.
    """
    if _WORD.search(text) is None:
        raise BriefError("the brief says nothing")
    text = _UNPRINTABLE.sub(" ", text)
    reading = _Reading(title=" ".join(title.split()))
    for line in _lines(text):
        reading.take(line)
    return reading.brief()


def kind_of(name: str) -> Kind:
    """Return what a section of that name is."""
    return _NAMES.get(slug_of(name).replace("-", " "), "text")


def heading_of(name: str) -> str:
    """Return a name, which may be in small letters, as it stands above its section."""
    return "FAQ" if name.lower() == "faq" else name[:1].upper() + name[1:]


def slug_of(name: str) -> str:
    """Return a name as links have it: letters and digits of any script, hyphens; never empty."""
    plain = unicodedata.normalize("NFKC", name[: 2 * MAX_SLUG]).casefold()
    return re.sub(r"[\W_]+", "-", plain).strip("-")[:MAX_SLUG].rstrip("-") or "section"


def sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def _lines(text: str) -> Iterator[str]:
    """Yield the lines, and each label that begins a sentence on a line of its own."""
    for line in text.splitlines():
        line = line.strip()  # noqa: PLW2901 # the same line, without its margins
        if not line or _HEADING.match(line) or _BULLET.match(line):
            yield line
            continue
        begin = 0
        for end in _SENTENCE_END.finditer(line):
            if _LABEL.match(line, end.end()):
                yield line[begin : end.start()]
                begin = end.end()
        yield line[begin:]


@attrs.define
class _Reading:
    """A brief as far as it has been read."""

    title: str
    names_itself: bool = False
    lead: list[Block] = attrs.field(factory=list)
    sections: list[tuple[str, list[Block]]] = attrs.field(factory=list)
    colours: dict[str, None] = attrs.field(factory=dict)
    wanted: list[str] = attrs.field(factory=list)
    paragraph: list[str] = attrs.field(factory=list)
    bullets: list[str] = attrs.field(factory=list)

    def take(self, line: str) -> None:
        pattern = _NAMED_COLOUR if "colo" in line.lower() else _COLOUR
        for found in pattern.findall(line):
            self.colours.setdefault(_COLOURS.get(found.lower()) or _whole(found.lower()))
        if heading := _HEADING.fullmatch(line):
            self._take_heading(heading[2].strip().rstrip("#: ") or "Section", len(heading[1]))
        elif label := _LABEL.fullmatch(line):
            self._take_label(label[1], label[2])
        elif bullet := _BULLET.fullmatch(line):
            self._end_paragraph()
            self.bullets.append(bullet[1])
        elif include := _INCLUDE.fullmatch(line):
            self._end_block()
            self._blocks().append(Include(include[1].strip()))
        elif not line:
            self._end_block()
        elif self.bullets:
            self.bullets[-1] += f" {line}"  # a bullet goes on in the next line
        else:
            self.paragraph.append(line)

    def brief(self) -> Brief:
        self._end_block()
        named = [(heading, kind_of(heading), blocks) for heading, blocks in self.sections]
        heroes = [each for each in named if each[1] == "hero"]
        hero = [*self.lead, *(block for _, _, blocks in heroes for block in blocks)]
        title = self.title or "Untitled"
        sections = [Section("hero", title, "hero", tuple(hero))]
        taken = {"hero"}
        for heading, kind, blocks in named:
            if kind == "hero":
                continue
            slug = _unique(slug_of(heading), taken)
            sections.append(Section(slug, heading, kind, tuple(blocks)))
        return Brief(
            title=title,
            sections=tuple(sections),
            colours=tuple(self.colours),
            wanted=tuple(self.wanted),
        )

    def _take_heading(self, heading: str, level: int) -> None:
        self._end_block()
        if level == 1 and not self.names_itself and kind_of(heading) == "text":
            self.title, self.names_itself = _checked(heading), True
        else:
            self._begin(heading)

    def _take_label(self, label: str, rest: str) -> None:
        self._end_block()
        match label.lower():
            case "title":
                if rest:
                    self.title, self.names_itself = _checked(rest).rstrip("."), True
            case "sections":
                names = (name.strip(" .") for name in _LIST_SEPARATOR.split(rest))
                self.wanted += [name for name in names if name]
            case "colours" | "colors" | "colour" | "color":
                pass
            case _:
                self._begin(heading_of(label))
                if rest:
                    self.paragraph.append(rest)

    def _begin(self, heading: str) -> None:
        if len(self.sections) == MAX_SECTIONS:
            raise BriefError(f"the brief has more than {MAX_SECTIONS} sections")
        self.sections.append((_checked(heading), []))

    def _blocks(self) -> list[Block]:
        return self.sections[-1][1] if self.sections else self.lead

    def _end_paragraph(self) -> None:
        if self.paragraph:
            self._blocks().append(Paragraph(" ".join(self.paragraph)))
            self.paragraph = []

    def _end_block(self) -> None:
        self._end_paragraph()
        if self.bullets:
            self._blocks().append(Bullets(tuple(self.bullets)))
            self.bullets = []


def _whole(colour: str) -> str:
    """Return ``#rgb`` as ``#rrggbb``."""
    return colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])


def _checked(heading: str) -> str:
    if len(heading) > MAX_HEADING:
        raise BriefError(f"a heading is longer than {MAX_HEADING} characters: {heading[:40]}…")
    return heading


def _unique(slug: str, taken: set[str]) -> str:
    """Return ``slug``, or with a number if it is taken; and take it."""
    number, unique = 1, slug
    while unique in taken:
        number += 1
        unique = f"{slug}-{number}"
    taken.add(unique)
    return unique


assert set(_NAMES.values()) < set(get_args(Kind))
