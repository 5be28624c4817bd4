"""A summary of a text: those of its own sentences that say most of what it says.

A sentence is worth what its words are worth, on average, and a word what the text makes of it: how
often it comes. The best few are given in the order of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from .words import telling

SENTENCES: Final = 3
MAX_CHARACTERS: Final = 400
# What comes after that is not summed up: a summary is found within seconds in any file.
READ_CHARACTERS: Final = 50_000

_LONGEST: Final = 240  # characters of a sentence that can be read in a list
_ENDS: Final = re.compile(r"(?<=[.!?])\s|\n")  # one character: it cannot go back


def summarize(text: str) -> str:
    """Return a summary of at most :data:`MAX_CHARACTERS` characters; of an empty text, nothing."""
    sentences = [
        " ".join(sentence.split())[:_LONGEST]
        for sentence in _ENDS.split(text[:READ_CHARACTERS])
        if sentence and not sentence.isspace()
    ]
    told = [telling(sentence) for sentence in sentences]
    worth = Counter(word for words in told for word in words)
    value = [
        # Of one or two words it is a heading or a line of a table, and says little by itself.
        sum(worth[word] for word in set(words)) / (len(words) + 3)
        for words in told
    ]
    best = sorted(range(len(sentences)), key=lambda number: (-value[number], number))
    chosen: list[int] = []
    room = MAX_CHARACTERS
    for number in best:
        new = sentences[number] not in (sentences[other] for other in chosen)
        if new and len(sentences[number]) < room and len(chosen) < SENTENCES:
            chosen.append(number)
            room -= len(sentences[number]) + 1
        if len(chosen) == SENTENCES:
            break
    return " ".join(sentences[number] for number in sorted(chosen))
