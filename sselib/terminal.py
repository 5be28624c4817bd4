"""Events as lines on a terminal, for people and for programs.

Standard output is for events alone, so that it can be piped; what is no event goes to standard
error. What a peer says is shown and never obeyed: characters that a terminal could take for
commands are written out.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from .client import Interruption
from .errors import InvalidEventData
from .events import Comment, ServerSentEvent

# Fields in which streams of jobs say in words where they are, the more telling ones first.
CAPTIONS: Final = ("message", "currentStep", "status")
_BAR: Final = 30  # characters
_NEW_LINE: Final = "\r\x1b[K"  # to the beginning of the line, and clear it


class Output:
    """Where events and notes are written to."""

    def show(self, event: ServerSentEvent) -> None:
        """Write an event."""
        raise NotImplementedError

    def note(self, what: Comment | Interruption) -> None:
        """Say on standard error what is no event."""
        if isinstance(what, Comment):
            said = "".join(f": {line}\n" for line in what.text.splitlines() or [""])
        else:
            again = "" if what.wait is None else f"; again in {what.wait:.1f} s"
            said = f"sselib: {what.reason}: {what.message}{again}\n"
        sys.stderr.write(printable(said))
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the cursor at the beginning of a line."""


class JsonLines(Output):
    """One JSON object per line, for programs."""

    def show(self, event: ServerSentEvent) -> None:
        found = {"event": event.event, "id": event.id, "data": event.data}
        print(json.dumps(found), flush=True)


class TextLines(Output):
    """The type in front of the data, whose further lines stand below its first one."""

    def show(self, event: ServerSentEvent) -> None:
        name = f"{event.event}: "
        data = event.data.replace("\n", "\n" + " " * len(name))
        print(printable(name + data), flush=True)


class ProgressBar(Output):
    """One line that is written over and over; what carries no progress is shown above it.

    Where there is no terminal each progress is a line of its own.
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self._text = TextLines()
        self._live = sys.stdout.isatty()
        self._drawn = ""

    def show(self, event: ServerSentEvent) -> None:
        try:
            found = event.json()
        except InvalidEventData:
            found = None
        share = found.get(self._field) if isinstance(found, dict) else None
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            self._above(partial(self._text.show, event))
            return
        caption = next((found[name] for name in CAPTIONS if isinstance(found.get(name), str)), "")
        full = math.floor(share * _BAR)
        line = printable(f"[{'#' * full}{' ' * (_BAR - full)}] {share:4.0%}  {caption}")
        line = line.replace("\n", " ")
        if self._live:
            self._drawn = line[: shutil.get_terminal_size().columns - 1]
            self._draw()
        elif line != self._drawn:
            self._drawn = line
            print(line, flush=True)

    def note(self, what: Comment | Interruption) -> None:
        self._above(partial(super().note, what))

    def close(self) -> None:
        if self._live and self._drawn:
            print(flush=True)

    def _above(self, show: Callable[[], None]) -> None:
        if self._live:
            print(_NEW_LINE, end="", flush=True)
        show()
        self._draw()

    def _draw(self) -> None:
        if self._live:
            print(_NEW_LINE + self._drawn, end="", flush=True)


def printable(text: str) -> str:
    """Return the text with all that a terminal could take for a command written out."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )
