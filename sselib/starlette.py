"""An event stream as a Starlette response, for frameworks that accept nothing else: FastAPI.

Starlette itself takes an :class:`sselib.EventStream` wherever it takes a response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .channel import EventChannel
from .events import ServerSentEvent
from .policy import StreamPolicy
from .stream import EventStream, Headers, SendEvent
from .subscription import Replay


class EventStreamResponse(Response):
    """An :class:`sselib.EventStream` that is a Starlette response.

    The arguments are those of :class:`sselib.EventStream`. Headers and cookies that a framework
    sets on a response reach the client, and a background task runs when the stream is over.
    """

    def __init__(
        self,
        source: EventChannel | Callable[[SendEvent], Awaitable[None]],
        *,
        policy: StreamPolicy = StreamPolicy(),  # noqa: B008 # frozen
        replay: Replay = "current",
        headers: Headers = (),
        status: int = 200,
        last_event_id: str | None = None,
        gap_event: ServerSentEvent | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        def make_stream(headers: Headers) -> EventStream:
            return EventStream(
                source,
                policy=policy,
                replay=replay,
                headers=headers,
                status=status,
                last_event_id=last_event_id,
                gap_event=gap_event,
            )

        make_stream(headers)  # A wrong argument is an error here, and not when it is answered.
        self._make_stream = make_stream
        self.status_code = status
        self.background = background
        self.init_headers(dict(headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Cancellation: as :class:`sselib.EventStream`; the background task does not run.
        """
        raw = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw_headers
        ]
        await self._make_stream(raw)(scope, receive, send)
        if self.background is not None:
            await self.background()
