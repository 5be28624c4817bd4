"""Changes as the API documents them: one JSON object, in an event of the type ``update``.

``{"opcode": ..., "data": {...}}``, spaced as the documentation shows it. The opcode of a change is
the name of its class, and its data are its fields. Nothing here depends on what came before.
"""

from __future__ import annotations

import os
import re

import attrs

from sselib import ServerSentEvent

from .changes import Change, FileFound, WatchFailed


def update_of(change: Change) -> ServerSentEvent | None:
    """Return the event that announces a change; ``None`` if none is documented for it.

    A watch that fails is announced as ``error`` with a message. A file that was found by the first
    look at a directory is no change.
    """
    if isinstance(change, FileFound):
        return None
    if isinstance(change, WatchFailed):
        return update("error", message=change.message)
    opcode = re.sub(r"(?<!^)(?=[A-Z])", "_", type(change).__name__).lower()
    return update(opcode, **attrs.asdict(change))


def update(opcode: str, /, **data: str | bool) -> ServerSentEvent:
    """Return the event for an opcode with its data."""
    shown = {
        name: _printable(value) if isinstance(value, str) else value for name, value in data.items()
    }
    return ServerSentEvent.of_json({"opcode": opcode, "data": shown}, event="update", spaced=True)


def _printable(text: str) -> str:
    """Return text that may hold a file name, with what is not UTF-8 in that replaced."""
    return text if text.isprintable() else os.fsencode(text).decode("utf-8", "replace")
