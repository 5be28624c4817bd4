"""Channels, subscriptions and topics: what programs that publish and subscribe see."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from sselib import (
    ChannelEnded,
    EventChannel,
    MemoryLog,
    NewEntry,
    Retention,
    ServerSentEvent,
    Subscription,
    SubscriptionLagged,
    open_topics,
)
from sselib.log import Page
from sselib.subscription import Replay

from .test_log_contract import DistantLog


def event(text: object) -> ServerSentEvent:
    return ServerSentEvent(str(text))


async def all_of(subscription: Subscription) -> list[str]:
    return [each.data async for each in subscription]


async def test_receive_loses_nothing_when_it_is_cancelled() -> None:
    """At its checkpoint and while it waits."""
    channel = EventChannel()
    async with channel.subscribe() as events:
        await channel.publish(event(1))
        with trio.CancelScope() as scope:
            scope.cancel()
            await events.receive()
        async with trio.open_nursery() as nursery:
            assert (await events.receive()).data == "1"
            nursery.start_soon(events.receive)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        channel.publish_nowait(event(2))
        with assert_checkpoints():
            assert (await events.receive()).data == "2"
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()


async def test_a_wait_is_ended_by_wake() -> None:
    """Though nothing has come; and a wake that finds nobody waiting ends no later wait."""
    channel = EventChannel()
    async with channel.subscribe() as events:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events.wait)
            await wait_all_tasks_blocked()
            events.wake()
            events.wake()
        assert events.take(100) == b""

        events.wake()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events.wait)
            await wait_all_tasks_blocked()
            assert nursery.child_tasks
            channel.publish_nowait(event(1))
        assert events.receive_nowait().data == "1"


async def test_a_wait_for_a_log_that_does_not_answer_is_ended_by_wake() -> None:
    """What it would have said is asked for again."""
    log = MemoryLog()
    answers = trio.Event()

    class StuckLog(DistantLog):
        async def read(self, *args: Any, **options: Any) -> Page:
            await answers.wait()
            return await super().read(*args, **options)

    async with open_topics(StuckLog(log)) as topics:
        channel = topics.channel("a")
        await channel.publish(event(1))
        async with channel.subscribe(replay="history") as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(events.wait)
                await wait_all_tasks_blocked()
                events.wake()
            answers.set()
            assert (await events.receive()).data == "1"


async def test_a_publish_that_is_cancelled_is_none() -> None:
    """On a memory log; it is a checkpoint."""
    channel = EventChannel()
    async with channel.subscribe() as events:
        with trio.CancelScope() as scope:
            scope.cancel()
            await channel.publish(event(1))
        with assert_checkpoints():
            await channel.publish(event(2))
        assert (await events.receive()).data == "2"


async def test_several_entries_are_published_in_one_step() -> None:
    """Their ids come back in order."""
    channel = EventChannel()
    ids = await channel.append([NewEntry.of(event(1)), NewEntry.of(event(2), end=True)])
    async with channel.subscribe(replay="history") as events:
        assert [each.id async for each in events] == ids
        assert events.ended
    with pytest.raises(ChannelEnded):
        channel.publish_nowait(event(3))


async def test_a_closed_channel_takes_nothing_and_ends_its_subscribers() -> None:
    """Those that are there get what there is; those that come get nothing."""
    channel = EventChannel()
    async with channel.subscribe() as events:
        channel.publish_nowait(event(1))
        channel.close()
        assert await all_of(events) == ["1"]
        assert not events.ended
    async with channel.subscribe() as events:
        with pytest.raises(trio.EndOfChannel):
            await events.receive()
        await events.wait()
    with pytest.raises(trio.ClosedResourceError):
        await channel.publish(event(2))
    with pytest.raises(trio.ClosedResourceError):
        channel.publish_nowait(event(2))


async def test_a_subscription_ends_with_its_block() -> None:
    """Whoever still waits in it gets Trio's error."""
    channel = EventChannel()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await events.receive()

        async with channel.subscribe() as events:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
    with pytest.raises(trio.ClosedResourceError):
        events.take(1)
    with pytest.raises(trio.ClosedResourceError):
        await events.wait()
    with assert_checkpoints():
        await events.aclose()


