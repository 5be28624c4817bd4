"""`python -m benchmarks NAME [options]`: run a benchmark, print its table, write its JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from . import (
    burst,
    charts,
    client,
    codec,
    connect,
    fanout,
    hypercorn,
    idle,
    logs_redis,
    logs_sqlite,
    stalled,
)

BENCHMARKS: Final[dict[str, Any]] = {
    "connect": connect,
    "fanout": fanout,
    "burst": burst,
    "stalled": stalled,
    "idle": idle,
    "client": client,
    "codec": codec,
    "hypercorn": hypercorn,
    "redis": logs_redis,
    "sqlite": logs_sqlite,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    for name, benchmark in BENCHMARKS.items():
        about = (benchmark.__doc__ or "").partition("\n")[0]
        options = names.add_parser(name, help=about, description=about)
        options.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
        benchmark.add_options(options)
    drawing = names.add_parser("charts", help="draw what was written with --json")
    drawing.add_argument("folder", type=Path, help="where the SVGs go")
    drawing.add_argument("reports", type=Path, nargs="+", metavar="FILE")
    chosen = parser.parse_args(arguments)
    if chosen.name == "charts":
        charts.draw(chosen.folder, chosen.reports)
        return
    report = BENCHMARKS[chosen.name].run(chosen)
    print(report.table())
    if chosen.json is not None:
        chosen.json.write_text(report.json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
