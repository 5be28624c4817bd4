"""``python -m examples.file_updates --watch DIR``: announce what happens to the files in DIR."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import math
import sys

from sselib.hypercorn import run
from sselib.listening import Address

from .app import KEEPALIVE, open_app
from .watching import WatchError

PORT = 60534  # as documented


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.file_updates",
        description="Announce what happens to the files of directories, as Server-Sent Events.",
    )
    parser.add_argument(
        "--watch",
        metavar="DIR",
        action="append",
        required=True,
        help="watch this directory and all below it; may be given several times",
    )
    parser.add_argument(
        "--host",
        type=_loopback,
        default="127.0.0.1",
        help="listen on this loopback address (%(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help="listen on this port; 0 for any (%(default)s)"
    )
    parser.add_argument(
        "--keepalive",
        type=_seconds,
        default=KEEPALIVE,
        metavar="SECONDS",
        help="send a comment after this long without an update (%(default)s)",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")

    def started(addresses: list[Address]) -> None:
        for directory in arguments.watch:
            print(f"Watching {directory}")
        for host, port in (each for each in addresses if not isinstance(each, str)):
            where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"In a browser:  {where}/\nIn a terminal: curl -N {where}/api/updates")
        sys.stdout.flush()

    try:
        run(
            open_app(arguments.watch, keepalive=arguments.keepalive),
            host=arguments.host,
            port=arguments.port,
            started=started,
        )
    except WatchError as error:
        sys.exit(str(error))


def _loopback(host: str) -> str:
    if host != "localhost":
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            raise argparse.ArgumentTypeError(
                f"{host!r} is not a loopback address: this server has no passwords"
            )
    return host


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds


if __name__ == "__main__":
    main()
