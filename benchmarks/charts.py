"""Draw what the benchmarks found: bars, from the JSON that they wrote.

`python -m benchmarks charts FOLDER *.json` makes one SVG for each row that is worth a picture. A
bar is a server, and shorter is better wherever the unit is a time or a size. The machine and the
day stand below it. Nothing is drawn for what was absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from .measuring import shown

# The rows that become pictures, by benchmark, and their titles.
DRAWN: Final = {
    ("connect", "CPU per connection"): "CPU to open a stream, microseconds",
    ("connect", "memory per idle stream"): "Memory of an idle stream, KiB",
    ("idle", "memory per connection kept alive"): "Memory of a connection kept alive, KiB",
    (
        "fanout",
        "CPU per delivered event",
    ): "CPU to deliver an event to one of {streams:,.0f} streams, microseconds",
    (
        "burst",
        "deliveries per second and core",
    ): "Deliveries per second and core when the publisher never waits (more is better)",
}

WIDTH: Final = 720
LABELS: Final = 190
BAR: Final = 22
GAP: Final = 8
OURS: Final = "#2a6f97"
THEIRS: Final = "#a9b8c2"
_FONT: Final = 'font-family="system-ui, sans-serif" font-size="13"'


def drawn(title: str, bars: Mapping[str, float], below: str) -> str:
    """Return a bar chart as SVG.

    Args:
        title: What it shows.
        bars: The length of each bar, by what stands beside it. Ours begin with "sselib".
        below: A small line below it.
    """
    longest = max(bars.values())
    room = WIDTH - LABELS - 90
    lines = [f'<text x="0" y="16" {_FONT} font-weight="600">{escape(title)}</text>']
    y = 32
    for label, value in bars.items():
        length = max(1.0, value / longest * room)
        color = OURS if label.startswith("sselib") else THEIRS
        middle = y + BAR / 2 + 4
        lines += [
            f'<text x="{LABELS - 8}" y="{middle}" {_FONT} text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{color}"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{middle}" {_FONT}>{shown(value)}</text>',
        ]
        y += BAR + GAP
    y += 12
    lines.append(f'<text x="0" y="{y}" {_FONT} fill="#666">{escape(below)}</text>')
    height = y + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def charts_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the charts of a report, by the names of their files."""
    machine = report["machine"]
    below = (
        f"{report['at'][:10]}, {machine['system']}, {machine['cores']} cores, "
        f"Python {machine['python']}; python -m benchmarks {report['benchmark']}"
    )
    charts = {}
    for row in report["rows"]:
        title = DRAWN.get((report["benchmark"], row["what"]))
        bars = {
            name: each for name, each in row["figures"].items() if isinstance(each, int | float)
        }
        if title is not None and bars:
            streams = report["settings"].get("streams", 0)
            name = f"{report['benchmark']}-{row['what']}".lower().replace(" ", "-")
            if report["benchmark"] == "fanout":
                name += f"-{streams}"
            ordered = dict(sorted(bars.items(), key=lambda item: item[1]))
            charts[f"{name}.svg"] = drawn(title.format(streams=streams), ordered, below)
    return charts


def draw(folder: Path, reports: Sequence[Path]) -> None:
    """Write the charts of these reports into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in reports:
        for name, chart in charts_of(json.loads(path.read_text(encoding="utf-8"))).items():
            (folder / name).write_text(chart, encoding="utf-8")
            print(folder / name)
