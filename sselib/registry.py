"""StreamRegistry: what a server does for its streams, whichever server it is.

A registry sits around the application and puts itself into the scope of every HTTP request. A
stream finds it there and enters itself, so the registry knows the streams that are open and
nothing else: no task of its own, no socket, no server. Everything here rests on that one table.

Rules:

- A stream is in the table from ``admit`` to ``discard``. The counter of a client exists while one
  of its streams does, so no peer can make the table outgrow the streams that are open.
- Nothing here waits for a client. A drain asks streams to finish and returns at the end of its
  window even if they do not; a client that has stopped reading is then the server's to cut.
- While it drains, a request for a new stream is answered 200: a browser's EventSource treats every
  other status as final and would stay dead for ever.
- Whoever comes back after a drain comes back spread: each farewell names a moment of its own, in
  the first window after this one has ended.
"""

from __future__ import annotations

import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Final

import attrs
import trio

from .stream import REGISTRY, ASGIApp, OpenStream, Receive, Refusal, Scope, Send, retry_block

# A process may open 1,024 files unless told otherwise: this leaves a hundred for other requests.
DEFAULT_MAX_STREAMS: Final = 900
# A browser opens six at most; an office behind one address, or a page of a load test, more.
DEFAULT_MAX_STREAMS_PER_CLIENT: Final = 100
# Seconds. Supervisors kill after 10 (Docker) to 90 (systemd), and a server needs two on top.
DEFAULT_DRAIN_WINDOW: Final = 5.0
# Seconds. Streams end at any time, so no number is right; this one keeps repeated asking cheap.
RETRY_AFTER: Final = 5
# Of the window: a goodbye that takes longer must not leave the streams without theirs.
BEFORE_DRAIN_SHARE: Final = 0.5
# Of what is left of the window: the rest is for the last streams to write their farewell in.
SPREAD_SHARE: Final = 0.9
# Milliseconds. The farewell is the client's reconnection time from then on, also while the next
# process is still starting: with less than this a browser would hammer it.
LEAST_RETRY: Final = 1000

_log: Final = logging.getLogger("sselib")
_access_log: Final = logging.getLogger("sselib.access")


def client_host(scope: Scope) -> Hashable:
    """Return the host the request came from, or ``None`` if the server does not know one."""
    client = scope.get("client")
    return None if client is None else str(client[0])


@attrs.frozen(kw_only=True)
class RegistryStatistics:
    """What a registry has seen, at one moment.

    Attributes:
        streams: Streams that are open.
        clients: Clients that have at least one open.
        draining: Whether the drain has begun. It never goes back.
        opened: Streams admitted so far.
        refused: Requests for a stream that were not, for whichever reason.
        ended: How many of the opened streams have ended, by reason.
        events: Entries written on all streams so far.
        bytes_written: Bytes of their bodies so far.
    """

    streams: int
    clients: int
    draining: bool
    opened: int
    refused: int
    ended: Mapping[str, int]
    events: int
    bytes_written: int