@pytest.mark.parametrize("arguments", [{"replay": "x"}, {"lag": "x"}, {"ids": "x"}], ids=str)
async def test_wrong_words_are_refused(arguments: Any) -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match="must be one of"):
        async with EventChannel().subscribe(**arguments):
            pass


async def test_wrong_arguments_are_refused() -> None:
    """Windows without room, a gap event with an id, a distant log without topics."""
    with pytest.raises(ValueError, match="window_entries"):
        EventChannel(window_entries=0)
    with pytest.raises(ValueError, match="gap_event"):
        async with EventChannel().subscribe(gap_event=ServerSentEvent("", id="1")):
            pass
    with pytest.raises(TypeError, match="open_topics"):
        EventChannel(DistantLog(MemoryLog()))


async def test_a_subscriber_that_lags_is_told() -> None:
    """By an error, each time; with restart by a gap and the state."""
    channel = EventChannel(MemoryLog(retention=Retention(entries=3)), window_entries=2)
    gap = ServerSentEvent("lost", event="gap")
    async with (
        channel.subscribe() as events,
        channel.subscribe(lag="restart", gap_event=gap) as restarted,
    ):
        channel.publish_nowait(event("state"), key="k")
        for number in range(9):
            channel.publish_nowait(event(number))
        for _ in range(2):
            with pytest.raises(SubscriptionLagged) as caught:
                await events.receive()
            assert caught.value.reason == "trimmed"
        got = [await restarted.receive() for _ in range(2)]
        assert [each.data for each in got] == ["lost", "state"]
        assert restarted.outcome.reason == "trimmed"
        channel.publish_nowait(event("next"))
        assert (await restarted.receive()).data == "next"


async def test_a_subscriber_that_is_behind_the_window_reads_the_log() -> None:
    """Page by page, nothing left out; finish ends it where it was called."""
    channel = EventChannel(window_entries=2)
    async with channel.subscribe() as events, channel.subscribe() as finished:
        for number in range(600):
            channel.publish_nowait(event(number))
        finished.finish()
        finished.finish()
        channel.publish_nowait(event("late"), end=True)
        assert await all_of(events) == [*map(str, range(600)), "late"]
        assert await all_of(finished) == [*map(str, range(600))]
        assert (events.delivered, finished.delivered) == (601, 600)


async def test_progress_that_is_outdated_is_not_delivered() -> None:
    """Within the window; an end that clears takes the rest."""
    channel = EventChannel()
    async with channel.subscribe() as events, channel.subscribe() as late:
        for number in range(5):
            channel.publish_nowait(event(number), key="p", coalesce=True)
        assert (await events.receive()).data == "4"
        assert channel.statistics().window_entries == 5
        channel.publish_nowait(event("z"), end=True, clear=True)
        assert await all_of(events) == ["z"]
        assert late.take(10_000).count(b"data: ") == 1
        assert late.finished


async def test_a_window_is_bounded_in_bytes() -> None:
    """An event that is larger than the window is read from the log."""
    channel = EventChannel(window_bytes=100, window_entries=None)
    async with channel.subscribe() as events:
        for text in ("a" * 20, "b" * 200, "c" * 20):
            channel.publish_nowait(event(text), key="k", coalesce=text[0] == "a")
        assert channel.statistics().window_bytes <= 100
        assert [(await events.receive()).data[0] for _ in range(2)] == ["b", "c"]
    channel = EventChannel(window_bytes=None)
    async with channel.subscribe() as events:
        channel.publish_nowait(event("x" * 2_000_000))
        assert channel.statistics().window_entries == 1


