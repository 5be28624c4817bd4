"""What lives around the API, and how its pieces fit.

The log, the shared directory and the runner are opened around the application and outlive its
requests. A request passes the envelope; if it is for something that needs a key, the guard; then
its handler, which looks things up or hands work to the runner. A stream reads its job's topic, and
nothing else publishes but jobs. Nothing is kept in a process that another would need, so any number
of them over one log and one directory are one service.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

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
from .shared import Shared, open_shared
from .signing import Signer
from .store import Store

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
        directory: Where files and overlays are kept, and what else processes have to share: it is
            on a disk of this machine. By default a temporary one, which is gone at the end.
        keys: Whom each key belongs to.
        rate_limit: Requests that a key may make per minute.
        ids: As in :class:`Api`.

    Raises:
        ValueError: A key or a limit that cannot be.
        Unusable: The directory cannot be used.

    Cancellation: jobs that run are failed as interrupted.
    """
    with ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bedrock-")))
        shared = stack.enter_context(open_shared(directory))
        async with (
            open_topics(MemoryLog() if log is None else log) as topics,
            open_job_runner(
                topics, name="bedrock", kinds=[OVERLAY_JOB], capacity=CAPACITY
            ) as runner,
        ):
            store = Store(shared)
            yield application(shared, store, runner, keys=keys, rate_limit=rate_limit, ids=ids)


def application(
    shared: Shared,
    store: Store,
    runner: JobRunner,
    *,
    keys: Mapping[str, Account] = DEMO_KEYS,
    rate_limit: int = RATE_LIMIT,
    ids: Ids = "none",
    clock: Callable[[], int] = time.time_ns,
) -> ASGIApp:
    """Return the application over what is shared and a runner; the clock is that of rates."""
    api = Api(
        store=store,
        runner=runner,
        answers=Answers(shared),
        signer=Signer(shared.secret),
        ids=ids,
    )
    guarded = Guard(
        Router(api.routes(), redirect_slashes=False),
        keys,
        RateLimiter(shared, rate_limit, clock),
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
