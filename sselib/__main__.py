"""The command line: ``sselib tail`` shows an event stream, ``sselib serve`` serves an application.

``tail`` exits with

- 0 when the stream ended well: by 204, by ``--until`` or by ``--count``; with ``--once`` also by
  the end of the response;
- 1 when it failed for good (a status, a content type, a certificate, an event that is too large);
- 2 when it was called wrongly, or would have to go through a proxy;
- 3 when it gave up, by ``--max-failures`` or ``--once``;
- 130 at Ctrl-C, and 141 when nobody reads what it writes.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import os
import ssl
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from . import server
from .client import EventSource, RetryPolicy, open_event_source
from .errors import EventSourceFailed, ProxyRefused, RemoteError
from .listening import Address
from .registry import DEFAULT_DRAIN_WINDOW, StreamRegistry
from .terminal import JsonLines, Output, ProgressBar, TextLines

FAILED: Final = 1
WRONG_USE: Final = 2
GAVE_UP: Final = 3
INTERRUPTED: Final = 130
NOBODY_READS: Final = 141

SERVERS: Final = ("sselib", "hypercorn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and return its exit code."""
    parser = argparse.ArgumentParser(prog="sselib", description="Server-Sent Events.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, about, text, add in (
        ("tail", "show the events of a stream as they come", TAIL, _add_tail),
        ("serve", "serve an ASGI application", SERVE, _add_serve),
    ):
        command = commands.add_parser(name, help=about, description=text)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        add(command)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except WrongUse as error:
        print(f"sselib: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What is still buffered would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    return code


class WrongUse(Exception):
    """The command cannot do what it was asked for; the message is for whoever asked."""


# ---- tail ----------------------------------------------------------------------------------------

TAIL: Final = """\
Show the events of a stream as they come, and go on behind the last one when the connection is
lost.

  sselib tail http://localhost:8000/events
  sselib tail --json --resume last-id.txt URL >> events.jsonl
  sselib tail --progress --until completed -H 'Authorization: Bearer TOKEN' URL

exit codes:
  0    the stream ended well (204, --until, --count; with --once also the end of the response)
  1    it failed for good: a status, a content type, a certificate, an event that is too large
  2    called wrongly, or a proxy stands in the environment
  3    gave up (--max-failures, --once)
  130  interrupted"""


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="where the stream is")
    group = parser.add_argument_group("what is shown")
    group.add_argument("--comments", action="store_true", help="comments too, on standard error")
    group.add_argument("-q", "--quiet", action="store_true", help="not why connections were lost")
    shown = group.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="one JSON object per event and line")
    shown.add_argument(
        "--progress",
        nargs="?",
        const="progress",
        metavar="FIELD",
        help="a live bar of a field of the data, which goes from 0 to 1 (%(const)s)",
    )

    asked = parser.add_argument_group("what is asked for").add_argument
    asked("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", type=_header)
    asked("-X", "--method", help="GET by default, and POST with --data")
    asked("-d", "--data", type=_data, metavar="DATA", help="the body; @FILE is read, @- is stdin")
    asked("--last-event-id", default="", metavar="ID", help="continue behind this event")
    asked(
        "--resume",
        type=Path,
        metavar="FILE",
        help="keep the last event ID there, and continue behind it next time",
    )

    ends = parser.add_argument_group("when it ends").add_argument
    ends("--until", action="append", default=[], metavar="TYPE", help="after an event of this type")
    ends("--count", type=_positive, metavar="N", help="after so many events")
    ends("--max-failures", type=_count, metavar="N", help="after more losses in a row than that")
    ends("--once", action="store_true", help="with the first connection, however it ends")
    ends("--standard", action="store_true", help="at any status at which a browser gives up")

    reached = parser.add_argument_group("how it is reached").add_argument
    reached(
        "--idle-timeout",
        type=_seconds,
        default=RetryPolicy().idle_timeout,
        metavar="SECONDS",
        help="take a connection for lost when nothing comes for so long; 0 for never (%(default)g)",
    )
    reached("--unix-socket", metavar="PATH", help="connect to this socket instead of the host")
    reached("--cacert", metavar="FILE", help="trust these certificates, not the system's")
    reached("--direct", action="store_true", help="past a proxy that the environment names")
    parser.set_defaults(run=lambda options: trio.run(_tail, options))


async def _tail(options: argparse.Namespace) -> int:
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # the command has a real standard output
    output: Output = JsonLines() if options.json else TextLines()
    if options.progress:
        output = ProgressBar(options.progress)
    keep = _KeptId(options.resume) if options.resume else None
    async with AsyncExitStack() as stack:
        try:
            opened = open_event_source(options.url, **_source_options(options, output, keep))
            source = await stack.enter_async_context(opened)
        except (ValueError, ProxyRefused, OSError) as error:
            raise WrongUse(str(error)) from error
        try:
            async for event in source:
                output.show(event)
                if keep is not None:
                    keep.write(source.last_event_id)
                if source.statistics().events == options.count:
                    break
        except (RemoteError, ProxyRefused) as error:
            return _outcome(error, source, options)
        finally:
            output.close()
    return 0


