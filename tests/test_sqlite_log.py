"""The SQLite log, put through the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory

from sselib import Retention, open_sqlite_log
from sselib.log import EventLog
from sselib.testing.log_contract import EventLogContract


class TestSQLiteLog(EventLogContract):
    @asynccontextmanager
    async def open_log(
        self, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AsyncIterator[EventLog]:
        with TemporaryDirectory() as place:
            async with open_sqlite_log(
                f"{place}/log", clock=clock, retention=retention, max_keys=max_keys
            ) as log:
                yield log
