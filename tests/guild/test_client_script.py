"""The example's own client, where streams get through and where they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from examples.guild.client import follow
from sselib import RetryPolicy

from ..processes import ROOT
from ..scripted import on_socket, response, stream, then_stay
from ..servers import SOON
from .conftest import Server

AT_ONCE = RetryPolicy(max_failures=2, backoff=0, event_timeout=0.2)


def state(status: str, progress: float) -> dict[str, Any]:
    return {"status": status, "progress": progress, "currentStep": "A step"}


STATES = [state("executing", 0.5), state("executing", 0.7), state("done", 1)]


def test_it_prints_how_far_the_site_is(server: Server, tmp_path: Path) -> None:
    """It submits a brief, follows it to its end, and prints where the files are."""
    brief = tmp_path / "Crumb.md"
    brief.write_text("A bakery by the river.\n\n## Pricing\n- Loaf: $3 / day\n")
    command = [sys.executable, "-m", "examples.guild.client", str(brief), server.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=40, check=True)
    lines = done.stdout.splitlines()
    end = lines.index("100%  done: Complete")
    assert all(line.split()[0].endswith("%") for line in lines[:end])
    assert any(line.startswith(f"{server.url}/sites/") for line in lines[end + 1 :])
    assert done.stderr == ""


@pytest.mark.parametrize(
    "streams",
    [
        [response(404)],
        [response(body=b"<html>", content_type="text/html")],
        [response(503)] * 3,
        [then_stay(stream(b": kept back by a proxy\n\n", end=b""))] * 3,
        [stream(f"data: {json.dumps(STATES[0])}\n\n".encode(), end=b""), *[b""] * 2],
    ],
    ids=["absent", "a page", "busy", "kept back", "cut"],
)
async def test_where_streams_do_not_get_through_it_asks(streams: list[Any]) -> None:
    """Whatever is wrong with streams, it falls back to asking, up to the state that ends it."""
    answers = [
        response(body=json.dumps(each).encode(), content_type="application/json") for each in STATES
    ]
    shown: list[dict[str, Any]] = []
    with trio.fail_after(SOON):
        async with on_socket(*streams, *answers) as (server, _):
            project = server.url.removesuffix("/events")
            await follow(project, shown.append, policy=AT_ONCE, period=0.01)
    assert shown[-3:] == STATES
    asked = [each.target for each in server.asked]
    assert asked == ["/sse"] * len(streams) + ["/status"] * 3
    assert {each.headers["authorization"] for each in server.asked} == {"Bearer acc_demo"}
