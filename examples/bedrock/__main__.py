"""``python -m examples.bedrock``: serve the API for the demo key."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sselib import open_sqlite_log
from sselib.hypercorn import run
from sselib.listening import Address
from sselib.registry import StreamRegistry
from sselib.stream import ASGIApp
from sselib.window import Ids

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
        help="keep jobs, files and overlays here, instead of as long as the server runs",
    )
    parser.add_argument(
        "--end-ids",
        action="store_true",
        help="give the last event of a stream an id, so that browsers do not come back for more",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")

    def started(addresses: list[Address]) -> None:
        ((key, account),) = DEMO_KEYS.items()
        for host, port in (each for each in addresses if not isinstance(each, str)):
            where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"Serving the project {account.project_id} at {where}")
            print(f"In a terminal: curl -H 'Authorization: Bearer {key}' {where}/jobs")
        sys.stdout.flush()

    run(
        _opened(
            arguments.directory,
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


@asynccontextmanager
async def _opened(directory: Path | None, *, rate_limit: int, ids: Ids) -> AsyncIterator[ASGIApp]:
    """Open the application, over a directory if there is one."""
    async with AsyncExitStack() as stack:
        log, files = None, None
        if directory is not None:
            files = directory / "files"
            files.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 # nobody waits yet
            log = await stack.enter_async_context(open_sqlite_log(directory / "jobs.sqlite"))
        yield await stack.enter_async_context(
            open_app(log=log, directory=files, rate_limit=rate_limit, ids=ids)
        )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


if __name__ == "__main__":
    main()
