"""The tree of errors, and what each of them says."""

from __future__ import annotations

import inspect
import re

import pytest

from sselib import errors
from sselib.errors import (
    ChannelEnded,
    EventSourceFailed,
    EventTooLarge,
    InvalidEventData,
    InvalidHTTP,
    InvalidTransition,
    JobFailed,
    LocalError,
    ProxyRefused,
    RemoteError,
    SselibError,
    SubscriptionLagged,
    TooManyJobs,
    TopicFull,
)

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]


def drawn_tree() -> dict[str, str]:
    """Read the tree in the module's docstring: from each class's name to that of its base."""
    assert errors.__doc__
    bases: dict[str, str] = {}
    path: list[str] = []
    for branch, name in re.findall(r"^    ([ │├└─]*)(\w+)", errors.__doc__, re.MULTILINE):
        depth = len(branch) // 4
        path[depth:] = [name]
        bases[name] = path[depth - 1] if depth else "Exception"
    return bases


def test_the_tree_is_the_one_that_is_drawn() -> None:
    """The module's docstring draws every error under its base, and no other."""
    assert drawn_tree() == {cls.__name__: cls.mro()[1].__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_of_one_side(cls: type[SselibError]) -> None:
    """An error is the program's or the peer's, never both and never something of Python's."""
    assert issubclass(cls, SselibError)
    assert cls is SselibError or issubclass(cls, LocalError) != issubclass(cls, RemoteError)


@pytest.mark.parametrize(
    ("error", "attributes", "message"),
    [
        (
            ChannelEnded("a\n", "t-1-0"),
            {"topic": "a\n", "end_id": "t-1-0"},
            r"topic 'a\n' ended with entry t-1-0: nothing may follow it",
        ),
        (
            TopicFull("a", 5),
            {"topic": "a", "max_keys": 5},
            "topic 'a' may hold 5 live keys, and this is one more",
        ),
        (
            SubscriptionLagged("a", "trimmed"),
            {"topic": "a", "reason": "trimmed"},
            "the subscriber of topic 'a' is owed entries that are gone: trimmed",
        ),
        (InvalidHTTP("no chunk"), {}, "no chunk"),
        (
            ProxyRefused("all_proxy", "http://a/"),
            {"variable": "all_proxy", "url": "http://a/"},
            (
                "all_proxy is set in the environment, and event sources use no proxy: except the "
                "server of http://a/ by no_proxy, or say how to connect"
            ),
        ),
        (
            EventSourceFailed("status", "http://a/", "the server answered 404", status=404),
            {"reason": "status", "url": "http://a/", "status": 404},
            "http://a/: the server answered 404",
        ),
        (
            InvalidTransition("a", "b", ("c", "d")),
            {"state": "a", "to": "b", "allowed": ("c", "d")},
            "no way leads from 'a' to 'b', only to: c, d",
        ),
        (JobFailed("no"), {"message": "no", "code": "failed"}, "no"),
        (JobFailed("no page", code="page"), {"message": "no page", "code": "page"}, "no page"),
        (TooManyJobs(5), {"max_jobs": 5}, "5 jobs are held, and none of them is finished"),
        (
            EventTooLarge(10),
            {"max_event_bytes": 10},
            "an event of the peer exceeds max_event_bytes=10",
        ),
        (InvalidEventData("data is not JSON", "{"), {"data": "{"}, "data is not JSON"),
    ],
    ids=lambda value: repr(value) if isinstance(value, SselibError) else "",
)
def test_what_an_error_says(
    error: SselibError, attributes: dict[str, object], message: str
) -> None:
    """What a program may want to know stands in attributes, and the message says it all."""
    assert vars(error) == attributes
    assert str(error) == message
