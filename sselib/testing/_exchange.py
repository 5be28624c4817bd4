"""The server's half of one request, without a socket: what :func:`sselib.testing.open_stream` is.

The application runs in a task and talks to :meth:`Exchange._receive` and :meth:`Exchange._send`.
Between it and the client lies ``sent``, which is the socket: ``send()`` puts a message there whole
(cancelled or not, as on Hypercorn) and returns once no more than ``window`` bytes lie unread; the
client takes bytes out. The rest is flags: whoever waits for one looks again after each change.

Rules that only a careful server checks are checked here on every message. A violation is raised
from ``send()``, where its traceback shows who did it, and is also kept as the ``fault`` of the
exchange: an application that swallows it does not get away with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

import trio
import trio.testing

from ..stream import ASGIApp, Message, Scope

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a token of RFC 9110 5.6.2, lower case
_UNSAFE: Final = re.compile(rb"[\r\n\0]")  # RFC 9110 5.5
_FINAL_STATUS: Final = range(200, 600)  # RFC 9110 15: the others are informational, or none
_WITHOUT_BODY: Final = (204, 304)  # RFC 9110 6.4.1
_RAISING_SEND: Final = (2, 4)  # the ASGI spec_version since which send() raises after a disconnect


class ApplicationFault(AssertionError):
    """The application under test did what no server lets pass; the message names the rule."""


class ClientGone(OSError):
    """What ``send()`` raises after the client has gone, from ASGI ``spec_version`` 2.4 on."""


class Exchange:
    """One request, its application, and the bytes of the response that lie unread."""

    def __init__(self, *, scope: Scope, body: bytes, window: int) -> None:
        self.scope = scope
        self.window = window
        self.sent = bytearray()
        self.status: int | None = None  # until the head has come
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.body_began = False
        self.complete = False  # the application has said that the body is at its end
        self.disconnected = False
        self.ended = False  # the application has returned, raised, or been cancelled
        self.fault: Exception | None = None
        self.fault_shown = False
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._spec_version = tuple(map(int, scope["asgi"]["spec_version"].split(".")))
        self._cancel_scope = trio.CancelScope()
        self._changed = trio.Event()

    @property
    def over(self) -> bool:
        """Whether no byte can come any more."""
        return self.complete or self.disconnected or self.ended

    @property
    def full(self) -> bool:
        """Whether more lies unread than the window holds."""
        return len(self.sent) > self.window

    def disconnect(self) -> None:
        self.disconnected = True
        self.notify()

    def cancel(self) -> None:
        self._cancel_scope.cancel()

    def notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, reached: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not reached():
            await self._changed.wait()

    async def until_or_idle(self, reached: Callable[[], bool]) -> None:
        """Return when ``reached()``, or when only time or the outside could bring it about."""

        async def until_idle() -> None:
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_idle)
            await self.until(reached)
            nursery.cancel_scope.cancel()

    def show_fault(self) -> None:
        """Raise the fault, if there is one."""
        if self.fault is not None:
            self.fault_shown = True
            raise self.fault

    async def open(self, *, late_head: bool) -> None:
        """Return when the head is there, and all that comes with it at once."""
        await self.until(lambda: self.status is not None or self.fault is not None)
        await self.until_or_idle(lambda: self.ended or self.full)
        if not self.body_began:
            self.show_fault()
            content_type = dict(self.headers).get(b"content-type", b"")
            if content_type.startswith(b"text/event-stream") and not late_head:
                raise ApplicationFault(
                    "the event stream's head waits for a first body message, and servers may hold "
                    "it back so long: send one at once, or say late_head=True"
                )

    async def leave(self) -> None:
        """Disconnect, and see that the application ends."""
        self.disconnect()
        await self.until_or_idle(lambda: self.ended)
        if not self.ended:
            raise ApplicationFault(
                "the application goes on without its client: it does not end after http.disconnect"
            )

    async def run(self, app: ASGIApp) -> None:
        await trio.lowlevel.checkpoint()
        try:
            with self._cancel_scope:
                await app(self.scope, self._receive, self._send)
                if not (self.complete or self.disconnected):
                    self._refuse(
                        "the application returned before the last http.response.body message"
                        if self.status is not None
                        else "the application returned without a response"
                    )
        except Exception as error:  # noqa: BLE001 # raised where the test author sees it
            if not _is_departure(error):
                self.fault = self.fault or error
        finally:
            self.ended = True
            self.notify()

    async def _receive(self) -> Message:
        await self.until(lambda: bool(self._request) or self.complete or self.disconnected)
        return self._request.pop() if self._request else {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self._take(message)
        self.notify()
        await self.until(lambda: self.disconnected or not self.full)
        if self.disconnected and self._spec_version >= _RAISING_SEND:
            raise ClientGone("the client has disconnected")

    def _take(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                if self.status is not None:
                    self._refuse("a response has one http.response.start message")
                status, headers = message["status"], message.get("headers", ())
                if not isinstance(status, int) or status not in _FINAL_STATUS:
                    self._refuse(f"status is an int from 200 to 599, not {status!r}")
                self.headers = tuple(self._checked(*header) for header in headers)
                self.status = status
            case "http.response.body":
                body = message.get("body", b"")
                if self.status is None:
                    self._refuse("http.response.start comes before the first http.response.body")
                if self.complete:
                    self._refuse("no http.response.body follows the one without more_body")
                if not isinstance(body, bytes):
                    self._refuse(f"body is bytes, not {type(body).__name__}")
                if body and self.status in _WITHOUT_BODY:
                    self._refuse(f"a response with status {self.status} has no body")
                self.body_began = True
                self.complete = not message.get("more_body", False)
                if not self.disconnected and self.scope["method"] != "HEAD":
                    self.sent += body
            case other:
                self._refuse(f"the server's scope announces no extension for messages {other!r}")

    def _checked(self, name: Any, value: Any) -> tuple[bytes, bytes]:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            self._refuse(f"header names and values are bytes, not {name!r}: {value!r}")
        if not _NAME.fullmatch(name):
            self._refuse(f"a header name is a token in lower case, not {name!r}")
        if _UNSAFE.search(value):
            self._refuse(f"a header value has no CR, LF or NUL: {name!r}: {value!r}")
        return name, value

    def _refuse(self, rule: str) -> NoReturn:
        fault = ApplicationFault(f"ASGI: {rule}")
        if not isinstance(self.fault, ApplicationFault):
            self.fault = fault
        self.notify()
        raise fault


def _is_departure(error: BaseException) -> bool:
    """Whether an application left because its client had, which is how ``ClientGone`` is meant.

    Starlette raises an exception of its own while it handles ours, and nurseries make groups.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_departure, error.exceptions))
    return isinstance(error, ClientGone) or isinstance(error.__context__, ClientGone)
