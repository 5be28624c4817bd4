"""What all tests share.

Every `async def test_...` runs under Trio. For whatever is timed, ask for one of pytest-trio's
clocks: `autojump_clock` jumps to the next deadline as soon as all tasks wait, `mock_clock` moves
only when told. Both run ahead of real sockets, processes and threads, so use them over in-memory
transports only.

Hypothesis tries the same examples in every run. To search further, choose another profile:
`SSELIB_HYPOTHESIS=search pytest tests/test_codec.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# Set where everything that the tests can use is said to be there: what is absent is then an error.
REQUIRE_ALL = os.environ.get("SSELIB_REQUIRE_ALL") == "1"

# How fast an example is, is the machine's affair; what hangs meets the deadline of its test.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("bounded", _UNTIMED, max_examples=100, derandomize=True, database=None)
settings.register_profile("search", _UNTIMED, max_examples=20_000)
settings.load_profile(os.environ.get("SSELIB_HYPOTHESIS", "bounded"))


@pytest.fixture(scope="session")
def require_program() -> Callable[..., str]:
    """Give a function from a program's names to the path of the first that is installed.

    A test that needs one of them skips where there is none, and fails if SSELIB_REQUIRE_ALL=1.
    """

    def require(*names: str) -> str:
        path = next(filter(None, map(shutil.which, names)), None)
        if path is None:
            say = pytest.fail if REQUIRE_ALL else pytest.skip
            say(f"not installed: {' or '.join(names)}")
        return path

    return require
