"""Texts as vectors, so that near texts are near: hashed TF-IDF, of words and of what is in words.

Each word is hashed to one of the dimensions, and so are its groups of three letters, with less
weight: words that are written alike (plural, misspelt) come near. A text counts how often its words
come; how rare they are in all texts is put on the question's side, so that the vectors of texts
stay good while the index grows.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from operator import mul
from typing import Final

from .words import telling

DIMENSIONS: Final = 256
READ_CHARACTERS: Final = 50_000

_GROUP_WEIGHT: Final = 0.5


def embed(text: str, *, rarity: Callable[[str], float] = lambda _: 1.0) -> array[float]:
    """Return the vector of a text, of length 1; of a text without words, of length 0.

    Args:
        text: The text, of which the first :data:`READ_CHARACTERS` characters count.
        rarity: What a word is worth, by how few texts have it.
    """
    vector: defaultdict[int, float] = defaultdict(float)
    for word, count in Counter(telling(text[:READ_CHARACTERS])).items():
        weight = (1 + math.log(count)) * rarity(word)
        for feature, share in _features(word):
            vector[feature] += weight * share
    length = math.sqrt(sum(value * value for value in vector.values()))
    return array("f", (vector[i] / length if length else 0.0 for i in range(DIMENSIONS)))


def similarity(one: array[float], other: array[float]) -> float:
    """Return how near two vectors are, from 0 to 1."""
    return max(0.0, float(sum(map(mul, one, other))))


def _features(word: str) -> Iterator[tuple[int, float]]:
    yield _hashed(word, 1.0)
    padded = f"^{word}$"
    for start in range(len(padded) - 2):
        yield _hashed(padded[start : start + 3], _GROUP_WEIGHT)


def _hashed(feature: str, weight: float) -> tuple[int, float]:
    """Return a dimension and a weight with a sign: features that meet cancel as often as not."""
    digest = hashlib.blake2b(feature.encode(), digest_size=4).digest()
    number = int.from_bytes(digest, "big")
    return number % DIMENSIONS, weight if number & 2**31 else -weight
