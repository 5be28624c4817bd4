"""One connection, used by everybody at once, and made anew whenever it is lost.

Callers put their commands into a queue. One task sends what is there, many commands in one write;
another takes the replies, which come in the order of the commands, and wakes the callers. What a
lost connection left without a reply is sent again on the next one, in the old order: so every
command has to be one that may be repeated.

A caller that is cancelled leaves its command behind: it is taken out of the queue if it was not
sent, and its reply is dropped if it was. The order of replies is kept either way. What callers
have in here is bounded, in calls and in bytes; more of them wait at the door, first come, first
served. Hints of the server are not kept at all: each is passed on when it comes.

A server that is gone without a word is noticed by its silence: there is always a PING among the
commands.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from ._wire import Lost, PushNotification, RedisRefused, ReplyError, Wire, is_of_the_moment, pack

# Enough that neither sending nor the server is ever idle; a caller has one call at a time, so a
# thousand tasks publish at once before the next one waits.
MAX_CALLS: Final = 1000
MAX_CALL_BYTES: Final = 16 * 1024 * 1024
# A server answers in less than a millisecond. Twice this without a byte, and it is gone.
BEAT: Final = 5.0
# Seconds for a connection to be made, greeting and all.
_CONNECT: Final = 10.0
# Seconds. Somebody waits, so the server is tried often; a hundred processes are 400 tries a second.
_MAX_BACKOFF: Final = 0.25

_SEND_BYTES: Final = 64 * 1024
_CLOSED: Final = object()  # instead of a reply
_log = logging.getLogger("sselib")


@attrs.define(eq=False)
class _Call:
    """A command that waits for its reply, for somebody unless ``caller`` is ``None``."""

    command: bytes
    caller: trio.lowlevel.Task | None = None
    reply: Any = None
    channel: bytes | None = None  # it subscribes or unsubscribes: a push is its reply
    is_sent: bool = False
    is_counted: bool = False


class Connection:
    """A connection to one server, for as long as :meth:`run` runs.

    Args:
        connect: Opens a stream to the server and greets it. It raises :class:`Lost` or
            :class:`OSError` if that may work later, :class:`RedisRefused` if not.
        place: What the server is called in messages.
        purpose: What the connection is for, in messages.

    Attributes:
        place: What the server is called.
        trouble: Why there is no connection; ``""`` while there is one.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Wire]], *, place: str, purpose: str = "commands"
    ) -> None:
        self.place = place
        self.trouble = ""
        self._purpose = purpose
        self._connect = connect
        self._queue: deque[_Call] = deque()
        self._sent: deque[_Call] = deque()
        self._calls = 0
        self._call_bytes = 0
        self._door = trio.StrictFIFOLock()
        self._room = trio.lowlevel.ParkingLot()
        self._work = trio.lowlevel.ParkingLot()
        self._watchers: dict[bytes, dict[object, Callable[[], None]]] = {}
        self._changed: dict[bytes, None] = {}  # channels that may not be as wanted
        self._told: set[bytes] = set()  # channels that the server was asked to tell of
        self._failures = 0
        self._closed = False

    # ---- for callers -----------------------------------------------------------------------------

    async def call(self, *command: bytes | int) -> Any:
        """Send a command that may be repeated, and return its reply, however long that takes.

        Raises:
            RedisRefused: The server answered with an error.
            trio.ClosedResourceError: The connection is closed for good.

        Cancellation: a command that was not sent is never sent; one that was may be carried out.
        """
        packed = pack(*command)
        await self._enter(len(packed))
        call = _Call(packed, trio.lowlevel.current_task(), is_counted=True)
        self._queue.append(call)
        if self._work:
            self._work.unpark()

        def abandon(_: object) -> trio.lowlevel.Abort:
            call.caller = None
            if not call.is_sent:
                self._queue.remove(call)
                self._leave(call)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abandon)
        if isinstance(call.reply, ReplyError):
            raise RedisRefused(self.place, str(call.reply))
        if call.reply is _CLOSED:
            raise trio.ClosedResourceError
        return call.reply

    def watch(self, channel: bytes, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` for each hint of a channel, until the returned function is called.

        Also once when the server has begun to tell, on each new connection anew, for what may
        have happened before. ``wake`` returns at once and never raises.
        """
        key = object()
        if channel not in self._watchers:
            self._watchers[channel] = {}
            self._change(channel)
        self._watchers[channel][key] = wake

        def unwatch() -> None:
            watchers = self._watchers.get(channel, {})
            if watchers.pop(key, None) is not None and not watchers:
                del self._watchers[channel]
                self._change(channel)

        return unwatch

    def close(self) -> None:
        """Fail whoever calls, now and later, with :exc:`trio.ClosedResourceError`."""
        self._closed = True
        for call in (*self._queue, *self._sent):
            self._answer(call, _CLOSED)
        self._room.unpark_all()

    async def _enter(self, size: int) -> None:  # noqa: ASYNC910 # the caller waits next
        """Wait for room for a call of so many bytes, and take it."""
        if self._door.locked() or not self._has_room(size):
            async with self._door:
                while not self._has_room(size):
                    await self._room.park()
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError
        self._calls += 1
        self._call_bytes += size

    def _has_room(self, size: int) -> bool:
        if self._closed or not self._calls:
            return True  # however large it is
        return self._calls < MAX_CALLS and self._call_bytes + size <= MAX_CALL_BYTES

    def _leave(self, call: _Call) -> None:
        if call.is_counted:
            self._calls -= 1
            self._call_bytes -= len(call.command)
            if self._room:
                self._room.unpark()

    def _answer(self, call: _Call, reply: Any) -> None:
        if call.caller is not None:
            caller, call.caller = call.caller, None
            call.reply = reply
            trio.lowlevel.reschedule(caller)

    def _wake(self, channel: bytes) -> None:
        for wake in tuple(self._watchers.get(channel, {}).values()):
            wake()

    def _change(self, channel: bytes) -> None:
        self._changed[channel] = None
        self._work.unpark()

    # ---- the tasks -------------------------------------------------------------------------------

    async def open(self) -> Wire:
        """Connect, trying again and again, and return what :meth:`run` begins with.

        Raises:
            RedisRefused: The server is there, and will not have us.

        Cancellation: nothing remains open.
        """
        while True:
            try:
                with trio.fail_after(_CONNECT):
                    wire = await self._connect()
            except trio.TooSlowError:
                self._note(f"it does not answer within {_CONNECT} s")
            except (OSError, Lost) as error:
                self._note(str(error))
            else:
                if self.trouble:
                    _log.info("connected for %s to %s", self._purpose, self.place)
                self.trouble = ""
                return wire
            await self._back_off()

    async def run(self, wire: Wire | None = None) -> None:
        """Serve callers, on that connection and then on others, until cancelled.

        Cancellation: the connection is closed. Callers are not told: see :meth:`close`.
        """
        wire = wire or await self._reopen()
        while True:
            try:
                await self._converse(wire)
            finally:
                await trio.aclose_forcefully(wire.stream)
            self._take_back()
            await self._back_off()
            wire = await self._reopen()

    async def _reopen(self) -> Wire:  # noqa: ASYNC910 # open() waits, or is waited for
        while True:
            try:
                return await self.open()
            except RedisRefused as error:
                # It would have us once. Callers wait for somebody to put that right.
                self._note(str(error))
            await self._back_off()

    def _note(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.warning("no connection for %s to %s: %s", self._purpose, self.place, trouble)
        self.trouble = trouble

    async def _back_off(self) -> None:
        """Wait a little longer after each failure. The first is followed by a try at once."""
        longest = min(_MAX_BACKOFF, 0.01 * 2 ** min(self._failures, 10)) if self._failures else 0
        self._failures += 1
        await trio.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 # it spreads clients

    async def _converse(self, wire: Wire) -> None:
        self._told.clear()
        self._changed = dict.fromkeys(self._watchers)
        async with trio.open_nursery() as nursery:
            for part in (self._send, self._receive, self._beat):
                nursery.start_soon(self._until_lost, part, wire, nursery.cancel_scope)

    async def _until_lost(  # noqa: ASYNC910 # each part waits before it can be lost
        self,
        part: Callable[[Wire], Awaitable[None]],
        wire: Wire,
        conversation: trio.CancelScope,
    ) -> None:
        try:
            await part(wire)
        except Lost as lost:
            if not conversation.cancel_called:
                self._note(str(lost))
            conversation.cancel()

    def _take_back(self) -> None:
        """Have what was left without a reply sent again, before everything else."""
        while self._sent:
            call = self._sent.pop()
            if call.caller is None:
                self._leave(call)
            else:
                call.is_sent = False
                self._queue.appendleft(call)

    async def _send(self, wire: Wire) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                await wire.send(batch)
            else:
                await self._work.park()

    def _next_batch(self) -> bytes:
        """Take what is to be sent. Who watched and then asked is told of what the answer lacks."""
        pieces = []
        size = 0
        while self._changed and size < _SEND_BYTES:
            channel, _ = self._changed.popitem()
            is_wanted = channel in self._watchers
            if is_wanted != (channel in self._told):
                (self._told.add if is_wanted else self._told.discard)(channel)
                command = pack(b"SUBSCRIBE" if is_wanted else b"UNSUBSCRIBE", channel)
                self._sent.append(_Call(command, channel=channel, is_sent=True))
                pieces.append(command)
                size += len(command)
        while self._queue and size < _SEND_BYTES:
            call = self._queue.popleft()
            call.is_sent = True
            self._sent.append(call)
            pieces.append(call.command)
            size += len(call.command)
        return b"".join(pieces)

    async def _receive(self, wire: Wire) -> None:
        while True:
            for reply in await wire.receive():
                if isinstance(reply, PushNotification):
                    self._take_push(reply)
                else:
                    self._take_reply(reply)

    def _take_reply(self, reply: Any) -> None:
        if isinstance(reply, ReplyError) and is_of_the_moment(reply):
            raise Lost(str(reply))
        if not self._sent:
            raise Lost("the server replied to nothing")
        if self._sent[0].channel is not None:
            raise Lost(f"the server will not tell what happens: {reply}")
        call = self._sent.popleft()
        if call.is_counted:
            self._failures = 0
        self._answer(call, reply)
        self._leave(call)

    def _take_push(self, push: list[Any]) -> None:
        match push:
            case [b"message", bytes(channel), _]:
                self._wake(channel)
            case [b"subscribe" | b"unsubscribe" as kind, bytes(channel), _]:
                if not self._sent or self._sent[0].channel != channel:
                    raise Lost("the server's replies are out of order")
                self._sent.popleft()
                if kind == b"subscribe":
                    self._wake(channel)  # of what happened before

    async def _beat(self, wire: Wire) -> None:
        """See to it that the server is never silent for long, and notice when it is."""
        while True:
            received = wire.received
            self._queue.append(_Call(pack(b"PING")))
            self._work.unpark()
            await trio.sleep(BEAT)
            if wire.received == received:
                raise Lost(f"the server has not answered for {BEAT} s")
