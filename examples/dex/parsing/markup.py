"""Text with markup: html, md."""

from __future__ import annotations

import re
from typing import Final

from lxml import etree

from sselib import JobFailed

from .blocks import Block, Kind, Section, by_headings, decoded

_BLOCKS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "heading"),
    **dict.fromkeys(("p", "div", "section", "article", "blockquote", "dd", "dt"), "paragraph"),
    "li": "list_item",
    "tr": "table_row",
    "pre": "code",
}
_CELLS: Final = frozenset(("td", "th"))
_UNSEEN: Final = frozenset(("script", "style", "template", "head"))

_FENCE: Final = re.compile(r" {0,3}(```|~~~)")
_HEADING: Final = re.compile(r" {0,3}#{1,6}(?:[ \t]+|$)")
_ITEM: Final = re.compile(r"[ \t]*(?:[-*+]|[0-9]{1,9}[.)])[ \t]+")
_ROW: Final = re.compile(r"[ \t]*\|")


def read_html(data: bytes) -> list[Section]:
    """Make a section of each heading and what follows it; scripts and styles are no text."""
    reader = _Reader()
    parser = etree.HTMLParser(target=reader)
    try:
        parser.feed(decoded(data))
        parser.close()
    except etree.LxmlError as error:
        raise JobFailed(f"the file is not HTML: {error}", code="corrupt_file") from error
    reader.flush()
    return by_headings(reader.blocks)


class _Reader:
    """What the parser tells of a document, made blocks."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._text: list[str] = []
        self._kind: Kind = "paragraph"
        self._unseen = 0

    def flush(self, kind: Kind = "paragraph") -> None:
        text = "".join(self._text)
        if text.strip():
            self.blocks.append(Block(self._kind, text))
        self._text, self._kind = [], kind

    def start(self, tag: str | bytes, _: object) -> None:
        assert isinstance(tag, str)
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag in _CELLS and self._kind == "table_row":
            self._text.append(" | " if self._text else "")
        elif tag == "tr" or (tag in _BLOCKS and self._kind != "table_row"):
            self.flush(_BLOCKS[tag])
        elif tag == "br":
            self._text.append("\n")

    def end(self, tag: str | bytes) -> None:
        assert isinstance(tag, str)
        if tag in _UNSEEN:
            self._unseen -= 1
        elif tag == "tr" or (tag in _BLOCKS and self._kind != "table_row"):
            self.flush()

    def data(self, data: str | bytes) -> None:
        assert isinstance(data, str)
        if not self._unseen:
            self._text.append(data)

    def comment(self, text: str | bytes) -> None:
        """Ignore a comment."""

    def close(self) -> None:
        """Be at the end of the document."""


def read_markdown(data: bytes) -> list[Section]:
    """Make a section of each heading and what follows it."""
    blocks: list[Block] = []
    held: list[str] = []
    kind: Kind = "paragraph"
    fence: str | None = None

    def flush() -> None:
        if held:
            blocks.append(Block(kind, "\n".join(held)))
            held.clear()

    lines = decoded(data).splitlines()
    for line in lines:
        opening = _FENCE.match(line)
        if fence is not None:
            if opening is not None and opening[1] == fence:
                flush()
                fence, kind = None, "paragraph"
            else:
                held.append(line)
        elif opening is not None:
            flush()
            fence, kind = opening[1], "code"
        elif _HEADING.match(line):
            flush()
            blocks.append(Block("heading", line.strip().strip("#").strip()))
        elif not line.strip() or _is_rule(line.strip()):
            flush()
            kind = "paragraph"
        elif _ITEM.match(line):
            flush()
            kind = "list_item"
            held.append(_ITEM.sub("", line, count=1))
        elif _ROW.match(line):
            flush()
            blocks.append(Block("table_row", line.strip().strip("|")))
        else:
            held.append(line)
    flush()
    return by_headings(blocks)


def _is_rule(line: str) -> bool:
    """Return whether a line divides paragraphs, or a table's head from its rows."""
    if len(line) < 3:
        return False
    return (line.strip(line[0]) == "" and line[0] in "-*_") or (
        "---" in line and not line.strip("|-: \t")
    )
