"""What the workers write: copy, style and the page, from templates; all text is escaped.

Everything here blocks and is small: a section's copy at a time, in a thread. Parts are written
beside the site, which is what is in the folder that :meth:`Workplace.site` names.
"""

from __future__ import annotations

import colorsys
import hashlib
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import Final

import attrs

from .brief import Block, Brief, BriefError, Bullets, Include, Section, sentences

# A section that includes sections that include sections is as long as it says; a page is not.
MAX_PART_BYTES: Final = 256 * 1024

_TEMPLATES: Final = Path(__file__).with_name("templates")

# Bounded, and none begins inside another: linear in the text, whatever it is.
_INLINE: Final = re.compile(
    r"\[(?P<text>[^\[\]\n]{1,200})\]\((?P<target>[^()\s]{1,500})\)"
    r"|\*\*(?P<strong>[^*\n]{1,500})\*\*"
    r"|(?P<url>https?://[^\s<>()\[\]\"]{1,500}(?<![.,;:!?]))"
    r"|(?<![\w.+-])(?P<email>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4})"
)
_NUMBER: Final = r"\d{1,9}(?:[.,]\d{1,9})*"
_PRICE: Final = re.compile(
    rf"(?:[$€£]\s?{_NUMBER}|{_NUMBER}\s?(?:€|EUR|USD|GBP))(?:\s?/\s?\w{{1,20}})?"
)


@attrs.frozen
class Workplace:
    """A folder of its own for one site that is being built.

    Attributes:
        folder: Where everything is.
    """

    folder: Path

    @property
    def site(self) -> Path:
        """The folder of the site itself."""
        return self.folder / "site"

    def part(self, slug: str) -> Path:
        """Return where a section's copy is, as HTML."""
        return self.folder / "parts" / f"{slug}.html"

    def prepare(self) -> None:
        """Make the folders."""
        self.site.mkdir(parents=True)
        (self.folder / "parts").mkdir()

    def write_copy(self, section: Section) -> None:
        """Write what a section says.

        Raises:
            BriefError: With what it includes it is too long.
        """
        pieces = []
        size = 0
        for block in section.blocks:
            if isinstance(block, Include):
                piece = self.part(block.name).read_text(encoding="utf-8")
            else:
                piece = _block(section, block)
            size += len(piece.encode())
            if size > MAX_PART_BYTES:
                raise BriefError(f"{section.heading!r} is longer than {MAX_PART_BYTES:,} bytes")
            pieces.append(piece)
        self.part(section.slug).write_text("\n".join(pieces), encoding="utf-8")

    def write_style(self, brief: Brief) -> None:
        """Write the style sheet and the logo."""
        palette = palette_of(brief)
        initial = next((letter for letter in brief.title if letter.isalnum()), "·").upper()
        self._fill("style.css", **palette)
        self._fill("logo.svg", **palette, initial=escape(initial))

    def write_page(self, brief: Brief) -> None:
        """Put the page together from the copy of all sections.

        Raises:
            BriefError: All of it together is too long.
        """
        size = 0
        parts = {}
        for section in brief.sections:
            part = parts[section.slug] = self.part(section.slug).read_text(encoding="utf-8")
            size += len(part.encode())
            if size > 4 * MAX_PART_BYTES:
                raise BriefError(f"the page is longer than {4 * MAX_PART_BYTES:,} bytes")
        hero, *others = brief.sections
        call = next((s for kind in ("contact", "pricing") for s in others if s.kind == kind), None)
        self._fill(
            "index.html",
            title=escape(brief.title),
            hero=parts[hero.slug],
            call="" if call is None else _CALL.format(call.slug, escape(call.heading)),
            navigation="\n".join(
                f'      <a href="#{section.slug}">{escape(section.heading)}</a>'
                for section in others
            ),
            sections="\n".join(
                _SECTION.format(each.slug, each.kind, escape(each.heading), parts[each.slug])
                for each in others
            ),
        )

    def _fill(self, name: str, **values: str) -> None:
        template = Template((_TEMPLATES / name).read_text(encoding="utf-8"))
        (self.site / name).write_text(template.substitute(values), encoding="utf-8")


_CALL: Final = '<p><a class="call" href="#{}">{}</a></p>'
_SECTION: Final = """\
  <section id="{0}" class="{1}" aria-labelledby="{0}.heading">
    <h2 id="{0}.heading">{2}</h2>
{3}
  </section>"""


def inline(text: str) -> str:
    """Return text as HTML: links, emphasis, web and mail addresses, and all else escaped."""
    pieces = []
    begin = 0
    for found in _INLINE.finditer(text):
        pieces.append(escape(text[begin : found.start()]))
        begin = found.end()
        if found["target"]:
            pieces.append(f'<a href="{escape(found["target"])}">{escape(found["text"])}</a>')
        elif found["url"]:
            url = escape(found["url"])
            pieces.append(f'<a href="{url}">{url}</a>')
        elif found["strong"]:
            pieces.append(f"<strong>{escape(found['strong'])}</strong>")
        else:
            address = escape(found["email"])
            pieces.append(f'<a href="mailto:{address}">{address}</a>')
    return "".join((*pieces, escape(text[begin:])))


