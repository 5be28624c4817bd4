"""``python -m examples.guild``: take briefs, build their sites, and let it be watched."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from sselib.hypercorn import run
from sselib.listening import Address
from sselib.registry import StreamRegistry

from .app import DEMO_TOKENS, open_app

DRAIN_WINDOW = 2.0  # seconds; what is being built then is interrupted anyway
BRIEF = Path(__file__).parent / "page" / "brief.md"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.guild",
        description="Build a web site from a brief, and stream how far it is.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="listen on this address (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8004, help="listen on this port; 0 for any (%(default)s)"
    )
    parser.add_argument(
        "--public-url",
        metavar="URL",
        type=_url,
        help="what clients reach this server by, for the URLs in answers (as they ask)",
    )
    parser.add_argument(
        "--token",
        metavar="acc_...",
        type=_token,
        action="append",
        help=f"an access token; several are several accounts ({', '.join(DEMO_TOKENS)})",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    tokens = {token: token for token in arguments.token} if arguments.token else DEMO_TOKENS

    def started(addresses: list[Address]) -> None:
        token = next(iter(tokens))
        for host, port in (each for each in addresses if not isinstance(each, str)):
            where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(
                f"In a browser:  {where}/\n"
                "In a terminal: jq -Rs '{title: \"Brook Coffee\", briefText: .}' "
                f"{BRIEF} | curl -s {where}/briefs -H 'Authorization: Bearer {token}' -d @-\n"
                f"Then:          curl -N -H 'Authorization: Bearer {token}' (the sseUrl)"
            )
        sys.stdout.flush()

    run(
        open_app(tokens=tokens, public_url=arguments.public_url),
        host=arguments.host,
        port=arguments.port,
        registry=StreamRegistry(drain_window=DRAIN_WINDOW, farewell_retry=False),
        started=started,
    )


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// or https://")
    return text


def _token(text: str) -> str:
    if not text.startswith("acc_"):
        raise argparse.ArgumentTypeError("an access token begins with acc_")
    return text


if __name__ == "__main__":
    main()
