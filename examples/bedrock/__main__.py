"""``python -m examples.bedrock``: serve the API for the demo key."""

from __future__ import annotations

import argparse

from sselib.registry import StreamRegistry

from .. import serving
from .app import DEMO_KEYS, RATE_LIMIT, open_app
from .shared import Unusable

PORT = 8002


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.bedrock",
        description="Compare construction drawings, and stream how that goes.",
    )
    serving.add_options(parser, port=PORT)
    parser.add_argument(
        "--rate-limit",
        type=_count,
        default=RATE_LIMIT,
        metavar="N",
        help="requests that a key may make per minute (%(default)s)",
    )
    parser.add_argument(
        "--end-ids",
        action="store_true",
        help="give the last event of a stream an id, so that browsers do not come back for more",
    )
    arguments = parser.parse_args()
    # What one client may open is limited by its key, in the API's own words.
    registry = StreamRegistry(
        farewell_retry=False, max_streams_per_client=None, drain_window=serving.DRAIN_WINDOW
    )
    serving.run(
        arguments,
        lambda log: open_app(
            log=log,
            directory=arguments.data,
            rate_limit=arguments.rate_limit,
            ids="end" if arguments.end_ids else "none",
        ),
        registry=registry,
        started=started,
        errors=(Unusable,),
    )


def started(url: str) -> list[str]:
    """Return what to tell somebody who has started it."""
    key = next(iter(DEMO_KEYS))
    return [
        f"In a browser:  {url}/",
        f"In a terminal: curl -H 'Authorization: Bearer {key}' {url}/jobs",
    ]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


if __name__ == "__main__":
    main()