def palette_of(brief: Brief) -> dict[str, str]:
    """Return the colours of a site, as the templates name them.

    The first colour of the brief is the accent, the second stands beside it. What the brief does
    not say comes from the title, so that a site has the same colours whenever it is built. Text
    that is set in the accent is made darker or lighter until it can be read.
    """
    hue = hashlib.sha256(brief.title.encode()).digest()[0] / 256
    accent = brief.colours[0] if brief.colours else _hex(colorsys.hls_to_rgb(hue, 0.36, 0.55))
    turned = (colorsys.rgb_to_hls(*_rgb(accent))[0] + 0.12) % 1
    second = (
        brief.colours[1]
        if len(brief.colours) > 1
        else _hex(colorsys.hls_to_rgb(turned, 0.45, 0.45))
    )
    on_accent = max("#ffffff", "#111111", key=lambda ink: contrast(ink, accent))
    return {
        "accent": accent,
        "second": second,
        "on_accent": on_accent,
        "call_ink": _readable(accent, on_accent, darker=on_accent == "#ffffff"),
        "ink_light": _readable(accent, "#ffffff", darker=True),
        "ink_dark": _readable(accent, "#15171a", darker=False),
    }


def contrast(one: str, other: str) -> float:
    """Return how well two colours can be told apart, from 1 to 21.

    Spec: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
    """
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _readable(colour: str, ground: str, *, darker: bool) -> str:
    hue, light, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    while contrast(colour, ground) < 4.5:  # WCAG's AA for text
        light += -0.02 if darker else 0.02
        colour = _hex(colorsys.hls_to_rgb(hue, min(max(light, 0), 1), saturation))
    return colour


def _luminance(colour: str) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in _rgb(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255


def _hex(rgb: tuple[float, float, float]) -> str:
    return f"#{bytes(round(255 * value) for value in rgb).hex()}"


def _block(section: Section, block: Block) -> str:
    if isinstance(block, Bullets):
        if section.kind == "faq":
            return _answers(block.items)
        if section.kind == "pricing":
            return _cards(map(_offer, block.items))
        if section.kind == "features":
            return _cards(map(_feature, block.items))
        return _list(block.items)
    assert not isinstance(block, Include)
    said = sentences(block.text)
    if section.kind == "faq" and any(sentence.endswith("?") for sentence in said):
        return _answers(said)
    if section.kind == "pricing" and len(said) > 1 and all(map(_PRICE.search, said)):
        return _cards(map(_offer, said))
    return f"    <p>{inline(block.text)}</p>"


def _list(items: tuple[str, ...]) -> str:
    lines = "\n".join(f"      <li>{inline(item)}</li>" for item in items)
    return f"    <ul>\n{lines}\n    </ul>"


def _cards(cards: Iterable[str]) -> str:
    lines = "\n".join(f"      <li>{card}</li>" for card in cards)
    return f'    <ul class="cards">\n{lines}\n    </ul>'


def _offer(text: str) -> str:
    """Return a card for ``Name: $9 / month, what it includes``."""
    name, colon, rest = text.partition(":")
    if not colon:
        name, rest = "", text
    price = _PRICE.search(rest)
    if price is None:
        return _feature(text)
    before, after = rest[: price.start()], rest[price.end() :]
    said = " ".join(piece for piece in (before.strip(), after.strip(" ,;:.-")) if piece)
    return (
        (f"<h3>{inline(name)}</h3>" if name else "")
        + f'<p class="price">{escape(price[0])}</p>'
        + (f"<p>{inline(said)}</p>" if said else "")
    )


def _feature(text: str) -> str:
    """Return a card for ``Name: what it does``."""
    name, colon, rest = text.partition(":")
    if not colon or len(name) > 60 or "[" in name:
        return f"<p>{inline(text)}</p>"
    return f"<h3>{inline(name)}</h3><p>{inline(rest.strip())}</p>"


def _answers(said: list[str] | tuple[str, ...]) -> str:
    """Return questions that open to their answers: what follows up to the next question."""
    lines: list[str] = []
    answers: list[str] = []
    question = ""

    def end() -> None:
        answer = inline(" ".join(answers))
        if question:
            lines.append(
                f"    <details><summary>{inline(question)}</summary><p>{answer}</p></details>"
            )
        elif answer:
            lines.append(f"    <p>{answer}</p>")
        answers.clear()

    for sentence in (each for text in said for each in sentences(text)):
        if sentence.endswith("?"):
            end()
            question = sentence
        else:
            answers.append(sentence)
    end()
    return "\n".join(lines)
