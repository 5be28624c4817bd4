"""The page, and the documented JavaScript client, in a real Chromium."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from ..pages import bar, connection, open_browser, open_page, watch_bar
from .conftest import Server

Start = Callable[..., Server]

# As documented, but for the host.
ON_MESSAGE = """
const sse = new EventSource(
'https://api.guild.city/projects/prj_abc123/sse',
)
sse.onmessage = (event) => {
const data = JSON.parse(event.data)
console.log(data.status, data.progress, data.currentStep)
if (data.status === 'done' || data.status === 'failed') {
sse.close()
}
}
sse.onerror = () => {
console.log('Connection lost — will reconnect')
}
"""


@pytest.fixture(scope="module")
def browser(require_program: Callable[..., str]) -> Iterator[Browser]:
    with open_browser(require_program) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with open_page(browser) as page:
        yield page


def test_a_brief_is_built_before_your_eyes(server: Server, page: Page) -> None:
    """The bar moves through its steps, each task is shown, and the site is there to look at."""
    for number in range(40):  # so that the page is there before its project begins
        server.submit(title=f"In front {number}")
    page.goto(server.url)
    seen = watch_bar(page)
    expect(page.get_by_label("Brief", exact=True)).not_to_be_empty()  # the sample is there
    page.get_by_role("button", name="Build it").press("Enter")
    bar(page, 100)
    assert seen() == sorted(seen())
    assert len({percent for percent in seen() if 0 < percent < 100}) > 1
    tasks = page.locator(".steps li")
    expect(tasks).to_have_count(8)
    expect(page.locator(".steps li[data-tone=good]")).to_have_count(8)
    expect(page.locator(".step")).to_have_text("Complete")
    expect(page.get_by_role("heading", name="Brook Coffee")).to_be_visible()
    connection(page, "ended")
    site = page.frame_locator("iframe")
    expect(site.get_by_role("heading", name="Brook Coffee")).to_be_visible()
    expect(site.get_by_text("$24 / month")).to_be_visible()
    expect(page.get_by_role("link", name="style.css")).to_be_visible()


def test_a_site_can_do_nothing_but_be_looked_at(server: Server, page: Page) -> None:
    """Its style and its logo are there, and nothing in its text runs."""
    page.goto(server.url)
    page.get_by_label("Brief", exact=True).fill(
        "# <script>x</script>\n<img src=x onerror=top.x=1>\n"
    )
    page.get_by_role("button", name="Build it").click()
    site = page.frame_locator("iframe")
    expect(site.locator("h1")).to_have_text("<script>x</script>")
    expect(site.locator("h1")).to_have_css("font-weight", "700")
    logo = site.locator(".name img")
    assert logo.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert page.evaluate("window.x") is None


@pytest.mark.parametrize(
    ("choice", "reason", "percent"),
    [
        ("with a broken link", "index.html: the link '#plans' leads nowhere", 80),
        ("with a section of which nothing is said", "the section 'pricing' is wanted", 20),
        ("with sections that include each other", "sections include each other", 20),
        ("without a word", "the brief says nothing", 10),
    ],
)
def test_a_failure_says_why(
    server: Server, page: Page, choice: str, reason: str, percent: int
) -> None:
    """The bar stays where it was, the reason is shown, and there is no site."""
    page.goto(server.url)
    page.get_by_label("Or a brief that fails").select_option(choice)
    page.get_by_role("button", name="Build it").click()
    expect(page.get_by_role("alert")).to_contain_text(f"Failed: {reason}")
    bar(page, percent)
    expect(page.locator("iframe")).to_be_hidden()
    connection(page, "ended")


def test_what_is_refused_says_why(server: Server, page: Page) -> None:
    """A token that nobody has."""
    page.goto(server.url)
    page.get_by_label("Access token").fill("acc_nobody")
    page.get_by_role("button", name="Build it").click()
    expect(page.get_by_role("alert")).to_have_text("Invalid or expired token")


def test_a_reload_goes_on_with_the_project(server: Server, page: Page) -> None:
    """Its id is in the address; going back leads to the one before."""
    page.goto(server.url)
    for name in ("One", "Two"):
        page.get_by_label("Brief", exact=True).fill(f"# {name}\nA bakery.\n")
        page.get_by_role("button", name="Build it").click()
        expect(page.frame_locator("iframe").locator("h1")).to_have_text(name)
    page.reload()
    expect(page.frame_locator("iframe").locator("h1")).to_have_text("Two")
    page.go_back()
    expect(page.frame_locator("iframe").locator("h1")).to_have_text("One")


@pytest.mark.parametrize(
    ("data", "message"),
    [(None, "The server does not know this project"), ("data", "Failed: interrupted")],
)
def test_a_page_finds_out_what_became_of_its_project(
    start_server: Start,
    page: Page,
    tmp_path: Path,
    data: str | None,
    message: str,
) -> None:
    """A server that goes in the middle is looked for until it is back, and then asked."""
    arguments = [] if data is None else ["--data", str(tmp_path / data)]
    server = start_server(*arguments)
    server.submit_behind(40)
    page.goto(server.url)
    page.get_by_role("button", name="Build it").click()
    connection(page, "live")
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(timeout=15)
    connection(page, "reconnecting")
    start_server(*arguments, port=server.port)
    expect(page.get_by_role("alert")).to_contain_text(message)
    page.get_by_role("button", name="Build it").click()
    bar(page, 100)


def test_a_native_event_source_is_not_let_in_without_a_header(server: Server, page: Page) -> None:
    """It cannot send one, is answered 401, and stays closed."""
    id = server.submit("A bakery.\n")["projectId"]
    page.goto(f"{server.url}/health")
    page.evaluate(f"window.s = new EventSource('{server.url}/projects/{id}/sse')")
    page.wait_for_function("s.readyState === EventSource.CLOSED")


def test_the_documented_javascript_client_logs_states_and_closes(
    server: Server, page: Page
) -> None:
    """Behind something that adds the header; after the last event it asks no more."""
    id = server.submit_behind(25, brief="A bakery.\n")["projectId"]
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    def hear(message: ConsoleMessage) -> None:
        if message.type == "log":
            said.append(message.text)

    page.on("console", hear)
    page.set_extra_http_headers({"Authorization": "Bearer acc_demo"})
    page.goto(f"{server.url}/health")
    script = ON_MESSAGE.replace("https://api.guild.city", server.url).replace("prj_abc123", id)
    page.evaluate(f"{script}; window.s = sse")
    page.wait_for_function("s.readyState === EventSource.CLOSED")
    assert said[0] == "parsing 0.1 Analyzing brief"
    assert said[-1] == "done 1 Complete"
    assert sum(url.endswith("/sse") for url in asked) == 1
