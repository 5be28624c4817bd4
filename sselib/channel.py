"""A topic of a log as it is used in this process: publish to it, subscribe to it.

While a channel has subscribers it keeps a window of its topic's newest entries, and each
subscriber is a cursor into that. A publisher only appends to the log; its entry comes back with
everybody else's when the log says that there is something new. So what subscribers see is what
the log holds, in the log's order, whoever wrote it, and no subscriber can hold up the publisher,
the others, or the memory.

Who does what: the log owns the entries and wakes the channel; the channel owns the window and
feeds it, at once from a log of this process, else when the one task of
:func:`sselib.open_topics` comes round; a subscription owns its cursor, and the task that iterates
it or writes it to a socket moves it. Leaving ``subscribe`` waits for nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, get_args

import attrs
import trio

from .events import ServerSentEvent
from .log import ORIGIN, EventLog, LocalEventLog, NewEntry, Page
from .log.memory import MemoryLog
from .subscription import Lag, Replay, Subscription
from .window import IDS, Ids, Render, Window

# A subscriber that is a little behind is served from the window, one that is further behind from
# the log. As much as a default history, and little enough for a thousand channels.
DEFAULT_WINDOW_ENTRIES: Final = 1000
DEFAULT_WINDOW_BYTES: Final = 1024 * 1024


@attrs.frozen(kw_only=True)
class ChannelStatistics:
    """What a channel holds at one moment.

    Attributes:
        subscribers: Open subscriptions.
        window_entries: Entries in the window.
        window_bytes: Their bytes as framed for the wire.
        last_id: The id up to which the window has followed the log; ``None`` while nobody
            subscribes or nothing was ever published.
        lag: Entries of the window that the subscriber who is furthest behind has yet to be given.
            One more than there are if what comes next for it is in the log alone.
    """

    subscribers: int
    window_entries: int
    window_bytes: int
    last_id: str | None
    lag: int


class EventChannel:
    """One topic of a log, in this process.

    ``EventChannel()`` needs no set-up and no task: it has a log of its own, in memory.
    :func:`sselib.open_topics` gives channels by name over one log of any kind.

    Args:
        log: Where the entries are; a new :class:`sselib.MemoryLog` by default.
        topic: The topic's name in the log.
        window_entries: The most entries to keep framed for subscribers. ``None``: no bound.
        window_bytes: The most bytes of them. ``None``: no bound.
        render: Subscribers are given what this pure function makes of each event, some events or
            none, instead of the event itself. If it raises, that is logged, and they are given
            none.
        on_change: For a log that is not of this process: called when the log has something new,
            so that somebody awaits :meth:`pull`. :func:`sselib.open_topics` does that.

    Raises:
        TypeError: ``log`` is not of this process, and there is no ``on_change``.
        ValueError: A bound that is not positive.

    Attributes:
        log: The log.
        topic: The topic's name.
    """

    def __init__(
        self,
        log: EventLog | None = None,
        topic: str = "",
        *,
        window_entries: int | None = DEFAULT_WINDOW_ENTRIES,
        window_bytes: int | None = DEFAULT_WINDOW_BYTES,
        render: Render | None = None,
        on_change: Callable[[EventChannel], None] | None = None,
    ) -> None:
        for name, bound in (("window_entries", window_entries), ("window_bytes", window_bytes)):
            if bound is not None and bound < 1:
                raise ValueError(f"{name} must be at least 1, or None for no bound: {bound}")
        self.log: EventLog = MemoryLog() if log is None else log
        self.topic = topic
        self._local = self.log if isinstance(self.log, LocalEventLog) else None
        if self._local is None and on_change is None:
            raise TypeError(f"{type(log).__name__} is not of this process: use open_topics")
        self._on_change = on_change
        self._window_entries = window_entries
        self._window_bytes = window_bytes
        self._render = render
        self._window = self._new_window()
        self._subscriptions: dict[Subscription, None] = {}
        self._unwatch: Callable[[], None] | None = None
        self._closed = False

    async def publish(
        self,
        event: ServerSentEvent,
        *,
        key: str | None = None,
        coalesce: bool = False,
        remove: bool = False,
        end: bool = False,
        clear: bool = False,
        token: str | None = None,
    ) -> str:
        """Append an event to the topic and return its id.

        Args:
            event: It has no ``id``, which the log gives, and no ``retry``.
            key: The event supersedes the earlier one of this key. Who joins later is given the
                latest of each key.
            coalesce: Once superseded, nobody is owed it: for progress, not for transitions.
            remove: The key ends here. The event itself is for those who are there.
            end: The last event of the topic.
            clear: With ``end``: every key ends too; who joins later is given this event alone.
            token: Publishing again with the token of a recent call returns what that returned.

        Raises:
            ChannelEnded: The topic has ended.
            TopicFull: One key more than the topic may hold.
            TypeError: ``event`` is not a :class:`sselib.ServerSentEvent`.
            ValueError: A combination that says nothing, or an event larger than the history.
            trio.ClosedResourceError: The channel is closed.

        Cancellation: as the log's ``append``; on a memory log, cancelled means not published.
        """
        entry = NewEntry.of(event, key=key, coalesce=coalesce, remove=remove, end=end, clear=clear)
        (id,) = await self.append([entry], token=token)
        return id

    def publish_nowait(
        self,
        event: ServerSentEvent,
        *,
        key: str | None = None,
        coalesce: bool = False,
        remove: bool = False,
        end: bool = False,
        clear: bool = False,
        token: str | None = None,
    ) -> str:
        """Do what :meth:`publish` does, at once, on a log of this process.

        Raises:
            TypeError: The log cannot append without waiting; or as :meth:`publish`.
        """
        if self._local is None:
            raise TypeError(f"{type(self.log).__name__} cannot append without waiting: publish()")
        entry = NewEntry.of(event, key=key, coalesce=coalesce, remove=remove, end=end, clear=clear)
        self._check_open()
        (id,) = self._local.append_nowait(self.topic, [entry], token=token)
        return str(id)

    async def append(self, entries: Sequence[NewEntry], *, token: str | None = None) -> list[str]:
        """Append several entries in one atomic step and return their ids.

        Raises:
            ChannelEnded, TopicFull, ValueError: As the log's ``append``; nothing has changed.
            trio.ClosedResourceError: The channel is closed.

        Cancellation: as the log's ``append``; on a memory log, cancelled means not published.
        """
        self._check_open()
        return [str(id) for id in await self.log.append(self.topic, entries, token=token)]

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        last_event_id: str | None = None,
        replay: Replay = "current",
        lag: Lag = "close",
        ids: Ids = "all",
        gap_event: ServerSentEvent | None = None,
    ) -> AsyncIterator[Subscription]:
        """Subscribe for as long as the ``async with`` lasts.

        Args:
            last_event_id: What the client has seen. It is given what it is owed since then, or a
                gap is told and it joins. ``None`` and ``""`` join.
            replay: What a joiner begins with. ``"current"``: the latest of each live key.
                ``"history"``: everything kept. ``"live"``: nothing. Then comes everything that
                is published from that very moment on; a topic's end always comes last.
            lag: If the subscriber falls behind what the log keeps: ``"close"`` raises
                :exc:`SubscriptionLagged`, ``"restart"`` tells a gap and joins anew.
            ids: For bytes (:meth:`Subscription.take`): which entries say their id. Without ids
                there is nothing to resume from, and ``last_event_id`` is ignored; with
                ``"end"`` it matters only if it is the end entry's.
            gap_event: Given at a gap, in front of what a joiner is given. Its block makes
                clients forget their id. A gap is always told in a comment.

        Raises:
            ValueError: An unknown ``replay``, ``lag`` or ``ids``; a ``gap_event`` with an ``id``.

        Cancellation: of entering: nothing remains. Leaving waits for nothing.
        """
        subscription = await self.open_subscription(
            last_event_id=last_event_id, replay=replay, lag=lag, ids=ids, gap_event=gap_event
        )
        try:
            yield subscription
        finally:
            self.end_subscription(subscription)

    async def open_subscription(
        self,
        *,
        last_event_id: str | None,
        replay: Replay,
        lag: Lag,
        ids: Ids,
        gap_event: ServerSentEvent | None,
    ) -> Subscription:
        """Do the first half of :meth:`subscribe`, for who has a ``finally`` for the second.

        A context manager costs a kilobyte, which counts where there is one for each client.

        Cancellation: nothing remains.
        """
        for name, value, choices in (
            ("replay", replay, get_args(Replay)),
            ("lag", lag, get_args(Lag)),
            ("ids", ids, IDS),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}: {value!r}")
        if gap_event is not None and gap_event.id is not None:
            raise ValueError(f"a gap_event may not have an id: {gap_event.id!r}")
        subscription = Subscription(
            self.log,
            self.topic,
            self._window,
            on_start=self._wake,  # Its hint may have come before the window could use it.
            replay=replay,
            lag=lag,
            ids=ids,
            gap_event=gap_event,
        )
        if self._closed:
            subscription.finish()
            await trio.lowlevel.checkpoint()
            return subscription
        if self._unwatch is None:
            self._unwatch = self.log.watch(self.topic, self._wake)
        self._subscriptions[subscription] = None
        try:
            await subscription.begin(last_event_id)
        except BaseException:
            self.end_subscription(subscription)
            raise
        return subscription

    def end_subscription(self, subscription: Subscription) -> None:
        """Do the second half of :meth:`subscribe`."""
        subscription.close()
        if subscription not in self._subscriptions:
            return  # the channel was closed before
        del self._subscriptions[subscription]
        if not self._subscriptions and self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
            self._window = self._new_window()

    def close(self) -> None:
        """Stop: subscribers are given what there is and finish, and publishing raises.

        The topic itself goes on in its log. On the wire this is an end of the stream without an
        end of the topic, so that clients come back.
        """
        self._closed = True
        for subscription in self._subscriptions:
            subscription.finish()

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def statistics(self) -> ChannelStatistics:
        """Return what the channel holds now."""
        window = self._window
        return ChannelStatistics(
            subscribers=len(self._subscriptions),
            window_entries=len(window.frames),
            window_bytes=window.size,
            last_id=str(window.last) if window.last > ORIGIN else None,
            lag=max((each.lag() for each in self._subscriptions), default=0),
        )

    async def pull(self) -> None:
        """Feed the window what the log has that is new, for who was told by ``on_change``.

        Cancellation: what was read is in the window; the next call goes on from there.
        """
        while True:
            window = self._window
            if window.base is None:
                await trio.lowlevel.checkpoint()
                return
            page = await self.log.read(self.topic, window.last)
            if window is self._window and self._feed(window, page):
                return

    def _wake(self) -> None:
        if self._local is None:
            assert self._on_change is not None
            self._on_change(self)
            return
        window = self._window
        while window.base is not None:
            if self._feed(window, self._local.read_nowait(self.topic, window.last)):
                break

    def _feed(self, window: Window, page: Page) -> bool:
        """Give the window a page and return whether that was all there is."""
        head = page.head
        if head is None or window.last.is_foreign_to(head.last):
            if head is not None or window.last > ORIGIN:
                self._let_go()
            return True
        before = window.last
        window.feed(page, head)
        if window.last > before:
            window.wake()
        return window.last >= head.last

    def _let_go(self) -> None:
        """Finish with a topic that was deleted, and be ready for a new one of its name."""
        for subscription in self._subscriptions:
            subscription.finish()
        self._window = self._new_window()

    def _new_window(self) -> Window:
        return Window(
            max_entries=self._window_entries, max_bytes=self._window_bytes, render=self._render
        )

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
