"""The search of the log contract: programs that Hypothesis makes up, and a model to judge by.

A program appends, trims, deletes, sets the clock, opens doors anew, and has clients join, read a
little, be cut off anywhere and come back with the id that a real client would hold then. A *door*
is :func:`sselib.open_topics` over the log; on a log that several processes can open, each door has
opened it for itself, as a process of its own would. What the log says at each of them is compared
with a :class:`Model`, which keeps everything that was ever appended and derives the rest by
definition.

Steps follow one another, so that a program has one right outcome however quick the log is. When
what was appended arrives at a client is the log's affair; that it does, and what does not, is
looked at when all is done.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import chain
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing
from hypothesis import strategies as st

from ..codec import EventStreamDecoder
from ..errors import ChannelEnded, SubscriptionLagged, TopicFull
from ..events import ServerSentEvent
from ..log import ORIGIN, Entry, EntryId, EventLog, Head, NewEntry, Retention
from ..subscription import Subscription
from ..topics import Topics, open_topics

TOPICS: Final = ("topic", "other")
MAX_KEYS: Final = 3
DOORS: Final = 2
PATIENCE: Final = 30.0  # Seconds for what is owed to arrive; only a broken promise waits so long.


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
    tokens: dict[str, list[EntryId]] = attrs.Factory(dict)

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

    def trim(self, retention: Retention, now_ms: int) -> None:
        """Let the oldest of the history go, until what is left is within bounds."""
        sizes = {id: len(content.block) for id, content in self.entries}
        state = {*self.state(), self.end}
        history = [id for id in self.owed(self.floor) if id not in state]
        while history and (
            (retention.entries is not None and len(history) > retention.entries)
            or (retention.size is not None and sum(sizes[id] for id in history) > retention.size)
            or (retention.age is not None and history[0].ms < now_ms - retention.age * 1000)
        ):
            self.floor = history.pop(0)

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
    topic: str = TOPICS[0]
    door: int = 0
    connection: AsyncExitStack | None = None
    subscription: Subscription | None = None
    decoder: EventStreamDecoder = attrs.Factory(EventStreamDecoder)
    first: list[str] = attrs.Factory(list)  # what a joiner begins with
    base: EntryId = ORIGIN  # from where on everything owed has to come
    floor: EntryId = ORIGIN  # what is gone up to here was never owed to it
    head: str = ""  # what a whole snapshot stands for
    got: list[str] = attrs.Factory(list)

    async def cut(self) -> None:
        """Lose the connection, wherever it is."""
        connection, self.connection, self.subscription = self.connection, None, None
        if connection is not None:
            await connection.aclose()


class Door:
    """What a process has open: the log, and topics over it."""

    log: EventLog
    topics: Topics

    def __init__(self) -> None:
        self._opened = trio.Event()
        self._leave = trio.Event()

    async def keep_open(
        self, open_log: Callable[[], AbstractAsyncContextManager[EventLog]], window: int
    ) -> None:
        """Be the process, and after it the next one."""
        while True:
            async with open_log() as log, open_topics(log, window_entries=window) as topics:
                self.log, self.topics = log, topics
                self._opened.set()
                await self._leave.wait()
            self._leave = trio.Event()

    async def wait_open(self) -> None:
        """Wait until log and topics are there."""
        await self._opened.wait()

    async def open_anew(self) -> None:
        """End the process, and wait for the next one."""
        self._opened = trio.Event()
        self._leave.set()
        await self._opened.wait()


@attrs.frozen
class Program:
    """What is to be done, on what log."""

    retention: Retention
    window: int
    steps: list[tuple[Any, ...]]


def programs() -> st.SearchStrategy[Program]:
    """Programs for the search."""
    keys = st.sampled_from(["a", "b", "c", "d"])
    says: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.just({}),
        st.fixed_dictionaries({"key": keys, "coalesce": st.booleans()}),
        st.fixed_dictionaries({"key": keys, "remove": st.just(value=True)}),
    )
    ends = st.fixed_dictionaries({"end": st.just(value=True), "clear": st.booleans()})
    topic = st.sampled_from([TOPICS[0], *TOPICS])
    door = st.integers(0, DOORS - 1)
    client = st.integers(0, 2)
    replays = st.sampled_from(["current", "current", "history", "live"])

    def append(says: Any, end: Any) -> st.SearchStrategy[tuple[Any, ...]]:
        token = st.one_of(st.none(), st.none(), st.sampled_from("xyz"))
        return st.tuples(st.just("append"), topic, door, says, end, token)

    # What is done, and how often beside the others.
    kinds: list[tuple[int, st.SearchStrategy[tuple[Any, ...]]]] = [
        (4, append(st.lists(says, max_size=3), st.one_of(st.none(), st.none(), ends))),
        (4, append(st.lists(says, min_size=1, max_size=3), st.none())),
        (4, st.tuples(st.just("connect"), client, topic, door, replays)),
        (6, st.tuples(st.just("read"), client, st.integers(1, 60))),
        (1, st.tuples(st.just("cut"), client)),
        (1, st.tuples(st.just("forge"), client, st.sampled_from(["?", "f-1-0", "ahead"]))),
        (1, st.tuples(st.just("trim"), topic, door, st.integers(1, 5))),
        (2, st.tuples(st.just("move_clock"), st.integers(-3, 3))),
        (1, st.tuples(st.just("reopen"), door)),
        (1, st.tuples(st.just("delete"), topic, door)),
    ]
    each = [number for number, (weight, _) in enumerate(kinds) for _ in range(weight)]
    step = st.sampled_from(each).flatmap(lambda number: kinds[number][1])
    retentions = [
        Retention(entries=5, size=None),
        Retention(entries=5, size=None),
        Retention(entries=None, size=45),  # four blocks of ten or eleven
        Retention(entries=4, size=None, age=0.005),
    ]
    # Of lists, Hypothesis makes short ones; of lists of lists, programs that get somewhere.
    steps = st.lists(st.lists(step, max_size=10), max_size=10).map(lambda parts: [*chain(*parts)])
    return st.builds(Program, st.sampled_from(retentions), st.integers(1, 4), steps)


class Search:
    """Runs a program against a log and its model.

    Args:
        program: What is to be done.
        open_log: Opens the log for a door, for one ``async with``.
        clock: The log's.
    """

    def __init__(
        self,
        program: Program,
        open_log: Callable[[], AbstractAsyncContextManager[EventLog]],
        clock: Clock,
    ) -> None:
        self.program = program
        self.open_log = open_log
        self.clock = clock
        self.doors = [Door() for _ in range(DOORS)]
        self.models = {topic: Model() for topic in TOPICS}
        self.clients = [Client(), Client(), Client()]
        self.count = 0

    async def run(self) -> None:
        """Run it all, and drain every client at the end."""
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            for door in self.doors:
                nursery.start_soon(door.keep_open, self.open_log, self.program.window)
                await door.wait_open()
            for client in self.clients:
                stack.push_async_callback(client.cut)
            for number, (name, *arguments) in enumerate(self.program.steps):
                await getattr(self, name)(*arguments)
                await self.compare(self.doors[number % DOORS])
            for client in self.clients:
                await self.drain(client)
                await client.cut()
            nursery.cancel_scope.cancel()

    async def reopen(self, number: int) -> None:
        """Cut off who is connected there, and open a door anew."""
        for client in self.clients:
            if client.door == number:
                await client.cut()
        await self.doors[number].open_anew()

    async def append(
        self,
        topic: str,
        door: int,
        says: list[dict[str, Any]],
        end: dict[str, Any] | None,
        token: str | None,
    ) -> None:
        """Append, or be refused as the model says; with a token that is known, nothing changes."""
        new = []
        for each in [*says, *([end] if end else [])]:
            self.count += 1
            new.append(entry(f"{self.count:02}", **each))
        if not new:
            return
        log, model = self.doors[door].log, self.models[topic]
        trial = Model([*model.entries])
        trial.entries += [(EntryId(2**40, n, "trial"), each) for n, each in enumerate(new)]
        if token is not None and token in model.tokens:
            assert await log.append(topic, new, token=token) == model.tokens[token]
        elif model.end is not None:
            with pytest.raises(ChannelEnded):
                await log.append(topic, new, token=token)
        elif len(trial.state()) > MAX_KEYS:
            with pytest.raises(TopicFull):
                await log.append(topic, new, token=token)
        else:
            ids = await log.append(topic, new, token=token)
            before = model.entries[-1][0] if model.entries else ORIGIN
            assert sorted({before, *ids}) == [before, *ids]
            assert len({id.tag for id, _ in model.entries} | {id.tag for id in ids}) == 1
            model.entries += zip(ids, new, strict=True)
            if token is not None:
                model.tokens[token] = ids
            model.trim(self.program.retention, self.clock.ms)

    async def trim(self, topic: str, door: int, most: int) -> None:
        """Cut a history down."""
        retention = Retention(entries=most, size=None)
        await self.doors[door].log.trim(topic, retention)
        self.models[topic].trim(retention, self.clock.ms)

    async def delete(self, topic: str, door: int) -> None:
        """Forget a topic; its clients are told sooner or later, and leave."""
        await self.doors[door].log.delete(topic)
        self.models[topic] = Model()
        for client in self.clients:
            if client.topic == topic:
                await client.cut()

    async def move_clock(self, ms: int) -> None:
        """Set the clock. What was too old stays gone; that is told of a log that is open."""
        self.clock.ms += ms if self.program.retention.age is None else abs(ms)
        for model in self.models.values():
            model.trim(attrs.evolve(self.program.retention, entries=None), self.clock.ms)

    async def connect(self, number: int, topic: str, door: int, replay: Any) -> None:
        """Come (back) with the id that the client holds, and be told what that is worth."""
        client = self.clients[number]
        await client.cut()
        client.topic, client.door = topic, door
        client.connection = AsyncExitStack()
        client.subscription = subscription = await client.connection.enter_async_context(
            self.doors[door]
            .topics.channel(topic)
            .subscribe(last_event_id=client.last_event_id, replay=replay)
        )
        client.decoder = EventStreamDecoder(last_event_id=client.last_event_id)
        client.got = []
        client.head = ""
        model = self.models[topic]
        head = model.head()
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

    async def forge(self, number: int, kind: str) -> None:
        """Hold an id that this topic never gave."""
        client = self.clients[number]
        head = self.models[client.topic].head()
        if kind == "ahead":
            kind = str(head.last._replace(ms=head.last.ms + 9)) if head else "f-9-0"
        client.last_event_id = kind

    async def cut(self, number: int) -> None:
        """Cut a client off."""
        await self.clients[number].cut()

    async def read(self, number: int, limit: int) -> None:
        """Take what is ready, as bytes."""
        client = self.clients[number]
        if client.subscription is not None:
            await trio.testing.wait_all_tasks_blocked()
            # A cursor may be behind with nothing to come: what there was is too old.
            wait = client.subscription.is_behind() and not self.has_all(client)
            await self.take(client, limit, wait=wait)

    async def take(self, client: Client, limit: int, *, wait: bool) -> None:
        """Read as a response does; what is given is in order, of what there was, nothing twice."""
        assert client.subscription is not None
        try:
            if wait:
                with trio.fail_after(PATIENCE):
                    await client.subscription.wait()
        except SubscriptionLagged:
            assert self.models[client.topic].floor > client.floor
            await client.cut()
            return
        data = client.subscription.take(limit)
        client.got += [event.data for event in client.decoder.feed(data)]
        client.last_event_id = client.decoder.last_event_id
        first, rest = client.first, client.got
        if client.head:
            assert rest[: len(first)] == first[: len(rest)]
            if len(rest) == len(first):
                assert client.last_event_id == client.head
            rest = rest[len(first) :]
        numbers = [int(text) for text in rest]
        assert numbers == sorted(set(numbers))

    async def drain(self, client: Client) -> None:
        """Read all there is: everything owed comes, and no end that is none."""
        while client.subscription is not None and not self.has_all(client):
            await self.take(client, 10_000, wait=True)
        if client.subscription is not None:
            await trio.testing.wait_all_tasks_blocked()
            await self.take(client, 10_000, wait=False)
            assert self.has_all(client)

    def has_all(self, client: Client) -> bool:
        """Return whether a client has everything it is owed; the rest, it may have had."""
        model = self.models[client.topic]
        assert client.subscription is not None
        texts = [model.text(id) for id in model.owed(client.base)]
        state = model.state()
        # Of what is from before the floor, only what is in the state: the rest is not kept.
        still = {model.text(id) for id in model.owed() if id > client.floor or id in state}
        first = client.first if client.head else [t for t in client.first if t in still]
        got = [text for text in client.got if text in {*first, *texts}]
        return got == first + texts and client.subscription.ended == (model.end is not None)

    async def compare(self, door: Door) -> None:
        """Hold what the log says at a door against the model."""
        names = sorted(topic for topic, model in self.models.items() if model.entries)
        assert await door.log.topics() == names
        for topic, model in self.models.items():
            await self.compare_topic(door.log, topic, model)

    async def compare_topic(self, log: EventLog, topic: str, model: Model) -> None:
        """Hold all that a log says of a topic against the model."""
        assert await log.head(topic) == model.head()
        snapshot = await log.snapshot(topic)
        contents = dict(model.entries)
        assert snapshot.head == model.head()
        assert [*snapshot.entries] == [(id, contents[id]) for id in model.state()]
        assert snapshot.end == ((model.end, contents[model.end]) if model.end else None)
        after = ORIGIN
        found: list[Entry] = []
        while True:
            page = await log.read(topic, after, limit=2)
            found += page.entries
            after = page.upto
            if page.head is None or after == page.head.last:
                break
        assert found == [(id, contents[id]) for id in model.kept()]
        for id in contents:
            if id >= model.floor:
                assert await log.has(topic, id)
