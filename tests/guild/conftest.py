"""The example as its users meet it: a process of its own."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..processes import Example

# As much as a brief may hold, in as many sections: work for some time.
LONG = "".join(
    f"## Section {number}\n{'Words of this section, and [a link](#section-1). ' * 25}\n"
    for number in range(40)
)


class Server(Example):
    """A running example."""

    def ask(self, path: str, body: object = None) -> Any:
        """Send a request with the demo token and return the JSON of its response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data, {"Authorization": "Bearer acc_demo"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def submit(self, brief: str = LONG, title: str = "Crumb") -> Any:
        """Submit a brief and return what is answered."""
        return self.ask("/briefs", {"title": title, "briefText": brief})

    def submit_behind(self, count: int, brief: str = LONG) -> Any:
        """Submit a brief that has to wait for so many others."""
        for number in range(count):
            self.submit(title=f"In front {number}")
        return self.submit(brief)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Give a function that starts servers of the test's own."""
    with Server.starting("examples.guild", tmp_path, is_up="Then:") as start:
        yield start


@pytest.fixture(scope="module", params=["hypercorn", "sselib"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Give a server that the tests of a module share."""
    with Server.starting(
        "examples.guild", tmp_path_factory.mktemp("guild"), is_up="Then:"
    ) as start:
        yield start("--server", request.param)
