"""The queue: what an item goes through, and that nothing that happened is forgotten."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.file_updates.queue import (
    LONGEST_BACKOFF,
    Action,
    Item,
    ItemInProcess,
    Queue,
    Step,
    UnknownItem,
)

COOLDOWN = 10


@pytest.fixture
def queue() -> Queue:
    return new_queue()


def new_queue() -> Queue:
    numbers = map(str, itertools.count(1))
    return Queue(cooldown=COOLDOWN, max_retries=3, new_id=lambda: next(numbers))


def told(*steps: Step) -> list[tuple[str | None, str, str, str]]:
    """Return what is announced of steps."""
    return [(s.opcode, s.item.file_path, s.item.action, s.status) for s in steps]


def taken(queue: Queue, now: float) -> Item:
    step = queue.take(now)
    assert step is not None
    assert step.opcode == "queue_item_processing"
    assert step.is_kept is None
    return step.item


# ---- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["index", "delete"])
def test_an_item_is_added_cools_down_and_is_ready(queue: Queue, action: Action) -> None:
    """It can be taken when it has cooled down, and not before."""
    steps = queue.change("/a", action, 100)
    assert told(*steps) == [("queue_item_added", "/a", action, "cooling_down")]
    assert queue.next_due() == 110
    assert queue.take(109.9) is None
    assert [status for _, status in queue.items(109.9)] == ["cooling_down"]
    assert [status for _, status in queue.items(110)] == ["ready"]
    assert taken(queue, 110) == steps[0].item
    assert queue.take(110) is None
    assert [status for _, status in queue.items(110)] == ["processing"]


def test_a_change_lets_an_item_cool_down_anew(queue: Queue) -> None:
    """Also one that is ready; it keeps its id, and what failed before is forgotten."""
    (added,) = queue.change("/a", "index", 0)
    for now in (5, 20):
        (step,) = queue.change("/a", "index", now)
        assert told(step) == [("queue_item_updated", "/a", "index", "cooling_down")]
        assert step.item == attrs.evolve(added.item, cooldown_expires_at=now + COOLDOWN)
        assert queue.take(now + COOLDOWN - 1) is None
    assert taken(queue, 30).id == added.item.id


def test_a_deletion_is_not_waited_for(queue: Queue) -> None:
    """Of a file that waits, nothing more can come: its item is ready at once."""
    queue.change("/a", "index", 0)
    (step,) = queue.change("/a", "delete", 1)
    assert told(step) == [("queue_item_updated", "/a", "delete", "ready")]
    assert taken(queue, 1).action == "delete"


def test_a_file_that_is_there_again_is_indexed(queue: Queue) -> None:
    """As when an editor saves by deleting the old file."""
    queue.change("/a", "delete", 0)
    (step,) = queue.change("/a", "index", 1)
    assert told(step) == [("queue_item_updated", "/a", "index", "cooling_down")]


def test_a_cooldown_of_its_own(queue: Queue) -> None:
    """What the first look finds waits less long."""
    queue.change("/a", "index", 0, cooldown=2)
    assert queue.next_due() == 2


def test_a_move_takes_over_what_waited(queue: Queue) -> None:
    """There is one item of the file, and it has the way that the file went."""
    (added,) = queue.change("/a", "index", 0)
    (step,) = queue.change("/a", "move", 1, dest_path="/b")
    assert told(step) == [("queue_item_updated", "/a", "move", "cooling_down")]
    assert step.item.id == added.item.id
    assert step.item.dest_path == "/b"


@pytest.mark.parametrize("action", ["index", "delete", "move"])
def test_what_overwrites_a_move_leaves_its_destination_to_be_indexed(
    queue: Queue, action: Action
) -> None:
    """A new file where one was moved away: both are looked at."""
    queue.change("/a", "move", 0, dest_path="/b")
    steps = queue.change("/a", action, 1, dest_path="/c" if action == "move" else None)
    assert [(s.opcode, s.item.file_path, s.item.action) for s in steps] == [
        ("queue_item_updated", "/a", action),
        ("queue_item_added", "/b", "index"),
    ]


def test_the_item_that_is_due_first_comes_first(queue: Queue) -> None:
    """In the order of their times, whatever happened in between."""
    for path, now in (("/a", 0), ("/b", 1), ("/c", 2)):
        queue.change(path, "index", now)
    queue.change("/a", "index", 3)
    assert [taken(queue, 20).file_path for _ in range(3)] == ["/b", "/c", "/a"]


def test_what_changes_again_and_again_takes_no_more_room(queue: Queue) -> None:
    """As the log of a server that is written to for days, while the queue is paused."""
    queue.change("/b", "index", 5)
    for now in range(1000):
        queue.change("/a", "index", now)
    assert len(queue._due) <= 4  # noqa: SLF001 # nothing else shows what it holds
    assert [taken(queue, 2000).file_path for _ in range(2)] == ["/b", "/a"]


# ---- processing ----------------------------------------------------------------------------------


def test_what_succeeds_is_gone(queue: Queue) -> None:
    """It is announced as completed, and is not stored any more."""
    queue.change("/a", "index", 0)
    (step,) = queue.complete(taken(queue, 10), 11)
    assert told(step) == [("queue_item_completed", "/a", "index", "completed")]
    assert not step.is_kept
    assert queue.items(11) == []
    assert queue.next_due() is None


def test_what_fails_is_tried_again_each_time_later(queue: Queue) -> None:
    """Three times, after one, two and four cooldowns; then it has failed for good."""
    queue.change("/a", "index", 0)
    now = 10.0
    for number, cooldowns in enumerate([1, 2, 4], start=1):
        step = queue.fail(taken(queue, now), "no", now)
        assert told(step) == [("queue_item_updated", "/a", "index", "cooling_down")]
        assert step.is_kept
        assert step.item.retry_count == number
        now += cooldowns * COOLDOWN
        assert step.item.cooldown_expires_at == now
    step = queue.fail(taken(queue, now), "no", now)
    assert (step.opcode, step.error, step.is_kept) == ("queue_item_failed", "no", False)
    assert queue.items(now) == []


def test_a_backoff_has_an_end() -> None:
    """It grows up to eight cooldowns."""
    queue = Queue(cooldown=COOLDOWN, max_retries=6)
    queue.change("/a", "index", 0)
    now, waits = 10.0, []
    for _ in range(6):
        step = queue.fail(taken(queue, now), "no", now)
        waits.append((step.item.cooldown_expires_at - now) / COOLDOWN)
        now = step.item.cooldown_expires_at
    assert waits == [1, 2, 4, 8, 8, 8]


def test_a_change_during_processing_is_queued_when_it_is_over(queue: Queue) -> None:
    """It is stored at once and told then, as an item of its own."""
    queue.change("/a", "index", 0)
    item = taken(queue, 10)
    (noted,) = queue.change("/a", "delete", 11)
    assert noted.opcode is None
    assert noted.is_kept
    assert (noted.item.id, noted.item.action) == (item.id, "delete")
    assert queue.take(100) is None
    done, added = queue.complete(item, 12)
    assert told(done, added) == [
        ("queue_item_completed", "/a", "index", "completed"),
        ("queue_item_added", "/a", "delete", "cooling_down"),
    ]
    assert added.item.id != item.id
    assert taken(queue, 21) == added.item


def test_a_change_during_processing_is_tried_instead_of_what_has_failed(queue: Queue) -> None:
    """The item goes on with what happened last, as if it had not failed."""
    queue.change("/a", "index", 0)
    item = taken(queue, 10)
    queue.change("/a", "delete", 11)
    step = queue.fail(item, "no", 12)
    assert told(step) == [("queue_item_updated", "/a", "delete", "cooling_down")]
    assert (step.item.id, step.item.retry_count) == (item.id, 0)


def test_the_destination_of_a_move_in_process_is_not_forgotten(queue: Queue) -> None:
    """If its source is written meanwhile, the destination has an item of its own."""
    queue.change("/a", "move", 0, dest_path="/b")
    item = taken(queue, 10)
    noted, added = queue.change("/a", "index", 11)
    assert noted.opcode is None
    assert told(added) == [("queue_item_added", "/b", "index", "cooling_down")]
    queue.fail(item, "no", 12)
    assert {taken(queue, 99).file_path for _ in range(2)} == {"/a", "/b"}


def test_two_items_with_a_path_in_common_are_not_processed_at_once(queue: Queue) -> None:
    """The second waits for the first, without being asked for meanwhile; others do not wait."""
    queue.change("/a", "move", 0, dest_path="/b")
    queue.change("/b", "index", 1)
    queue.change("/c", "index", 2)
    first = taken(queue, 20)
    assert taken(queue, 20).file_path == "/c"
    assert queue.take(20) is None
    assert queue.next_due() is None
    queue.complete(first, 21)
    assert queue.next_due() is not None
    assert taken(queue, 21).file_path == "/b"


# ---- taking out ----------------------------------------------------------------------------------


def test_an_item_that_waits_can_be_removed(queue: Queue) -> None:
    """Its last status is told; it is gone, also from the order."""
    queue.change("/b", "index", 15)
    (added,) = queue.change("/a", "index", 0)
    step = queue.remove(added.item.id, 20)
    assert told(step) == [("queue_item_removed", "/a", "index", "ready")]
    assert step.is_kept is False
    assert queue.take(20) is None
    assert [item.file_path for item, _ in queue.items(20)] == ["/b"]
    with pytest.raises(UnknownItem):
        queue.remove(added.item.id, 20)


def test_an_item_in_process_cannot_be_removed(queue: Queue) -> None:
    """It is an error of its own, and goes on."""
    queue.change("/a", "index", 0)
    item = taken(queue, 10)
    with pytest.raises(ItemInProcess):
        queue.remove(item.id, 10)
    assert queue.processing == 1


def test_what_nobody_watches_is_forgotten(queue: Queue) -> None:
    """Items there are removed; a file that was moved to where it is watched is looked at there."""
    queue.change("/old/a", "index", 0)
    queue.change("/old/b", "move", 1, dest_path="/new/b")
    queue.change("/new/c", "index", 2)
    steps = queue.forget(lambda path: path.startswith("/old"), 3)
    assert told(*steps) == [
        ("queue_item_removed", "/old/a", "index", "cooling_down"),
        ("queue_item_removed", "/old/b", "move", "cooling_down"),
        ("queue_item_added", "/new/b", "index", "cooling_down"),
    ]
    assert {item.file_path for item, _ in queue.items(3)} == {"/new/b", "/new/c"}


def test_what_happened_to_an_item_in_process_is_forgotten_too(queue: Queue) -> None:
    """Nothing follows it."""
    queue.change("/old/a", "index", 0)
    item = taken(queue, 10)
    queue.change("/old/a", "index", 11)
    assert queue.forget(lambda path: path.startswith("/old"), 12) == []
    assert len(queue.complete(item, 13)) == 1


def test_the_paths_below_a_directory(queue: Queue) -> None:
    """Where something waits, where it goes, what is in process and what happened meanwhile."""
    queue.change("/d/a", "index", 0)
    queue.change("/b", "move", 1, dest_path="/d/b")
    queue.change("/d/e/c", "index", 2)
    queue.change("/da", "index", 3)
    taken(queue, 11)
    queue.change("/d/a", "move", 12, dest_path="/d/f")
    assert queue.paths_below("/d") == {"/d/a", "/d/b", "/d/e/c", "/d/f"}


def test_items_are_counted_by_status(queue: Queue) -> None:
    """As the API shows it."""
    for now in range(4):
        queue.change(f"/{now}", "index", now)
    taken(queue, 10)
    assert queue.counts(11) == {
        "total_items": 4,
        "cooling_down": 2,
        "ready": 1,
        "processing": 1,
    }


def test_a_restored_item_goes_on(queue: Queue) -> None:
    """It keeps its id, its time and its retries, but waits no longer than it could."""
    (added,) = queue.change("/a", "index", 1000)
    step = queue.fail(taken(queue, 1010), "no", 1010)
    again = new_queue()
    again.restore([step.item], 1011)
    assert again.items(1011) == [(step.item, "cooling_down")]
    assert step.item.id == added.item.id
    long_ago = new_queue()
    long_ago.restore([step.item], 0)
    assert long_ago.next_due() == COOLDOWN * LONGEST_BACKOFF


# ---- all together --------------------------------------------------------------------------------

PATHS = st.sampled_from(["/a", "/b", "/c"])
DEEDS = st.one_of(
    st.tuples(st.just("write"), PATHS),
    st.tuples(st.just("delete"), PATHS),
    st.tuples(st.just("move"), PATHS, PATHS),
    st.tuples(st.just("take")),
    st.tuples(st.just("succeed")),
    st.tuples(st.just("fail")),
    st.tuples(st.just("die")),
)


@given(st.lists(DEEDS, max_size=40))
def test_the_index_agrees_with_the_disk_in_the_end(deeds: list[tuple[Any, ...]]) -> None:
    """Whatever happens, fails and dies in whatever order: each path is looked at after it changed.

    The disk is a dict of contents. Processing reads it at its begin and writes the index at its
    end, as those who process do; what is stored is what steps say.
    """
    queue = Queue(cooldown=COOLDOWN, max_retries=3)
    disk: dict[str, int] = {}
    known: dict[str, int] = {}
    stored: dict[str, Item] = {}
    working: list[tuple[Item, dict[str, int | None]]] = []
    contents = itertools.count(1)
    now = 0.0

    def follow(steps: list[Step]) -> None:
        for step in steps:
            if step.is_kept is not None:
                stored.pop(step.item.id, None)
            if step.is_kept:
                stored[step.item.id] = step.item

    def begin() -> bool:
        step = queue.take(now)
        if step is not None:
            follow([step])
            working.append((step.item, {path: disk.get(path) for path in step.item.paths}))
        return step is not None

    def succeed() -> None:
        item, seen = working.pop(0)
        for path, content in seen.items():
            known.pop(path, None)
            if content is not None:
                known[path] = content
        follow(queue.complete(item, now))

    for deed, *paths in deeds:
        now += 4
        if deed == "write":
            disk[paths[0]] = next(contents)
            follow(queue.change(paths[0], "index", now))
        elif deed == "delete" and disk.pop(paths[0], None):
            follow(queue.change(paths[0], "delete", now))
        elif deed == "move" and paths[0] in disk and paths[1] not in disk:
            disk[paths[1]] = disk.pop(paths[0])
            follow(queue.change(paths[0], "move", now, dest_path=paths[1]))
        elif deed == "take":
            begin()
        elif deed == "succeed" and working:
            succeed()
        elif deed == "fail" and working and working[0][0].retry_count < 3:
            follow([queue.fail(working.pop(0)[0], "no", now)])
        elif deed == "die":
            working.clear()
            queue = Queue(cooldown=COOLDOWN, max_retries=3)
            queue.restore(stored.values(), now)
    for _ in range(200):
        now += 100
        while begin():
            pass
        while working:
            succeed()
    assert stored == {}
    assert known == disk
