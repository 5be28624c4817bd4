"""Search: files that have the words, best first, and then files that are near in meaning.

Words are found by SQLite's full-text index, which weighs them by BM25; a word in the name of a file
counts more than one in its text. What the words find is ordered by that and by how near the vector
of the file is to that of the question. If there is room left, files that do not have the words but
are near follow.
"""

from __future__ import annotations

import math
import os
from array import array
from typing import Any, Final

import attrs

from .index import Row, row_of, span
from .pipeline.embedding import embed, similarity
from .pipeline.words import words
from .store import Connection

MAX_QUERY: Final = 1000  # characters
MAX_WORDS: Final = 32
MAX_RESULTS: Final = 200

_CANDIDATES: Final = 500  # of those that have the words, how many are compared by their vectors
_WORDS_SHARE: Final = 0.6  # of the score; the rest is nearness
_NEAR: Final = 0.3  # what two texts have in common by chance, in 256 dimensions, is below
_COLUMNS: Final = (
    "path, status, reason, place, size, mtime_ns, is_fresh, digest, files.summary, indexed_at"
)


@attrs.frozen(kw_only=True)
class Found:
    """A file that answers a question.

    Attributes:
        id: Its number in the index.
        row: What is known of it.
        excerpt: Where in its text the words are.
        score: How well it answers, from 0 to 1.
    """

    id: int
    row: Row
    excerpt: str
    score: float


def search(
    connection: Connection, question: str, *, directory: str | None = None, limit: int = 50
) -> list[Found]:
    """Return the files that answer a question, best first.

    Args:
        connection: To the database.
        question: Words; nothing in it is an operator. The last word may be unfinished.
        directory: Only files below this one.
        limit: How many at most.
    """
    asked = words(question)[:MAX_WORDS]
    if not asked:
        return []
    vector = embed(" ".join(asked), rarity=_Rarity(connection))
    low, high = (b"", b"\xff") if directory is None else span(directory)
    expression = " ".join(f'"{word}"' for word in asked) + "*"
    matches = connection.execute(
        f"SELECT files.id, bm25(texts, 4, 2, 1), snippet(texts, 2, '', '', '…', 24), embedding,"  # noqa: S608 # the columns are ours
        f" {_COLUMNS} FROM texts JOIN files ON files.id = texts.rowid"
        " WHERE texts MATCH ? AND path > ? AND path < ? ORDER BY 2, path LIMIT ?",
        (expression, low, high, _CANDIDATES),
    ).fetchall()
    best = max((-weight for _, weight, *_ in matches), default=0.0) or 1.0
    found = [
        Found(
            id=id,
            row=row_of(tuple(columns)),
            excerpt=excerpt,
            score=_WORDS_SHARE * -weight / best + _nearness(vector, embedding),
        )
        for id, weight, excerpt, embedding, *columns in matches
    ]
    if len(found) < limit:
        found += _near(connection, vector, low, high, known={each.id for each in found})
    found.sort(key=lambda each: (-each.score, each.row.path))
    return [attrs.evolve(each, score=round(each.score, 4)) for each in found[:limit]]


def as_json(found: Found) -> dict[str, Any]:
    """Return a result as the API shows it."""
    path = found.row.path
    return {
        "file": {
            "id": found.id,
            "path": path,
            "filename": os.path.basename(path),
            "extension": os.path.splitext(path)[1].lower(),
            "size": found.row.stamp.size,
            "modified_at": found.row.stamp.mtime_ns / 1e9,
            "indexed_at": found.row.indexed_at,
            "summary": found.row.summary,
            "excerpt": found.excerpt,
        },
        "relevance_score": found.score,
    }


class _Rarity:
    """What a word is worth: more, the fewer files have it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        (self._files,) = connection.execute("SELECT count(*) FROM texts").fetchone()

    def __call__(self, word: str) -> float:
        query = "SELECT doc FROM vocabulary WHERE term = ?"
        having = self._connection.execute(query, (word,)).fetchone() or (0,)
        return math.log(1 + self._files / (1 + having[0]))


def _near(
    connection: Connection, vector: array[float], low: bytes, high: bytes, *, known: set[int]
) -> list[Found]:
    rows = connection.execute(
        f"SELECT id, embedding, {_COLUMNS} FROM files"  # noqa: S608 # the columns are ours
        " WHERE status = 'complete' AND path > ? AND path < ?",
        (low, high),
    )
    return [
        Found(id=id, row=row_of(tuple(columns)), excerpt="", score=score)
        for id, embedding, *columns in rows
        if id not in known
        if (score := _nearness(vector, embedding)) > (1 - _WORDS_SHARE) * _NEAR
    ]


def _nearness(vector: array[float], embedding: bytes) -> float:
    return (1 - _WORDS_SHARE) * similarity(vector, array("f", embedding))
