"""The contract of an event log, as tests that any log can be put through.

Subclass :class:`EventLogContract` in a test module that pytest collects with pytest-trio, and say
how a log is opened::

    class TestMyLog(EventLogContract):
        @asynccontextmanager
        async def open_log(self, *, clock, retention, max_keys):
            yield MemoryLog(clock=clock, retention=retention, max_keys=max_keys)

A log that is kept somewhere else than in one process's memory owes more than that: subclass
:class:`DurableLogContract`, and say where it is kept and how it is opened there.

Beside named cases there is a search: Hypothesis makes up programs, and what the log and its
subscribers say is compared with a model that derives it from everything that was ever appended
(``_log_search.py``, beside this file).

It needs pytest-trio and Hypothesis: ``pip install 'sselib[testing]'``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final, TypeAlias

import pytest
import trio
import trio.testing
from hypothesis import given, settings

from ..errors import ChannelEnded, TopicFull
from ..log import ORIGIN, RECENT_TOKENS, EntryId, EventLog, Head, Retention, resume
from ..topics import open_topics
from ._log_search import MAX_KEYS, PATIENCE, TOPICS, Clock, Program, Search, entry, programs

TOPIC: Final = TOPICS[0]
LIMITS: Final = Retention(entries=5, size=None)

OpenLog: TypeAlias = Callable[[], AbstractAsyncContextManager[EventLog]]


class EventLogContract:
    """Subclass it, name the subclass ``Test...``, and say how a log is opened."""

    def open_log(
        self, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AbstractAsyncContextManager[EventLog]:
        """Open an empty log of the kind that is tested, for one ``async with``."""
        raise TypeError(f"a subclass says how its log is opened: {clock}, {retention}, {max_keys}")

    def _open(self, *, clock: Clock | None = None) -> AbstractAsyncContextManager[EventLog]:
        return self.open_log(clock=clock or Clock(), retention=LIMITS, max_keys=MAX_KEYS)

    @asynccontextmanager
    async def _doors(self, clock: Clock, retention: Retention) -> AsyncIterator[OpenLog]:
        """Give what opens the one log that several doors share."""
        async with self.open_log(clock=clock, retention=retention, max_keys=MAX_KEYS) as log:
            yield lambda: nullcontext(log)

    @given(program=programs())
    async def test_what_a_program_leads_to(self, program: Program) -> None:
        """Whatever is done, the log is as the model says, and clients get what they are owed."""
        await self._search(program)

    async def _search(self, program: Program) -> None:
        clock = Clock()
        async with self._doors(clock, program.retention) as open_log:
            await Search(program, open_log, clock).run()

    async def test_reading_makes_no_topic(self) -> None:
        """Whatever is asked about a topic that is not there, it is not there afterwards."""
        async with self._open() as log:
            assert await log.head(TOPIC) is None
            assert (await log.read(TOPIC, ORIGIN)).head is None
            assert (await log.snapshot(TOPIC)).head is None
            assert not await log.has(TOPIC, EntryId(1, 0, "t"))
            await log.trim(TOPIC, Retention(entries=1))
            await log.delete(TOPIC)
            log.watch(TOPIC, lambda: None)()
            assert await log.topics() == []

    async def test_ids_are_in_order_when_the_clock_is_set_back(self) -> None:
        """Within a millisecond and across a step back."""
        clock = Clock()
        async with self._open(clock=clock) as log:
            ids = await log.append(TOPIC, [entry("1"), entry("2")])
            clock.ms -= 500
            ids += await log.append(TOPIC, [entry("3")])
            assert ids == sorted(set(ids))
            assert len({id.tag for id in ids}) == 1
            clock.ms += 600
            ids += await log.append(TOPIC, [entry("4")])
            assert [id.ms for id in ids] == [1000, 1000, 1000, 1100]

    async def test_a_topic_made_anew_has_another_tag(self) -> None:
        """So that an id of the old one is foreign to it."""
        async with self._open() as log:
            (old,) = await log.append(TOPIC, [entry("1")])
            await log.delete(TOPIC)
            (new,) = await log.append(TOPIC, [entry("2")])
            assert old.tag != new.tag
            assert not await log.has(TOPIC, old)
            assert await log.has(TOPIC, new)

    async def test_what_is_refused_changes_nothing(self) -> None:
        """A batch is appended whole or not at all."""
        async with self._open() as log:
            await log.append(TOPIC, [entry("0", key="k")])
            before = await log.head(TOPIC)
            keys = [entry("x", key=str(number)) for number in range(MAX_KEYS)]
            with pytest.raises(TopicFull):
                await log.append(TOPIC, keys)
            for wrong in ([], [entry("z", end=True), entry("1")], [entry("x")] * 6):
                with pytest.raises(ValueError, match="append"):
                    await log.append(TOPIC, wrong)
            assert await log.head(TOPIC) == before

    async def test_a_history_is_bounded_in_bytes_and_by_age(self) -> None:
        """The oldest goes, the floor rises to it, and the state stays."""
        clock = Clock()
        retention = Retention(size=30, age=2.0)
        async with self.open_log(clock=clock, retention=retention, max_keys=MAX_KEYS) as log:
            state = await log.append(TOPIC, [entry("s", key="k")])
            ids = [(await log.append(TOPIC, [entry(str(number))]))[0] for number in range(4)]
            page = await log.read(TOPIC, ORIGIN)
            assert [each.id for each in page.entries] == state + ids[1:]  # nine bytes each
            assert page.head == Head(ids[0], ids[-1], None)
            clock.ms += 2001
            page = await log.read(TOPIC, ORIGIN)
            assert [each.id for each in page.entries] == state
            assert page.head == Head(ids[-1], ids[-1], None)
            assert (await log.snapshot(TOPIC)).head == page.head
            clock.ms -= 2001  # What has gone does not come back.
            assert await log.head(TOPIC) == page.head
            with pytest.raises(ValueError, match="append"):
                await log.append(TOPIC, [entry("x" * 30)])

    async def test_what_was_superseded_counts_as_history(self) -> None:
        """Unless it coalesces: then it is owed to nobody, and nothing of it is left."""
        retention = Retention(size=30)
        async with self.open_log(clock=Clock(), retention=retention, max_keys=MAX_KEYS) as log:
            new = [entry(str(number), key="k", coalesce=number == 2) for number in range(6)]
            ids = [(await log.append(TOPIC, [each]))[0] for each in new]
            page = await log.read(TOPIC, ORIGIN)
            assert [each.id for each in page.entries] == [ids[1], ids[3], ids[4], ids[5]]
            assert page.head == Head(ids[0], ids[5], None)
            (end,) = await log.append(TOPIC, [entry("e", end=True, clear=True)])
            page = await log.read(TOPIC, ORIGIN)
            assert [each.id for each in page.entries] == [ids[3], ids[4], ids[5], end]
            assert page.head == Head(ids[1], end, end)

    async def test_keys_that_end_make_room(self) -> None:
        """What counts is how many are live after the append."""
        async with self._open() as log:
            await log.append(TOPIC, [entry(key, key=key) for key in "abc"])
            new = [entry("d", key="d"), entry("gone", key="a", remove=True), entry("b", key="b")]
            await log.append(TOPIC, new)
            snapshot = await log.snapshot(TOPIC)
            assert [each.content.key for each in snapshot.entries] == ["c", "d", "b"]
            with pytest.raises(TopicFull):
                await log.append(TOPIC, [entry("e", key="e"), entry("end", end=True)])
            await log.append(TOPIC, [entry("e", key="e"), entry("end", end=True, clear=True)])
            assert not (await log.snapshot(TOPIC)).entries

    async def test_any_text_is_a_key_and_a_token(self) -> None:
        """And comes back as it was, whatever a store makes of it."""
        texts = ["", "\0", "ä\n", "\ud800"]
        async with self.open_log(clock=Clock(), retention=Retention(), max_keys=9) as log:
            for text in texts:
                ids = await log.append(text, [entry("x", key=key) for key in texts], token=text)
                assert await log.append(text, [entry("x")], token=text) == ids
                snapshot = await log.snapshot(text)
                assert [each.content.key for each in snapshot.entries] == texts
            assert await log.topics() == sorted(texts)

    async def test_the_last_thousand_tokens_are_known(self) -> None:
        """Of each topic, however many publishers it has. Some more may be."""
        async with self._open() as log:
            given: dict[str, list[EntryId]] = {}

            async def publish(token: str) -> None:
                given[token] = await log.append(TOPIC, [entry("x")], token=token)

            await publish("first")
            async with trio.open_nursery() as nursery:
                for number in range(RECENT_TOKENS - 1):
                    nursery.start_soon(publish, str(number))
            for token in ("first", "0"):
                assert await log.append(TOPIC, [entry("x")], token=token) == given[token]

    async def test_a_key_from_before_the_floor_leaves_no_history(self) -> None:
        """Whoever could be owed its old entry is told of a gap anyway."""
        async with self._open() as log:
            await log.append(TOPIC, [entry("old", key="k")])
            for number in range(6):
                await log.append(TOPIC, [entry(str(number))])
            head = await log.head(TOPIC)
            assert head is not None
            assert head.floor > ORIGIN
            (new,) = await log.append(TOPIC, [entry("new", key="k")])
            page = await log.read(TOPIC, ORIGIN)
            assert [each.content for each in page.entries] == [
                *(entry(str(number)) for number in range(1, 6)),
                entry("new", key="k"),
            ]
            assert page.head == Head(head.floor, new, None)

    async def test_a_token_is_known_after_the_end(self) -> None:
        """Repeating an append whose answer was lost is no error."""
        async with self._open() as log:
            ids = await log.append(TOPIC, [entry("1"), entry("2", end=True)], token="t")  # noqa: S106 # no password
            assert await log.append(TOPIC, [entry("3")], token="t") == ids  # noqa: S106 # no password
            with pytest.raises(ChannelEnded) as caught:
                await log.append(TOPIC, [entry("3")], token="u")  # noqa: S106 # no password
            assert caught.value.end_id == str(ids[-1])

    async def test_a_watch_is_woken_by_every_change(self) -> None:
        """By an append and by a deletion; not after it was given up, nor by another topic."""
        woken = trio.Event()
        async with self._open() as log:
            unwatch = log.watch(TOPIC, lambda: woken.set())  # noqa: PLW0108 # it is replaced
            for change in (log.append(TOPIC, [entry("1")]), log.delete(TOPIC)):
                woken = trio.Event()
                await change
                with trio.fail_after(10):
                    await woken.wait()
            unwatch()
            unwatch()
            woken = trio.Event()
            await log.append(TOPIC, [entry("2")])
            assert not woken.is_set()

    async def test_a_page_is_bounded_in_bytes_and_never_empty(self) -> None:
        """One entry comes even if it is larger."""
        async with self._open() as log:
            ids = await log.append(TOPIC, [entry("x" * 100), entry("y"), entry("z")])
            page = await log.read(TOPIC, ORIGIN, max_bytes=50)
            assert [each.id for each in page.entries] == ids[:1]
            assert page.upto == ids[0]
            page = await log.read(TOPIC, page.upto, max_bytes=50)
            assert [each.id for each in page.entries] == ids[1:]
            assert page.upto == ids[-1]

    async def test_topics_are_listed_by_prefix(self) -> None:
        """Sorted; any text is a name."""
        async with self._open() as log:
            for name in ("b", "a/2", "a/1", "ä\n", ""):
                await log.append(name, [entry("1")])
            assert await log.topics() == sorted(["b", "a/2", "a/1", "ä\n", ""])
            assert await log.topics("a/") == ["a/1", "a/2"]


class DurableLogContract(EventLogContract):
    """What a log owes besides that is kept where processes come and go.

    Subclass it, name the subclass ``Test...``, and say where an empty log is made and how a
    process opens it. The search then has a log for each of its doors, and opens them anew.
    """

    def open_store(self) -> AbstractAsyncContextManager[Any]:
        """Make a place where no log is yet, for one ``async with``."""
        raise TypeError("a subclass says where its log is kept")

    def open_log_in(
        self, store: Any, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AbstractAsyncContextManager[EventLog]:
        """Open the log that is kept there, as a process does; others may have it open."""
        raise TypeError(
            f"a subclass says how its log is opened: {store}, {clock}, {retention}, {max_keys}"
        )

    @asynccontextmanager
    async def open_log(
        self, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AsyncIterator[EventLog]:
        """Open one that is alone there."""
        async with (
            self.open_store() as store,
            self.open_log_in(store, clock=clock, retention=retention, max_keys=max_keys) as log,
        ):
            yield log

    @asynccontextmanager
    async def _doors(self, clock: Clock, retention: Retention) -> AsyncIterator[OpenLog]:
        async with self.open_store() as store:
            yield lambda: self.open_log_in(
                store, clock=clock, retention=retention, max_keys=MAX_KEYS
            )

    @settings(max_examples=settings().max_examples // 3)  # each of them opens several logs
    @given(program=programs())
    async def test_what_a_program_leads_to(self, program: Program) -> None:
        """The same over several processes that come and go."""
        await self._search(program)

    async def test_what_was_appended_is_there_after_a_restart(self) -> None:
        """State, history, end, floor and ids; and what a client holds is good."""
        async with self._doors(Clock(), LIMITS) as open_log:
            async with open_log() as log:
                await log.append(TOPIC, [entry(str(number)) for number in range(4)])
                await log.append(TOPIC, [entry("k", key="k", coalesce=True), entry("4")])
                (removed,) = await log.append(TOPIC, [entry("r", key="r", remove=True)])
                (end,) = await log.append(TOPIC, [entry("end", end=True)])
                await log.append("other", [entry("x")])
                snapshot, page = await log.snapshot(TOPIC), await log.read(TOPIC, ORIGIN)
                assert len(page.entries) == 1 + 5 + 1
            async with open_log() as log:
                assert await log.topics() == sorted([TOPIC, "other"])
                assert await log.snapshot(TOPIC) == snapshot
                assert await log.read(TOPIC, ORIGIN) == page
                outcome = await resume(log, TOPIC, str(removed))
                assert (outcome.outcome, outcome.at_end) == ("resumed", False)
                assert (await resume(log, TOPIC, str(end))).at_end

    async def test_a_token_is_known_after_a_restart(self) -> None:
        """For a publisher that lost its answer when the log's process went down."""
        async with self._doors(Clock(), LIMITS) as open_log:
            async with open_log() as log:
                ids = await log.append(TOPIC, [entry("1"), entry("2")], token="t")  # noqa: S106 # no password
            async with open_log() as log:
                assert await log.append(TOPIC, [entry("1"), entry("2")], token="t") == ids  # noqa: S106 # no password
                assert len((await log.read(TOPIC, ORIGIN)).entries) == 2

    async def test_ids_are_in_order_when_the_clock_is_set_back_over_a_restart(self) -> None:
        """Whoever resumes there is given what came after it, and nothing twice."""
        clock = Clock()
        async with self._doors(clock, LIMITS) as open_log:
            async with open_log() as log:
                (before,) = await log.append(TOPIC, [entry("1")])
            clock.ms -= 500
            async with open_log() as log:
                (after,) = await log.append(TOPIC, [entry("2")])
                assert before < after
                assert before.tag == after.tag
                page = await log.read(TOPIC, before)
                assert [each.id for each in page.entries] == [after]

    async def test_two_doors_publish_and_a_third_follows(self) -> None:
        """At the same time to one topic: nothing is lost, doubled or out of the log's order."""
        publishers, times = 5, 10
        async with (
            self._doors(Clock(), Retention(entries=None, size=None)) as open_log,
            open_log() as one,
            open_log() as two,
            open_log() as three,
            open_topics(three, window_entries=7) as topics,
            topics.channel(TOPIC).subscribe(replay="history") as events,
        ):
            ids: list[str] = []

            async def publish(log: EventLog) -> None:
                for _ in range(times):
                    ids.extend(str(id) for id in await log.append(TOPIC, [entry("x")] * 2))

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    for log in [one, two] * publishers:
                        nursery.start_soon(publish, log)
                await one.append(TOPIC, [entry("end", end=True)])
                followed = [event.id async for event in events]
            assert followed[:-1] == sorted(ids, key=lambda id: EntryId.parse(id) or ORIGIN)
            assert len(set(ids)) == publishers * 2 * times * 2

    async def test_a_watch_is_woken_by_what_another_door_changes(self) -> None:
        """By an append and by a deletion."""
        woken = trio.Event()
        async with (
            self._doors(Clock(), LIMITS) as open_log,
            open_log() as here,
            open_log() as there,
        ):
            unwatch = here.watch(TOPIC, lambda: woken.set())  # noqa: PLW0108 # it is replaced
            for change in (there.append(TOPIC, [entry("1")]), there.delete(TOPIC)):
                # What was called for the last change may come twice, and does no harm.
                await trio.testing.wait_all_tasks_blocked()
                woken = trio.Event()
                await change
                with trio.fail_after(PATIENCE):
                    await woken.wait()
            unwatch()

    async def test_a_topic_that_another_door_deletes_is_gone_here(self) -> None:
        """Its subscribers finish, and its ids are foreign to the next topic of that name."""
        async with (
            self._doors(Clock(), LIMITS) as open_log,
            open_log() as here,
            open_log() as there,
            open_topics(here) as topics,
            topics.channel(TOPIC).subscribe() as events,
        ):
            with trio.fail_after(PATIENCE):
                (old,) = await there.append(TOPIC, [entry("1")])
                assert (await events.receive()).id == str(old)
                await there.delete(TOPIC)
                with pytest.raises(trio.EndOfChannel):
                    await events.receive()
                await there.append(TOPIC, [entry("2")])
                assert (await resume(here, TOPIC, str(old))).reason == "foreign"

    async def test_a_log_is_closed_with_its_door(self) -> None:
        """Whatever is asked of it then."""
        async with self._doors(Clock(), LIMITS) as open_log:
            async with open_log() as log:
                pass
            for question in (
                log.append(TOPIC, [entry("1")]),
                log.read(TOPIC, ORIGIN),
                log.snapshot(TOPIC),
                log.head(TOPIC),
                log.trim(TOPIC, LIMITS),
                log.delete(TOPIC),
                log.topics(),
            ):
                with pytest.raises(trio.ClosedResourceError):
                    await question