def _source_options(
    options: argparse.Namespace, output: Output, keep: _KeptId | None
) -> dict[str, Any]:
    policy = RetryPolicy.standard if options.standard else RetryPolicy()
    given: dict[str, Any] = {
        "method": options.method or ("GET" if options.data is None else "POST"),
        "headers": options.header,
        "content": options.data or b"",
        "last_event_id": options.last_event_id or (keep.read() if keep else ""),
        "policy": attrs.evolve(
            policy,
            max_failures=0 if options.once else options.max_failures,
            idle_timeout=options.idle_timeout or None,
        ),
        "until": (lambda event: event.event in options.until) if options.until else None,
        "on_comment": output.note if options.comments else None,
        "on_interruption": None if options.quiet else output.note,
    }
    if options.unix_socket:
        given["connect"] = partial(_connect_unix, options.unix_socket)
    elif options.direct:
        given["connect"] = trio.open_tcp_stream
    if options.cacert:
        given["ssl_context"] = ssl.create_default_context(cafile=options.cacert)
    return given


def _outcome(error: Exception, source: EventSource, options: argparse.Namespace) -> int:
    if isinstance(error, EventSourceFailed) and error.reason == "gave up":
        last = source.interruption
        if options.once and last is not None and last.reason == "ended":
            return 0
        print(f"sselib: gave up: {error}", file=sys.stderr)
        return GAVE_UP
    print(f"sselib: {error}", file=sys.stderr)
    return WRONG_USE if isinstance(error, ProxyRefused) else FAILED


async def _connect_unix(path: str, _host: str, _port: int) -> trio.abc.Stream:
    return await trio.open_unix_socket(path)


class _KeptId:
    """A file that holds the last event ID; it is replaced and never half written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: str | None = None

    def read(self) -> str:
        if not self._path.exists():
            return ""
        return self._path.read_text(encoding="utf-8").removesuffix("\n")

    def write(self, last_event_id: str) -> None:
        if last_event_id != self._written:
            new = self._path.with_name(f"{self._path.name}.new")
            new.write_text(f"{last_event_id}\n", encoding="utf-8")
            new.replace(self._path)
            self._written = last_event_id


# ---- serve ---------------------------------------------------------------------------------------

SERVE: Final = """\
Serve an ASGI application until SIGINT or SIGTERM, then let its streams end one after the other. A
second signal ends it at once."""


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("app", metavar="MODULE:NAME", help="what to serve; modules of this directory are found")
    add(
        "--factory",
        action="store_true",
        help="NAME is a function that returns the application, or an async context manager of it",
    )
    add("--server", choices=SERVERS, default=SERVERS[0], help="which one (%(default)s)")
    add("--host", default="127.0.0.1", help="listen on this name or address (%(default)s)")
    add("--port", type=_count, default=8000, help="and port; 0 for any that is free (%(default)s)")
    add("--unix-path", metavar="PATH", help="make a Unix socket there instead")
    add("--certfile", metavar="FILE", help="speak TLS with this certificate")
    add("--keyfile", metavar="FILE", help="and this key, if it is not in the same file")
    add(
        "--drain-window",
        type=_seconds,
        metavar="SECONDS",
        help=f"how long the ends of the streams are spread over ({DEFAULT_DRAIN_WINDOW:g})",
    )
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if options.keyfile and not options.certfile:
        raise WrongUse("--keyfile needs a --certfile")
    app = _load(options.app)
    given: dict[str, Any] = {
        "host": options.host,
        "port": options.port,
        "unix_path": options.unix_path,
        "started": partial(_say_where, "https" if options.certfile else "http"),
    }
    if options.drain_window is not None:
        given["registry"] = StreamRegistry(drain_window=options.drain_window)
    serve = {"sselib": _serve_ourselves, "hypercorn": _serve_on_hypercorn}[options.server]
    serve(app() if options.factory else app, options.certfile, options.keyfile, given)
    return 0


def _serve_ourselves(app: Any, cert: str | None, key: str | None, given: dict[str, Any]) -> None:
    if cert:
        given["ssl_context"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            given["ssl_context"].load_cert_chain(cert, key)
        except OSError as error:
            raise WrongUse(f"cannot use {cert} and its key for TLS: {error}") from error
    server.run(app, **given)


def _serve_on_hypercorn(app: Any, cert: str | None, key: str | None, given: dict[str, Any]) -> None:
    try:
        from hypercorn.config import Config  # noqa: PLC0415 # it needs an extra

        from . import hypercorn  # noqa: PLC0415 # as above
    except ImportError as error:
        raise WrongUse(str(error)) from error
    if cert:
        given["config"] = Config()
        given["config"].certfile, given["config"].keyfile = cert, key or cert
        given["config"].backlog = hypercorn.DEFAULT_BACKLOG
    hypercorn.run(app, **given)


def _load(place: str) -> Any:
    name, _, attribute = place.partition(":")
    if not name or not attribute:
        raise WrongUse(f"{place!r} is no MODULE:NAME")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and something that it needs is not
        raise WrongUse(f"there is no module {name!r} here") from error
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise WrongUse(str(error)) from error
    return found


def _say_where(scheme: str, addresses: list[Address]) -> None:
    for address in addresses:
        if isinstance(address, str):
            print(f"Serving on {address}", flush=True)
        else:
            host, port = address
            where = f"[{host}]" if ":" in host else host
            print(f"Serving on {scheme}://{where}:{port}/", flush=True)


# ---- arguments -----------------------------------------------------------------------------------


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME: VALUE")
    return name.strip(), value.strip()


def _data(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def _positive(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 is none")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
