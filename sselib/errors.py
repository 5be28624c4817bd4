"""Every error of the library, in one tree.

::

    SselibError
    ├── LocalError                 you did it, or it happened in this process
    │   ├── ChannelEnded           published to a topic after its end
    │   ├── TopicFull              one key more than a topic may hold
    │   ├── SubscriptionLagged     a subscriber fell behind what its log keeps
    │   ├── InvalidTransition      a job cannot go from its state to that one
    │   ├── JobFailed              raised by work: its job fails, with a message for its clients
    │   ├── TooManyJobs            a runner holds as many jobs as it may
    │   ├── ProxyRefused           the environment names a proxy, and we speak to none
    │   ├── LogUnavailable         where a log is kept cannot be read or written now
    │   └── InvalidLog             what is kept there is no log that we can use
    └── RemoteError                the peer did it
        ├── EventSourceFailed      it gives us no event stream, and asking again is no use
        ├── InvalidHTTP            its HTTP is malformed, or exceeds a bound
        ├── EventTooLarge          an event of the peer exceeds the bound
        └── InvalidEventData       data is not the JSON, or not of the type, asked for

Whoever reads a peer's bytes has to catch :class:`RemoteError` and nothing else: anything else
that those bytes can raise is a bug of this library. A wrong argument is Python's own
:class:`ValueError` or :class:`TypeError`, raised before anything has changed. Where an error of
Trio says it (:class:`trio.ClosedResourceError`, :class:`trio.EndOfChannel`,
:class:`trio.WouldBlock`), that one is raised. What a program may want to know stands in
attributes; no message needs to be parsed.
"""

from __future__ import annotations

from typing import Literal

FailureReason = Literal[
    "status",
    "content type",
    "content encoding",
    "redirect",
    "certificate",
    "last event id",
    "gave up",
]


class SselibError(Exception):
    """The root of the tree."""


class LocalError(SselibError):
    """Misuse by this program, or a limit of this process."""


class RemoteError(SselibError):
    """The peer broke the protocol, or a bound that was set for it."""


class ChannelEnded(LocalError):
    """The topic has ended: nothing can be published after its end entry.

    Attributes:
        topic: The topic's name.
        end_id: The id of its end entry.
    """

    def __init__(self, topic: str, end_id: str) -> None:
        super().__init__(f"topic {topic!r} ended with entry {end_id}: nothing may follow it")
        self.topic = topic
        self.end_id = end_id


class TopicFull(LocalError):
    """The append would leave the topic with more live keys than it may hold.

    Nothing of it was stored.

    Attributes:
        topic: The topic's name.
        max_keys: The most keys it may hold.
    """

    def __init__(self, topic: str, max_keys: int) -> None:
        super().__init__(f"topic {topic!r} may hold {max_keys} live keys, and this is one more")
        self.topic = topic
        self.max_keys = max_keys


class SubscriptionLagged(LocalError):
    """The subscriber is owed entries that its log no longer has.

    Attributes:
        topic: The topic's name.
        reason: Why they are gone: ``"trimmed"`` or ``"foreign"``, as in
            :class:`sselib.log.Resumption`.
    """

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(
            f"the subscriber of topic {topic!r} is owed entries that are gone: {reason}"
        )
        self.topic = topic
        self.reason = reason


class InvalidTransition(LocalError):
    """The life of a job does not lead from its state to the one asked for. Nothing has changed.

    Attributes:
        state: The state it is in.
        to: The state that it was to go to.
        allowed: The states that it can go to.
    """

    def __init__(self, state: str, to: str, allowed: tuple[str, ...]) -> None:
        super().__init__(
            f"no way leads from {state!r} to {to!r}, only to: {', '.join(allowed) or 'nothing'}"
        )
        self.state = state
        self.to = to
        self.allowed = allowed


class JobFailed(LocalError):
    """Raised by the work of a job to fail it, with a message that its clients may read.

    Attributes:
        message: What went wrong, for people.
        code: The same, for programs.
    """

    def __init__(self, message: str, *, code: str = "failed") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class TooManyJobs(LocalError):
    """The runner holds as many unfinished jobs as it may. The new one was not taken.

    Attributes:
        max_jobs: The most it may hold.
    """

    def __init__(self, max_jobs: int) -> None:
        super().__init__(f"{max_jobs} jobs are held, and none of them is finished")
        self.max_jobs = max_jobs


class ProxyRefused(LocalError):
    """The environment says to reach the server by way of a proxy, which we do not.

    Attributes:
        variable: The environment variable that says so, in lower case.
        url: What was to be reached.
    """

    def __init__(self, variable: str, url: str) -> None:
        super().__init__(
            f"{variable} is set in the environment, and event sources use no proxy: except the "
            f"server of {url} by no_proxy, or say how to connect"
        )
        self.variable = variable
        self.url = url


class EventSourceFailed(RemoteError):
    """An event source has ended for good without what was asked for.

    Attributes:
        reason: Why.

            - ``"status"``: the response has a status that is no event stream's and is not to be
              tried again;
            - ``"content type"``: it is not ``text/event-stream``;
            - ``"content encoding"``: it is compressed, although we do not ask for that;
            - ``"redirect"``: it leads nowhere, to too many places, or out of TLS;
            - ``"certificate"``: the server cannot show that it is who it says;
            - ``"last event id"``: the stream has an id that cannot be sent back in a header;
            - ``"gave up"``: it was tried as often as the policy allows.
        url: Where that was.
        status: The status of the response, if there was one.
    """

    def __init__(
        self, reason: FailureReason, url: str, message: str, *, status: int | None = None
    ) -> None:
        super().__init__(f"{url}: {message}")
        self.reason = reason
        self.url = url
        self.status = status


class InvalidHTTP(RemoteError):
    """The peer does not speak HTTP/1.1 as its standard says, or exceeds a bound in it."""


class LogUnavailable(LocalError):
    """Where a log is kept cannot be read or written now: a full disk, a server that is gone.

    An append that raises it was not acknowledged. What has become of it, the log's own ``append``
    says; repeating it with the same token is safe.

    Attributes:
        log: Which log: a path or a URL.
    """

    def __init__(self, log: str, why: str) -> None:
        super().__init__(f"log {log}: {why}")
        self.log = log


class InvalidLog(LocalError):
    """What is kept there is no log that this version can use. It was not changed.

    Attributes:
        log: Which log: a path or a URL.
        reason: ``"foreign"``: it is something else. ``"newer"``: a later version of this library
            has written it. ``"corrupt"``: it is damaged.
    """

    def __init__(self, log: str, reason: Literal["foreign", "newer", "corrupt"], why: str) -> None:
        super().__init__(f"log {log} is {reason}: {why}")
        self.log = log
        self.reason = reason


class EventTooLarge(RemoteError):
    """An event of the peer takes more bytes than the decoder was told to hold.

    Attributes:
        max_event_bytes: The bound, in bytes.
    """

    def __init__(self, max_event_bytes: int) -> None:
        super().__init__(f"an event of the peer exceeds max_event_bytes={max_event_bytes}")
        self.max_event_bytes = max_event_bytes


class InvalidEventData(RemoteError):
    """An event's data is not JSON, or does not fit the type it was to be structured into.

    Attributes:
        data: The event's data, whole.
    """

    def __init__(self, message: str, data: str) -> None:
        super().__init__(message)
        self.data = data
