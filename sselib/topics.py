"""Channels by name over one log.

A channel exists while somebody holds it: a subscriber, a program, a response. It is made by its
first user and goes with its last, for the topic itself is in the log. A log of this process feeds
its channels when it is appended to. For a log that other processes write to, one task here reads
what is new, told by the log's hints, and once in a while without being told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

import trio

from .channel import (
    DEFAULT_WINDOW_BYTES,
    DEFAULT_WINDOW_ENTRIES,
    ChannelStatistics,
    EventChannel,
)
from .log import EventLog, LocalEventLog
from .window import Render

# Seconds. Hints are what makes delivery quick; this is for the hint that a log lost.
_UNTOLD: Final = 5.0


class Topics:
    """The channels of one log. :func:`open_topics` makes it.

    Attributes:
        log: The log.
    """

    def __init__(
        self, log: EventLog, *, window_entries: int | None, window_bytes: int | None
    ) -> None:
        self.log = log
        self._is_local = isinstance(log, LocalEventLog)
        self._window_entries = window_entries
        self._window_bytes = window_bytes
        self._channels: WeakValueDictionary[tuple[str, Render | None], EventChannel] = (
            WeakValueDictionary()
        )
        self._changed: dict[EventChannel, None] = {}
        self._told = trio.Event()
        self._closed = False

    def channel(self, topic: str, *, render: Render | None = None) -> EventChannel:
        """Return the channel of a topic, the same one to everybody who holds it.

        The topic need not exist: publishing makes it, subscribing waits for it.

        Args:
            topic: The topic's name.
            render: As in :class:`EventChannel`. Each function has its own channel of a topic.

        Raises:
            trio.ClosedResourceError: The ``async with`` of :func:`open_topics` was left.
        """
        if self._closed:
            raise trio.ClosedResourceError
        channel = self._channels.get((topic, render))
        if channel is None or channel.is_closed:
            channel = self._channels[topic, render] = EventChannel(
                self.log,
                topic,
                window_entries=self._window_entries,
                window_bytes=self._window_bytes,
                render=render,
                on_change=None if self._is_local else self._tell,
            )
        return channel

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names of the topics in the log that begin with ``prefix``, sorted."""
        return await self.log.topics(prefix)

    async def delete(self, topic: str) -> None:
        """Forget a topic. Its subscribers finish; clients that come back are told of a gap.

        Cancellation: as the log's ``delete``.
        """
        await self.log.delete(topic)

    def statistics(self) -> dict[tuple[str, Render | None], ChannelStatistics]:
        """Return what each channel that somebody holds has now, by topic and ``render``."""
        return {key: channel.statistics() for key, channel in self._channels.items()}

    def close(self) -> None:
        """Close every channel, as :meth:`EventChannel.close` does."""
        self._closed = True
        for channel in list(self._channels.values()):
            channel.close()

    async def follow(self) -> None:
        """Feed the channels of a log that other processes write to, until cancelled."""
        untold = trio.current_time() + _UNTOLD
        while True:
            with trio.move_on_at(untold):
                await self._told.wait()
            self._told = trio.Event()
            if trio.current_time() >= untold:
                # However many hints come for others: one that was lost may be any channel's.
                self._changed.update(dict.fromkeys(self._channels.values()))
                untold = trio.current_time() + _UNTOLD
            changed, self._changed = self._changed, {}
            while changed:
                await changed.popitem()[0].pull()

    def _tell(self, channel: EventChannel) -> None:
        self._changed[channel] = None
        self._told.set()


@asynccontextmanager
async def open_topics(
    log: EventLog,
    *,
    window_entries: int | None = DEFAULT_WINDOW_ENTRIES,
    window_bytes: int | None = DEFAULT_WINDOW_BYTES,
) -> AsyncIterator[Topics]:
    """Open channels by name over a log, for as long as the ``async with`` lasts.

    Leaving it closes the channels: subscribers are given what is in their windows and finish.

    Args:
        log: A log of any kind. It is not closed here.
        window_entries: As in :class:`EventChannel`, for each channel.
        window_bytes: As in :class:`EventChannel`, for each channel.

    Cancellation: of the body: channels are closed. What was published is in the log.
    """
    topics = Topics(log, window_entries=window_entries, window_bytes=window_bytes)
    try:
        if isinstance(log, LocalEventLog):
            yield topics
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(topics.follow)
            yield topics
            nursery.cancel_scope.cancel()
    finally:
        topics.close()
