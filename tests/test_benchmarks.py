"""The benchmarks of servers work; what they find is not judged here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.__main__ import main
from benchmarks.streams import chosen, measured

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="CPU time is read from /proc")


@linux_only
@pytest.mark.parametrize(
    "command",
    [
        "connect sselib sselib-starlette --streams 20",
        "fanout sselib --streams 20 --rate 100 --deliveries 600",
        "burst sselib sselib-hypercorn --streams 5 --events 100 --rounds 1",
    ],
)
def test_a_benchmark_finds_figures_and_they_are_drawn(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A table, JSON with a positive figure for each server, and charts that are XML."""
    report = tmp_path / "report.json"
    main([*command.split(), "--json", str(report)])
    found = json.loads(report.read_text())
    assert found["rows"][0]["what"] in capfd.readouterr().out
    assert len(found["columns"]) == command.count("sselib")
    for row in found["rows"]:
        if "memory" not in row["what"]:
            assert all(figure > 0 for figure in row["figures"].values())
    main(["charts", str(tmp_path), str(report)])
    charts = list(tmp_path.glob("*.svg"))
    assert charts
    for chart in charts:
        assert found["columns"][0] in "".join(ET.parse(chart).getroot().itertext())


@linux_only
@pytest.mark.parametrize("name", ["c", "node"])
def test_a_peer_that_is_there_streams_as_ours_does(name: str) -> None:
    """It takes the same commands, and its client counts as many events."""
    [kind] = chosen([name])
    with measured(kind) as server:
        if server is None:
            pytest.skip("not to be had here")
        server.open(5)
        seconds, *delays = server.deliver(20, 200)
        assert seconds >= 19 / 200
        assert delays == sorted(delays)
