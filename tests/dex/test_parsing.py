"""Documents to blocks: every format, and what is wrong with a document."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.dex.parsing import (
    FORMATS,
    MAX_SECTIONS,
    detect_format,
    docx,
    parse_section,
    read_sections,
)
from sselib import JobFailed

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def parsed(name: str, data: bytes | str) -> list[tuple[str, list[tuple[str, str]]]]:
    content = data.encode() if isinstance(data, str) else data
    found = detect_format(name, content)
    return [
        (section.title, [(block.kind, block.text) for block in parse_section(section)])
        for section in read_sections(found, content)
    ]


def word(body: str, *, name: str = "word/document.xml", head: str = "") -> bytes:
    """Return a Word document with that body."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, f'{head}<w:document xmlns:w="{W}">{body}</w:document>')
    return file.getvalue()


def test_markdown() -> None:
    """Headings begin sections; lists, tables, code and paragraphs are told apart."""
    text = """\
Before

# One
two lines
of a paragraph
- first
* second
2. third
***
```py
if x:
    # no heading
```
| a | b |
|---|:-:|
| 1 | 2 |
Two
---
## Three ##
~~~
open"""
    assert parsed("a.md", text) == [
        ("Beginning", [("paragraph", "Before")]),
        (
            "One",
            [
                ("heading", "One"),
                ("paragraph", "two lines of a paragraph"),
                ("list_item", "first"),
                ("list_item", "second"),
                ("list_item", "third"),
                ("code", "if x:\n    # no heading"),
                ("table_row", "a | b"),
                ("table_row", "1 | 2"),
                ("paragraph", "Two"),
            ],
        ),
        ("Three", [("heading", "Three"), ("code", "open")]),
    ]


def test_html() -> None:
    """What a reader sees, in blocks: no scripts, no styles, no head."""
    text = """\
<!doctype html><html><head><title>T</title><style>p { color: red }</style></head>
<body>Loose<h1>One</h1><p>a <b>b</b><br>c &amp; d<!-- no -->
<ul><li>x<li>y</ul><table><tr><th>A<th>B</tr><tr><td>1<td><p>2</p></tr></table>
<script>alert("<p>no</p>")</script><pre>  code
  more</pre><h2> Two  words </h2><div>end"""
    assert parsed("a.htm", text) == [
        ("Beginning", [("paragraph", "Loose")]),
        (
            "One",
            [
                ("heading", "One"),
                ("paragraph", "a b c & d"),
                ("list_item", "x"),
                ("list_item", "y"),
                ("table_row", "A | B"),
                ("table_row", "1 | 2"),
                ("code", "  code\n  more"),
            ],
        ),
        ("Two words", [("heading", "Two words"), ("paragraph", "end")]),
    ]


def test_text() -> None:
    """Pages end with form feeds, paragraphs with blank lines, of any kind of line end."""
    assert parsed("a.TXT", "a\r\nb\r\n \r\nc\fd\re") == [
        ("Page 1", [("paragraph", "a b"), ("paragraph", "c")]),
        ("Page 2", [("paragraph", "d e")]),
    ]
    assert parsed("a.txt", "\ufeffæ".encode("utf-16-le")) == [("Page 1", [("paragraph", "æ")])]
    assert parsed("a.txt", "\ufeffæ") == [("Page 1", [("paragraph", "æ")])]


def test_csv() -> None:
    """A row says the names of its columns; a thousand rows are a section."""
    assert parsed("a.csv", 'name,size\n"a, b",1\n\nc,2\n') == [
        ("Rows 1 to 2", [("table_row", "name: a, b; size: 1"), ("table_row", "name: c; size: 2")])
    ]
    assert parsed("a.csv", "name,size\n") == [("Columns", [("heading", "name, size")])]
    assert parsed("a.csv", "") == []
    many = parsed("a.csv", "n\n" + "1\n" * 2500)
    assert [title for title, _ in many] == [
        "Rows 1 to 1000",
        "Rows 1001 to 2000",
        "Rows 2001 to 2500",
    ]


def test_json() -> None:
    """A member is a section, a value a line that says where it stands."""
    value = {"a": {"b": [1, True, None, "x  y"], "c": {}}, "d": []}
    assert parsed("a.json", json.dumps(value)) == [
        (
            "a",
            [
                ("paragraph", "a.b[0]: 1"),
                ("paragraph", "a.b[1]: true"),
                ("paragraph", "a.b[2]: null"),
                ("paragraph", "a.b[3]: x y"),
                ("paragraph", "a.c: {}"),
            ],
        ),
        ("d", [("paragraph", "d: []")]),
    ]
    assert parsed("a.json", '["x", 2]') == [
        ("[0]", [("paragraph", "[0]: x")]),
        ("[1]", [("paragraph", "[1]: 2")]),
    ]
    assert parsed("a.json", "17") == [("value", [("paragraph", "value: 17")])]
    assert parsed("a.json", r'["\ud800"]') == [("[0]", [("paragraph", "[0]: ?")])]


