"""The runners that share the jobs of one name on a log, and which of them are alive.

They meet in a topic where each has a key. It is there before a runner's first job and goes after
its last. On a log that outlives a process, a runner has to renew it: it is a lease, and a runner
whose lease has run out is dead to the others. Time is the log's, which stamps the ids of entries:
how old a lease is, is measured from one entry to another, and no two clocks have to agree.

What one runner wants of another's jobs is said there too, to whoever it concerns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs

from ..events import ServerSentEvent
from ..log import NewEntry
from ..subscription import Subscription
from ..topics import Topics
from .record import read

# How long the jobs of a runner that was killed may seem to run; and how long one may be stopped
# before the others give its jobs up. ZooKeeper's sessions last as long.
DEFAULT_LEASE: Final = 15.0
RENEWALS: Final = 3  # in that time, so that one or two may fail


@attrs.frozen
class _Lease:
    runner: str
    seconds: float | None


@attrs.frozen
class Members:
    """A runner among those that share its log.

    Args:
        topics: The channels of the log.
        topic: Where they meet.
        id: The runner's id.
        lease: Seconds after which a lease runs out, that is not renewed. ``None``: never.
    """

    topics: Topics
    topic: str
    id: str
    lease: float | None

    async def renew(self) -> set[str]:
        """Join, or stay, and return who is alive."""
        event = ServerSentEvent.of_json(_Lease(self.id, self.lease), event="alive")
        entry = NewEntry.of(event, key=self.id, coalesce=True)
        (now,) = await self.topics.log.append(self.topic, [entry])
        return {
            lease.runner
            for ms, lease in await self._leases()
            if lease.seconds is None or ms + 1000 * lease.seconds > now.ms
        }

    async def known(self) -> set[str]:
        """Return whose leases there are, run out or not."""
        return {lease.runner for _, lease in await self._leases()}

    async def strike_off(self, runner: str) -> None:
        """Remove a lease: one's own, when one leaves, or that of one who is dead."""
        event = ServerSentEvent.of_json({"runner": runner}, event="gone")
        await self.topics.log.append(self.topic, [NewEntry.of(event, key=runner, remove=True)])

    async def ask_to_cancel(self, job_id: str) -> None:
        """Ask whoever has that job to cancel it."""
        event = ServerSentEvent.of_json({"job": job_id}, event="cancel")
        await self.topics.log.append(self.topic, [NewEntry.of(event)])

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Subscription]:
        """Hear what the others say from now on."""
        channel = self.topics.channel(self.topic)
        async with channel.subscribe(replay="live", lag="restart") as events:
            yield events

    async def _leases(self) -> list[tuple[int, _Lease]]:
        snapshot = await self.topics.log.snapshot(self.topic)
        return [(entry.id.ms, read(entry.content).structure(_Lease)) for entry in snapshot.entries]
