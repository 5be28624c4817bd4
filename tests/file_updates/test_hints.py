"""Where a watcher is told to look: what inotify really says, what is made of it, and what it costs."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from examples.file_updates.changes import (
    DirectoryMoved,
    DirectoryProcessingCompleted,
    FileCreated,
    FileDeleted,
    FileModified,
    FileMoved,
    WatchFailed,
    WatchRemoved,
)
from examples.file_updates.watching import Watcher, open_watcher
from examples.file_updates.watching.hints import Hint, Polling

from .test_watcher import hears, hears_nothing, receive, receive_until, watch

if sys.platform != "linux":
    pytest.skip("inotify is Linux's", allow_module_level=True)

import inotify_simple

from examples.file_updates.watching.inotify import Inotify
