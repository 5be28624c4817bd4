"""The pages of the examples as people meet them: a real Chromium, and the example as a process."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parent.parent

# Milliseconds for what takes a moment, on a machine that has other things to do.
PATIENCE = 20_000


@attrs.define(eq=False)
class Example:
    """A running example.

    Attributes:
        url: Where it answers, without a final slash.
        process: The process.
    """

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it at once, as an accident would."""
        self.process.kill()
        self.process.wait()


Start = Callable[..., Example]


@contextmanager
def starting(module: str, folder: Path) -> Iterator[Start]:
    """Give a function that starts the example, with further arguments, and waits until it is up."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, port: int = 0) -> Example:
        log = folder / f"log{len(started)}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "--port", str(port), *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if url := re.search(r"http://[^\s/]+", line):
                return Example(url[0], process)
        raise AssertionError(f"it did not start: {log.read_text()}")

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


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
