"""Text without markup, and data: txt, csv, json."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any, Final

from sselib import JobFailed

from .blocks import Block, Section, decoded

ROWS_PER_SECTION: Final = 1000

_BLANK_LINES: Final = re.compile(r"\n[ \t]*\n")


def read_text(data: bytes) -> list[Section]:
    """Make a section of each page; pages end with form feeds, paragraphs with blank lines."""
    text = decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    return [
        Section(
            f"Page {number}",
            tuple(Block("paragraph", paragraph) for paragraph in _BLANK_LINES.split(page)),
        )
        for number, page in enumerate(text.split("\f"), 1)
    ]


def read_csv(data: bytes) -> list[Section]:
    """Make a section of each thousand rows, each row saying the names of its columns."""
    text = decoded(data)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise JobFailed(f"the file is not CSV: {error}", code="corrupt_file") from error
    if not rows:
        return []
    names, rows = rows[0], rows[1:]
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise JobFailed(
                f"the file is not CSV: row {number} has {len(row)} fields, the first {len(names)}",
                code="corrupt_file",
            )
    blocks = [
        Block(
            "table_row",
            "; ".join(f"{name}: {value}" for name, value in zip(names, row, strict=True)),
        )
        for row in rows
    ]
    return [
        Section(
            f"Rows {start + 1} to {min(start + ROWS_PER_SECTION, len(blocks))}",
            tuple(blocks[start : start + ROWS_PER_SECTION]),
        )
        for start in range(0, len(blocks), ROWS_PER_SECTION)
    ] or [Section("Columns", (Block("heading", ", ".join(names)),))]


def read_json(data: bytes) -> list[Section]:
    """Make a section of each member of the outermost object or array, a line of each value."""
    text = decoded(data)
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            members = [(str(name), member) for name, member in value.items()]
        elif isinstance(value, list):
            members = [(f"[{index}]", member) for index, member in enumerate(value)]
        else:
            members = [("value", value)]
        return [
            Section(
                _whole(name[:80]), tuple(Block("paragraph", line) for line in _lines(name, member))
            )
            for name, member in members
        ]
    except RecursionError as error:
        raise JobFailed("the JSON is nested too deeply", code="corrupt_file") from error
    except ValueError as error:
        raise JobFailed(f"the file is not JSON: {error}", code="corrupt_file") from error


def _lines(path: str, value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for name in value for line in _lines(f"{path}.{name}", value[name])]
    if isinstance(value, list) and value:
        return [
            line for index, each in enumerate(value) for line in _lines(f"{path}[{index}]", each)
        ]
    return [_whole(f"{path}: {value if isinstance(value, str) else json.dumps(value)}")]


def _whole(text: str) -> str:
    """Replace the halves of characters that JSON can escape one by one, and UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode()
