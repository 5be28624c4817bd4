"""Compare two drawings from a terminal: ``python examples/bedrock/client.py URL old.png new.png``.

All that a client of the stream needs is in ``follow``. One that ends without a terminal event is
opened again, which ``until`` asks for. It needs ``pip install requests``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import requests
import trio

from sselib import RetryPolicy, open_event_source

KEY = {"Authorization": "Bearer sk_demo"}
DONE = ("completed", "failed", "canceled")
SECONDS = 60  # a server that says nothing for four heartbeats is gone


async def follow(url: str, job_id: str) -> dict[str, Any]:
    """Print each event of a job, up to the terminal one, and return what that says."""
    data: dict[str, Any] = {}
    async with open_event_source(
        f"{url}/jobs/{job_id}/stream",
        headers=KEY,
        policy=RetryPolicy(idle_timeout=SECONDS),
        until=lambda event: event.event in DONE,
    ) as source:
        async for event in source:
            data = event.json()
            print(f"[{event.event}] {data.get('message', data['status'])}", flush=True)
    return data


def upload(url: str, path: Path) -> str:
    """Upload a drawing, and return the id of its block."""
    file = {"project_id": "prj_demo", "filename": path.name, "content_type": "image/png"}
    response = requests.post(f"{url}/files", json=file, headers=KEY, timeout=SECONDS)
    response.raise_for_status()
    upload_url = response.json()["data"]["upload_url"]
    response = requests.put(upload_url, data=path.read_bytes(), timeout=SECONDS)
    response.raise_for_status()
    return str(response.json()["data"]["block_id"])


def main() -> None:
    """Run the command."""
    url, old, new = sys.argv[1:]
    body = {
        "old_id": upload(url, Path(old)),
        "new_id": upload(url, Path(new)),
        "type": "Block",
        "analyze": ["changes"],
    }
    response = requests.post(f"{url}/compare", json=body, headers=KEY, timeout=SECONDS)
    response.raise_for_status()
    data = trio.run(follow, url, response.json()["job_id"])
    for change in data.get("results", {}).get("changes", ()):
        print(f"{change['severity']}: {change['description']}, {change['bounds']}")
    if "error" in data:
        sys.exit(data["error"]["message"])


if __name__ == "__main__":
    main()
