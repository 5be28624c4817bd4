"""A log on a Redis or Valkey server, shared by any number of processes.

Whatever changes or reads a topic is one script, which the server runs in one step
(``_scripts``). Two connections carry them, each made anew whenever it is lost (``_connection``):
one for appends and for the hints that say where something is new, one for answers that can be
large, so that nobody's history holds up another's append.

A lost server loses nobody's place. Reads wait until it is back. What changes something waits for
as long as the log's patience lasts, and then raises. Every command may be repeated: an append has
a token, its caller's or one of our own, and a deletion names the tag of what it deletes.

What was acknowledged can still be lost with a server: a replica that takes over lacks what had
not reached it. Then the ids of lost entries are known as such, and clients that hold one are told
of a gap.
"""

from __future__ import annotations

import math
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from typing import Any, Final

import trio

from ...errors import ChannelEnded, LogUnavailable, TopicFull
from .. import (
    DEFAULT_MAX_KEYS,
    ORIGIN,
    PAGE_BYTES,
    PAGE_ENTRIES,
    EntryId,
    Head,
    NewEntry,
    Page,
    Retention,
    Snapshot,
    check_append,
    random_tag,
)
from . import _scripts, _values
from ._connection import Connection
from ._scripts import Script
from ._server import Server
from ._values import Argument
from ._wire import RedisRefused as RedisRefused

# Seconds. A replica takes over, or a server restarts, within less.
DEFAULT_PATIENCE: Final = 30.0

# Tokens of our own that the server may still be told to forget: of how many topics, how many of
# each. Those for which there is no room stay with the topic until it has enough newer ones.
_OVER_TOPICS: Final = 1000
_OVER_TOKENS: Final = 100


