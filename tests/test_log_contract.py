"""The logs of this library, put through the contract that it ships."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from sselib import MemoryLog, Retention
from sselib.log import PAGE_BYTES, PAGE_ENTRIES, EntryId, EventLog, Head, NewEntry, Page, Snapshot
from sselib.testing.log_contract import DurableLogContract, EventLogContract


class TestMemoryLog(EventLogContract):
    """A log of this process."""

    @asynccontextmanager
    async def open_log(
        self, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AsyncIterator[EventLog]:
        """A new one."""
        yield MemoryLog(clock=clock, retention=retention, max_keys=max_keys)


class DistantLog:
    """A memory log as if another process had it: nothing is answered at once."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def append(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        return await self._log.append(topic, entries, token=token)

    async def read(
        self,
        topic: str,
        after: EntryId,
        *,
        limit: int = PAGE_ENTRIES,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        page = await self._log.read(topic, after, limit=limit, max_bytes=max_bytes)
        await trio.lowlevel.checkpoint()  # the answer takes time
        return page

    async def snapshot(self, topic: str) -> Snapshot:
        snapshot = await self._log.snapshot(topic)
        await trio.lowlevel.checkpoint()
        return snapshot

    async def head(self, topic: str) -> Head | None:
        return await self._log.head(topic)

    async def has(self, topic: str, id: EntryId) -> bool:
        return await self._log.has(topic, id)

    async def trim(self, topic: str, retention: Retention) -> None:
        await self._log.trim(topic, retention)

    async def delete(self, topic: str) -> None:
        await self._log.delete(topic)

    async def topics(self, prefix: str = "") -> list[str]:
        return await self._log.topics(prefix)

    def watch(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        return self._log.watch(topic, wake)


class TestDistantLog(EventLogContract):
    """A log that is followed by the task of ``open_topics``."""

    @asynccontextmanager
    async def open_log(
        self, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AsyncIterator[EventLog]:
        """A new one."""
        yield DistantLog(MemoryLog(clock=clock, retention=retention, max_keys=max_keys))


def test_a_contract_without_a_log_says_what_is_missing() -> None:
    """Where a log is kept, and how it is opened."""
    options: dict[str, Any] = {"clock": lambda: 1, "retention": Retention(), "max_keys": 1}
    with pytest.raises(TypeError, match="how its log is opened"):
        EventLogContract().open_log(**options)
    with pytest.raises(TypeError, match="where its log is kept"):
        DurableLogContract().open_store()
    with pytest.raises(TypeError, match="how its log is opened"):
        DurableLogContract().open_log_in("store", **options)
