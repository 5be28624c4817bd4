"""The page and the documented JavaScript client in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from .conftest import Server

Start = Callable[..., Server]

# As documented.
JAVASCRIPT_CLIENT = """
const eventSource = new EventSource('http://localhost:60534/api/updates');
eventSource.addEventListener('update', (event) => {
const data = JSON.parse(event.data);
console.log(`[${data.opcode}]`, data.data);
});
"""


@pytest.fixture(scope="module")
def browser(require_program: Callable[..., str]) -> Iterator[Browser]:
    path = require_program("chromium", "chromium-browser")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=path, args=["--no-sandbox", *quiet]) as browser,
    ):
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_page() as page:
        page.set_default_timeout(15_000)
        yield page


def state(page: Page, text: str) -> None:
    expect(page.locator("#state")).to_have_text(text, timeout=15_000)


def test_the_page_shows_updates_as_they_happen(start_server: Start, page: Page) -> None:
    """A file that is created and renamed appears, the newest on top, and can be filtered."""
    server = start_server()
    page.goto(server.url)
    state(page, "live")
    expect(page.get_by_text("Nothing has happened")).to_be_visible()
    odd = server.directory / "a & b <i>.txt"
    odd.touch()
    rows = page.locator("#updates tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text(str(odd))
    renamed = server.directory / "renamed.txt"
    odd.rename(renamed)
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("file_moved")
    expect(rows.first).to_contain_text(f"{odd} → {renamed}")
    page.get_by_label("Show").fill("created")
    expect(page.locator("#updates tr:visible")).to_have_count(1)
    expect(page.locator("output")).to_have_text("1 of 2")


def test_held_updates_appear_when_they_are_let_go(start_server: Start, page: Page) -> None:
    """Hold keeps the page still without losing updates; Clear empties it. Both by keyboard."""
    server = start_server()
    page.goto(server.url)
    state(page, "live")
    hold = page.get_by_role("button", name="Hold")
    hold.press("Enter")
    (server.directory / "held.txt").touch()
    expect(page.locator("output")).to_have_text("1 held")
    expect(page.locator("#updates tr")).to_have_count(0)
    hold.press("Space")
    expect(page.locator("#updates tr")).to_have_count(1)
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.locator("#updates tr")).to_have_count(0)


def test_a_page_that_loses_its_stream_in_a_drain_comes_back_to_the_next_process(
    start_server: Start, page: Page
) -> None:
    """It says that it is reconnecting, comes back by itself, and shows what happens then."""
    server = start_server()
    page.goto(server.url)
    state(page, "live")
    assert server.stop() == 0
    expect(page.locator("#updates tr").first).to_contain_text("shutting_down")
    state(page, "reconnecting")
    start_server(port=server.port)
    state(page, "live")
    (server.directory / "after.txt").touch()
    expect(page.locator("#updates tr").first).to_contain_text("after.txt")


def test_the_documented_javascript_client_logs_opcodes_and_data(
    start_server: Start, page: Page
) -> None:
    """It gets what the documentation says it gets."""
    server = start_server()
    url = server.url.replace("127.0.0.1", "localhost")
    page.goto(f"{url}/page.css")  # of the same origin, and without a stream of its own
    page.evaluate(f"{JAVASCRIPT_CLIENT.replace('60534', str(server.port))}; window.s = eventSource")
    page.wait_for_function("s.readyState === EventSource.OPEN")
    with page.expect_console_message() as message:
        (server.directory / "file.txt").touch()
    opcode, data = (argument.json_value() for argument in message.value.args)
    assert opcode == "[file_created]"
    assert data == {"path": str(server.directory / "file.txt")}
