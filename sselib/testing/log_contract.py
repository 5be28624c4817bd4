"""The contract of an event log, as tests that any log can be put through.

Subclass :class:`EventLogContract` in a test module that pytest collects with pytest-trio, and say
how a log is opened::

    class TestMyLog(EventLogContract):
        @asynccontextmanager
        async def open_log(self, *, clock, retention, max_keys):
            yield MemoryLog(clock=clock, retention=retention, max_keys=max_keys)

Beside named cases there is a search: Hypothesis makes up programs of appends, trims, deletions and
clocks set back, with clients that join, read a little, are cut off anywhere and come back with the
id that a real client would hold then. What the log says is compared with a :class:`Model`, which
keeps everything that was ever appended and derives the rest by definition.

It needs pytest-trio and Hypothesis: ``pip install 'sselib[testing]'``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ..channel import EventChannel
from ..codec import EventStreamDecoder
from ..errors import ChannelEnded, SubscriptionLagged, TopicFull
from ..events import ServerSentEvent
from ..log import ORIGIN, EntryId, EventLog, Head, NewEntry, Retention
from ..subscription import Subscription
from ..topics import open_topics

TOPIC: Final = "topic"
LIMITS: Final = Retention(entries=5, size=None)
MAX_KEYS: Final = 3


def entry(text: str, **says: Any) -> NewEntry:
    """Return a new entry whose data is ``text``."""
    return NewEntry.of(ServerSentEvent(text), **says)


@attrs.define
class Clock:
    """Milliseconds, moved by hand in both directions."""

    ms: int = 1000

    def __call__(self) -> int:
        """Return the time."""
        return self.ms


@attrs.define
class Model:
    """All that was ever appended to a topic, and by definition what follows from it."""

    entries: list[tuple[EntryId, NewEntry]] = attrs.Factory(list)
    floor: EntryId = ORIGIN

    def is_superseded(self, index: int) -> bool:
        """Whether a later entry has taken the place of this one."""
        key = self.entries[index][1].key
        later = (content for _, content in self.entries[index + 1 :])
        return key is not None and any(each.key == key or each.clear for each in later)

    def is_state(self, index: int) -> bool:
        """Whether it is the latest entry of a live key."""
        content = self.entries[index][1]
        return content.key is not None and not content.remove and not self.is_superseded(index)

    def state(self) -> list[EntryId]:
        """The latest entry of each live key."""
        return [id for index, (id, _) in enumerate(self.entries) if self.is_state(index)]

    def owed(self, after: EntryId = ORIGIN) -> list[EntryId]:
        """What is owed after an id to whoever has not had it."""
        return [
            id
            for index, (id, content) in enumerate(self.entries)
            if id > after and not (content.coalesce and self.is_superseded(index))
        ]

    def kept(self, after: EntryId = ORIGIN) -> list[EntryId]:
        """What of that can still be had."""
        always = {*self.state(), self.end}
        return [id for id in self.owed(after) if id > self.floor or id in always]

    def trim(self, most: int) -> None:
        """Let the oldest of the history go."""
        state = {*self.state(), self.end}
        history = [id for id in self.owed(self.floor) if id not in state]
        if len(history) > most:
            self.floor = history[-most - 1]

    @property
    def end(self) -> EntryId | None:
        """The end entry."""
        return next((id for id, content in self.entries if content.end), None)

    def head(self) -> Head | None:
        """Where the topic stands."""
        return Head(self.floor, self.entries[-1][0], self.end) if self.entries else None

    def text(self, id: EntryId) -> str:
        """The data of an entry."""
        block = next(content.block for each, content in self.entries if each == id)
        return block.decode().removeprefix("data: ").rstrip("\n")


@attrs.define(eq=False)
class Client:
    """A client over its connections: what it was given, and what it has to be given."""

    last_event_id: str = ""
    connection: AsyncExitStack | None = None
    subscription: Subscription | None = None
    decoder: EventStreamDecoder = attrs.Factory(EventStreamDecoder)
    first: list[str] = attrs.Factory(list)  # what a joiner begins with
    base: EntryId = ORIGIN  # from where on everything owed has to come
    floor: EntryId = ORIGIN  # what is gone up to here was never owed to it
    head: str = ""  # what a whole snapshot stands for
    got: list[str] = attrs.Factory(list)


def programs() -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Programs for the search: lists of steps."""
    keys = st.sampled_from(["a", "b", "c", "d"])
    says: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.just({}),
        st.fixed_dictionaries({"key": keys, "coalesce": st.booleans()}),
        st.fixed_dictionaries({"key": keys, "remove": st.just(value=True)}),
    )
    ends = st.fixed_dictionaries({"end": st.just(value=True), "clear": st.booleans()})
    appends = st.tuples(
        st.just("append"), st.lists(says, max_size=3), st.one_of(st.none(), st.none(), ends)
    )
    client = st.integers(0, 2)
    replays = st.sampled_from(["current", "current", "history", "live"])
    step = st.one_of(
        appends,
        appends,
        st.tuples(st.just("append"), st.lists(says, min_size=1, max_size=3), st.none()),
        st.tuples(st.just("connect"), client, replays),
        st.tuples(st.just("read"), client, st.integers(1, 60)),
        st.tuples(st.just("cut"), client),
        st.tuples(st.just("forge"), client, st.sampled_from(["?", "f-1-0", "ahead"])),
        st.tuples(st.just("trim"), st.integers(1, 5)),
        st.tuples(st.just("clock"), st.integers(-3, 3)),
        st.tuples(st.just("delete")),
    )
    return st.lists(step, max_size=40)


