"""What lives around the API, and how its pieces fit.

The log, the store and the runner are opened around the application and outlive its requests. A
request passes the envelope; if it is for something that needs a key, the guard; then its handler,
which looks things up or hands work to the runner. A stream reads its job's topic, and nothing else
publishes but jobs.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Router

from sselib import EventLog, MemoryLog, open_topics
from sselib.jobs import JobRunner, open_job_runner
from sselib.stream import ASGIApp
from sselib.window import Ids

from ..page import page_routes
from .api import Api, show_error, show_failure
from .errors import ApiError
from .gate import Account, Envelope, Guard
from .idempotency import Answers
from .jobs import OVERLAY_JOB
from .rate_limit import RateLimiter
from .signing import Signer
from .store import Store, claimed

DEMO_KEYS: Final[Mapping[str, Account]] = {"sk_demo": Account("org_demo", "prj_demo")}
RATE_LIMIT: Final = 60  # requests per minute and key
_PAGE: Final = Path(__file__).with_name("page")
CAPACITY: Final = 2  # comparisons at a time: each keeps a core busy


@asynccontextmanager
async def open_app(
    *,
    log: EventLog | None = None,
    directory: Path | None = None,
    keys: Mapping[str, Account] = DEMO_KEYS,
    rate_limit: int = RATE_LIMIT,
    ids: Ids = "none",
) -> AsyncIterator[ASGIApp]:
    """Open the application for as long as the ``async with`` lasts.

    Args:
        log: Where jobs are kept; in memory by default.
        directory: Where files and overlays are kept, and nothing else; by default a temporary one,
            which is gone at the end.
        keys: Whom each key belongs to.
        rate_limit: Requests that a key may make per minute.
        ids: As in :class:`Api`.

    Raises:
        ValueError: A key or a limit that cannot be.
        StoreInUse: Another process has the directory.

    Cancellation: jobs that run are failed as interrupted.
    """
    with ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bedrock-")))
        stack.enter_context(claimed(directory))
        store = Store(directory)
        async with (
            open_topics(MemoryLog() if log is None else log) as topics,
            open_job_runner(
                topics, name="bedrock", kinds=[OVERLAY_JOB], capacity=CAPACITY
            ) as runner,
        ):
            yield application(store, runner, keys=keys, rate_limit=rate_limit, ids=ids)


def application(
    store: Store,
    runner: JobRunner,
    *,
    keys: Mapping[str, Account] = DEMO_KEYS,
    rate_limit: int = RATE_LIMIT,
    ids: Ids = "none",
) -> ASGIApp:
    """Return the application over a store and a runner."""
    api = Api(
        store=store,
        runner=runner,
        answers=Answers(trio.current_time),
        signer=Signer(secrets.token_bytes(32)),
        ids=ids,
    )
    guarded = Guard(
        Router(api.routes(), redirect_slashes=False),
        keys,
        RateLimiter(rate_limit, trio.current_time),
    )
    return Envelope(
        Starlette(
            routes=[*page_routes(_PAGE), *api.open_routes(), Mount("/", guarded)],
            exception_handlers={
                ApiError: show_error,
                HTTPException: show_error,
                Exception: show_failure,
            },
        )
    )
