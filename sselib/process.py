"""Be a process that serves, whichever the server is: signals, surroundings, exit codes.

A server is an async function that drains when told and stops when cancelled. Here a signal is what
tells it. Everything stands in one nursery: the signals, what the application depends on, and in
that the server.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol

import attrs
import trio

from .listening import Address, CannotListen
from .stream import ASGIApp


class Serve(Protocol):
    """A server: what :func:`sselib.serve` is with its options given."""

    def __call__(
        self,
        app: ASGIApp,
        *,
        shutdown_trigger: Callable[[], Awaitable[object]],
        task_status: trio.TaskStatus[list[Address]],
    ) -> Awaitable[None]:
        """Serve until the trigger returns, then drain and return."""
        ...


def run_process(
    serve: Serve,
    app: ASGIApp | AbstractAsyncContextManager[ASGIApp],
    started: Callable[[list[Address]], object] | None,
) -> None:
    """Start Trio, serve, drain at a signal, return; :func:`sselib.run` tells more.

    Raises:
        SystemExit: With one line on standard error and code 1 if it cannot listen; with 128 plus
            the signal's number after a second signal.
        Exception: Whatever else ended the server, or what stands around it.
    """
    outcome = trio.run(_main, serve, app, _Told(started or (lambda _: None)))
    if outcome is not None:
        sys.exit(outcome)


async def _main(
    serve: Serve,
    app: ASGIApp | AbstractAsyncContextManager[ASGIApp],
    status: _Told,
) -> int | str | None:
    """Serve until signalled; return what the process is to exit with."""
    surroundings = app if isinstance(app, AbstractAsyncContextManager) else nullcontext(app)
    stop = trio.Event()
    outcome: int | str | None = None

    async def obey(signals: AsyncIterator[int]) -> None:
        nonlocal outcome
        async for number in signals:
            if stop.is_set():
                outcome = 128 + number
                nursery.cancel_scope.cancel()
            stop.set()

    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(obey, signals)
                async with surroundings as opened:
                    try:
                        await serve(opened, shutdown_trigger=stop.wait, task_status=status)
                    except CannotListen as error:
                        outcome = str(error)
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # It is this nursery's, where nothing but the body fails.
        raise group.exceptions[0] from None  # noqa: ASYNC123 # as above
    return outcome


@attrs.frozen
class _Told:
    """A task status that calls a function."""

    function: Callable[[Any], object]

    def started(self, value: object = None) -> None:
        self.function(value)
