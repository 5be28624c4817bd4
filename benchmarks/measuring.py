"""What benchmarks share: reports, processes and their CPU time, and the peers' environment."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parent.parent
PEERS_DIRECTORY: Final = ROOT / "build" / "benchmarks"
ABSENT: Final = "absent"
SYSTEM_PROGRAMS: Final = "/usr/local/sbin:/usr/sbin"  # not in everybody's PATH
_OURS: Final = ("sselib", "trio", "h11", "attrs", "hypercorn")


@attrs.frozen(kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        what: What was measured.
        unit: The unit of its figures.
        figures: The figure of each column, or a word that says why there is none. A column that
            it does not have does not do what the row is about.
        target: What we want to reach, if there is a target.
        runs: What a figure is the median of, if it is one.
    """

    what: str
    unit: str
    figures: Mapping[str, float | str]
    target: str = ""
    runs: Mapping[str, Sequence[float]] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Report:
    """What one benchmark found."""

    benchmark: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    settings: dict[str, float | str] = attrs.field(factory=dict)

    def table(self) -> str:
        """Return the rows as lines for a terminal."""
        head = ["", "unit", "target", *self.columns]
        cells = [
            [row.what, row.unit, row.target]
            + [shown(row.figures.get(column, "-")) for column in self.columns]
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if place > 1 else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in (head, *cells)
        ]
        return "\n".join([*lines, *self.notes])

    def json(self) -> str:
        """Return everything as JSON, with what it was measured on."""
        found = attrs.asdict(self) | {"at": datetime.now(UTC).isoformat(), "machine": machine()}
        return json.dumps(found, indent=1, ensure_ascii=False)


def shown(figure: float | str) -> str:
    """Return a figure with three digits that count, or more before the point."""
    if isinstance(figure, str):
        return figure
    if figure >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.3g}"


def machine() -> dict[str, object]:
    """Return what a reader has to know about where the figures come from."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: found for name in _OURS if (found := installed(name))},
    }


def installed(package: str) -> str | None:
    """Return the version of a package, if it is installed here."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# Processes. Linux tells what a process has used in nanoseconds, and lets one choose its core.


def require_linux() -> None:
    """End the program where processes cannot be measured."""
    if not Path("/proc/self/schedstat").exists():
        raise SystemExit("this benchmark reads /proc/PID/schedstat, which Linux alone has")


def cores() -> tuple[int, int]:
    """Return the core for the server and the core for its clients, the same if there is one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that the main thread of a process has used."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def pinned(
    command: Sequence[str], core: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a program on a core, with pipes for what it is told and what it says.

    It inherits the core, and with it do all its threads and processes, from their first step on.
    """
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, ours)


# Peers. They live in an environment of their own, made at first use. Remove it to have it renewed.


def program(name: str) -> str | None:
    """Return where a program is installed, if it is."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PROGRAMS}")


def run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run one of our own commands; what it says goes to standard error."""
    return subprocess.run(command, check=False, stdout=sys.stderr)  # see above


def peers_python(packages: Sequence[str]) -> Path:
    """Install packages into the peers' environment and return its Python.

    What cannot be installed is said on standard error and is absent from there.
    """
    place = PEERS_DIRECTORY / f"peers-{sys.version_info.major}.{sys.version_info.minor}"
    python = place / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", str(place)]).check_returncode()
    for package in packages:
        mark = place / f"{package}.installed"
        if not mark.exists():
            print(f"installing {package} for comparison", file=sys.stderr)
            if run([str(python), "-m", "pip", "install", "--quiet", package]).returncode == 0:
                mark.touch()
    return python
