"""``python -m examples.file_updates --watch DIR``: index the files in DIR, and tell of it."""

from __future__ import annotations

import argparse
import ipaddress
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sselib.registry import RegisteredApp, StreamRegistry

from .. import serving
from .app import KEEPALIVE, open_app
from .queue import COOLDOWN
from .store import StoreError
from .watching import WatchError

PORT: Final = 60534  # as documented


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
    serving.add_options(parser, port=PORT, has_jobs=False)
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
        dest="file",
        metavar="FILE",
        help="keep watches, queue and index in this file (a temporary one, gone at the end)",
    )
    arguments = parser.parse_args()
    try:
        loopback(arguments.host)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))

    def started(url: str) -> list[str]:
        watched = [f"Watching {directory}" for directory in arguments.watch]
        return [*watched, f"In a browser:  {url}/", f"In a terminal: curl -N {url}/api/updates"]

    serving.run(
        arguments,
        lambda _: open_registered(
            arguments.watch,
            data=arguments.file,
            keepalive=arguments.keepalive,
            cooldown=arguments.cooldown,
        ),
        started=started,
        errors=(StoreError, WatchError),
    )


@asynccontextmanager
async def open_registered(directories: list[str], **options: Any) -> AsyncIterator[RegisteredApp]:
    """Open the application, in a registry that lets it say goodbye.

    Cancellation: as of :func:`open_app`.
    """
    async with open_app(directories, **options) as app:
        registry = StreamRegistry(
            drain_window=serving.DRAIN_WINDOW, before_drain=app.say_goodbye, farewell_retry=False
        )
        yield registry(app)


def loopback(host: str) -> str:
    """Return the host if it is this machine alone.

    Raises:
        argparse.ArgumentTypeError: It is not.
    """
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