class Search:
    """Runs a program against a log and its model."""

    def __init__(self, log: EventLog, clock: Clock, channel: EventChannel) -> None:
        self.log = log
        self.clock = clock
        self.channel = channel
        self.model = Model()
        self.clients = [Client(), Client(), Client()]
        self.count = 0

    async def append(self, says: list[dict[str, Any]], end: dict[str, Any] | None) -> None:
        """Append, or be refused as the model says; twice with one token is once."""
        new = []
        for each in [*says, *([end] if end else [])]:
            self.count += 1
            new.append(entry(str(self.count), **each))
        if not new:
            return
        token = str(self.count)
        trial = Model([*self.model.entries], self.model.floor)
        trial.entries += [(EntryId(2**40, n, "trial"), each) for n, each in enumerate(new)]
        if self.model.end is not None:
            with pytest.raises(ChannelEnded):
                await self.log.append(TOPIC, new)
        elif len(trial.state()) > MAX_KEYS:
            with pytest.raises(TopicFull):
                await self.log.append(TOPIC, new)
        else:
            ids = await self.log.append(TOPIC, new, token=token)
            assert await self.log.append(TOPIC, new, token=token) == ids
            before = self.model.entries[-1][0] if self.model.entries else ORIGIN
            assert sorted({before, *ids}) == [before, *ids]
            self.model.entries += zip(ids, new, strict=True)
            assert LIMITS.entries is not None
            self.model.trim(LIMITS.entries)

    async def connect(self, number: int, replay: Any) -> None:
        """Come (back) with the id that the client holds, and be told what that is worth."""
        await self.cut(number)
        client = self.clients[number]
        client.connection = AsyncExitStack()
        client.subscription = subscription = await client.connection.enter_async_context(
            self.channel.subscribe(last_event_id=client.last_event_id, replay=replay)
        )
        client.decoder = EventStreamDecoder(last_event_id=client.last_event_id)
        client.got = []
        client.head = ""
        model, head = self.model, self.model.head()
        id = EntryId.parse(client.last_event_id)
        outcome = subscription.outcome
        if not client.last_event_id:
            expected: tuple[str, str | None] = ("fresh", None)
        elif id is None:
            expected = ("gap", "unreadable")
        elif head is None or id.tag != head.last.tag:
            expected = ("gap", "foreign")
        elif id < head.floor:
            expected = ("gap", "trimmed")
        elif id > head.last:
            expected = ("gap", "ahead")
        else:
            expected = ("resumed", None)
        assert (outcome.outcome, outcome.reason) == expected
        assert outcome.at_end == (expected[0] == "resumed" and id == model.end)
        if expected[0] == "resumed":
            assert id is not None
            client.first, client.base = [], id
        elif replay == "history":
            client.first = [model.text(each) for each in model.kept()]
            client.base = head.last if head else ORIGIN
        else:
            first = model.state() if replay == "current" else []
            first += [model.end] if model.end else []
            client.first = [model.text(each) for each in first]
            client.base = head.last if head else ORIGIN
            client.head = str(head.last) if head and first else ""
        client.floor = (
            model.floor if expected[0] != "resumed" and replay == "history" else client.base
        )

    async def read(self, number: int, limit: int) -> None:
        """Take what is ready, as bytes."""
        client = self.clients[number]
        if client.subscription is None:
            return
        try:
            await trio.testing.wait_all_tasks_blocked()
            if client.subscription.is_behind():
                await client.subscription.wait()
            data = client.subscription.take(limit)
        except SubscriptionLagged:
            assert self.model.floor > client.floor
            client.last_event_id = client.decoder.last_event_id
            await self.cut(number)
            return
        client.got += [event.data for event in client.decoder.feed(data)]
        client.last_event_id = client.decoder.last_event_id
        self.check(client)

    def check(self, client: Client) -> None:
        """What it got so far is in order, of what there was, and nothing twice."""
        first = client.first
        if client.head:
            got = client.got
            assert got[: len(first)] == first[: len(got)]
            if len(got) == len(first):
                assert client.last_event_id == client.head
        rest = client.got if not client.head else client.got[len(first) :]
        numbers = [int(text) for text in rest]
        assert numbers == sorted(set(numbers))

    async def drain(self, number: int) -> None:
        """Read all there is; then everything owed has come."""
        client = self.clients[number]
        before = None
        while client.subscription is not None and before != (before := len(client.got)):
            for _ in range(3):
                await self.read(number, 10_000)
                await trio.testing.wait_all_tasks_blocked()
        if client.subscription is None:
            return
        texts = [self.model.text(id) for id in self.model.owed(client.base)]
        still = {self.model.text(id) for id in self.model.owed()}
        first = client.first if client.head else [t for t in client.first if t in still]
        assert [text for text in client.got if text in {*first, *texts}] == first + texts
        assert client.subscription.ended == (self.model.end is not None)

    async def cut(self, number: int) -> None:
        """Lose the connection, wherever it is."""
        client = self.clients[number]
        if client.connection is not None:
            await client.connection.aclose()
        client.connection = client.subscription = None

    def forge(self, number: int, kind: str) -> None:
        """Hold an id that this topic never gave."""
        head = self.model.head()
        if kind == "ahead":
            kind = str(head.last._replace(ms=head.last.ms + 9)) if head else "f-9-0"
        self.clients[number].last_event_id = kind

    async def compare(self) -> None:
        """Hold the log against the model."""
        assert await self.log.head(TOPIC) == self.model.head()
        snapshot = await self.log.snapshot(TOPIC)
        assert snapshot.head == self.model.head()
        assert [each.id for each in snapshot.entries] == self.model.state()
        assert (snapshot.end and snapshot.end.id) == self.model.end
        after, found = ORIGIN, []
        while True:
            page = await self.log.read(TOPIC, after, limit=2)
            found += [each.id for each in page.entries]
            after = page.upto
            if page.head is None or after == page.head.last:
                break
        assert found == self.model.kept()

    async def run(self, program: list[tuple[Any, ...]]) -> None:
        """Run it all, and drain every client at the end."""
        for name, *arguments in program:
            match name:
                case "append":
                    await self.append(*arguments)
                case "connect":
                    await self.connect(*arguments)
                case "read":
                    await self.read(*arguments)
                case "cut":
                    await self.cut(*arguments)
                case "forge":
                    self.forge(*arguments)
                case "trim":
                    await self.log.trim(TOPIC, Retention(entries=arguments[0], size=None))
                    self.model.trim(arguments[0])
                case "clock":
                    self.clock.ms += arguments[0]
                case "delete":
                    await self.log.delete(TOPIC)
                    self.model = Model()
                    await trio.testing.wait_all_tasks_blocked()
                    for number in range(len(self.clients)):
                        await self.cut(number)
            await self.compare()
        for number in range(len(self.clients)):
            await self.drain(number)
            await self.cut(number)


