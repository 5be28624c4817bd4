"""``python -m examples.demo``: all examples in one process, on one port."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import Final

from sselib.listening import BACKLOG

from .. import serving
from ..bedrock.app import DEMO_KEYS
from ..bedrock.shared import Unusable
from ..dex.app import DEMO_ACCOUNT, DEMO_KEY, DEMO_PROJECT
from ..file_updates.__main__ import PORT as FILES_PORT
from ..file_updates.__main__ import loopback
from ..file_updates.store import StoreError
from ..file_updates.watching import WatchError
from ..guild.app import DEMO_TOKENS
from .app import open_demo

PORT: Final = 8000


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Serve file updates, Dex, Bedrock and Guild, each under its name.",
    )
    serving.add_options(parser, port=PORT)
    parser.add_argument(
        "--files-port",
        type=int,
        default=FILES_PORT,
        metavar="PORT",
        help="serve file updates there as well, as they are documented; 0 for any (%(default)s)",
    )
    parser.add_argument(
        "--watch",
        metavar="DIR",
        action="append",
        default=[],
        help="watch this directory and all below it; may be given several times",
    )
    arguments = parser.parse_args()
    try:
        loopback(arguments.host)  # file updates have no passwords
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    if arguments.reuse_port:
        parser.error("--reuse-port is for the examples one by one: what is watched is no log")
    sockets = [
        _bound(arguments.host, arguments.port, "--port"),
        _bound(arguments.host, arguments.files_port, "--files-port"),
    ]
    files_port = sockets[1].getsockname()[1]

    def started(url: str) -> list[str]:
        if url.endswith(f":{files_port}"):
            return [f"{f'curl -N {url}/api/updates':<80} # file updates, at their own port"]
        return told(url, arguments.watch)

    serving.run(
        arguments,
        lambda log: open_demo(arguments.watch, log=log, data=arguments.data, files_port=files_port),
        sockets=sockets,
        started=started,
        errors=(StoreError, Unusable, WatchError),
    )


def told(url: str, watched: list[str]) -> list[str]:
    """Return what to tell somebody who has started it: a page, and curl lines to try."""
    dex = f"-H 'x-api-key: {DEMO_KEY}' -H 'x-selected-account-id: {DEMO_ACCOUNT}'"
    bedrock = f"-H 'Authorization: Bearer {next(iter(DEMO_KEYS))}'"
    guild = f"-H 'Authorization: Bearer {next(iter(DEMO_TOKENS))}'"
    brief = '{"title": "Brook Coffee", "briefText": "# Brook Coffee\\n\\nA cafe by the brook."}'
    return [
        f"In a browser:  {url}/",
        "In a terminal, each line by itself:",
        f"curl -N {url}/files/api/updates    # then change a file in {', '.join(watched)}",
        f"curl {dex} -F file=@README.md {url}/dex/v1/projects/{DEMO_PROJECT}/files",
        f"curl {bedrock} {url}/bedrock/jobs",
        f"curl {guild} -d '{brief}' {url}/guild/briefs    # then curl -N the sseUrl, with the key",
    ]


def _bound(host: str, port: int, option: str) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        sys.exit(f"cannot listen on {host} port {port}: {reason}; choose another by {option}")


if __name__ == "__main__":
    main()
