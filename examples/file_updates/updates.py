"""Updates as the API documents them: one JSON object, in an event of the type ``update``.

``{"opcode": ..., "data": {...}}``, spaced as the documentation shows it. The opcode of what the
watcher says is the name of its class, and its data are its fields. Nothing here depends on what
came before.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from sselib import ServerSentEvent

from .changes import Change, FileFound, WatchFailed
from .text import printable


def update_of(change: Change) -> ServerSentEvent:
    """Return the event that announces a change.

    A watch that fails is announced as ``error`` with a message.

    Raises:
        TypeError: It is a file that was found by the first look at a directory: that is no change.
    """
    if isinstance(change, FileFound):
        raise TypeError(f"nothing happened to {change.path!r}")
    if isinstance(change, WatchFailed):
        return update("error", message=change.message)
    opcode = re.sub(r"(?<!^)(?=[A-Z])", "_", type(change).__name__).lower()
    return update(opcode, **attrs.asdict(change))


def update(opcode: str, /, **data: Any) -> ServerSentEvent:
    """Return the event for an opcode with its data."""
    shown = {
        name: printable(value) if isinstance(value, str) else value for name, value in data.items()
    }
    return ServerSentEvent.of_json({"opcode": opcode, "data": shown}, event="update", spaced=True)
