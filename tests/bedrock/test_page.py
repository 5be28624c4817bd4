"""The page in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from ..pages import bar, connection, open_browser, open_page, watch_bar
from ..processes import Example, Start
from .drawings import DOOR, WINDOW, plan, png
from .service import DEMO

MANY = ("--rate-limit", "10000")


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
    with Example.starting("examples.bedrock", tmp_path_factory.mktemp("bedrock")) as start:
        yield start


@pytest.fixture(scope="module")
def server(start: Start) -> Example:
    return start(*MANY)


def compare(server: Example, count: int) -> None:
    """Keep a server busy with so many comparisons of large drawings."""
    blocks = {}
    for name, box in (("old_id", DOOR), ("new_id", WINDOW)):
        content = png(plan(box).resize((3200, 2400)))
        file = {"project_id": "prj_demo", "filename": "plan.png", "content_type": "image/png"}
        asked = requests.post(f"{server.url}/files", json=file, headers=DEMO, timeout=20)
        url = asked.json()["data"]["upload_url"]
        uploaded = requests.put(url, data=content, timeout=20)
        blocks[name] = uploaded.json()["data"]["block_id"]
    for _ in range(count):
        body = {**blocks, "type": "Block"}
        requests.post(f"{server.url}/compare", json=body, headers=DEMO, timeout=20)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).press("Enter")


def test_two_drawings_are_compared_before_your_eyes(server: Example, page: Page) -> None:
    """The bar moves, each step is shown, and the overlay has its changes marked."""
    compare(server, 5)  # so that the page listens before there is progress
    page.goto(server.url)
    seen = watch_bar(page)
    press(page, "Compare")
    bar(page, 100)
    assert seen() == sorted(seen())
    assert any(0 < percent < 100 for percent in seen())
    expect(page.locator(".steps li[data-tone=good]")).to_have_count(4)
    connection(page, "ended")
    picture = page.get_by_role("img", name="The overlay of the two drawings")
    sources = set()
    for tab in ("Overlay", "Added", "Removed"):
        press(page, tab)
        expect(page.get_by_role("button", name=tab, exact=True)).to_have_attribute(
            "aria-pressed", "true"
        )
        page.wait_for_function(
            "document.querySelector('figure img').complete"
            " && document.querySelector('figure img').naturalWidth > 1000"
        )
        sources.add(picture.get_attribute("src"))
    assert len(sources) == 3
    rows = page.locator("#changes tr")
    assert rows.count() == page.locator("mark").count() > 1
    rows.first.get_by_role("button").focus()
    expect(page.locator("mark.here")).to_have_count(1)


def test_drawings_of_your_own_are_compared(server: Example, page: Page) -> None:
    """Those that were chosen, instead of the samples."""
    page.goto(server.url)
    for label, boxes in (("Before", ()), ("After", (DOOR,))):
        file = {"name": "plan.png", "mimeType": "image/png", "buffer": png(plan(*boxes))}
        page.locator(f"label:has-text('{label}') input").set_input_files(file)  # type: ignore[arg-type] # a dict is as good as its TypedDict
    press(page, "Compare")
    expect(page.locator("#changes tr")).to_have_count(1)
    expect(page.locator("#changes")).to_contain_text("Added")


def test_a_failure_says_why(server: Example, page: Page) -> None:
    """A file that is no drawing; the step that found it is marked."""
    page.goto(server.url)
    file = {"name": "plan.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("label:has-text('Before') input").set_input_files(file)  # type: ignore[arg-type] # a dict is as good as its TypedDict
    press(page, "Compare")
    expect(page.get_by_role("alert")).to_contain_text("not a PNG file")
    expect(page.locator(".steps li[data-tone=bad]")).to_contain_text("reads both drawings")
    expect(page.locator("#result")).to_be_hidden()
    connection(page, "ended")


def test_a_comparison_can_be_cancelled(server: Example, page: Page) -> None:
    """The page says so, and the button is of no use any more."""
    compare(server, 5)
    page.goto(server.url)
    press(page, "Compare")
    expect(page.get_by_role("button", name="Cancel")).to_be_enabled()
    press(page, "Cancel")
    expect(page.locator(".step")).to_have_text("canceled")
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()
    connection(page, "ended")


def test_what_is_refused_says_why(server: Example, page: Page) -> None:
    """A key that nobody has."""
    page.goto(server.url)
    page.get_by_label("API key").fill("sk_nobody")
    press(page, "Compare")
    expect(page.get_by_role("alert")).to_contain_text("API key")


def test_a_reload_goes_on_with_the_job(server: Example, page: Page) -> None:
    """Its id is in the address."""
    page.goto(server.url)
    press(page, "Compare")
    expect(page.locator("#changes tr").first).to_be_visible()
    page.reload()
    expect(page.locator("#changes tr").first).to_be_visible()
    bar(page, 100)


def test_a_page_whose_server_was_killed_comes_back(start: Start, page: Page) -> None:
    """It looks for the server until it is there, is told that the job is gone, and can go on."""
    server = start(*MANY)
    compare(server, 8)
    page.goto(server.url)
    press(page, "Compare")
    connection(page, "live")
    server.kill()
    connection(page, "reconnecting")
    start(*MANY, port=server.port)
    expect(page.get_by_role("alert")).to_contain_text("does not know this job")
    press(page, "Compare")
    bar(page, 100)
