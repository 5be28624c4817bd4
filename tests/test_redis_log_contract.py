"""The log on a Redis server, put through the contract of logs on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from sselib import Retention
from sselib.log import EventLog
from sselib.log.redis import open_redis_log
from sselib.testing.log_contract import EventLogContract

from .redis_servers import PROGRAMS, RedisServer, redis_server

_numbers = count()


@pytest.fixture(scope="module")
def server(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    with redis_server(require_program(*PROGRAMS), tmp_path_factory.mktemp("redis")) as running:
        yield running


class TestRedisLog(EventLogContract):
    """A log on a server that other processes could use as well."""

    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        self._url = server.url

    @asynccontextmanager
    async def open_log(
        self, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AsyncIterator[EventLog]:
        """A log of its own on that server."""
        async with open_redis_log(
            self._url,
            prefix=f"contract{next(_numbers)}",
            clock=clock,
            retention=retention,
            max_keys=max_keys,
        ) as log:
            yield log
