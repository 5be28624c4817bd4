"""``python -m examples.dex.client FILE``: have a file parsed, and print what happens meanwhile.

Each connection begins with everything as it is, and a span that is told again is the same span: so
spans are kept by their id, and only what is new about one is printed. It needs ``pip install
requests``.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import requests
import trio

from sselib import open_event_source

HEADERS: Final = {"x-api-key": "dex_demo", "x-selected-account-id": "acct_demo"}


async def follow(job: str) -> dict[str, Any]:
    """Print what is new about a job, up to its end, and return its spans by their ids."""
    spans: dict[str, Any] = {}
    async with open_event_source(
        f"{job}/updates", headers=HEADERS, until=lambda event: event.event == "done"
    ) as source:
        async for event in source:
            data = event.json()
            if event.event == "trace_update":
                if spans.get(data["id"]) == data:
                    continue
                spans[data["id"]] = data
            print(event.event, data.get("name", ""), data["status"], flush=True)
    return spans


def main(path: str, project: str = "http://localhost:8001/v1/projects/proj_demo") -> None:
    """Upload a file, start a job and follow it to its end."""
    session = requests.Session()
    session.headers.update(HEADERS)
    with open(path, "rb") as file:
        document = session.post(f"{project}/files", files={"file": file}).json()
    start = {"source_document_id": document["id"], "parameters": {}}
    job = session.post(f"{project}/parse", json=start).json()
    trio.run(follow, f"{project}/jobs/{job['id']}")
    job = session.get(f"{project}/jobs/{job['id']}").json()
    if job["result"]:
        result = session.get(f"{project}/parse/{job['result']['parse_result_id']}").json()
        print(len(result["chunks"]), "chunks")


if __name__ == "__main__":
    main(*sys.argv[1:])
