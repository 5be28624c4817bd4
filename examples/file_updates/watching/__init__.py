"""A directory watcher on Trio that knows nothing of HTTP. Begin with :func:`open_watcher`."""

from __future__ import annotations

from .tree import Watch
from .watcher import (
    AlreadyWatched,
    NotWatchable,
    NotWatched,
    Watcher,
    WatchError,
    open_watcher,
)

__all__ = [
    "AlreadyWatched",
    "NotWatchable",
    "NotWatched",
    "Watch",
    "WatchError",
    "Watcher",
    "open_watcher",
]
