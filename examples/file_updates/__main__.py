"""``python -m examples.file_updates --watch DIR``: index the files in DIR, and tell of it."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sselib.hypercorn import run
from sselib.listening import Address
from sselib.registry import RegisteredApp, StreamRegistry

from .app import KEEPALIVE, open_app
from .queue import COOLDOWN
from .store import StoreError
from .watching import WatchError

PORT: Final = 60534  # as documented
DRAIN_WINDOW: Final = 2.0  # seconds in which streams are told that the server shuts down


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.file_updates",
        description="Index the files of directories, and tell of it as Server-Sent Events.",
    )
    parser.add_argument(
        "--watch",
        metavar="DIR",
        action="append",
        default=[],
        help="watch this directory and all below it; may be given several times",
    )
    parser.add_argument(
        "--host",
        type=loopback,
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
    parser.add_argument(
        "--cooldown",
        type=_seconds,
        default=COOLDOWN,
        metavar="SECONDS",
        help="index a file when it has not changed for this long (%(default)s)",
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="keep watches, queue and index in this file (a temporary one, gone at the end)",
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

    app = open_registered(
        arguments.watch,
        data=arguments.data,
        keepalive=arguments.keepalive,
        cooldown=arguments.cooldown,
    )
    try:
        run(app, host=arguments.host, port=arguments.port, started=started)
    except (StoreError, WatchError) as error:
        sys.exit(str(error))


@asynccontextmanager
async def open_registered(directories: list[str], **options: Any) -> AsyncIterator[RegisteredApp]:
    """Open the application, in a registry that lets it say goodbye.

    Cancellation: as of :func:`open_app`.
    """
    async with open_app(directories, **options) as app:
        registry = StreamRegistry(
            drain_window=DRAIN_WINDOW, before_drain=app.say_goodbye, farewell_retry=False
        )
        yield registry(app)


def loopback(host: str) -> str:
    """Return the host if it is this machine alone, for :mod:`argparse`."""
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
