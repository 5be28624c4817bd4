"""What documents are made of here, whatever format they came in."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from sselib import JobFailed

Kind: TypeAlias = Literal["heading", "paragraph", "list_item", "table_row", "code"]


@attrs.frozen
class Block:
    """A piece of text that belongs together."""

    kind: Kind
    text: str


@attrs.frozen
class Section:
    """A part of a document as its format has it, with its blocks as they were found."""

    title: str
    blocks: tuple[Block, ...]


def by_headings(blocks: list[Block]) -> list[Section]:
    """Begin a section with each heading."""
    sections: list[Section] = []
    title, held = "Beginning", list[Block]()
    for block in blocks:
        if block.kind == "heading":
            if held:
                sections.append(Section(title, tuple(held)))
            title, held = " ".join(block.text.split())[:80] or "Untitled", []
        held.append(block)
    return [*sections, Section(title, tuple(held))] if held else sections


def joined(sections: list[Section], most: int) -> list[Section]:
    """Join neighbours until there are no more than so many."""
    size = -(-len(sections) // most)
    if size <= 1:
        return sections
    groups = [sections[start : start + size] for start in range(0, len(sections), size)]
    return [
        Section(
            f"{group[0].title} (and {len(group) - 1} more)" if len(group) > 1 else group[0].title,
            tuple(block for section in group for block in section.blocks),
        )
        for group in groups
    ]


def decoded(data: bytes) -> str:
    """Return text that is UTF-8, or UTF-16 that says so in its first bytes.

    Raises:
        JobFailed: It is neither.
    """
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise JobFailed(
            f"the file is not {name} text: byte {error.start} cannot be decoded",
            code="undecodable",
        ) from error
