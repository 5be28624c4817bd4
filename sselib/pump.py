"""The fast lane: two tasks that look after the streams of all connections that allow it.

Waking a task costs more than writing an event. So the task of a connection, when its stream has
nothing to do but wait for the next event, puts it into a :class:`Lane` and sleeps. When something
was published the pump goes through the lanes that are behind, takes what each is to be given, which
all at the same place are given the same bytes of, and writes it straight to the non-blocking
socket. An epoll of its own tells it which clients have left, so that a lane that is idle is a task
that sleeps, with nothing around it, and a number in the kernel. It is there on Linux alone;
elsewhere a stream is written by its own task.

Rules:

- A lane is the pump's while it is open, and its connection's task's otherwise. That task alone
  closes the socket, and not before the lane is shut and its number out of the epoll.
- The pump looks at a lane, and whether it is open, directly before each write, and there is no
  checkpoint in between. It writes to sockets, never to their descriptors: when a connection is
  closed its number goes to the next one, and its events would go to a stranger.
- Whatever is more than writing what is ready shuts the lane and wakes the task: a socket that takes
  no more (the task has the rest, and waits), a cursor that is older than the window (it reads the
  log), an end, a stream that is to finish, a client that has left. So what a slow client costs is
  one batch.
- After :data:`SLICE` writes everybody else comes to their turn.
- Heartbeats and ages come from one heap. A write does not touch it: what falls due looks at when
  the stream was written to last, and goes back.
"""

from __future__ import annotations

import math
import select
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

import trio

from .http1 import encode_chunk
from .policy import Schedule
from .requests import Requests
from .stream import OpenStream
from .subscription import Subscription
from .transport import ClientGone, SocketTransport

# Writes between two checkpoints: half a millisecond.
SLICE: Final = 64
# Lanes that are shut and still in the heap, beyond as many that are open.
_SHUT_TIMERS: Final = 64


class Lane:
    """A stream on its way through the pump, or its task's to deal with.

    Args:
        pump: The pump.
        transport: Where the stream is written.
        requests: What its client sends.
        stream: The stream.
        source: What it is given.
        schedule: When its heartbeats fall due.
        is_chunked: Whether its body is.

    Attributes:
        is_open: The pump may write.
        timer: The number of its place in the heap.
        stream, source, schedule, transport: The same.
    """

    __slots__ = (
        "_is_broken",
        "_is_chunked",
        "_pump",
        "_requests",
        "_rest",
        "_sleeper",
        "is_open",
        "schedule",
        "source",
        "stream",
        "timer",
        "transport",
    )

    def __init__(
        self,
        pump: Pump,
        transport: SocketTransport,
        requests: Requests,
        stream: OpenStream,
        source: Subscription,
        schedule: Schedule,
        *,
        is_chunked: bool,
    ) -> None:
        self.is_open = False
        self.timer = 0
        self.transport = transport
        self.stream = stream
        self.source = source
        self.schedule = schedule
        self._pump = pump
        self._requests = requests
        self._is_chunked = is_chunked
        self._is_broken = False
        self._rest: memoryview | None = None
        self._sleeper: trio.lowlevel.Task | None = None  # the connection's task

    async def carry(self) -> None:  # noqa: ASYNC910 # it waits
        """Be open until there is more to do than writing. Called by the connection's task.

        The source is caught up. What is left to do first afterwards, :meth:`settle` does.

        Cancellation: the response cannot be completed any more.
        """
        source, stream = self.source, self.stream
        self._pump.enter(self)
        try:
            is_caught_up = source.listen(self)
            assert is_caught_up
            stream.wake = self.shut
            self.is_open = True
            self._sleeper = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_sleeping)
        finally:
            self.is_open = False
            self._pump.leave(self)
            source.stop_listening()
            stream.wake = source.wake

    async def settle(self) -> None:  # noqa: ASYNC910 # only what has to wait does
        """Send what the socket did not take.

        Raises:
            ClientGone: The client has left, or takes nothing.

        Cancellation: the response cannot be completed any more.
        """
        if self._is_broken:
            raise ClientGone("the client has left")
        if self._rest is not None:
            rest, self._rest = self._rest, None
            await self.transport.send_rest(rest)
            self.stream.written_at = trio.current_time()

    def shut(self) -> None:
        """Have the task go on."""
        self.is_open = False
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            trio.lowlevel.reschedule(sleeper)

    def look(self) -> None:
        """Read what the client has sent, and shut the lane if it has left."""
        if self.is_open and self._requests.has_gone():
            self._is_broken = True
            self.shut()

    def tell(self) -> None:
        """Take notice that the source has something. It calls this once for each ``listen``."""
        behind = self._pump.behind
        if not behind:
            self._pump.wake()
        behind.append(self)

    def write(self, now: float) -> None:
        """Write what the source has ready."""
        source = self.source
        batch = source.take_batch(self.schedule.batch_bytes)
        if batch is not None:
            self._send(batch.chunk() if self._is_chunked else batch.data, now)
            stream = self.stream
            stream.events = source.delivered
            stream.bytes_written += len(batch.data)
        if self.is_open and not source.listen(self):
            if source.is_ready():
                self.tell()
            else:
                self.shut()

    def beat(self, now: float) -> None:
        """Write a heartbeat."""
        comment = self.schedule.comment
        self._send(encode_chunk(comment) if self._is_chunked else comment, now)
        self.stream.bytes_written += len(comment)

    def _stop_sleeping(self, _: object) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _send(self, data: bytes, now: float) -> None:
        try:
            sent = self.transport.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._is_broken = True
            self.shut()
            return
        if sent < len(data):
            self._rest = memoryview(data)[sent:]
            self.shut()
        self.stream.written_at = now


