"""The quality check finds each thing that can be wrong, and nothing that is well."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.guild.site.check import check_site

HEAD = '<!doctype html><html lang="en"><head><title>T</title></head><body>'
GOOD = (
    HEAD + '<h1 id="top">T</h1><img src="a.svg" alt=""><br><a href="#top">up</a>'
    '<a href="a.svg#x">a</a><a href="sub/b.html#b%C3%A9">b</a><a href="https://a.example/x">c</a>'
    '<a href="mailto:a@b.example">d</a><a href="">e</a><a href="//a.example">f</a></body></html>'
)
SUB = (
    HEAD + '<h1 id="bé">B</h1><a href="../index.html#top">up</a><img src="../a.svg" alt="a">'
    "</body></html>"
)


def problems(site: Path, body: str, *, head: str = HEAD) -> list[str]:
    """Check a page with this body."""
    (site / "index.html").write_text(f"{head}{body}</body></html>", encoding="utf-8")
    return [str(problem) for problem in check_site(site)]


def test_a_site_that_holds_together_has_no_problems(tmp_path: Path) -> None:
    """Links to places, to files and pages of the site, and away."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(GOOD, encoding="utf-8")
    (tmp_path / "sub/b.html").write_text(SUB, encoding="utf-8")
    (tmp_path / "a.svg").write_text("<svg/>", encoding="utf-8")
    assert check_site(tmp_path) == []


@pytest.mark.parametrize(
    "link",
    [
        *("#nowhere", "missing.html", "sub/", "index.html#nowhere", "%00", "/etc/passwd"),
        *("../outside.txt", "sub/../../outside.txt", "%2e%2e/outside.txt", ".."),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str) -> None:
    """No such place, no such file, a folder, or a file that is not the site's."""
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (tmp_path / "outside.txt").touch()
    assert problems(site, f'<h1>T</h1><a href="{link}">x</a>') == [
        f"index.html: the link {link!r} leads nowhere"
    ]


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"])
def test_a_link_that_could_do_harm_is_found(tmp_path: Path, link: str) -> None:
    """Only schemes that are known to do none are allowed."""
    assert problems(tmp_path, f'<h1>T</h1><a href="{link}">x</a>') == [
        f"index.html: the link {link!r} is of a kind that is not allowed"
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<h1>T</h1><p>open", "<p> is not closed"),
        ("<h1>T</h1><p><b>x</p></b>", "</p> closes <b>"),
        ("<h1>T</h1><p/>", "<p/> does not close itself in HTML"),
        ('<h1 id="a">T</h1><p id="a"></p>', "the id 'a' is there twice"),
        ('<h1>T</h1><img src="index.html">', "the image index.html has no text"),
        ("<h1>T</h1><h1>T</h1>", "the page has 2 main headings instead of one"),
        ("<p></p>", "the page has 0 main headings instead of one"),
        ('<h1>T</h1><a href="//[">x</a>', "the link '//[' is not an address"),
        ("<h1>T</h1></body></html></p>", "</p> closes nothing"),
    ],
)
def test_what_is_wrong_with_a_page_is_found(tmp_path: Path, body: str, message: str) -> None:
    """Each kind of fault is named."""
    assert f"index.html: {message}" in problems(tmp_path, body)


def test_a_page_says_its_title_and_its_language(tmp_path: Path) -> None:
    """Both are needed."""
    assert problems(tmp_path, "<h1>T</h1>", head="<html><head><title> </title></head><body>") == [
        "index.html: the page does not say its language",
        "index.html: the page has no title",
    ]


def test_a_site_has_an_index(tmp_path: Path) -> None:
    """Without one there is no site."""
    assert [str(problem) for problem in check_site(tmp_path)] == ["index.html: is missing"]
