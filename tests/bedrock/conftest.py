"""What the tests of the API share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .service import Service, open_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """Give the application, over an empty store and a log of its own."""
    async with open_service(tmp_path) as service:
        yield service
