"""Runs the work of jobs, so much at a time, and sees to it that each job ends.

One task takes jobs out of the line in the order in which they came, and begins each in a task of
its own. That runs the work in the job's cancel scope and then appends the job's end. Cancelling
only cancels the scope, of a job in line as well: it then is taken at once, has no work done, and
ends by the same few lines as all others.

If the crew is cancelled, the ends are appended all the same, under a shield and within
:data:`LAST_WORDS` seconds. That is the one step here that cancellation has to wait for: without it
nobody would be told. On a log of this process it takes no time. One that does not answer is given
up, and whoever starts a runner on it finds jobs whose owner is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import Final

import trio

from ..errors import ChannelEnded, JobFailed
from .kinds import JobKind, Outcome
from .record import Job, JobError
from .running import Ending, RunningJob, Unfit, Writer

# Seconds.
LAST_WORDS: Final = 2.0
RETRY: Final = 1.0  # of an end that the log did not take

_logger: Final = logging.getLogger("sselib.jobs")

_INTERNAL: Final = JobError("internal", "internal error")
_INTERRUPTED: Final = JobError("interrupted", "interrupted: the server stopped before it was done")


class Crew:
    """Those who do the work.

    Args:
        capacity: The most jobs to run at a time.
        given_back: The names of the kinds whose jobs are not ended when the crew is cancelled.
        on_end: Called with each job that has ended.

    Attributes:
        unfinished: The jobs that are here, by id.
        is_silent: The log has let a job's last words go unanswered: there is no use in more.
    """

    def __init__(
        self, *, capacity: int, given_back: Collection[str], on_end: Callable[[Job], None]
    ) -> None:
        self.unfinished: dict[str, Writer] = {}
        self.is_silent = False
        self.is_closed = False
        self._given_back = given_back
        self._on_end = on_end
        self._free = capacity
        self._in_line: dict[str, Writer] = {}  # in the order in which they came
        self._work_to_do = trio.Event()

    def put_in_line(self, writer: Writer) -> None:
        """Take a job."""
        self.unfinished[writer.job.id] = self._in_line[writer.job.id] = writer
        if writer.parent is not None:
            writer.parent.children[writer.job.id] = writer
            if writer.parent.is_ending:  # It came too late, and does not outlive its parent long.
                self.stop(writer)
        self._work_to_do.set()

    def is_in_line(self, job_id: str) -> bool:
        """Return whether a job waits for its turn."""
        return job_id in self._in_line

    def stop(self, writer: Writer | None) -> None:
        """Cancel a job, if there is one."""
        if writer is not None:
            writer.scope.cancel()
            self._work_to_do.set()

    async def serve(self) -> None:
        """Begin jobs in the order in which they came, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                try:
                    while True:
                        self._work_to_do = trio.Event()
                        for writer in self._ready():
                            nursery.start_soon(self._run, writer)
                            await writer.begun.wait()
                        await self._work_to_do.wait()
                finally:
                    self.is_closed = True
                    # Their parents wait for it.
                    await self._end_those_in_line()  # noqa: ASYNC102 # it has shields of its own
        finally:
            # As far as they came late.
            await self._end_those_in_line()  # noqa: ASYNC102 # as above

    def patience(self) -> float:
        """Return how many seconds last words may take."""
        return 0 if self.is_silent else LAST_WORDS

    def _ready(self) -> Iterator[Writer]:
        """Take those out of the line that are to be begun now."""
        for writer in list(self._in_line.values()):
            # One that is cancelled needs no slot to say so.
            if writer.kind.takes_slot and not writer.scope.cancel_called:
                if self._free == 0:
                    continue
                self._free -= 1
                writer.has_slot = True
            del self._in_line[writer.job.id]
            yield writer

    async def _run(self, writer: Writer) -> None:
        """Run a job's work, and append what comes of it."""
        ending = interrupted(writer)
        try:
            ending = await self._work(writer)
            await self._end(writer, ending)
        finally:
            if not writer.over.is_set():
                with trio.move_on_after(self.patience(), shield=True) as scope:
                    await self._end(writer, ending)
                self.is_silent |= scope.cancelled_caught
            self._free += writer.has_slot
            self._work_to_do.set()

    async def _work(self, writer: Writer) -> Ending:
        lifecycle, work = writer.kind.lifecycle, writer.work
        assert work is not None, "only what is to be run is put in line"
        try:
            with writer.scope:
                await writer.create()
                if lifecycle.started is not None and writer.job.status == lifecycle.initial:
                    await writer.report(lifecycle.started, None, None)
                writer.begun.set()
                returned = await work(RunningJob(writer))
                outcome = returned if isinstance(returned, Outcome) else Outcome(returned)
                status = outcome.status or lifecycle.succeeded
                return Ending(
                    status=status,
                    result=outcome.result,
                    message=outcome.message,
                    progress=None if status in (lifecycle.failed, lifecycle.cancelled) else 1.0,
                )
        except Exception as error:
            failure = _public(error)
            if failure is None:
                _logger.exception("job %s failed", writer.job.id)
                return _failed(writer, _INTERNAL)  # noqa: ASYNC910 # it has begun with a checkpoint
            return _failed(writer, JobError(failure.code, failure.message))  # noqa: ASYNC910 # as above
        return _cancelled(writer)

    async def _end(self, writer: Writer, ending: Ending) -> None:  # noqa: ASYNC910 # as it must
        """Append a job's end, unless it is not ours to end, and be done with it."""
        writer.is_ending = True
        while writer.children:
            child = next(iter(writer.children.values()))
            self.stop(child)
            if self.is_closed and self.is_in_line(child.job.id) and not child.is_ending:
                await self._end(child, interrupted(child))  # Nobody else does, if it came late.
            await child.over.wait()
        is_given_back = ending.error is _INTERRUPTED and writer.kind.name in self._given_back
        if not (is_given_back or writer.is_lost):
            await self._append_end(writer, ending)
            self._on_end(writer.job)
        writer.begun.set()
        writer.over.set()
        if writer.parent is not None:
            del writer.parent.children[writer.job.id]
        del self.unfinished[writer.job.id]
        self._in_line.pop(writer.job.id, None)

    async def _end_those_in_line(self) -> None:  # noqa: ASYNC910 # there may be none
        for writer in list(self._in_line.values()):
            if not writer.is_ending:
                with trio.move_on_after(self.patience(), shield=True) as scope:
                    await self._end(writer, interrupted(writer))
                self.is_silent |= scope.cancelled_caught

    async def _append_end(self, writer: Writer, ending: Ending) -> None:  # noqa: ASYNC910 # as above
        is_bare = False
        while True:  # noqa: ASYNC913 # end() in each round
            try:
                await writer.end(ending, bare=is_bare)
                break
            except ChannelEnded:
                break  # Somebody else has ended it, and the first end is the one that counts.
            except Unfit:
                _logger.exception("job %s: what it ends with cannot be kept", writer.job.id)
                if is_bare:
                    break
                ending, is_bare = _failed(writer, _INTERNAL), True
            except Exception:
                _logger.exception("job %s: the log does not take its end", writer.job.id)
                await trio.sleep(RETRY)


def interrupted(writer: Writer) -> Ending:
    """Return the end of a job whose runner is gone."""
    return _failed(writer, _INTERRUPTED)


def check_cancellable(kind: JobKind) -> None:
    """Do nothing if jobs of a kind can be cancelled.

    Raises:
        ValueError: They cannot.
    """
    if kind.lifecycle.cancelled is None:
        raise ValueError(f"jobs of the kind {kind.name!r} cannot be cancelled")


def _failed(writer: Writer, error: JobError) -> Ending:
    return Ending(status=writer.kind.lifecycle.failed, error=error)


def _cancelled(writer: Writer) -> Ending:
    status = writer.kind.lifecycle.cancelled
    if status is None:
        return _failed(writer, JobError("cancelled", "cancelled with the job that it belongs to"))
    return Ending(status=status)


def _public(error: BaseException) -> JobFailed | None:
    """Return what clients may read of an error: it is, or is a group of nothing but, JobFailed."""
    if isinstance(error, BaseExceptionGroup):
        found = [_public(each) for each in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, JobFailed) else None
