"""The text of a file, by its extension.

A file that is not what its name says is an error, and never half a text. Work is linear in the size
of the file whatever is in it, since threads cannot be stopped: lxml tells of HTML without building
a tree of it (the standard library's parser takes minutes for a megabyte of comments that do not
end), and the marks of Markdown are found by an expression that does not go back.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.parsers import expat

from lxml import etree

from ..text import printable

MAX_TEXT_CHARACTERS: Final = 20_000_000  # of an archive that is small only as long as it is packed


class Unreadable(Exception):
    """The file is not what its name says; the message says why."""


def extension(path: str) -> str:
    """Return the extension of a path, in lower case."""
    return os.path.splitext(path)[1].lower()


def is_supported(path: str) -> bool:
    """Whether there is a way to take text out of files of this name."""
    return extension(path) in _WAYS


def extract(path: str, content: bytes) -> str:
    """Return the text that is in the content of a file.

    Args:
        path: Where it is; its extension says how to read it.
        content: What is in it.

    Raises:
        Unreadable: It is not what its extension says.
    """
    try:
        return printable(_WAYS[extension(path)](content))
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {error.start} is not {error.encoding}") from None
    # What the readers of each format raise, and some that they should not.
    except (
        *(ValueError, SyntaxError, LookupError, EOFError, NotImplementedError),
        *(
            csv.Error,
            zipfile.BadZipFile,
            zlib.error,
            expat.ExpatError,
            etree.LxmlError,
            RuntimeError,
        ),
    ) as error:
        raise Unreadable(str(error) or type(error).__name__) from error


def _text(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = content.decode(encoding)
    if "\0" in text:
        raise Unreadable("it is not text: there is a NUL in it")
    return text


def _decoded(content: bytes, encoding: str) -> str:
    """Decode what says by itself how it is encoded."""
    if codecs.lookup(encoding).name == "punycode":  # it takes minutes, and no file is
        raise Unreadable(f"no file is encoded as {encoding}")
    return content.decode(encoding)


_MARKS: Final = re.compile(
    r"^[ \t]*(?:[#>]+|[-*+][ \t]|```.*|~~~.*)"  # what a line begins with
    r"|!?\[(?P<shown>[^\[\]\n]{0,300})\]\([^()\n]{0,2000}\)"  # a link or an image
    r"|(?<!\w)[*_`~]{1,3}(?=\w)|(?<=[\w.,:;!?)])[*_`~]{1,3}(?!\w)",  # emphasis
    re.MULTILINE,
)


def _markdown(content: bytes) -> str:
    return _MARKS.sub(lambda mark: mark["shown"] or "", _text(content))


_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_UNSEEN: Final = frozenset(("script", "style", "template", "noscript"))
_INLINE: Final = frozenset(
    "a abbr b bdi bdo cite code data dfn em font i kbd mark q s samp small span strong sub sup time"  # noqa: SIM905 # it is read as text
    " u var wbr".split()
)


def _html(content: bytes) -> str:
    declared = _CHARSET.search(content[:1024])
    text = _decoded(content, declared[1].decode()) if declared else _text(content)
    reader = _Reader()
    parser = etree.HTMLParser(target=reader)
    parser.feed(text)
    parser.close()
    lines = "".join(reader.pieces).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


class _Reader:
    """What the parser tells of a document."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._unseen = 0

    def start(self, tag: str | bytes, _: object) -> None:
        self._unseen += tag in _UNSEEN
        self._part(tag)

    def end(self, tag: str | bytes) -> None:
        self._unseen -= tag in _UNSEEN
        self._part(tag)

    def data(self, data: str | bytes) -> None:
        assert isinstance(data, str)
        if not self._unseen:
            self.pieces.append(data)

    def comment(self, text: str | bytes) -> None:
        """Ignore a comment."""

    def close(self) -> None:
        """Be at the end of the document."""

    def _part(self, tag: str | bytes) -> None:
        if tag not in _INLINE:
            self.pieces.append("\n")


def _csv(content: bytes) -> str:
    rows = csv.reader(io.StringIO(_text(content), newline=""), strict=True)
    return "\n".join(" ".join(row) for row in rows)


def _json(content: bytes) -> str:
    return "\n".join(_strings(json.loads(_text(content))))


def _strings(value: Any) -> Iterator[str]:
    """Yield the names and values of a JSON value, in its order."""
    ahead = [value]
    while ahead:
        value = ahead.pop()
        if isinstance(value, dict):
            for name, inner in reversed(value.items()):
                ahead += [inner, name]
        elif isinstance(value, list):
            ahead += reversed(value)
        elif value is not None and not isinstance(value, bool):
            yield str(value)


def _python(content: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    text = _decoded(content, encoding)
    if "\0" in text:
        raise Unreadable("it is not Python: there is a NUL in it")
    return text


_WORD: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_STRICT_WORD: Final = "http://purl.oclc.org/ooxml/wordprocessingml/main "


def _docx(content: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        try:
            document = archive.open("word/document.xml")
        except KeyError:
            raise Unreadable("there is no document in it") from None
        with document:
            return _paragraphs(lambda: document.read(65_536))


def _paragraphs(read: Callable[[], bytes]) -> str:
    """Return the text of the main part of a Word document."""
    pieces: list[str] = []
    size = 0
    inside = False
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def name_of(tag: str) -> str:
        return tag.removeprefix(_WORD).removeprefix(_STRICT_WORD)

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal inside
        inside = name_of(tag) == "t"
        if name_of(tag) in ("tab", "br"):
            pieces.append(" ")

    def end(tag: str) -> None:
        nonlocal inside
        inside = False
        if name_of(tag) == "p":
            pieces.append("\n")

    def text(data: str) -> None:
        if inside:
            pieces.append(data)

    def doctype(*_: object) -> None:
        raise Unreadable("a Word document declares no entities")  # by which it could grow

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    while data := read():
        size += len(data)
        if size > MAX_TEXT_CHARACTERS:
            raise Unreadable(f"there are more than {MAX_TEXT_CHARACTERS} characters in it")
        parser.Parse(data, False)  # noqa: FBT003 # it takes no names
    parser.Parse(b"", True)  # noqa: FBT003 # it takes no names
    return "".join(pieces)


_WAYS: Final[dict[str, Callable[[bytes], str]]] = {
    ".csv": _csv,
    ".docx": _docx,
    ".htm": _html,
    ".html": _html,
    ".json": _json,
    ".markdown": _markdown,
    ".md": _markdown,
    ".py": _python,
    ".txt": _text,
}