def test_docx() -> None:
    """Paragraphs by their styles, tables by their rows, runs joined."""
    paragraph = (
        "<w:p><w:r><w:t>two </w:t></w:r><w:r><w:t>runs</w:t><w:tab/><w:t>x</w:t></w:r></w:p>"
    )
    heading = '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>One</w:t></w:r></w:p>'
    item = "<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>item</w:t></w:r></w:p>"
    cell = "<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
    table = f"<w:tbl><w:tr>{cell.format(1)}{cell.format(2)}</w:tr></w:tbl>"
    body = f"<w:body>{paragraph}{heading}{item}{table}<w:sectPr/></w:body>"
    assert parsed("a.docx", word(body)) == [
        ("Beginning", [("paragraph", "two runs x")]),
        ("One", [("heading", "One"), ("list_item", "item"), ("table_row", "1 | 2")]),
    ]


def broken_archive() -> bytes:
    data = bytearray(word("<w:body/>"))
    data[40:50] = b"0123456789"
    return bytes(data)


ENTITIES = "<!DOCTYPE d [" + '<!ENTITY a "aaaaaaaaaa">' * 5 + "]>"


@pytest.mark.parametrize(
    ("name", "data", "code", "message"),
    [
        ("a.xyz", b"", "unsupported_format", r"'a\.xyz' \(known: csv, docx"),
        ("noname", b"", "unsupported_format", "unknown format: 'noname'"),
        ("a.txt", b"ab\xff", "undecodable", "not UTF-8 text: byte 2 cannot"),
        ("a.md", b"\xff\xfea", "undecodable", "not UTF-16 text"),
        ("a.docx", b"text", "corrupt_file", r"named \.docx, but is no archive"),
        ("a.html", b"PK\x03\x04", "corrupt_file", r"named \.html, but is an archive"),
        ("a.docx", b"PK\x03\x04 and nothing", "corrupt_file", "archive cannot be read"),
        ("a.docx", broken_archive(), "corrupt_file", "cannot be read"),
        ("a.docx", word("", name="other.xml"), "corrupt_file", "archive has no word/document.xml"),
        ("a.docx", word("<w:body>"), "corrupt_file", "document.xml is not XML: mismatched tag"),
        ("a.docx", word(""), "corrupt_file", "has no body"),
        ("a.docx", word("<w:body/>", head=ENTITIES), "corrupt_file", "document type"),
        ("a.csv", b"a,b\n1\n", "corrupt_file", "row 2 has 1 fields, the first 2"),
        ("a.csv", b'a\n"1', "corrupt_file", "not CSV: unexpected end of data"),
        ("a.csv", b"a\n" + b"1" * 200_000, "corrupt_file", "field larger than field limit"),
        ("a.json", b"{", "corrupt_file", "not JSON: Expecting property name"),
        ("a.json", b"[" * 100_000, "corrupt_file", "nested too deeply"),
        ("a.json", b"1" * 10_000, "corrupt_file", "not JSON: Exceeds the limit"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_document_is_said(
    name: str, data: bytes, code: str, message: str
) -> None:
    """By a code for programs, and a message that names the place."""
    with pytest.raises(JobFailed, match=message) as caught:
        parsed(name, data)
    assert caught.value.code == code


def test_an_archive_that_unpacks_to_too_much_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the bound is unpacked, whatever the archive says of its size."""
    read: list[int] = []

    class Counting(zipfile.ZipExtFile):
        def read(self, n: int | None = -1) -> bytes:
            data = super().read(n)
            read.append(len(data))
            return data

    bomb = word("<w:body>" + " " * 50_000_000 + "</w:body>")
    assert len(bomb) < 100_000
    monkeypatch.setattr(zipfile, "ZipExtFile", Counting)
    with pytest.raises(JobFailed, match="unpacks to more than 33,554,432 bytes") as caught:
        parsed("bomb.docx", bomb)
    assert caught.value.code == "too_large"
    assert read == [docx.MAX_XML_BYTES + 1]


def test_a_document_has_no_more_sections_than_somebody_looks_at() -> None:
    """Neighbours are joined, and nothing is lost."""
    sections = parsed("a.md", "".join(f"# {number}\ntext\n" for number in range(1001)))
    assert len(sections) <= MAX_SECTIONS
    assert sections[0][0] == "0 (and 20 more)"
    assert sum(len(blocks) for _, blocks in sections) == 2002


@pytest.mark.parametrize("tag", ["<a ", "<!--", "<!", "</", "<a b='", "&a", "<script>", "<?", "<["])
def test_what_looks_like_markup_takes_no_time(tag: str) -> None:
    """A megabyte of tags that are never closed is read as quickly as any other."""
    parsed("a.html", tag * (1_000_000 // len(tag)))
    parsed("a.md", ("-" * 1000 + "x\n") * 1000)


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=200) | st.text().map(str.encode))
def test_nothing_in_a_document_raises_anything_else(name: str, data: bytes) -> None:
    """Any bytes are parsed, or are a JobFailed; and what is parsed has a JSON form."""
    try:
        sections: Any = parsed(f"a.{name}", data)
    except JobFailed as error:
        sections = error.message
    json.dumps(sections, ensure_ascii=False).encode()