class StreamRegistry:
    """The streams of one server: counts them, limits them, ends them.

    Calling it with an application gives the application to serve: ``registry(app)``. A registry
    drains once and is then used up; servers that stop together may share one.

    The limits answer 503 (all) and 429 (one client) with ``Retry-After``, which programs honour.
    A browser's EventSource gives up for good at any status but 200, so a limit is for what must
    not go on, not for shaping.

    Args:
        max_streams: Streams that may be open at once; ``None`` for no limit.
        max_streams_per_client: Streams that one client may have open; ``None`` for no limit.
        client: Names the client of a request, by its scope: any hashable value, such as an
            account. A request for which it gives ``None`` counts for no client. By default the
            host it came from: behind a proxy that is the proxy, so name your clients there.
        drain_window: Seconds that a drain may take.
        before_drain: Awaited when a drain begins, to say goodbye on the streams. It gets half of
            the window at most, is cancelled then, and may fail without stopping the drain.
        farewell_retry: Whether a stream's farewell is a ``retry`` that spreads the reconnects, or
            nothing, for an API whose bytes are all documented.
        rng: Where jitter comes from.

    Raises:
        ValueError: A limit is negative, or the window is not a positive finite number.
    """

    def __init__(
        self,
        *,
        max_streams: int | None = DEFAULT_MAX_STREAMS,
        max_streams_per_client: int | None = DEFAULT_MAX_STREAMS_PER_CLIENT,
        client: Callable[[Scope], Hashable] = client_host,
        drain_window: float = DEFAULT_DRAIN_WINDOW,
        before_drain: Callable[[], Awaitable[object]] | None = None,
        farewell_retry: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        for limit in (max_streams, max_streams_per_client):
            if limit is not None and limit < 0:
                raise ValueError(f"a limit may not be negative: {limit!r}")
        if not (0 < drain_window < math.inf):
            raise ValueError(f"drain_window must be positive and finite: {drain_window!r}")
        self._max_streams = max_streams
        self._max_streams_per_client = max_streams_per_client
        self._client = client
        self._drain_window = drain_window
        self._before_drain = before_drain
        self._farewell_retry = farewell_retry
        self._rng = random.Random() if rng is None else rng  # noqa: S311 # spreads, hides nothing
        self._streams: dict[OpenStream, Hashable] = {}
        self._per_client: Counter[Hashable] = Counter()
        self._opened = 0
        self._refused = 0
        self._ended: Counter[str] = Counter()
        self._events = 0  # of the streams that have ended
        self._bytes_written = 0
        self._drain_ends: float | None = None
        self._all_gone = trio.Event()  # while draining: there will be no more streams

    def __call__(self, app: ASGIApp) -> RegisteredApp:
        """Return an ASGI application that shows this registry to each HTTP request of ``app``."""
        return RegisteredApp(app=app, registry=self)

    def admit(self, stream: OpenStream) -> Refusal | None:
        """Enter a stream that is about to begin, or say what is to be answered instead."""
        client = self._client(stream.scope)
        refusal = self._refusal(client)
        if refusal is not None:
            self._refused += 1
            return refusal
        self._streams[stream] = client
        if client is not None:
            self._per_client[client] += 1
        self._opened += 1
        return None

    def discard(self, stream: OpenStream, reason: str) -> None:
        """Take out a stream that was admitted and is over, once; log its line."""
        client = self._streams.pop(stream)
        if client is not None:
            self._per_client[client] -= 1
            if not self._per_client[client]:
                del self._per_client[client]
        self._ended[reason] += 1
        self._events += stream.events
        self._bytes_written += stream.bytes_written
        if self._drain_ends is not None and not self._streams:
            self._all_gone.set()
        # A peer chose the path and perhaps the client's name: repr keeps them on this line.
        _access_log.info(
            "client=%r path=%r duration=%.3f events=%d bytes=%d reason=%s",
            client,
            stream.scope["path"],
            trio.current_time() - stream.opened_at,
            stream.events,
            stream.bytes_written,
            reason,
        )

    def kick(self, client: Hashable) -> int:
        """End the streams of a client now, without a farewell, and return how many those are.

        Clients come back by themselves: take away what lets them in first. ``client`` is a name as
        the registry's ``client`` function gives it.
        """
        kicked = [stream for stream, owner in self._streams.items() if owner == client]
        for stream in kicked:
            stream.cancel("kicked")
        return len(kicked)

    def statistics(self) -> RegistryStatistics:
        """Return what the registry has seen up to now."""
        return RegistryStatistics(
            streams=len(self._streams),
            clients=len(self._per_client),
            draining=self._drain_ends is not None,
            opened=self._opened,
            refused=self._refused,
            ended=dict(self._ended),
            events=self._events + sum(stream.events for stream in self._streams),
            bytes_written=self._bytes_written
            + sum(stream.bytes_written for stream in self._streams),
        )

    def drained_after(
        self, trigger: Callable[[], Awaitable[object]]
    ) -> Callable[[], Awaitable[None]]:
        """Return an async function that waits for ``trigger()`` and then drains.

        It is what a server takes as its ``shutdown_trigger``: the server goes on accepting
        connections and answering requests until it returns. That is as soon as all streams are
        gone, at the latest at the end of the window, when it has cancelled those that are left.
        What a client that does not read holds up in the server's own code may then still be there.

        Cancellation: streams that were not asked to finish by then go on; the registry stays
        closed for new ones.
        """

        async def drained() -> None:
            await trigger()
            await self._drain()

        return drained

    async def _drain(self) -> None:
        began = trio.current_time()
        first = self._drain_ends is None  # otherwise another server of this registry leads it
        if self._drain_ends is None:
            self._drain_ends = began + self._drain_window
            _log.info("drain begins: streams=%d window=%g", len(self._streams), self._drain_window)
        with trio.move_on_at(self._drain_ends):
            if first:
                await self._say_goodbye()
                await self._finish_spread(self._drain_ends)
            else:
                await self._all_gone.wait()
        left = tuple(self._streams)
        for stream in left:
            stream.cancel("drained")
        if first:
            _log.info("drain ends: duration=%.3f cut=%d", trio.current_time() - began, len(left))

    async def _say_goodbye(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._before_drain is None:
            return
        try:
            with trio.move_on_after(self._drain_window * BEFORE_DRAIN_SHARE) as scope:
                await self._before_drain()
        except Exception:  # noqa: BLE001 # it is the application's, and the exit is not
            _log.exception("before_drain failed; the drain goes on")
        if scope.cancelled_caught:
            _log.warning("before_drain was cancelled: it took more than half of the window")

    async def _finish_spread(self, ends: float) -> None:
        """Ask one stream after the other to finish, each at a random moment of its own slot."""
        streams = list(self._streams)
        self._rng.shuffle(streams)
        if not streams:
            self._all_gone.set()
        now = trio.current_time()
        slot = (ends - now) * SPREAD_SHARE / max(1, len(streams))
        for number, stream in enumerate(streams):
            with trio.move_on_at(now + (number + self._rng.random()) * slot):
                await self._all_gone.wait()
            if stream in self._streams:
                stream.finish("drained", farewell=self._farewell(b""))
        await self._all_gone.wait()

    def _refusal(self, client: Hashable) -> Refusal | None:
        headers: tuple[tuple[bytes, bytes], ...]
        if self._drain_ends is not None:
            headers = (
                (b"content-type", b"text/event-stream"),
                (b"cache-control", b"no-cache, no-transform"),
                (b"connection", b"close"),
            )
            return Refusal(status=200, headers=headers, body=self._farewell(b": draining\n\n"))
        limit = self._max_streams_per_client
        if client is not None and limit is not None and self._per_client[client] >= limit:
            status, text = 429, b"too many streams of this client\n"
        elif self._max_streams is not None and len(self._streams) >= self._max_streams:
            status, text = 503, b"too many streams\n"
        else:
            return None
        headers = (
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"retry-after", b"%d" % RETRY_AFTER),
        )
        return Refusal(status=status, headers=headers, body=text)

    def _farewell(self, without_retry: bytes) -> bytes:
        if not self._farewell_retry or self._drain_ends is None:
            return without_retry
        left = max(0.0, self._drain_ends - trio.current_time())
        delay = left + self._rng.uniform(0, self._drain_window)
        return retry_block(max(LEAST_RETRY, math.ceil(delay * 1000)))


@attrs.frozen(kw_only=True, eq=False)
class RegisteredApp:
    """An ASGI application and the registry of its streams; made by calling the registry."""

    app: ASGIApp
    registry: StreamRegistry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; other scopes than HTTP's are passed on as they are."""
        if scope["type"] == "http":
            extensions = {**(scope.get("extensions") or {}), REGISTRY: self.registry}
            scope = {**scope, "extensions": extensions}
        await self.app(scope, receive, send)


def registered(app: ASGIApp, registry: StreamRegistry | None) -> RegisteredApp:
    """Return the application in this registry, in the one it is in already, or in a new one.

    Raises:
        ValueError: It is in another one already.
    """
    if not isinstance(app, RegisteredApp):
        return (registry or StreamRegistry())(app)
    if registry not in (None, app.registry):
        raise ValueError("the app is wrapped in another registry than the one given")
    return app
