"""The client: an event source for Trio programs, as browsers have one.

From the outside in: :mod:`.source` is one stream over all its connections; :mod:`.policy` says when
a connection is lost and when the next one is made; :mod:`.connection` is one of them, from the TCP
handshake to the last byte of a body; :mod:`.request` is what is asked for; :mod:`.reports` is what
the source tells about itself.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from ..codec import DEFAULT_MAX_EVENT_BYTES
from ..events import Comment, ServerSentEvent
from .connection import Connect, check_proxy
from .policy import RetryPolicy as RetryPolicy
from .reports import EventSourceStatistics as EventSourceStatistics
from .reports import Interruption as Interruption
from .request import Headers, Request, Target, encoded_headers, encoded_id
from .source import EventSource as EventSource
from .source import Options

DEFAULT_MAX_HEAD_BYTES: Final = 64 * 1024  # as much as is read at once; browsers take 256 KiB


@asynccontextmanager
async def open_event_source(
    url: str,
    *,
    method: str = "GET",
    headers: Headers | Callable[[], Awaitable[Headers]] = (),
    content: bytes = b"",
    last_event_id: str = "",
    policy: RetryPolicy | None = None,
    until: Callable[[ServerSentEvent], bool] | None = None,
    on_comment: Callable[[Comment], object] | None = None,
    on_interruption: Callable[[Interruption], object] | None = None,
    max_event_bytes: int | None = DEFAULT_MAX_EVENT_BYTES,
    max_head_bytes: int = DEFAULT_MAX_HEAD_BYTES,
    ssl_context: ssl.SSLContext | None = None,
    connect: Connect | None = None,
) -> AsyncIterator[EventSource]:
    """Be an event source for as long as the ``async with`` lasts.

    Entering connects to nothing: the first :meth:`EventSource.receive` does. From then on a lost
    connection is made anew, with the last event ID, as the standard has it for browsers.

    Args:
        url: Where the stream is; ``http:`` or ``https:``.
        method: The request's method.
        headers: The caller's headers; values are sent as UTF-8. A function is awaited before each
            attempt, for what does not last, such as a token.
        content: The request's body.
        last_event_id: Continue behind this event, of an earlier run.
        policy: When a connection is lost, and when to try again: ``RetryPolicy()`` by default.
        until: Whether this event is the stream's last. The stream then ends well behind it, and
            whatever ends the connection before is an interruption.
        on_comment: Called with each comment as it is read, maybe before events that came first.
        on_interruption: Called whenever a connection is lost and will be made anew.
        max_event_bytes: As for :class:`sselib.EventStreamDecoder`.
        max_head_bytes: About the most bytes of the head of a response.
        ssl_context: For https. ``None``: the system's authorities, and the name is checked.
        connect: How to reach a host and a port: an async function that gives a
            :class:`trio.abc.Stream`, on which TLS is spoken if the URL says so. For Unix sockets,
            proxies and tests. ``None``: by TCP, and not at all if the environment names a proxy
            for it; with :func:`trio.open_tcp_stream` by TCP in any case.

    Raises:
        ValueError, TypeError: An argument is not what it should be.
        ProxyRefused: The environment names a proxy for ``url``.

    Cancellation: the connection is closed, wherever it was.
    """
    target = Target.of(url)
    if connect is None:
        check_proxy(target)
    if max_head_bytes < 1:
        raise ValueError(f"max_head_bytes must be at least 1: {max_head_bytes!r}")
    given = () if callable(headers) else encoded_headers(headers)
    options = Options(
        request=Request(target=target, method=method, headers=given, content=content),
        fresh_headers=headers if callable(headers) else None,
        policy=RetryPolicy() if policy is None else policy,
        until=until,
        on_comment=on_comment,
        on_interruption=on_interruption,
        max_event_bytes=max_event_bytes,
        max_head_bytes=max_head_bytes,
        ssl_context=ssl_context,
        connect=connect,
    )
    source = EventSource(options, last_event_id)
    encoded_id(last_event_id)
    await trio.lowlevel.checkpoint()
    try:
        yield source
    finally:
        await source.aclose()
