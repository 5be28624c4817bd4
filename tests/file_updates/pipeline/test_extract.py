"""The text of files, and of files that are not what their names say."""

from __future__ import annotations

import io
import zipfile

import pytest

from examples.file_updates.pipeline import extract as extract_module
from examples.file_updates.pipeline.extract import Unreadable, extract, is_supported

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DOCUMENT = (
    f'<w:document xmlns:w="{WORD}"><w:body><w:p><w:r><w:t>Hel</w:t></w:r><w:r><w:t>lo</w:t></w:r>'
    "<w:r><w:tab/><w:t>there</w:t></w:r></w:p><w:p><w:pPr>no text</w:pPr><w:r><w:t>two</w:t></w:r>"
    "</w:p></w:body></w:document>"
)


def docx(document: str | None = DOCUMENT) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        if document is not None:
            archive.writestr("word/document.xml", document)
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        ("a.txt", "Grüße\n☃".encode(), "Grüße\n☃"),
        ("a.TXT", b"\xef\xbb\xbfmarked", "marked"),
        ("a.txt", "sechzehn".encode("utf-16"), "sechzehn"),
        ("a.txt", b"", ""),
        ("a.md", b"# Title\n\n> said\n- one *two* __three__", " Title\n\n said\none two three"),
        ("a.markdown", b"[a link](http://x/y_z) ![img](u) `code`", "a link img code"),
        ("a.md", b"snake_case 2*3*4\n```py\nx\n```\n", "snake_case 2*3*4\n\nx\n\n"),
        ("a.html", b"<p>Hel<b>lo</b> &amp; you<br>there</p>", "Hello & you\nthere"),
        ("a.htm", b"a<script>x<y</script>b<STYLE>z</STYLE>c<!-- d -->e", "a\nb\nce"),
        ("a.html", b"a<script>never closed", "a"),
        ("a.html", b'<meta charset="latin-1">\xe9', "é"),
        ("a.html", b"", ""),
        ("a.html", b"<title>T</title><body><p>x</html>y", "T\nx\ny"),
        ("a.html", b"<div>" * 10_000 + b"deep", "deep"),
        ("a.html", b"1 < 2 <never closed", "1 < 2"),
        ("a.csv", b'a,"b, c"\r\nd,"e\nf"\r\n', "a b, c\nd e\nf"),
        ("a.json", b'{"b": [1, "two", {"c": null}], "d": true}', "b\n1\ntwo\nc\nd"),
        ("a.json", b'["\\ud800"]', "\ufffd"),
        ("a.py", b"# -*- coding: latin-1 -*-\n# \xe9\n", "# -*- coding: latin-1 -*-\n# é\n"),
        ("a.docx", docx(), "Hello there\ntwo\n"),
    ],
)
def test_text_is_taken_out(path: str, content: bytes, text: str) -> None:
    """Each supported type gives what people would read in it, in its order."""
    assert is_supported(path)
    assert extract(path, content) == text


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("a.txt", b"ab\xff", "byte 2 is not utf-8"),
        ("a.txt", b"a\0b", "NUL"),
        ("a.md", b"\x80", "not utf-8"),
        ("a.html", b"<meta charset=klingon>", "klingon"),
        ("a.html", b"<meta charset=PunyCode>", "PunyCode"),
        ("a.html", b"<meta charset=zlib>", "zlib"),
        ("a.py", b"# coding: punycode\n", "punycode"),
        ("a.csv", b'a,"b\n', "unexpected end"),
        ("a.csv", b"x" * 200_000, "field larger"),
        ("a.json", b"{", "line 1"),
        ("a.json", b"[" * 100_000, "nested"),
        ("a.json", b"1" * 10_000, "digit"),
        ("a.py", b"# coding: klingon\n", "klingon"),
        ("a.py", b"\xff", "invalid or missing encoding"),
        ("a.py", b"\0", "NUL"),
        ("a.docx", b"PK\x03\x04", "zip"),
        ("a.docx", docx()[:-60], "zip"),
        ("a.docx", docx(None), "no document"),
        ("a.docx", docx("<a>"), "no element found"),
        ("a.docx", docx('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "entities"),
    ],
)
def test_what_is_not_what_its_name_says(path: str, content: bytes, reason: str) -> None:
    """It is unreadable, with the reason, and never half a text."""
    with pytest.raises(Unreadable, match=reason):
        extract(path, content)


def test_a_damaged_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that were changed in it are found out."""
    content = bytearray(docx())
    content[60] ^= 255
    with pytest.raises(Unreadable):
        extract("a.docx", bytes(content))


def test_an_archive_that_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is let go of at a bound, however small it is when packed."""
    monkeypatch.setattr(extract_module, "MAX_TEXT_CHARACTERS", 1_000_000)
    bomb = docx(f"<a>{' ' * 2_000_000}</a>")
    assert len(bomb) < 10_000
    with pytest.raises(Unreadable, match="more than 1000000"):
        extract("a.docx", bomb)


@pytest.mark.parametrize("path", ["a", "a.exe", "a.png", ".md", "a.md.bak", "txt"])
def test_other_types_are_not_supported(path: str) -> None:
    """The extension decides."""
    assert not is_supported(path)


@pytest.mark.parametrize("path", ["a.html", "a.md"])
@pytest.mark.parametrize(
    "piece", ["<div>", "<!--", "<a ", "<script", "&lt", "[", "*", "`", " ", "[a]("]
)
def test_no_text_takes_long(path: str, piece: str) -> None:
    """A megabyte of the same is read in less than the deadline of this test, by far."""
    extract(path, piece.encode() * (1_000_000 // len(piece)))
