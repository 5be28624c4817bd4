"""``python -m examples.dex``: parse documents, and stream how that goes."""

from __future__ import annotations

import argparse

from .. import serving
from .app import DEMO_ACCOUNT, DEMO_KEY, DEMO_PROJECT, open_app

PORT = 8001


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.dex",
        description="Parse documents in jobs, and stream their trace spans as Server-Sent Events.",
    )
    serving.add_options(parser, port=PORT)
    arguments = parser.parse_args()
    serving.run(arguments, lambda log: open_app(log=log, data=arguments.data), started=started)


def started(url: str) -> list[str]:
    """Return what to tell somebody who has started it."""
    headers = f"-H 'x-api-key: {DEMO_KEY}' -H 'x-selected-account-id: {DEMO_ACCOUNT}'"
    files = f"{url}/v1/projects/{DEMO_PROJECT}/files"
    return [
        f"In a browser:  {url}/",
        f"In a terminal: curl {headers} -F file=@README.md {files}",
        f"Described at:  {url}/openapi.json",
    ]


if __name__ == "__main__":
    main()
