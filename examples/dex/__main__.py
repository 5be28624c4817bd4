"""``python -m examples.dex``: parse documents, and stream how that goes."""

from __future__ import annotations

import argparse
import logging
import sys

from sselib.hypercorn import run
from sselib.listening import Address

from .app import DEMO_ACCOUNT, DEMO_KEY, DEMO_PROJECT, open_app

PORT = 8001


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.dex",
        description="Parse documents in jobs, and stream their trace spans as Server-Sent Events.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="listen on this address (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=PORT, help="listen on this port; 0 for any (%(default)s)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")

    def started(addresses: list[Address]) -> None:
        for host, port in (each for each in addresses if not isinstance(each, str)):
            where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            headers = f"-H 'x-api-key: {DEMO_KEY}' -H 'x-selected-account-id: {DEMO_ACCOUNT}'"
            project = f"{where}/v1/projects/{DEMO_PROJECT}"
            print(f"Described at:  {where}/openapi.json")
            print(f"In a terminal: curl {headers} -F file=@README.md {project}/files")
        sys.stdout.flush()

    run(open_app(), host=arguments.host, port=arguments.port, started=started)


if __name__ == "__main__":
    main()
