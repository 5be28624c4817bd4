"""The SQLite log, put through the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory

from sselib import Retention, open_sqlite_log
from sselib.log import EventLog
from sselib.testing.log_contract import DurableLogContract


class TestSQLiteLog(DurableLogContract):
    """A file, opened by as many logs as the contract has processes."""

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[str]:
        """A directory of its own."""
        with TemporaryDirectory() as place:
            yield f"{place}/log"

    @asynccontextmanager
    async def open_log_in(
        self, store: str, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AsyncIterator[EventLog]:
        """As often as is wanted."""
        async with open_sqlite_log(
            store,
            clock=clock,
            retention=retention,
            max_keys=max_keys,
            synchronous="normal",
            poll=0.001,
        ) as log:
            yield log
