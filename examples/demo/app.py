"""All examples behind one port: each an application of its own, mounted at its name.

Nothing is shared but the process, the log and the registry of streams. File updates are found at
their documented port as well, where clients of theirs look for them: a request that came in there
goes to them whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.routing import Mount

from sselib import EventLog
from sselib.registry import RegisteredApp, StreamRegistry
from sselib.stream import ASGIApp, Receive, Scope, Send

from ..bedrock.app import open_app as open_bedrock
from ..dex.app import open_app as open_dex
from ..file_updates.app import open_app as open_file_updates
from ..guild.app import open_app as open_guild
from ..page import page_routes
from ..serving import DRAIN_WINDOW

PAGE: Final = Path(__file__).with_name("page")
# Seconds. Somebody who has just saved a file wants to see it indexed, and not in a minute.
COOLDOWN: Final = 2.0
SCAN_COOLDOWN: Final = 0.5


@asynccontextmanager
async def open_demo(
    directories: Collection[str],
    *,
    log: EventLog | None = None,
    data: Path | None = None,
    files_port: int | None = None,
) -> AsyncIterator[RegisteredApp]:
    """Open all four examples, and give the application that has them at their names.

    Args:
        directories: What ``/files`` watches.
        log: Where jobs are kept; in memory by default.
        data: A directory for what each of them keeps in files, in one of its own there. ``None``:
            temporary ones.
        files_port: The port at which there are file updates and nothing else.

    Raises:
        WatchError: One of the directories cannot be watched.

    Cancellation: as of each of them.
    """

    def place(name: str) -> Path | None:
        if data is None:
            return None
        (data / name).mkdir(exist_ok=True)
        return data / name

    files_place = place("files")
    async with AsyncExitStack() as stack:
        files = await stack.enter_async_context(
            open_file_updates(
                directories,
                data=None if files_place is None else files_place / "index.sqlite3",
                cooldown=COOLDOWN,
                scan_cooldown=SCAN_COOLDOWN,
            )
        )
        apps: dict[str, ASGIApp] = {
            "files": files,
            "dex": await stack.enter_async_context(open_dex(log=log, data=place("dex"))),
            "bedrock": await stack.enter_async_context(
                open_bedrock(log=log, directory=place("bedrock"))
            ),
            "guild": await stack.enter_async_context(open_guild(log=log, data=place("guild"))),
        }
        routes = [Mount(f"/{name}", app) for name, app in apps.items()]
        everything = Starlette(routes=[*routes, *page_routes(PAGE)])

        async def by_port(scope: Scope, receive: Receive, send: Send) -> None:
            server = scope.get("server")
            is_for_files = server is not None and server[1] == files_port
            await (files if is_for_files else everything)(scope, receive, send)

        registry = StreamRegistry(
            max_streams_per_client=None,  # who one client is, each API says itself
            drain_window=DRAIN_WINDOW,
            before_drain=files.say_goodbye,
            farewell_retry=False,
        )
        yield registry(by_port)
