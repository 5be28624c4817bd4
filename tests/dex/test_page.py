"""The page in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ..pages import bar, connection, open_browser, open_page, watch_bar
from ..processes import Example, Start

# Some seconds of work.
LONG = ("# A heading\n\nWords of a paragraph that is like all others.\n\n" * 20_000).encode()


@pytest.fixture(scope="module")
def browser(require_program: Callable[..., str]) -> Iterator[Browser]:
    with open_browser(require_program) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with open_page(browser) as page:
        yield page


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with Example.starting("examples.dex", tmp_path_factory.mktemp("dex")) as start:
        yield start


@pytest.fixture(scope="module")
def server(start: Start) -> Example:
    return start()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).press("Enter")


def choose(page: Page, sample: str) -> None:
    page.get_by_label("Or samples").select_option(sample)


def choose_long(page: Page, count: int) -> None:
    files = [
        {"name": f"{number}.md", "mimeType": "text/markdown", "buffer": LONG}
        for number in range(count)
    ]
    page.locator("#files").set_input_files(files)  # type: ignore[arg-type] # a dict is as good as its TypedDict


def test_documents_are_parsed_before_your_eyes(server: Example, page: Page) -> None:
    """The bar moves, the trace grows to a tree, and the chunks are there to read."""
    page.goto(server.url)
    seen = watch_bar(page)
    press(page, "Parse")
    bar(page, 100)
    assert seen() == sorted(seen())
    expect(page.locator(".step")).to_have_text("succeeded")
    connection(page, "ended")
    spans = page.locator(".steps li")
    expect(spans.first).to_contain_text("batch parse")
    for name in ("handbook.md", "prices.csv", "report.html"):
        expect(spans.filter(has_text=name)).to_have_count(1)
        expect(page.locator("#documents tr").filter(has_text=name)).to_contain_text("succeeded")
    expect(page.locator(".steps li:not([data-tone=good])")).to_have_count(0)
    summary = page.locator("summary").first
    summary.press("Enter")
    expect(page.locator("pre").first).to_contain_text("How we work")


def test_one_document_shows_its_stages(server: Example, page: Page) -> None:
    """In the order in which they ran, below their root."""
    page.goto(server.url)
    choose(page, "single")
    seen = watch_bar(page)
    press(page, "Parse")
    bar(page, 100)
    names = page.locator(".steps li span").all_text_contents()
    stages = ["load document", "detect format", "parse blocks", "chunk", "store result"]
    assert [name for name in names if name in stages] == stages
    assert names[0] == "handbook.md"
    assert seen() == sorted(seen())


def test_a_document_that_is_broken_leaves_the_others_alone(server: Example, page: Page) -> None:
    """The batch has partially succeeded, and says which of it did not."""
    page.goto(server.url)
    choose(page, "mixed")
    press(page, "Parse")
    expect(page.locator(".step")).to_have_text("partially succeeded")
    rows = page.locator("#documents tr")
    expect(rows).to_have_count(4)
    expect(rows.filter(has_text="broken.docx")).to_contain_text("failed")
    expect(page.locator(".steps li[data-tone=bad]")).to_have_count(2)


def test_a_failure_says_why(server: Example, page: Page) -> None:
    """The reason is shown, and the span that it came from."""
    page.goto(server.url)
    choose(page, "broken")
    press(page, "Parse")
    expect(page.get_by_role("alert")).to_contain_text("the archive cannot be read")
    expect(page.locator(".step")).to_have_text("failed")
    expect(page.locator(".steps li[data-tone=bad]").last).to_contain_text("parse blocks")
    connection(page, "ended")


def test_a_job_can_be_cancelled(server: Example, page: Page) -> None:
    """The page says so, and the button is of no use any more."""
    page.goto(server.url)
    choose_long(page, 6)
    press(page, "Parse")
    expect(page.get_by_role("button", name="Cancel")).to_be_enabled()
    press(page, "Cancel")
    expect(page.locator(".step")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()
    expect(page.locator(".steps li[data-tone=busy]")).to_have_count(0)
    connection(page, "ended")


def test_what_is_refused_says_why(server: Example, page: Page) -> None:
    """An account that the key may not select."""
    page.goto(server.url)
    page.get_by_label("Account").fill("acct_nobody")
    press(page, "Parse")
    expect(page.get_by_role("alert")).to_contain_text("Invalid API key or account")


def test_a_reload_goes_on_with_the_job(server: Example, page: Page) -> None:
    """Its id is in the address."""
    page.goto(server.url)
    press(page, "Parse")
    expect(page.locator("#documents tr")).to_have_count(3)
    page.reload()
    expect(page.locator("#documents tr")).to_have_count(3)
    expect(page.locator(".steps li").first).to_contain_text("batch parse")
    bar(page, 100)


def test_a_page_whose_server_was_killed_comes_back(start: Start, page: Page) -> None:
    """It looks for the server until it is there, is told that the job is gone, and can go on."""
    server = start()
    page.goto(server.url)
    choose_long(page, 6)
    press(page, "Parse")
    connection(page, "live")
    server.kill()
    connection(page, "reconnecting")
    start(port=server.port)
    expect(page.get_by_role("alert")).to_contain_text("does not know this job")
    page.locator("#files").set_input_files([])
    press(page, "Parse")
    bar(page, 100)
