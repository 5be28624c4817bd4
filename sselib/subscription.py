"""A subscriber's place in a topic: a cursor, moved by the task that reads it.

The cursor is the id up to which the subscriber has been given everything it is owed. There are
three places it can be in:

* inside the window: then it is a number, and moving it costs nothing;
* older than the window: then pages of the log go through the backlog until it is inside;
* older than the log's floor: then something it is owed is gone, and it has lagged.

A snapshot goes through the backlog as well, while the cursor already stands where the snapshot
was taken: what lag means is measured from there. There is no queue that a publisher fills.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import trio

from .errors import SubscriptionLagged
from .events import Comment, ServerSentEvent
from .log import FRESH, ORIGIN, EntryId, EventLog, Resumption, resume
from .window import IDS, Batch, Frame, Ids, Listener, Window

Replay: TypeAlias = Literal["current", "history", "live"]
Lag: TypeAlias = Literal["close", "restart"]


class Subscription(trio.abc.ReceiveChannel[ServerSentEvent]):
    """A cursor into a topic. :meth:`EventChannel.subscribe` makes it and ends it.

    Programs iterate it, or call :meth:`receive`, and get each event as a client would read it
    from the wire. What writes to a socket calls :meth:`take` for bytes and :meth:`wait` when
    there are none. One task at a time uses it, in one of the two ways.

    Iterating stops at the topic's end, and when the channel is closed or the topic deleted.

    Attributes:
        outcome: What became of the last event ID, a :class:`sselib.log.Resumption`. With
            ``lag="restart"`` it becomes a gap when the subscriber lags.
        delivered: How many entries the subscriber has been given.
        finished: There is nothing left and nothing to come.
        ended: The end entry has been given, now or to an earlier connection of this client.
    """

    __slots__ = (
        "_after",
        "_backlog",
        "_closed",
        "_floor",
        "_gap_event",
        "_lag",
        "_log",
        "_mode",
        "_next",
        "_on_start",
        "_pause",
        "_replay",
        "_rest",
        "_topic",
        "_until",
        "_window",
        "_woken",
        "delivered",
        "ended",
        "finished",
        "outcome",
    )

    def __init__(
        self,
        log: EventLog,
        topic: str,
        window: Window,
        *,
        on_start: Callable[[], None],
        replay: Replay,
        lag: Lag,
        ids: Ids,
        gap_event: ServerSentEvent | None,
    ) -> None:
        self.outcome: Resumption = FRESH
        self.delivered: int = 0
        self.finished: bool = False
        self.ended: bool = False
        self._log = log
        self._topic = topic
        self._window = window
        self._on_start = on_start  # called when the window begins
        self._replay = replay
        self._lag = lag
        self._mode = IDS.index(ids)
        self._gap_event = gap_event
        self._backlog: list[Frame] = []  # a snapshot or a page, the next one last
        self._rest: list[ServerSentEvent] = []  # of a frame that receive() has begun, reversed
        self._after = ORIGIN  # everything owed up to here is given, or in the backlog
        self._floor = ORIGIN  # what is gone before this was never owed
        self._next: int | None = None  # the number in the window; None: not inside, as far as known
        self._until: EntryId | None = None  # give what there is up to here, and no more
        self._pause: trio.CancelScope | None = None  # around the log's answer, while it is awaited
        self._woken = False
        self._closed = False

    async def receive(self) -> ServerSentEvent:
        """Return the next event, waiting for it if need be.

        Its ``id`` is the one it says on the wire: ``""`` inside a snapshot, whose last event
        alone says one.

        Raises:
            trio.EndOfChannel: Nothing is to come.
            SubscriptionLagged: What comes next is gone from the log, and ``lag`` is ``"close"``.
            trio.ClosedResourceError: The subscription is closed.

        Cancellation: loses no event; the next call returns it.
        """
        await trio.lowlevel.checkpoint()
        while True:  # noqa: ASYNC913 # wait() in each round
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self.wait()

    def receive_nowait(self) -> ServerSentEvent:
        """Return the next event if there is one.

        Raises:
            trio.WouldBlock: There is none yet.
            trio.EndOfChannel: Nothing is to come.
            trio.ClosedResourceError: The subscription is closed.
        """
        self._check_open()
        while not self._rest and self.is_ready():
            if self._backlog:
                frame = self._backlog.pop()
                self._rest.extend(reversed(frame.read()))
                self._gave_from_backlog(frame)
            else:
                start, _ = self._ready_in_window()
                self._rest.extend(reversed(self._window.frames[start].read()))
                self._gave_from_window(start + 1, 1 if self._rest else 0)
        if self._rest:
            return self._rest.pop()
        if self.finished:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    def take(self, limit: int) -> bytes:
        """Return the bytes of what is ready: whole blocks, at most ``limit`` bytes, at least one.

        ``b""`` says that nothing is ready; then :meth:`wait`, or be :attr:`finished`.

        Raises:
            trio.ClosedResourceError: The subscription is closed.
        """
        batch = self.take_batch(limit)
        return b"" if batch is None else batch.data

    def take_batch(self, limit: int) -> Batch | None:
        """Do what :meth:`take` does, and return what may be shared with others at this place.

        Raises:
            trio.ClosedResourceError: The subscription is closed.
        """
        self._check_open()
        if self._backlog:
            batch = self._take_backlog(limit)
            return batch if batch.data else self.take_batch(limit)
        window = self._window
        batch = window.batch_made
        if self._until is not None or batch.place != (self._next, self._mode, limit):
            start, stop = self._ready_in_window()
            if start == stop:
                return None
            first = window.first
            batch = window.batch(first + start, first + stop, self._mode, limit)
        self._next = batch.number
        self._after = batch.after
        self.delivered += batch.given
        if batch.is_end:
            self.finished = self.ended = True
        if self._until is not None:
            self._settle()
        return batch if batch.data else self.take_batch(limit)

    def _take_backlog(self, limit: int) -> Batch:
        pieces: list[bytes] = []
        size = 0
        while self._backlog:
            piece = self._backlog[-1].wire[self._mode]
            size += len(piece)
            if size > limit and pieces:
                break
            if piece:  # else it was rendered to nothing
                pieces.append(piece)
            self._gave_from_backlog(self._backlog.pop())
        return Batch(b"".join(pieces))

    def is_caught_up(self) -> bool:
        """Return whether all that is to come will come into the window, and nothing is there."""
        window = self._window
        return (
            self._next == window.first + len(window.frames)
            and self._until is None
            and not self._backlog
            and not self.finished
        )

    def listen(self, listener: Listener) -> bool:
        """Have ``listener.tell()`` called when it may be worth while to call :meth:`take`, once.

        It is what :meth:`wait` is, without a task that waits. Return ``False`` and do nothing if
        this subscription is not caught up.
        """
        if self.is_caught_up():
            self._window.listening[self] = listener
            return True
        return False

    def stop_listening(self) -> None:
        """Have nobody told any more."""
        self._window.listening.pop(self, None)

    async def wait(self) -> None:  # noqa: ASYNC910 # it has waited, or does so at the end
        """Wait until :meth:`take` may have something to give, or it is finished, or :meth:`wake`.

        Raises:
            SubscriptionLagged: What comes next is gone from the log, and ``lag`` is ``"close"``.
            trio.ClosedResourceError: The subscription is closed.

        Cancellation: loses nothing.
        """
        self._check_open()
        if self.is_ready() or self.finished:
            await trio.lowlevel.checkpoint()
            return
        self._woken = False
        window = self._window
        while not self._woken:
            if self._next is None and window.is_foreign(self._after):
                # The topic was deleted and made anew while this subscriber came in.
                self._stop_here()
                await trio.lowlevel.checkpoint()
            elif self._next is None and self.is_behind():
                with trio.CancelScope() as self._pause:
                    await self._read_page()
                self._pause = None
            else:
                window.waiting[self] = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
            self._check_open()
            if self.is_ready() or self.finished:
                return

    def wake(self) -> None:
        """Have a :meth:`wait` that is under way return, whatever there is."""
        self._woken = True
        listener = self._window.listening.pop(self, None)
        if listener is not None:
            listener.tell()
        task = self._window.waiting.pop(self, None)
        if task is not None:
            trio.lowlevel.reschedule(task)
        elif self._pause is not None:
            self._pause.cancel()

    def is_ready(self) -> bool:
        """Return whether :meth:`take` may have something to give."""
        if self._backlog:
            return True
        start, stop = self._ready_in_window()
        return start < stop

    def is_behind(self) -> bool:
        """Return whether what comes next is in the log alone: :meth:`wait` reads it."""
        base = self._window.base
        return not self.is_ready() and base is not None and self._after < max(base, self._floor)

    def lag(self) -> int:
        """Return how many entries of the window are yet to be given, one more if it is behind."""
        if self.is_behind():
            return len(self._window.frames) + 1
        start, stop = self._ready_in_window()
        return stop - start

    def finish(self) -> None:
        """Let the subscriber have what its topic holds now, and nothing that comes later."""
        if self._until is None:
            self._until = self._window.last
            self._settle()
            self.wake()

    def close(self) -> None:
        """Give up the subscription: whoever waits in it gets :exc:`trio.ClosedResourceError`."""
        self._closed = True
        self._backlog.clear()
        self._rest.clear()
        self.wake()

    async def aclose(self) -> None:
        """Close it, for :class:`trio.abc.AsyncResource`."""
        self.close()
        await trio.lowlevel.checkpoint()

    async def begin(self, last_event_id: str | None) -> None:  # noqa: ASYNC910 # each way asks the log
        """Take the place in the topic that ``subscribe`` promises; called by it, once.

        Cancellation: the subscription is of no use.
        """
        outcome = FRESH
        if last_event_id and IDS[self._mode] != "none":
            outcome = await resume(self._log, self._topic, last_event_id)
            if IDS[self._mode] == "end" and not outcome.at_end:
                outcome = FRESH
        self.outcome = outcome
        if outcome.at_end:
            self.finished = self.ended = True
        elif outcome.after is not None and outcome.last is not None:
            self._after = self._floor = outcome.after
            self._start_window(outcome.last)
        else:
            await self._join()

    async def _join(self) -> None:
        """Stand where somebody who knows nothing begins."""
        frames: list[Frame] = []
        if self._replay == "history":
            head = await self._log.head(self._topic)
            self._after = ORIGIN
        else:
            snapshot = await self._log.snapshot(self._topic)
            head = snapshot.head
            entries = list(snapshot.entries) if self._replay == "current" else []
            if snapshot.end is not None:
                entries.append(snapshot.end)
            # An entry of a snapshot does not vouch for what came before it: only the last one
            # that is anything on the wire says an id, the one the whole snapshot stands for.
            says = None if head is None else head.last
            for entry in reversed(entries):
                frame = self._window.frame(entry, says=says)
                if frame.wire[self._mode]:
                    says = None
                frames.append(frame)
            if head is not None:
                self._after = head.last
        if head is not None:
            self._floor = head.floor if self._replay == "history" else head.last
        self._next = None
        self._backlog = frames + self._gap_notice()[::-1]
        if head is None and self._window.last > ORIGIN:
            self._stop_here()  # What is in the window was deleted.
        self._start_window(ORIGIN if head is None else head.last)

    async def _read_page(self) -> None:
        """Fill the backlog from the log, for a cursor that is older than the window."""
        page = await self._log.read(self._topic, self._after)
        if page.head is None or self._after.is_foreign_to(page.head.last):
            self.finished = True
            return
        if page.head.floor > max(self._after, self._floor):
            if self._lag == "close":
                raise SubscriptionLagged(self._topic, "trimmed")
            self.outcome = Resumption("gap", "trimmed")
            await self._join()
            return
        # A state entry from before the floor vouches for nothing before it, as in a snapshot.
        frames = [
            self._window.frame(entry, says=None if entry.id < self._floor else entry.id)
            for entry in page.entries
            if self._until is None or entry.id <= self._until
        ]
        self._backlog = frames[::-1]
        self._after = page.upto
        self._settle()

    def _stop_here(self) -> None:
        """Give what is in the backlog, and nothing of the window."""
        self._until = self._after
        self._settle()

    def _start_window(self, last: EntryId) -> None:
        if self._window.base is None:
            self._window.start(last)
            self._on_start()

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        del self._window.waiting[self]
        return trio.lowlevel.Abort.SUCCEEDED

    def _gap_notice(self) -> list[Frame]:
        if self.outcome.outcome != "gap":
            return []
        notice = [Frame.of_notice(Comment(f"gap: {self.outcome.reason}"))]
        if self._gap_event is not None:
            notice.append(Frame.of_notice(self._gap_event))
        return notice

    def _ready_in_window(self) -> tuple[int, int]:
        """Return from and to which index of the window's frames the subscriber may be given."""
        window = self._window
        if self._next is None:
            if self._after >= self._floor:  # What was kept before it, the log alone can say.
                self._next = window.number_after(self._after)
            if self._next is None:
                return 0, 0
        start = self._next - window.first
        if start < 0:
            self._next = None
            return 0, 0
        stop = len(window.frames)
        if self._until is not None:
            after_last = window.number_after(self._until)
            stop = start if after_last is None else max(start, after_last - window.first)
        return start, stop

    def _gave_from_backlog(self, frame: Frame) -> None:
        self._gave(frame, 1 if frame.id is not None and frame.wire[self._mode] else 0)

    def _gave_from_window(self, stop: int, given: int) -> None:
        window = self._window
        self._next = window.first + stop
        self._after = window.last if stop == len(window.frames) else window.id_at(self._next - 1)
        self._gave(window.frames[stop - 1], given)

    def _gave(self, frame: Frame, given: int) -> None:
        self.delivered += given
        if frame.is_end:
            self.finished = self.ended = True
        self._settle()

    def _settle(self) -> None:
        if self._until is not None and not self._backlog and self._after >= self._until:
            self.finished = True

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
