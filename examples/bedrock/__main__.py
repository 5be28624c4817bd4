"""``python -m examples.bedrock``: serve the API for the demo key."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from sselib.hypercorn import run
from sselib.listening import Address
from sselib.registry import StreamRegistry

from .app import DEMO_KEYS, RATE_LIMIT, open_app

PORT = 8002


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.bedrock",
        description="Compare construction drawings, and stream how that goes.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="listen on this address (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=PORT, help="listen on this port; 0 for any (%(default)s)"
    )
    parser.add_argument(
        "--rate-limit",
        type=_count,
        default=RATE_LIMIT,
        metavar="N",
        help="requests that a key may make per minute (%(default)s)",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="keep files and overlays here, instead of as long as the server runs",
    )
    parser.add_argument(
        "--end-ids",
        action="store_true",
        help="give the last event of a stream an id, so that browsers do not come back for more",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if arguments.directory is not None:
        arguments.directory.mkdir(parents=True, exist_ok=True)

    def started(addresses: list[Address]) -> None:
        ((key, account),) = DEMO_KEYS.items()
        for host, port in (each for each in addresses if not isinstance(each, str)):
            where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"Serving the project {account.project_id} at {where}")
            print(f"In a terminal: curl -H 'Authorization: Bearer {key}' {where}/jobs")
        sys.stdout.flush()

    run(
        open_app(
            directory=arguments.directory,
            rate_limit=arguments.rate_limit,
            ids="end" if arguments.end_ids else "none",
        ),
        host=arguments.host,
        port=arguments.port,
        # A farewell would be a ``retry``, and the API's bytes are all documented. What one client
        # may open is limited by its key, in the API's own words.
        registry=StreamRegistry(farewell_retry=False, max_streams_per_client=None),
        started=started,
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


if __name__ == "__main__":
    main()