async def test_a_deleted_topic_ends_its_subscribers() -> None:
    """Inside the window and behind it; a new topic of the name is another one."""
    log = MemoryLog()
    async with open_topics(log, window_entries=1) as topics:
        channel = topics.channel("t")
        async with channel.subscribe() as inside, channel.subscribe() as behind:
            for number in range(3):
                channel.publish_nowait(event(number))
            assert [(await inside.receive()).data for _ in range(3)] == ["0", "1", "2"]
            await topics.delete("t")
            assert await all_of(inside) == await all_of(behind) == []
            async with channel.subscribe(replay="history") as anew:
                channel.publish_nowait(event("new"))
                assert (await anew.receive()).data == "new"
        assert await topics.names() == ["t"]


async def test_channels_by_name_are_shared_and_let_go() -> None:
    """The same one to all who hold it; nothing is left when nobody does."""
    log = MemoryLog()
    async with open_topics(log) as topics:
        channel = topics.channel("a")
        assert topics.channel("a") is channel
        assert topics.channel("b") is not channel
        for _ in range(1000):
            async with channel.subscribe():
                assert topics.statistics()["a", None].subscribers == 1
        channel.close()
        assert topics.channel("a") is not channel
        del channel
        gc.collect()
        assert topics.statistics() == {}
        assert log._watchers == {}  # noqa: SLF001 # nothing public shows a leak of these
        kept = topics.channel("c")
    assert kept.is_closed
    with pytest.raises(trio.ClosedResourceError):
        topics.channel("a")


async def test_a_distant_log_is_followed() -> None:
    """What is published comes back through the log; nothing can be published at once."""
    async with open_topics(DistantLog(MemoryLog())) as topics:
        channel = topics.channel("t")
        with pytest.raises(TypeError, match="publish"):
            channel.publish_nowait(event(0))
        async with channel.subscribe() as events:
            for number in range(3):
                await channel.publish(event(number))
            assert [(await events.receive()).data for _ in range(3)] == ["0", "1", "2"]


async def test_a_hint_that_was_lost_costs_time_and_no_event(autojump_clock: MockClock) -> None:
    """Once in a while the log is read without being told."""

    class Silent(DistantLog):
        def watch(self, topic: str, wake: Any) -> Any:
            return lambda: None

    async with open_topics(Silent(MemoryLog())) as topics:
        channel = topics.channel("t")
        idle = topics.channel("nobody reads this")
        async with channel.subscribe() as events:
            await wait_all_tasks_blocked()  # the first look, which every subscriber causes
            await channel.publish(event(1))
            assert (await events.receive()).data == "1"
            assert 0 < trio.current_time() < 10
        assert idle.statistics().subscribers == 0


async def test_publishing_from_a_thread() -> None:
    """By Trio's own means."""
    channel = EventChannel()
    async with channel.subscribe() as events:
        await trio.to_thread.run_sync(lambda: trio.from_thread.run(channel.publish, event(1)))
        assert (await events.receive()).data == "1"


def doubled(event: ServerSentEvent) -> list[ServerSentEvent]:
    """Render a number to two events, and a text to none."""
    if not event.data.isdecimal():
        return []
    return [ServerSentEvent(event.data, event="first"), ServerSentEvent(event.data)]


async def blocks_of(subscription: Subscription) -> bytes:
    taken = b""
    while not subscription.finished:
        await subscription.wait()
        taken += subscription.take(1)
    return taken


