"""What scripts are told and what they answer, as the values of a log.

Text is UTF-8 on the server; lone surrogates, which a ``str`` may hold, are kept.

Functions that read an answer raise whatever a wrong one leads to: who asked makes one error of
it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from .. import ORIGIN, Entry, EntryId, Head, NewEntry, Retention

Argument: TypeAlias = bytes | int


def encode(text: str) -> bytes:
    """Return text as bytes."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """Return the text of bytes."""
    return data.decode("utf-8", "surrogatepass")


def bound(value: int | None) -> Argument:
    """Return a bound as an argument."""
    return b"" if value is None else value


def bounds(retention: Retention) -> tuple[Argument, Argument, bytes]:
    """Return entries, bytes and milliseconds of age as arguments."""
    age = b"" if retention.age is None else repr(retention.age * 1000).encode()
    return bound(retention.entries), bound(retention.size), age


def position(id: EntryId) -> bytes:
    """Return an id without its tag."""
    return b"%d-%d" % id[:2]


def pack(entry: NewEntry) -> tuple[bytes, bytes, bytes]:
    """Return an entry as arguments: flags, key, block.

    The flags are ``k`` if there is a key, ``c`` coalesce, ``r`` remove, ``e`` end, ``x`` clear.
    """
    flags = b""
    if entry.key is not None:
        flags = b"kc" if entry.coalesce else b"kr" if entry.remove else b"k"
    elif entry.end:
        flags = b"ex" if entry.clear else b"e"
    return flags, encode(entry.key or ""), entry.block


def entry_id(data: bytes, tag: str) -> EntryId:
    """Read an id that an answer has without its tag."""
    ms, seq = data.split(b"-")
    return EntryId(int(ms), int(seq), tag)


def head(fields: Any) -> Head:
    """Read where a topic stands."""
    tag, last, floor, end = fields
    name = tag.decode("ascii")
    return Head(
        # The floor of a topic that never lost anything belongs to every one.
        ORIGIN if floor == b"0-0" else entry_id(floor, name),
        entry_id(last, name),
        entry_id(end, name) if end else None,
    )


def entries(stream: Any, tag: str) -> list[Entry]:
    """Read entries as a stream has them."""
    return [
        Entry(entry_id(id, tag), _content(flags, key, block))
        for id, (_, flags, _, key, _, block) in stream
    ]


def state(fields: Any, tag: str) -> list[Entry]:
    """Read keys with their entries, which come in no order, and put them in order."""
    found = []
    for key, packed in zip(fields[::2], fields[1::2], strict=True):
        says, _, block = packed.partition(b"\n")
        id, flags = says.split(b" ")
        found.append(Entry(entry_id(id, tag), _content(flags, key, block)))
    found.sort(key=_id)
    return found


def _content(flags: bytes, key: bytes, block: bytes) -> NewEntry:
    return NewEntry(
        block,
        key=decode(key) if b"k" in flags else None,
        coalesce=b"c" in flags,
        remove=b"r" in flags,
        end=b"e" in flags,
        clear=b"x" in flags,
    )


def _id(entry: Entry) -> EntryId:
    return entry.id
