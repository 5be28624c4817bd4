"""The list of jobs: a topic with a key for each, which is the job without its parts.

Nothing is decided by it. It follows the jobs' own topics, which say it again whenever they have
something new to say, and is set right from them when a runner starts.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ..events import ServerSentEvent
from ..log import EventLog, NewEntry
from .record import Job, read


@attrs.frozen
class Listing:
    """The list of the jobs of one name."""

    log: EventLog
    topic: str

    async def jobs(self) -> Sequence[Job]:
        """Return the jobs that are listed, in the order in which they were submitted."""
        snapshot = await self.log.snapshot(self.topic)
        jobs = [read(entry.content).structure(Job) for entry in snapshot.entries]
        return sorted(jobs, key=lambda job: (job.created_at, job.id))

    async def put(self, job: Job) -> None:
        """List a job as it is now."""
        event = ServerSentEvent.of_json(brief(job), event="job")
        await self.log.append(self.topic, [NewEntry.of(event, key=job.id, coalesce=True)])

    async def drop(self, job_id: str) -> None:
        """Take a job off the list."""
        event = ServerSentEvent.of_json({"id": job_id}, event="forgotten")
        await self.log.append(self.topic, [NewEntry.of(event, key=job_id, remove=True)])


def brief(job: Job) -> Job:
    """Return a job as it is listed."""
    return attrs.evolve(job, parts={})
