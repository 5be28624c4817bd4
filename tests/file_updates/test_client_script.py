"""The example's own client, against a server that is replaced."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable

from .conftest import Server
from .test_clients import running

Start = Callable[..., Server]


def test_it_comes_back_to_the_next_server(start_server: Start) -> None:
    """It prints updates as they come, and those of the server that takes over."""
    server = start_server()
    url = f"http://localhost:{server.port}/api/updates"
    with running([sys.executable, "-m", "examples.file_updates.client", url]) as client:
        assert client.stdout is not None
        output = client.stdout.fileno()
        for turn in ("first", "second"):
            said, number = b"", 0
            while f"[file_created] {{'path': '{server.directory}/{turn} ".encode() not in said:
                if select.select([output], [], [], 0.05)[0]:
                    said += os.read(output, 65_536)
                else:  # it is still connecting, or has been told all that there is
                    number += 1
                    (server.directory / f"{turn} {number}").touch()
            if turn == "first":
                server.stop()
                server = start_server(port=server.port)
