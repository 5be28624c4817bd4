"""``python -m examples.dex.client FILE``: have a file parsed, and print what happens meanwhile.

All that a client needs: it reads lines, keeps the name of the event, and comes back when the
connection breaks, since each connection begins with everything as it is.
"""

from __future__ import annotations

import json
import sys
import time

import requests

HEADERS = {"x-api-key": "dex_demo", "x-selected-account-id": "acct_demo"}


def main(path: str, project: str = "http://localhost:8001/v1/projects/proj_demo") -> None:
    """Upload a file, start a job and follow it to its end."""
    session = requests.Session()
    session.headers.update(HEADERS)
    with open(path, "rb") as file:
        document = session.post(f"{project}/files", files={"file": file}).json()
    start = {"source_document_id": document["id"], "parameters": {}}
    job = session.post(f"{project}/parse", json=start).json()
    done = False
    while not done:
        try:
            with session.get(f"{project}/jobs/{job['id']}/updates", stream=True) as updates:
                for line in map(bytes.decode, updates.iter_lines()):
                    if line.startswith("event: "):
                        event = line.removeprefix("event: ")
                        done = event == "done"
                    elif line.startswith("data: "):
                        data = json.loads(line.removeprefix("data: "))
                        print(event, data.get("name", ""), data["status"], flush=True)
        except requests.ConnectionError:
            time.sleep(1)
    job = session.get(f"{project}/jobs/{job['id']}").json()
    if job["result"]:
        result = session.get(f"{project}/parse/{job['result']['parse_result_id']}").json()
        print(len(result["chunks"]), "chunks")


if __name__ == "__main__":
    main(*sys.argv[1:])
