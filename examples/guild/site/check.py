"""The quality check: does the site hold together?

Every page is parsed as a browser would, and each of its promises is looked up: that tags are closed
by their own, ids are unique, there is a title, a language and one main heading, images have a text,
and that every link leads somewhere: to a place on the page, to a file of the site, or away by a
scheme that is harmless. Nothing is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

# https://html.spec.whatwg.org/multipage/syntax.html#void-elements
_VOID: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
)
_HARMLESS: Final = frozenset(("http", "https", "mailto", "tel"))


@attrs.frozen
class Problem:
    """What is wrong with a page.

    Attributes:
        page: Its path in the site.
        message: What is wrong.
    """

    page: str
    message: str

    def __str__(self) -> str:
        return f"{self.page}: {self.message}"


def check_site(site: Path) -> list[Problem]:
    """Return what is wrong with the pages of a site; nothing if it is well.

    This blocks.
    """
    pages = {
        path.relative_to(site).as_posix(): _parsed(path) for path in sorted(site.rglob("*.html"))
    }
    if "index.html" not in pages:
        return [Problem("index.html", "is missing")]
    return [
        Problem(name, message)
        for name, page in pages.items()
        for message in (*page.problems, *page.lacks(), *_broken(name, page, pages, site))
    ]


class _Page(HTMLParser):
    """What stands in a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []
        self.has_language = False
        self.title = ""
        self.headings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "html":
            self.has_language = bool(given.get("lang"))
        elif tag == "h1":
            self.headings += 1
        elif tag == "img" and given.get("alt") is None:
            self.problems.append(f"the image {given.get('src')} has no text")
        if id := given.get("id"):
            if id in self.ids:
                self.problems.append(f"the id {id!r} is there twice")
            self.ids.add(id)
        self.links += [link for name in ("href", "src") if (link := given.get(name)) is not None]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.problems.append(f"<{tag}/> does not close itself in HTML")
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            inside = f"<{self.open[-1]}>" if self.open else "nothing"
            self.problems.append(f"</{tag}> closes {inside}")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title":
            self.title += data

    def lacks(self) -> Iterator[str]:
        for tag in self.open:
            yield f"<{tag}> is not closed"
        if not self.has_language:
            yield "the page does not say its language"
        if not self.title.strip():
            yield "the page has no title"
        if self.headings != 1:
            yield f"the page has {self.headings} main headings instead of one"


def _parsed(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


def _broken(name: str, page: _Page, pages: dict[str, _Page], site: Path) -> Iterable[str]:
    """Yield what is wrong with the page's links."""
    for link in dict.fromkeys(page.links):
        try:
            url = urlsplit(link)
        except ValueError:
            yield f"the link {link!r} is not an address"
            continue
        if url.scheme or url.netloc:
            if url.scheme and url.scheme not in _HARMLESS:
                yield f"the link {link!r} is of a kind that is not allowed"
            continue
        target = name
        if url.path:
            target = os.path.normpath(os.path.join(os.path.dirname(name), unquote(url.path)))
            outside = target.startswith(("../", "/")) or target == ".."
            if outside or "\0" in target or not (site / target).is_file():
                yield f"the link {link!r} leads nowhere"
                continue
        fragment = unquote(url.fragment)
        if fragment and target in pages and fragment not in pages[target].ids:
            yield f"the link {link!r} leads nowhere"
