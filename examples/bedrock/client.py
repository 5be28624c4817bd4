"""Compare two drawings from a terminal: ``python examples/bedrock/client.py URL old.png new.png``.

All that a client needs is in ``follow``: lines that begin with ``data: `` are JSON, and a stream
that ends without a terminal event is opened again. It needs ``pip install requests``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

KEY = {"Authorization": "Bearer sk_demo"}
DONE = ("completed", "failed", "canceled")
SECONDS = 60  # a server that says nothing for four heartbeats is gone


def follow(url: str, job_id: str) -> Iterator[tuple[str, Any]]:
    """Yield each event of a job, by its name, up to the terminal one."""
    event = ""
    while event not in DONE:
        response = requests.get(
            f"{url}/jobs/{job_id}/stream", headers=KEY, stream=True, timeout=SECONDS
        )
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith(b"event: "):
                event = line[7:].decode()
            elif line.startswith(b"data: "):
                yield event, json.loads(line[6:])


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
    for event, data in follow(url, response.json()["job_id"]):
        print(f"[{event}] {data.get('message', data['status'])}", flush=True)
        for change in data.get("results", {}).get("changes", ()):
            print(f"{change['severity']}: {change['description']}, {change['bounds']}")
        if "error" in data:
            sys.exit(data["error"]["message"])


if __name__ == "__main__":
    main()
