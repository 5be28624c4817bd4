"""Holds each file of sselib to its share of branch coverage, after `make coverage` ran the tests.

What decides without I/O can be tested whole and has to be; what talks to the world has branches
that only a broken one takes.
"""

from __future__ import annotations

import fnmatch
import json
import sys
from pathlib import Path

# Per cent of lines and branches. The first pattern that fits counts.
FLOORS = {
    "sselib/errors.py": 100,
    "sselib/events.py": 100,
    "sselib/codec.py": 100,
    "sselib/lifecycle.py": 100,
    "sselib/http1.py": 100,
    "sselib/log/*": 98,
    "sselib/window.py": 94,
    "sselib/subscription.py": 94,
    "sselib/channel.py": 94,
    "sselib/topics.py": 94,
    "sselib/client/*": 98,
    "*": 90,
}


def main(report: Path) -> None:
    """Exit with the files that are below their floor.

    Args:
        report: What `coverage json` wrote.
    """
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    below = [
        f"{pattern}: no such file was measured"
        for pattern in FLOORS
        if not fnmatch.filter(files, pattern)
    ]
    for name, measured in files.items():
        floor = next(floor for pattern, floor in FLOORS.items() if fnmatch.fnmatch(name, pattern))
        covered = measured["summary"]["percent_covered"]
        if covered < floor:
            below.append(f"{name}: {covered:.2f} % is below its floor of {floor} %")
    if below:
        sys.exit("\n".join(below))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
