"""``python -m examples.guild``: take briefs, build their sites, and let it be watched."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from .. import serving
from .app import DEMO_TOKENS, open_app

PORT = 8004
BRIEF = Path(__file__).parent / "page" / "brief.md"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.guild",
        description="Build a web site from a brief, and stream how far it is.",
    )
    serving.add_options(parser, port=PORT)
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
    tokens = {token: token for token in arguments.token} if arguments.token else DEMO_TOKENS
    serving.run(
        arguments,
        lambda log: open_app(
            log=log, data=arguments.data, tokens=tokens, public_url=arguments.public_url
        ),
        started=partial(started, token=next(iter(tokens))),
    )


def started(url: str, *, token: str = next(iter(DEMO_TOKENS))) -> list[str]:
    """Return what to tell somebody who has started it."""
    authorization = f"-H 'Authorization: Bearer {token}'"
    brief = f"jq -Rs '{{title: \"Brook Coffee\", briefText: .}}' {BRIEF}"
    return [
        f"In a browser:  {url}/",
        f"In a terminal: {brief} | curl -s {url}/briefs {authorization} -d @-",
        f"Then:          curl -N {authorization} (the sseUrl)",
    ]


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
