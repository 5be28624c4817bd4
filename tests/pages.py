"""The pages of the examples as people meet them: a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

# Milliseconds for what takes a moment, on a machine that has other things to do.
PATIENCE = 20_000


@contextmanager
def open_browser(require_program: Callable[..., str]) -> Iterator[Browser]:
    """Start Chromium."""
    path = require_program("chromium", "chromium-browser")
    expect.set_options(timeout=PATIENCE)
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=path, args=["--no-sandbox", *quiet]) as browser,
    ):
        yield browser


@contextmanager
def open_page(browser: Browser) -> Iterator[Page]:
    """Open a page, and fail if a script on it does."""
    errors: list[str] = []
    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert errors == []


def bar(page: Page, percent: int) -> None:
    """Wait until the progress bar is there."""
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", str(percent))


def watch_bar(page: Page) -> Callable[[], list[int]]:
    """Have the page note where the bar has been, and give a function that returns that."""
    page.evaluate(
        """() => {
            window.seen = [];
            const bar = document.querySelector(".bar");
            new MutationObserver((changes) => {
                seen.push(...changes.map((change) => Number(change.oldValue)));
            }).observe(bar, { attributeFilter: ["aria-valuenow"], attributeOldValue: true });
        }"""
    )
    return lambda: list(page.evaluate("seen"))


def connection(page: Page, text: str) -> None:
    """Wait until the page says this of its connection."""
    expect(page.locator(".state")).to_have_text(text)
