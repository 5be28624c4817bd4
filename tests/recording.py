"""A log that remembers all that was said of jobs: what clients may have been told."""

from __future__ import annotations

from collections.abc import Sequence

from sselib import EventStreamDecoder, MemoryLog, NewEntry
from sselib.jobs import JobChange
from sselib.log import EntryId


class RecordingLog(MemoryLog):
    """A log in memory.

    Attributes:
        changes: The changes of jobs, also those that are superseded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[JobChange] = []

    async def append(
        self, topic: str, entries: Sequence[NewEntry], *, token: str | None = None
    ) -> list[EntryId]:
        ids = await super().append(topic, entries, token=token)
        for entry in entries if "/" in topic else ():  # other topics are not of one job
            (event,) = EventStreamDecoder().feed(entry.block)
            self.changes.append(event.structure(JobChange))
        return ids
