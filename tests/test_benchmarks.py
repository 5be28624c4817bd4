"""The benchmarks of servers work; what they find is not judged here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import measuring
from benchmarks.__main__ import main
from benchmarks.streams import chosen, measured

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="CPU time is read from /proc")


def report_of(command: str, report: Path) -> Any:
    """Run a benchmark and return what it wrote."""
    main([*command.split(), "--json", str(report)])
    return json.loads(report.read_text())


@linux_only
@pytest.mark.parametrize(
    "command",
    [
        "connect sselib sselib-starlette --streams 20",
        "fanout sselib --streams 20 --rate 100 --deliveries 600",
        "burst sselib sselib-hypercorn --streams 5 --events 100 --rounds 1",
        "idle sselib --connections 120 --requests 20",
    ],
)
def test_a_benchmark_finds_figures_and_they_are_drawn(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A table, JSON with a positive figure for each server, and charts that are XML."""
    report = tmp_path / "report.json"
    found = report_of(command, report)
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
def test_stalled_streams_stay_open(tmp_path: Path) -> None:
    """Each is still there when the publisher has ended."""
    found = report_of("stalled sselib --streams 5 --seconds 1", tmp_path / "report.json")
    assert found["rows"][-1]["figures"] == {"sselib": 5}


@linux_only
@pytest.mark.parametrize("name", ["c", "go", "nchan", "node"])
def test_a_peer_that_is_there_streams_as_ours_does(name: str) -> None:
    """It takes the same commands, and its client counts as many events."""
    [kind] = chosen([name])
    with measured(kind) as server:
        if server is None:
            pytest.skip("not to be had here")
        server.open(5)
        seconds, *delays = server.deliver(20, 200)
        assert seconds > 0  # and all of them were counted, else it had not returned
        assert delays == sorted(delays)
        assert server.cpu() > 0
    for pid in server.pids:
        assert not Path(f"/proc/{pid}").exists()


@linux_only
@pytest.mark.parametrize("name", ["go", "nchan", "node"])
def test_a_peer_that_is_there_holds_idle_connections(name: str, tmp_path: Path) -> None:
    """It answers ordinary requests beside them, and closes none."""
    found = report_of(f"idle {name} --connections 110 --requests 2", tmp_path / "report.json")
    for row in found["rows"]:
        if "memory" not in row["what"]:
            assert all(figure == "absent" or figure > 0 for figure in row["figures"].values())


@linux_only
def test_a_peer_that_is_not_there_is_called_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stands in for its figures."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(measuring, "SYSTEM_PROGRAMS", str(tmp_path))
    for command in ("connect c go nchan node", "idle go nchan node"):
        found = report_of(command, tmp_path / "report.json")
        assert len(found["columns"]) == len(command.split()) - 1
        for row in found["rows"]:
            assert set(row["figures"].values()) == {"absent"}


@linux_only
def test_an_unknown_server_is_refused() -> None:
    """The error names it, and those that there are."""
    with pytest.raises(SystemExit, match=r"'nginx' .* c, sselib"):
        main(["connect", "nginx"])


@linux_only
def test_no_more_connections_are_made_than_files_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as that are, and the report says so."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 210))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = report_of("idle go", tmp_path / "report.json")
    assert found["settings"]["connections"] == 110
    assert found["notes"][1] == "The hard limit on open files is too low for 10,000."