class EventLogContract:
    """Subclass it, name the subclass ``Test...``, and say how a log is opened."""

    def open_log(
        self, *, clock: Callable[[], int], retention: Retention, max_keys: int
    ) -> AbstractAsyncContextManager[EventLog]:
        """Open an empty log of the kind that is tested, for one ``async with``."""
        raise TypeError(f"a subclass says how its log is opened: {clock}, {retention}, {max_keys}")

    def _open(self, *, clock: Clock | None = None) -> AbstractAsyncContextManager[EventLog]:
        return self.open_log(clock=clock or Clock(), retention=LIMITS, max_keys=MAX_KEYS)

    @given(program=programs(), window=st.integers(1, 4))
    async def test_what_a_program_leads_to(
        self, program: list[tuple[Any, ...]], window: int
    ) -> None:
        """Whatever is done, the log is as the model says, and clients get what they are owed."""
        clock = Clock()
        async with (
            self._open(clock=clock) as log,
            open_topics(log, window_entries=window) as topics,
        ):
            await Search(log, clock, topics.channel(TOPIC)).run(program)

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

    async def test_a_token_is_known_after_the_end(self) -> None:
        """Repeating an append whose answer was lost is no error."""
        async with self._open() as log:
            ids = await log.append(TOPIC, [entry("1"), entry("2", end=True)], token="t")  # noqa: S106
            assert await log.append(TOPIC, [entry("3")], token="t") == ids  # noqa: S106
            with pytest.raises(ChannelEnded) as caught:
                await log.append(TOPIC, [entry("3")], token="u")  # noqa: S106
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
