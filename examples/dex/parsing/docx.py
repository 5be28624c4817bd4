"""Word documents: a zip archive with the text as XML in one of its files.

An archive can unpack to a thousand times its size, and XML can define entities that expand into
each other. So no more is unpacked than :data:`MAX_XML_BYTES`, whatever the archive says of itself,
and a document type, in which alone entities are defined, is refused. Names in the archive are
looked up and never used as paths.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Final
from xml.etree import ElementTree as ET

from sselib import JobFailed

from .blocks import Block, Kind, Section, by_headings

MAX_XML_BYTES: Final = 32 * 1024 * 1024  # War and Peace takes six

_TEXT: Final = "word/document.xml"
_W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


class _NoDocumentType(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 # the protocol's
        raise JobFailed("the document defines a document type", code="corrupt_file")


def read(data: bytes) -> list[Section]:
    """Make a section of each heading and what follows it."""
    body = _parsed(_unpacked(data)).find(f"{_W}body")
    if body is None:
        raise JobFailed(f"{_TEXT} has no body", code="corrupt_file")
    blocks: list[Block] = []
    for element in body:
        if element.tag == f"{_W}p":
            blocks.append(Block(_kind(element), _text(element)))
        elif element.tag == f"{_W}tbl":
            for row in element.iter(f"{_W}tr"):
                cells = [_text(cell) for cell in row.findall(f"{_W}tc")]
                blocks.append(Block("table_row", " | ".join(cells)))
    return by_headings(blocks)


def _unpacked(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_TEXT) as file:
            xml = file.read(MAX_XML_BYTES + 1)
    except KeyError as error:
        raise JobFailed(f"the archive has no {_TEXT}", code="corrupt_file") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # The last two: a compression or an encryption that is not known here.
        raise JobFailed(f"the archive cannot be read: {error}", code="corrupt_file") from error
    if len(xml) > MAX_XML_BYTES:
        raise JobFailed(f"{_TEXT} unpacks to more than {MAX_XML_BYTES:,} bytes", code="too_large")
    return xml


def _parsed(xml: bytes) -> ET.Element:
    parser = ET.XMLParser(target=_NoDocumentType())  # noqa: S314 # bounded, and without entities
    try:
        parser.feed(xml)
        root = parser.close()
    except ET.ParseError as error:
        raise JobFailed(f"{_TEXT} is not XML: {error}", code="corrupt_file") from error
    assert isinstance(root, ET.Element)
    return root


def _kind(paragraph: ET.Element) -> Kind:
    properties = paragraph.find(f"{_W}pPr")
    if properties is not None:
        style = properties.find(f"{_W}pStyle")
        name = "" if style is None else style.get(f"{_W}val", "")
        if name.lower().startswith(("heading", "title")):
            return "heading"
        if properties.find(f"{_W}numPr") is not None:
            return "list_item"
    return "paragraph"


def _text(element: ET.Element) -> str:
    pieces = []
    for each in element.iter():
        if each.tag == f"{_W}t":
            pieces.append(each.text or "")
        elif each.tag == f"{_W}tab":
            pieces.append("\t")
        elif each.tag in {f"{_W}br", f"{_W}p"}:
            pieces.append("\n")
    return "".join(pieces)