class RedisLog:
    """A log on a server. :func:`open_redis_log` makes it.

    Its methods raise, beside what :class:`sselib.log.EventLog` says:

    * :exc:`RedisRefused`: the server answered with an error, as it does when its memory is full.
      Nothing has changed;
    * :exc:`sselib.LogUnavailable`, of which that is one: ``append``, ``trim`` and ``delete``,
      after ``patience`` seconds without an answer. They may have been done. What only reads waits;
    * :exc:`trio.ClosedResourceError`: the ``async with`` of :func:`open_redis_log` was left.

    Attributes:
        patience: In seconds; infinite if it has no bound.
    """

    def __init__(
        self,
        commands: Connection,
        reads: Connection,
        *,
        prefix: str,
        retention: Retention,
        max_keys: int | None = DEFAULT_MAX_KEYS,
        patience: float | None = DEFAULT_PATIENCE,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._commands = commands
        self._reads = reads
        self._prefix = _values.encode(prefix)
        self._retention = retention
        self._bounds = _values.bounds(retention)
        self._max_keys = max_keys
        self.patience = math.inf if patience is None else patience
        self._clock = clock
        self._name = secrets.token_bytes(8)
        self._numbers = count()
        self._over: dict[str, list[bytes]] = {}

    async def append(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        """Append entries, as :meth:`sselib.log.EventLog.append` says.

        A connection that is lost meanwhile neither loses nor doubles them.

        Cancellation: if it was not sent yet, it is not appended; else it may be.
        """
        check_append(entries, self._retention)
        own = b"o%s%d" % (self._name, next(self._numbers))
        over = self._over.pop(topic, [])
        arguments: list[Argument] = [
            _values.encode(topic),
            self._now(),
            random_tag().encode(),
            _scripts.any_base(),
            own if token is None else b"u" + _values.encode(token),
            _values.bound(self._max_keys),
            *self._bounds,
            len(over),
            *over,
        ]
        for entry in entries:
            arguments += _values.pack(entry)
        try:
            reply = await self._change(_scripts.APPEND, topic, *arguments)
        finally:
            if token is None:
                self._is_over(topic, own)
        with self._understanding():
            match reply:
                case [b"appended", tag, ids]:
                    name = tag.decode("ascii")
                    return [_values.entry_id(id, name) for id in ids.split(b" ")]
                case [b"ended", tag, end]:
                    raise ChannelEnded(topic, str(_values.entry_id(end, tag.decode("ascii"))))
                case [b"full"] if self._max_keys is not None:
                    raise TopicFull(topic, self._max_keys)
            raise ValueError(reply)

    async def read(
        self,
        topic: str,
        after: EntryId,
        *,
        limit: int = PAGE_ENTRIES,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        """Return what is owed after an id, as :meth:`sselib.log.EventLog.read` says.

        What is owed after an entry that the log has lost cannot be told: then there are no
        entries, and the floor is the topic's last.

        Cancellation: it only reads.
        """
        if limit < 1 or max_bytes < 1:
            raise ValueError(f"limit and max_bytes must be at least 1: {limit}, {max_bytes}")
        place = (_values.position(after), after.tag.encode())
        reply = await self._ask(self._reads, _scripts.READ, topic, *place, limit, max_bytes)
        with self._understanding():
            if reply is None:
                return Page((), ORIGIN, None)
            fields, extent, batches = reply
            head = _values.head(fields)
            if extent == b"lost":
                return Page((), head.last, Head(head.last, head.last, head.end))
            tag = head.last.tag
            entries = [entry for batch in batches for entry in _values.entries(batch, tag)]
            return Page(entries, entries[-1].id if extent == b"cut" else head.last, head)

    async def snapshot(self, topic: str) -> Snapshot:
        """Return the state, as :meth:`sselib.log.EventLog.snapshot` says.

        Cancellation: it only reads.
        """
        reply = await self._ask(self._reads, _scripts.SNAPSHOT, topic)
        with self._understanding():
            if reply is None:
                return Snapshot((), None, None)
            fields, ends, state = reply
            head = _values.head(fields)
            end = _values.entries(ends, head.last.tag)[0] if ends else None
            return Snapshot(tuple(_values.state(state, head.last.tag)), end, head)

    async def head(self, topic: str) -> Head | None:
        """Return where the topic stands, as :meth:`sselib.log.EventLog.head` says.

        Cancellation: it only reads.
        """
        reply = await self._ask(self._commands, _scripts.HEAD, topic)
        with self._understanding():
            return None if reply is None else _values.head(*reply)

    async def has(self, topic: str, id: EntryId) -> bool:
        """Return whether this log gave that id, as :meth:`sselib.log.EventLog.has` says.

        Cancellation: it only reads.
        """
        place = (_values.position(id), id.tag.encode())
        reply = await self._ask(self._commands, _scripts.HAS, topic, *place)
        with self._understanding():
            return reply is not None and bool(reply[1] == 1)

    async def trim(self, topic: str, retention: Retention) -> None:
        """Cut the history down, as :meth:`sselib.log.EventLog.trim` says.

        If the connection is lost meanwhile, it may be cut down once more.

        Cancellation: if it was not sent yet, nothing is cut; else it may be.
        """
        await self._change(_scripts.TRIM, topic, *_values.bounds(retention), self._now())

    async def delete(self, topic: str) -> None:
        """Forget the topic, as :meth:`sselib.log.EventLog.delete` says.

        Cancellation: if it was not sent yet, nothing is deleted; else it may be.
        """
        with trio.move_on_after(self.patience):
            head = await self.head(topic)
            if head is not None:
                # Should it have to be repeated: a topic that was made anew since then stays.
                tag = head.last.tag.encode()
                await self._change(_scripts.DELETE, topic, _values.encode(topic), tag)
            return
        raise self._unavailable()

    async def topics(self, prefix: str = "") -> list[str]:
        """Return the names of the topics that begin with ``prefix``, sorted.

        Cancellation: it only reads.
        """
        start = _values.encode(prefix)
        # UTF-8 sorts as the characters do, and has no byte 255.
        bounds = (b"[" + start, b"(" + start + b"\xff")
        reply = await self._reads.call(b"ZRANGE", self._prefix, *bounds, b"BYLEX")
        with self._understanding():
            return [_values.decode(name) for name in reply]

    def watch(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` whenever the topic may have changed, as the protocol says."""
        return self._commands.watch(self._keys(topic)[0], wake)

    async def _change(self, script: Script, topic: str, *arguments: Argument) -> Any:
        """Run a script that writes, for as long as the patience lasts."""
        keys = (*self._keys(topic), self._prefix)
        with trio.move_on_after(self.patience):
            return await self._commands.call(*script.called(keys, *arguments))
        raise self._unavailable()

    async def _ask(
        self, connection: Connection, script: Script, topic: str, *arguments: Argument
    ) -> Any:
        """Run a script that reads, and return what it says; ``None``: there is no such topic."""
        keys = self._keys(topic)
        age, now = self._bounds[2], self._now()
        reply = await connection.call(*script.called(keys, age, now, *arguments))
        if reply == b"expired":
            trim = _scripts.TRIM.called(keys, b"", b"", age, now)
            # A server that takes no writes keeps everything, and can be read.
            with suppress(RedisRefused):
                await self._commands.call(*trim)
            reply = await connection.call(*script.called(keys, b"", now, *arguments))
        return None if reply == b"absent" else reply

    def _keys(self, topic: str) -> tuple[bytes, ...]:
        base = b"%s:{%s}" % (self._prefix, _values.encode(topic))
        return (base, base + b":log", base + b":state", base + b":history", base + b":tokens")

    def _now(self) -> Argument:
        """Return the time for a script, which takes its server's if it is told none."""
        return b"" if self._clock is None else max(1, self._clock())

    def _is_over(self, topic: str, token: bytes) -> None:
        """Have the topic's next append tell the server that nobody will repeat this one."""
        tokens = self._over.setdefault(topic, [])
        if len(tokens) < _OVER_TOKENS:
            tokens.append(token)
        if len(self._over) > _OVER_TOPICS:
            del self._over[next(iter(self._over))]

    def _unavailable(self) -> LogUnavailable:
        """Return the error that says that the patience is over."""
        why = self._commands.trouble or "it is too slow"
        return LogUnavailable(self._commands.place, f"no answer within {self.patience} s: {why}")

    @contextmanager
    def _understanding(self) -> Iterator[None]:
        """Make an error of the server's of whatever its answer leads to."""
        try:
            yield
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            answer = f"NONSENSE no script of ours answers so: {error}"
            raise RedisRefused(self._commands.place, answer) from error


@asynccontextmanager
async def open_redis_log(
    url: str,
    *,
    prefix: str = "sselib",
    retention: Retention = Retention(),  # noqa: B008 # frozen
    max_keys: int | None = DEFAULT_MAX_KEYS,
    patience: float | None = DEFAULT_PATIENCE,
    ssl_context: ssl.SSLContext | None = None,
    clock: Callable[[], int] | None = None,
) -> AsyncIterator[RedisLog]:
    """Open a log on a Redis or Valkey server, version 7.0 or later, for one ``async with``.

    Every process that shares its topics gives the same ``prefix``, ``retention`` and
    ``max_keys``.

    Args:
        url: ``redis://[user:password@]host[:port][/database]``, the same with ``rediss`` for TLS,
            or ``unix://[user:password@]/path[?db=database]``.
        prefix: What all keys begin with: several logs can share a database.
        retention: How much history each topic keeps.
        max_keys: The most live keys of a topic. ``None`` lifts the bound.
        patience: Seconds that the server may be gone before opening, ``append``, ``trim`` and
            ``delete`` raise. ``None``: they wait.
        ssl_context: For ``rediss``; by default the system's certificates are trusted.
        clock: Returns milliseconds since the epoch. By default it is the server's clock, which
            is one for all processes.

    Raises:
        ValueError: A wrong URL, a prefix with braces, ``max_keys`` < 1, ``patience`` <= 0.
        RedisRefused: The server will not have us, is too old, or would evict what a log needs.
        LogUnavailable: There is no such server, or it is not ready, for ``patience`` seconds.

    Cancellation: of the body: the connections are closed. What was appended is in the log.
    """
    if max_keys is not None and max_keys < 1:
        raise ValueError(f"max_keys must be at least 1 or None: {max_keys}")
    if patience is not None and not patience > 0:
        raise ValueError(f"patience must be positive, or None for no bound: {patience}")
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"a prefix may not have braces, which enclose a topic: {prefix!r}")
    server = Server.of(url, ssl_context=ssl_context)
    commands = Connection(server.connect, place=server.place)
    reads = Connection(server.connect, place=server.place, purpose="reads")
    log = RedisLog(
        commands,
        reads,
        prefix=prefix,
        retention=retention,
        max_keys=max_keys,
        patience=patience,
        clock=clock,
    )
    with trio.move_on_after(log.patience) as opening:
        wire = await commands.open()
    if opening.cancelled_caught:
        raise log._unavailable()  # noqa: SLF001 # of this module
    async with trio.open_nursery() as nursery:
        nursery.start_soon(commands.run, wire)
        nursery.start_soon(reads.run)
        try:
            yield log
        finally:
            commands.close()
            reads.close()
            nursery.cancel_scope.cancel()
