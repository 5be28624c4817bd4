"""The page and the documented JavaScript client in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

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
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text(str(odd))
    renamed = server.directory / "renamed.txt"
    odd.rename(renamed)
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("file_moved")
    expect(rows.nth(1)).to_contain_text(f"{odd} → {renamed}")
    page.get_by_label("Show", exact=True).fill("file_created")
    expect(page.locator("#updates tr:visible")).to_have_count(1)
    expect(page.locator("output")).to_have_text("1 of 4")


def test_held_updates_appear_when_they_are_let_go(start_server: Start, page: Page) -> None:
    """Hold keeps the page still without losing updates; Clear empties it. Both by keyboard."""
    server = start_server()
    page.goto(server.url)
    state(page, "live")
    hold = page.get_by_role("button", name="Hold")
    hold.press("Enter")
    (server.directory / "held.txt").touch()
    expect(page.locator("output")).to_have_text("2 held")
    expect(page.locator("#updates tr")).to_have_count(0)
    hold.press("Space")
    expect(page.locator("#updates tr")).to_have_count(2)
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.locator("#updates tr")).to_have_count(0)


def test_a_directory_is_watched_and_let_go(start_server: Start, page: Page, tmp_path: Path) -> None:
    """By keyboard: added, shown, and taken off; a directory that is not there is an error."""
    other = tmp_path / "other <b>"
    other.mkdir()
    server = start_server()
    page.goto(server.url)
    watches = page.locator("#watches li")
    expect(watches).to_have_count(1)
    expect(watches).to_contain_text(str(server.directory))
    field = page.get_by_label("Directory to watch")
    field.fill(f"{other}/missing")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("No such file or directory")
    field.fill(str(other))
    field.press("Enter")
    expect(watches).to_have_count(2)
    expect(watches.last).to_contain_text(f"{other.resolve()}watched")
    expect(page.get_by_role("alert")).to_have_text("")
    page.get_by_role("button", name=f"Stop watching {other.resolve()}").press("Enter")
    expect(watches).to_have_count(1)


def test_the_queue_is_paused_watched_and_resumed(start_server: Start, page: Page) -> None:
    """Items move through their states, can be taken out, and what was indexed is counted."""
    server = start_server("--cooldown", "0.1")
    page.goto(server.url)
    state(page, "live")
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#pause-reason")).to_contain_text("Paused")
    for name in ("one.txt", "two.txt"):
        (server.directory / name).write_text("A zebra has stripes.")
    items = page.locator("#items li")
    expect(items).to_have_count(2)
    expect(items.first).to_contain_text("ready")
    page.get_by_role("button", name=f"Take {server.directory}/two.txt out").press("Enter")
    expect(items).to_have_count(1)
    expect(items).to_contain_text("one.txt")
    page.get_by_role("button", name="Resume").press("Enter")
    expect(items).to_have_count(0)
    expect(page.locator("#progress-text")).to_have_text("Everything is done.")
    expect(page.locator("#indexed")).to_have_text("1")


def test_indexed_files_are_found(start_server: Start, page: Page) -> None:
    """By what is in them; names and texts are shown as text, with the words marked."""
    server = start_server("--cooldown", "0.1")
    page.goto(server.url)
    state(page, "live")
    (server.directory / "<i>.txt").write_text("A <b>zebra</b> has stripes.")
    expect(page.locator("#indexed")).to_have_text("1")
    field = page.get_by_label("Search the indexed files")
    field.fill("zebra (stripes")
    field.press("Enter")
    expect(page.locator("#found")).to_have_text("1 file for “zebra (stripes”")
    hit = page.locator("#hits li")
    expect(hit.locator("strong")).to_have_text("<i>.txt")
    expect(hit.locator("p")).to_have_text("A <b>zebra</b> has stripes.")
    expect(hit.locator("mark")).to_have_text(["zebra", "stripes"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_fits_its_window(
    start_server: Start, browser: Browser, scheme: Literal["light", "dark"], width: int
) -> None:
    """In light and dark, wide and narrow: nothing sticks out, and text stands out."""
    server = start_server()
    size: ViewportSize = {"width": width, "height": 800}
    with browser.new_page(color_scheme=scheme, viewport=size) as page:
        page.goto(server.url)
        state(page, "live")
        (server.directory / ("long name " * 20)).touch()
        expect(page.locator("#updates tr")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        text, ground = page.evaluate(
            "['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name])"
            ".map((color) => color.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0))"
        )
        assert (text < ground) == (scheme == "light")
        assert abs(text - ground) > 450


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
    expect(page.locator("#updates")).to_contain_text("after.txt")


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
