"""What the commands of the examples have in common: where to listen, on which server, which log.

Every example is an application in an ``async with``, around which the log is opened and in which
the server runs: when the server has ended, the application ends, and then the log.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import sselib
import sselib.hypercorn
from sselib import EventLog, InvalidLog, LogUnavailable, MemoryLog, open_sqlite_log
from sselib.listening import Address
from sselib.registry import RegisteredApp, StreamRegistry
from sselib.stream import ASGIApp

SERVERS: Final[Mapping[str, Callable[..., None]]] = {
    "hypercorn": sselib.hypercorn.run,
    "sselib": sselib.run,
}
DRAIN_WINDOW: Final = (
    2.0  # seconds; what runs when the server is told to stop is interrupted anyway
)

OpenApp = Callable[[EventLog], AbstractAsyncContextManager[ASGIApp]]


def add_options(parser: argparse.ArgumentParser, *, port: int, has_jobs: bool = True) -> None:
    """Add the options that the examples share: of all, and of those that have jobs to keep."""
    parser.add_argument("--host", default="127.0.0.1", help="listen on this address (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=port, help="listen on this port; 0 for any (%(default)s)"
    )
    parser.add_argument(
        "--server", choices=SERVERS, default="hypercorn", help="run on this (%(default)s)"
    )
    if not has_jobs:
        parser.set_defaults(data=None, log="memory", reuse_port=False)
        return
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="keep files here, instead of as long as the server runs; and jobs, without --log",
    )
    parser.add_argument(
        "--log",
        type=_log,
        metavar="LOG",
        help="keep jobs and their events here: memory, sqlite:PATH, or a redis:// URL (memory)",
    )
    parser.add_argument(
        "--reuse-port",
        action="store_true",
        help="share the port with other processes of this example, which share --data and the log",
    )


def run(
    arguments: argparse.Namespace,
    open_app: OpenApp,
    *,
    registry: StreamRegistry | None = None,
    sockets: Sequence[socket.socket] | None = None,
    started: Callable[[str], Iterable[str]],
    errors: tuple[type[Exception], ...] = (),
) -> None:
    """Be the process of an example: as the options say, until SIGINT or SIGTERM.

    Args:
        arguments: What :func:`add_options` has added, parsed. The directory ``data`` is made.
        open_app: Opens the application over a log.
        registry: Keeps the streams. ``None``: one that says nothing when it ends them, since what
            these APIs may say is documented to the byte. An application in one has its own.
        sockets: Listen on these, and not where the options say.
        started: Returns what to print, given where the server is found: ``http://host:port``.
        errors: What may keep the application from being opened, and says why in one line.
    """
    log_name = arguments.log or "memory"
    if arguments.data is not None:
        arguments.data.mkdir(parents=True, exist_ok=True)
        log_name = arguments.log or f"sqlite:{arguments.data / 'log.db'}"
    if arguments.reuse_port and log_name == "memory":
        sys.exit("--reuse-port needs a log that the processes share: sqlite:PATH or redis://...")
    if arguments.reuse_port and arguments.data is None:
        sys.exit("--reuse-port needs a directory that the processes share: --data DIR")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")

    def show(addresses: list[Address]) -> None:
        for url in urls(addresses):
            print(*started(url), sep="\n", flush=True)

    try:
        SERVERS[arguments.server](
            _over(log_name, open_app, registry),
            host=arguments.host,
            port=arguments.port,
            sockets=sockets,
            reuse_port=arguments.reuse_port,
            started=show,
        )
    except Exception as error:
        reasons = list(_leaves(error))
        known = (InvalidLog, LogUnavailable, *errors)
        if not all(isinstance(reason, known) for reason in reasons):
            raise
        sys.exit("\n".join(map(str, reasons)))


def _leaves(error: Exception) -> Iterator[Exception]:
    """Yield what an error is, or what is in it: tasks of a log stand around the application."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def urls(addresses: Iterable[Address]) -> list[str]:
    """Return the URLs of the addresses that have a port."""
    places = [each for each in addresses if not isinstance(each, str)]
    return [f"http://{f'[{host}]' if ':' in host else host}:{port}" for host, port in places]


@asynccontextmanager
async def open_log(name: str) -> AsyncIterator[EventLog]:
    """Open the log that ``--log`` names.

    Raises:
        InvalidLog, LogUnavailable: As from opening it.

    Cancellation: as of the log.
    """
    kind, _, path = name.partition(":")
    if kind == "memory":
        yield MemoryLog()
    elif kind == "sqlite":
        async with open_sqlite_log(path) as log:
            yield log
    else:
        from sselib.log.redis import open_redis_log  # noqa: PLC0415 # an extra of its own

        async with open_redis_log(name) as log:
            yield log


@asynccontextmanager
async def _over(
    log_name: str, open_app: OpenApp, registry: StreamRegistry | None
) -> AsyncIterator[ASGIApp]:
    if registry is None:
        registry = StreamRegistry(farewell_retry=False, drain_window=DRAIN_WINDOW)
    async with open_log(log_name) as log, open_app(log) as app:
        yield app if isinstance(app, RegisteredApp) else registry(app)


def _log(name: str) -> str:
    kind, _, rest = name.partition(":")
    if not (name == "memory" or (kind in ("sqlite", "redis", "rediss", "unix") and rest)):
        raise argparse.ArgumentTypeError(f"{name!r} is not memory, sqlite:PATH or a redis:// URL")
    return name
