"""What logs are made of: ids, entries, retention, and the memory log's own edges."""

from __future__ import annotations

from typing import Any

import pytest

from sselib import MemoryLog, NewEntry, Retention, ServerSentEvent
from sselib.log import ORIGIN, EntryId, resume


def entry(text: str, **says: Any) -> NewEntry:
    return NewEntry.of(ServerSentEvent(text), **says)


@pytest.mark.parametrize("text", ["T-1-0", "0a9-1795479724293-12", "t-0-0"])
def test_an_id_is_read_as_it_is_written(text: str) -> None:
    """And only in that form."""
    id = EntryId.parse(text)
    assert id is not None
    assert str(id) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "T", "T-1", "T-01-0", "T-1-00", "-1-0", "T-1-0 ", "T--1-0", "T-1-0-0", "ä-1-0"),
        *("T-\u0661-0", "T-" + "9" * 16 + "-0", "x" * 33 + "-1-0"),
    ],
)
def test_what_is_no_id_is_not_read(text: str) -> None:
    """Nothing that could be another way to write one, and no digits without end."""
    assert EntryId.parse(text) is None


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ({"coalesce": True}, ValueError),
        ({"remove": True}, ValueError),
        ({"clear": True}, ValueError),
        ({"key": "k", "end": True}, ValueError),
        ({"key": "k", "coalesce": True, "remove": True}, ValueError),
        ({"key": 1}, TypeError),
    ],
    ids=str,
)
def test_an_entry_that_says_nothing_is_refused(
    says: dict[str, Any], error: type[Exception]
) -> None:
    """A combination of flags without a meaning, and a key that is no text."""
    with pytest.raises(error):
        entry("x", **says)


def test_only_an_event_without_id_and_retry_can_be_published() -> None:
    """Ids are the log's, and the reconnection time is the stream's."""
    with pytest.raises(TypeError, match="ServerSentEvent"):
        NewEntry.of("text")  # type: ignore[arg-type] # what is tested
    with pytest.raises(TypeError, match="bytes"):
        NewEntry("text")  # type: ignore[arg-type] # what is tested
    with pytest.raises(ValueError, match="id"):
        NewEntry.of(ServerSentEvent("x", id="1"))
    with pytest.raises(ValueError, match="retry"):
        NewEntry.of(ServerSentEvent("x", retry=1))


@pytest.mark.parametrize("bounds", [{"entries": 0}, {"size": -1}, {"age": 0.0}], ids=str)
def test_a_bound_is_positive(bounds: dict[str, Any]) -> None:
    """Nought is no way to say that there is none."""
    with pytest.raises(ValueError, match="positive"):
        Retention(**bounds)
    with pytest.raises(ValueError, match="max_keys"):
        MemoryLog(max_keys=0)


async def test_no_last_event_id_is_fresh() -> None:
    """The empty string is what a client holds that was never given one."""
    assert (await resume(MemoryLog(), "t", "")).outcome == "fresh"


async def test_an_id_that_the_log_lost_is_rewritten() -> None:
    """A log may be asked for an id in its range that it does not know."""

    class Forgetful(MemoryLog):
        async def has(self, topic: str, id: EntryId) -> bool:
            return not await super().has(topic, id)

    log = Forgetful()
    (id,) = await log.append("t", [entry("x")])
    assert (await resume(log, "t", str(id))).reason == "rewritten"


def test_bounds_may_be_lifted() -> None:
    """None is no bound, of entries, bytes and keys."""
    log = MemoryLog(retention=Retention(entries=None, size=None), max_keys=None)
    log.append_nowait("t", [entry(str(n), key=str(n)) for n in range(20_000)])
    log.append_nowait("t", [entry("x")] * 2000)
    assert len(log.snapshot_nowait("t").entries) == 20_000


def test_a_page_has_at_least_one_entry_and_one_byte() -> None:
    """Asking for less is an error."""
    with pytest.raises(ValueError, match="limit"):
        MemoryLog().read_nowait("t", ORIGIN, limit=0)


def test_old_tokens_are_forgotten() -> None:
    """The oldest, when there are a thousand newer ones."""
    log = MemoryLog()
    (first,) = log.append_nowait("t", [entry("x")], token="first")
    for number in range(1000):
        log.append_nowait("t", [entry("x")], token=str(number))
    assert log.append_nowait("t", [entry("x")], token="first") != [first]
