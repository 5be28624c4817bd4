"""A directory to watch, and each mechanism in turn."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from examples.file_updates.watching import (
    Watcher,
)
from examples.file_updates.watching.hints import Hints, Polling

MECHANISMS: dict[str, Callable[[], Hints]] = {"polling": partial(Polling, interval=0.001)}
if sys.platform == "linux":
    from examples.file_updates.watching.inotify import Inotify

    MECHANISMS["inotify"] = partial(Inotify, settle=0.001, open_file=0.05, check=0.05)


@pytest.fixture(params=sorted(MECHANISMS))
def hints(request: pytest.FixtureRequest) -> Callable[[], Hints]:
    """Each mechanism in turn, with short times."""
    return MECHANISMS[request.param]


@pytest.fixture
async def watcher(hints: Callable[[], Hints]) -> AsyncIterator[Watcher]:
    with Watcher(hints()) as watcher:
        yield watcher


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to watch, with its real path."""
    path = tmp_path.resolve() / "root"
    path.mkdir()
    return path