@pytest.mark.parametrize("replay", ["current", "history"])
async def test_subscribers_are_given_what_an_entry_is_rendered_to(replay: Replay) -> None:
    """Joining and live: each event, several or none; the last of an entry says its id."""
    channel = EventChannel(render=doubled)
    await channel.publish(event(1), key="a")
    first = await channel.publish(event(2), key="b")
    hidden = await channel.publish(event("x"), key="c")
    async with channel.subscribe(replay=replay) as programs, channel.subscribe() as other:
        seen = [await programs.receive() for _ in range(4)]
        with pytest.raises(trio.WouldBlock):
            programs.receive_nowait()
        assert [(each.event, each.data) for each in seen] == [
            ("first", "1"),
            ("message", "1"),
            ("first", "2"),
            ("message", "2"),
        ]
        assert seen[2].id == ""
        assert seen[3].id == (hidden if replay == "current" else first)
        live = await channel.publish(event(3))
        await channel.publish(event("y"))
        end = await channel.publish(event(4), end=True)
        rest = [(each.event, each.data, each.id) async for each in programs]
        assert rest == [
            ("first", "3", ""),
            ("message", "3", live),
            ("first", "4", ""),
            ("message", "4", end),
        ]
        await blocks_of(other)
        assert other.delivered == 4  # entries that were anything on the wire


async def test_a_topic_that_renders_to_nothing_ends_all_the_same() -> None:
    """What a client reads is nothing, and it is told that nothing is to come."""
    channel = EventChannel(render=lambda _: [])
    await channel.publish(event(1), key="a")
    async with channel.subscribe() as before:
        await channel.publish(event(2), end=True)
        assert await all_of(before) == []
        assert before.ended
    async with channel.subscribe() as after:
        assert await blocks_of(after) == b""
        assert after.ended


async def test_what_resumes_from_the_log_is_rendered_too() -> None:
    """A cursor that is older than the window gets the same blocks from the log."""
    channel = EventChannel(render=doubled, window_entries=1)
    async with channel.subscribe(ids="all") as subscription:
        ids = [await channel.publish(event(number)) for number in range(3)]
        await channel.publish(event("x"), end=True)
        assert (
            await blocks_of(subscription)
            == "".join(
                f"event: first\ndata: {number}\n\nid: {id}\ndata: {number}\n\n"
                for number, id in enumerate(ids)
            ).encode()
        )


async def test_an_event_is_rendered_once_for_all_subscribers() -> None:
    """However many there are; joiners of a snapshot have it rendered for them."""
    calls: list[str] = []

    def render(event: ServerSentEvent) -> list[ServerSentEvent]:
        calls.append(event.data)
        return [ServerSentEvent(event.data)]

    channel = EventChannel(render=render)
    async with channel.subscribe(), channel.subscribe() as one, channel.subscribe() as two:
        await channel.publish(event(1))
        assert (await one.receive()).data == (await two.receive()).data == "1"
    assert calls == ["1"]


@pytest.mark.parametrize("wrong", [{"id": "1"}, {"retry": 1}, {"data": 1}])
async def test_what_cannot_be_rendered_is_nothing_and_is_logged(
    wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Ids are the log's, and retry is the stream's; and publishers never see a reader's bug."""

    def render(event: ServerSentEvent) -> list[ServerSentEvent]:
        fields = {"data": event.data} | (wrong if event.data == "1" else {})
        return [ServerSentEvent("before"), ServerSentEvent(**fields)]

    channel = EventChannel(render=render)
    await channel.publish(event(1), key="a")
    await channel.publish(event(2), key="b")
    async with channel.subscribe() as events:
        await channel.publish(event(1))
        await channel.publish(event(3), end=True)
        assert await all_of(events) == ["before", "2", "before", "3"]
    assert caplog.text.count("of the type 'message' could not be rendered") == 2


async def test_each_render_has_its_own_channel_of_a_topic() -> None:
    """The same function gets the same one."""
    async with open_topics(MemoryLog()) as topics:
        plain, rendered = topics.channel("a"), topics.channel("a", render=doubled)
        assert plain is not rendered
        assert rendered is topics.channel("a", render=doubled)
        async with plain.subscribe() as raw, rendered.subscribe() as made:
            await plain.publish(event(1), end=True)
            assert await all_of(raw) == ["1"]
            assert await all_of(made) == ["1", "1"]
