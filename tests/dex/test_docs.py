"""The diagrams in docs/jobs.md are those of the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples.dex.operations import SEVERAL
from sselib import Lifecycle
from sselib.jobs import JOB

JOBS = Path(__file__).parent.parent.parent / "docs" / "jobs.md"


@pytest.mark.parametrize(("index", "lifecycle"), [(0, JOB.lifecycle), (1, SEVERAL)])
def test_the_diagrams_are_those_of_the_tables(index: int, lifecycle: Lifecycle) -> None:
    """Each is what the lifecycle's `diagram()` gives, word for word."""
    drawn = re.findall(
        r"^```mermaid\n(.*?)^```$", JOBS.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert drawn[index] == lifecycle.diagram()
