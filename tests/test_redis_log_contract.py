"""The log on a Redis server, put through the contract of logs on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from sselib import Retention
from sselib.log import EventLog
from sselib.log.redis import open_redis_log
from sselib.testing.log_contract import DurableLogContract

from .redis_servers import PROGRAMS, RedisServer, redis_server

_prefixes = map("contract{}".format, count())


@pytest.fixture(scope="module")
def server(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    with redis_server(require_program(*PROGRAMS), tmp_path_factory.mktemp("redis")) as running:
        yield running


class TestRedisLog(DurableLogContract):
    """A prefix on a server, opened by as many logs as the contract has processes."""

    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        self._url = server.url

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[str]:
        """A prefix of its own."""
        yield next(_prefixes)

    @asynccontextmanager
    async def open_log_in(
        self, store: str, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AsyncIterator[EventLog]:
        """As often as is wanted."""
        async with open_redis_log(
            self._url, prefix=store, clock=clock, retention=retention, max_keys=max_keys
        ) as log:
            yield log
