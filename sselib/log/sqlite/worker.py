"""A thread that does, one batch after another, whatever was asked of it while it was busy.

So what is asked by fifty tasks at once costs one transaction and one way there and back, and what
is asked by one waits for nobody. The thread lives as long as the task that runs it, and owns what
it works with: it opens it, uses it and closes it.

What was handed in is done before the worker stops, and whoever waits for it is told; only a worker
that broke leaves things undone, and tells that.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import trio

T = TypeVar("T")
R = TypeVar("R")

_BATCH: Final = 1000  # so that nobody waits for an endless batch


class Call(Generic[R]):
    """Something asked of a worker, and its answer.

    Attributes:
        work: What to do, given what the worker works with.
        result: The answer, unless there is an error.
        error: Why there is none.
        given_up: Nobody waits for it any more. If it has not begun, it shall not.
    """

    __slots__ = ("done", "error", "given_up", "result", "work")

    def __init__(self, work: Callable[[R], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: Exception | None = None
        self.given_up = False
        self.done = trio.Event()


class Worker(Generic[R]):
    """The thread, seen from Trio.

    Args:
        loop: Runs in the thread: it takes each :meth:`next_batch` until there is none, does what it
            is asked, and passes the batch to :meth:`answer`.
    """

    def __init__(self, loop: Callable[[Worker[R]], None]) -> None:
        self._loop = loop
        self._calls: queue.SimpleQueue[Call[R] | None] = queue.SimpleQueue()
        self._batch: list[Call[R]] = []
        self._closed = False
        self._token = trio.lowlevel.current_trio_token()

    async def do(self, work: Callable[[R], T]) -> T:
        """Have the thread do it, and return or raise what comes of it.

        Raises:
            trio.ClosedResourceError: The worker is closed, or broke.

        Cancellation: of what has not begun: it never does. Else it goes on, and nobody is told.
        """
        if self._closed:
            raise trio.ClosedResourceError
        call = Call(work)
        self._calls.put(call)
        try:
            await call.done.wait()
        finally:
            call.given_up = True
        if call.error is not None:
            raise call.error
        result: T = call.result
        return result

    def close(self) -> None:
        """Have the thread stop when it has done what it was asked."""
        self._closed = True
        self._calls.put(None)

    async def run(self) -> None:
        """Run the thread, until it was closed.

        Cancellation: waits for the thread.
        """
        try:
            await trio.to_thread.run_sync(self._loop, self, limiter=trio.CapacityLimiter(1))
        finally:
            self._closed = True
            undone: list[Call[R] | None] = [*self._batch]
            while not self._calls.empty():
                undone.append(self._calls.get())
            for call in undone:
                if call is not None and not call.done.is_set():
                    call.error = trio.ClosedResourceError()
                    call.done.set()

    def next_batch(self) -> list[Call[R]] | None:
        """Wait for something to do, in the thread; ``None``: there is nothing and never will be."""
        self._batch = batch = []
        call = self._calls.get()
        while call is not None:
            if not call.given_up:
                batch.append(call)
            if batch and (len(batch) == _BATCH or self._calls.empty()):
                return batch
            call = self._calls.get()
        if batch:
            self._calls.put(None)  # again, for the next time
        return batch or None

    def answer(self, batch: list[Call[R]], then: Callable[[], None] = lambda: None) -> None:
        """Tell those who wait, in the Trio thread, after ``then`` was called there."""

        def tell() -> None:
            then()
            for call in batch:
                call.done.set()

        self._token.run_sync_soon(tell)
