"""``python -m examples.guild.client BRIEF.md [URL]``: have a site built, and print how far it is.

A project is watched by its stream. Where streams do not get through, as behind a proxy that keeps
responses until they are whole, the project's status is asked for every few seconds instead: each
event is the whole state, and so is each answer, so whoever falls back misses nothing that counts.
It needs ``pip install requests``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import requests
import trio

from sselib import EventSourceFailed, RetryPolicy, ServerSentEvent, open_event_source

TOKEN: Final = {"Authorization": "Bearer acc_demo"}
ENDS: Final = ("done", "failed")
PERIOD: Final = 2.0  # seconds between two questions
SECONDS: Final = 60.0  # for one answer

# A stream that works says something at once. Three that do not are enough to give them up.
POLICY: Final = RetryPolicy(max_failures=2, event_timeout=30)


def ask(url: str, **body: Any) -> Any:
    """Send a request and return the JSON of its response."""
    method = "POST" if body else "GET"
    response = requests.request(method, url, json=body or None, headers=TOKEN, timeout=SECONDS)
    response.raise_for_status()
    return response.json()


async def follow(  # noqa: ASYNC910 # it connects at least
    project: str,
    show: Callable[[dict[str, Any]], None],
    *,
    policy: RetryPolicy = POLICY,
    period: float = PERIOD,
) -> None:
    """Show the states of a project, the present one first, to the one that ends it.

    Args:
        project: Its URL.
        show: Called with each state.
        policy: When to give up on streams.
        period: Seconds between two questions, after that.

    Cancellation: nobody follows it any more; the project goes on.
    """
    try:
        async with open_event_source(
            f"{project}/sse", headers=TOKEN, policy=policy, until=ends
        ) as source:
            async for event in source:
                show(event.json())
    except EventSourceFailed as error:
        print(f"asking every {period:g} s from now on: {error}", file=sys.stderr)
        state = {"status": "unknown"}
        while state["status"] not in ENDS:
            state = await trio.to_thread.run_sync(ask, f"{project}/status")
            show(state)
            await trio.sleep(period)


def ends(event: ServerSentEvent) -> bool:
    """Whether it is the last state of a project."""
    return event.json()["status"] in ENDS


async def main(brief: str, url: str = "http://localhost:8004") -> int:
    """Submit a brief, print each state of its project, and return an exit code."""
    path = Path(brief)
    body = {"title": path.stem, "briefText": path.read_text(encoding="utf-8")}
    started = await trio.to_thread.run_sync(partial(ask, f"{url}/briefs", **body))
    project = f"{url}/projects/{started['projectId']}"
    await follow(project, show)
    found = await trio.to_thread.run_sync(ask, project)
    for each in found["deliverables"]:
        print(each["url"])
    return 0 if found["status"] == "done" else 1


def show(state: dict[str, Any]) -> None:
    """Print a state."""
    print(f"{state['progress']:4.0%}  {state['status']}: {state['currentStep']}", flush=True)


if __name__ == "__main__":
    sys.exit(trio.run(partial(main, *sys.argv[1:])))
