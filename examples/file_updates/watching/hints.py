"""Where to look: what wakes a watcher, and how much it says.

A hint is no news. It names paths at which something may have happened; what did happen is found by
looking and comparing. So a hint too many costs a look, hints may come late or twice or in any
order, and when hints are lost, one that says "everywhere" makes up for them. One rule binds
a source of hints: whatever changes in a directory after :meth:`Hints.watch` was called for it is
hinted at later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import ClassVar, Protocol

import attrs
import trio


@attrs.frozen(kw_only=True)
class Hint:
    """Where to look next. The roots of all watches are looked at in any case.

    Attributes:
        paths: The paths, and whether what is there may be a directory that was not there before,
            so that what is below has to be read too.
        renamed: Renames that were seen, from new path to old path.
        everywhere: Read all trees anew.
    """

    paths: Mapping[str, bool] = attrs.field(factory=dict)
    renamed: Mapping[str, str] = attrs.field(factory=dict)
    everywhere: bool = False


class Hints(Protocol):
    """A source of hints. Not for several tasks at a time."""

    name: ClassVar[str]
    """What it is, for people."""

    may_outlive: ClassVar[bool]
    """Whether a thread that was given up on may still call :meth:`watch`."""

    async def wait(self) -> None:
        """Wait until :meth:`take` may have something.

        Cancellation: loses nothing.
        """

    def take(self) -> Hint | None:
        """Give the hints that have come; None if there is no need to look yet."""

    def watch(self, directory: str) -> None:
        """Watch a directory, or watch it still. May be called in a thread, by one at a time.

        Raises:
            OSError: It cannot be watched.
        """

    def directories(self) -> Collection[str]:
        """The directories that are watched one by one."""

    def forget(self, directories: Iterable[str]) -> None:
        """Watch these no longer; those that are not watched are passed over."""

    def close(self) -> None:
        """Give back what it holds; again is no harm."""


class Polling:
    """Reads everything every so often: needs nothing of the system, and sees less.

    What came and went between two looks was not there, and two writes were one.

    Args:
        interval: Seconds between the end of a look and the next.
    """

    name: ClassVar[str] = "polling"
    may_outlive: ClassVar[bool] = True

    def __init__(self, *, interval: float) -> None:
        self._interval = interval

    async def wait(self) -> None:
        """Wait for the interval to pass.

        Cancellation: the next call waits for a whole interval.
        """
        await trio.sleep(self._interval)

    def take(self) -> Hint:
        """Say "everywhere", whatever happened."""
        return Hint(everywhere=True)

    def watch(self, directory: str) -> None:
        """Do nothing: the next look reads all directories."""

    def directories(self) -> Collection[str]:
        """There are none."""
        return ()

    def forget(self, directories: Iterable[str]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
