"""Documents to blocks of text, in the three stages that a job shows.

:func:`detect_format` looks at the name and the first bytes. A format's ``read`` cuts the document
into sections: pages, chapters, sheets, whatever it has. :func:`parse_section` makes the blocks of
one, so that a long document shows progress and can be given up between two sections.

All of it is plain computation on bytes, for a worker thread. What a document may cost is bounded
here: its bytes by whoever takes it in, what it unpacks to by the formats that unpack, the number
of its sections by joining neighbours. What is wrong with a document is a
:class:`sselib.JobFailed` that says what and where; nothing a document holds can raise another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sselib import JobFailed

from . import docx, markup, plain
from .blocks import Block as Block
from .blocks import Section, joined

MAX_SECTIONS: Final = 50  # each is a span of its job: more than anybody looks through

FORMATS: Final[dict[str, Callable[[bytes], list[Section]]]] = {
    "csv": plain.read_csv,
    "docx": docx.read,
    "html": markup.read_html,
    "json": plain.read_json,
    "md": markup.read_markdown,
    "txt": plain.read_text,
}
_SUFFIXES: Final = {"htm": "html", "markdown": "md", "text": "txt"} | {
    name: name for name in FORMATS
}


def detect_format(filename: str, data: bytes) -> str:
    """Return the name of the format that a document is in.

    Raises:
        JobFailed: It is in none that is known here, or its content is not what its name says.
    """
    _, dot, suffix = filename.rpartition(".")
    found = _SUFFIXES.get(suffix.lower()) if dot else None
    if found is None:
        known = ", ".join(sorted(FORMATS))
        raise JobFailed(
            f"unknown format: {filename[-80:]!r} (known: {known})", code="unsupported_format"
        )
    is_archive = data.startswith(b"PK")
    if is_archive != (found == "docx"):
        what = "an archive" if is_archive else "no archive"
        raise JobFailed(f"the file is named .{suffix}, but is {what}", code="corrupt_file")
    return found


def read_sections(name: str, data: bytes) -> list[Section]:
    """Cut a document, in the format of that name, into at most :data:`MAX_SECTIONS` sections.

    Raises:
        JobFailed: It cannot be decoded, is corrupt, or unpacks to too much.
    """
    return joined(FORMATS[name](data), MAX_SECTIONS)


def parse_section(section: Section) -> list[Block]:
    """Return the blocks of a section: their text with its white space put in order, if any."""
    blocks = []
    for block in section.blocks:
        text = block.text if block.kind == "code" else " ".join(block.text.split())
        if text.strip():
            blocks.append(Block(block.kind, text))
    return blocks