def open_pump() -> Pump | None:
    """Return a pump, if this system has what one needs."""
    return Pump() if hasattr(select, "epoll") else None


class Pump:
    """The lanes of one server. Its :meth:`run` looks after them.

    It is closed when all lanes have left.

    Attributes:
        behind: The lanes that are to be written next.
    """

    def __init__(self) -> None:
        self.behind: list[Lane] = []
        self._clients = select.epoll()
        self._lanes: dict[int, Lane] = {}  # by their numbers in it
        self._timers: list[tuple[float, int, Lane]] = []
        self._numbers = count(1)
        self._shut_timers = 0
        self._idle = trio.lowlevel.ParkingLot()

    @property
    def lanes(self) -> int:
        """How many there are."""
        return len(self._lanes)

    def close(self) -> None:
        """Close the epoll."""
        self._clients.close()

    def enter(self, lane: Lane) -> None:
        """Take charge of a lane's client, heartbeats and age."""
        number = lane.transport.socket.fileno()
        self._clients.register(number, select.EPOLLIN)
        self._lanes[number] = lane
        self._set_timer(lane)
        if self._timers[0][2] is lane:
            self.wake()  # it waits until a later moment

    def leave(self, lane: Lane) -> None:
        """Forget a lane that was shut, and whose socket is still open."""
        number = lane.transport.socket.fileno()
        self._clients.unregister(number)
        del self._lanes[number]
        lane.timer = 0
        self._shut_timers += 1
        if self._shut_timers > len(self._timers) // 2 + _SHUT_TIMERS:
            self._timers = [timer for timer in self._timers if timer[2].timer == timer[1]]
            heapify(self._timers)
            self._shut_timers = 0

    def wake(self) -> None:
        """Have it look, if it waits."""
        self._idle.unpark()

    async def run(self) -> None:
        """Look after the lanes, for ever.

        Cancellation: nothing is written any more.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._write)

    async def _watch(self) -> None:
        """Look at the lanes whose clients have sent something or have left."""
        while True:
            await trio.lowlevel.wait_readable(self._clients)
            for number, _ in self._clients.poll(0, SLICE):
                self._lanes[number].look()

    async def _write(self) -> None:
        """Write the lanes that are behind, and heartbeats."""
        while True:  # noqa: ASYNC913 # one of the two waits is in each round
            if not self.behind:
                with trio.CancelScope(deadline=self._timers[0][0] if self._timers else math.inf):
                    await self._idle.park()
            behind, self.behind = self.behind, []
            now = trio.current_time()
            self._look_at_timers(now)
            for number, lane in enumerate(behind, 1):
                if lane.is_open:
                    lane.write(now)
                if number % SLICE == 0:
                    await trio.lowlevel.checkpoint()
                    now = trio.current_time()
            if self.behind:
                await trio.lowlevel.checkpoint()

    def _look_at_timers(self, now: float) -> None:
        timers = self._timers
        for _ in range(SLICE):
            if not timers or timers[0][0] > now:
                break
            _, number, lane = heappop(timers)
            if lane.timer != number:
                self._shut_timers -= 1
                continue
            due = lane.schedule.falls_due(now, lane.stream.written_at)
            if due == "age":
                lane.stream.finish("max age")
            elif due == "beat" and lane.is_open:
                lane.beat(now)
            self._set_timer(lane)

    def _set_timer(self, lane: Lane) -> None:
        lane.timer = next(self._numbers)
        heappush(self._timers, (lane.schedule.next(), lane.timer, lane))
