"""The words of a text, as everything here that counts words sees them."""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r"[^\W_]{1,40}")

# Words that say nothing of what a text is about, in the languages of its likely writers.
_FILLERS: Final = frozenset(
    (  # noqa: SIM905 # it is read as text
        "a an and are as at be been but by can could did do does for from"
        " had has have he her his how i if in into is it its may more most"
        " no not of on or other our out she should so some such than that"
        " the their them then there these they this to up us was we were"
        " what when where which who will with would you your aber als am an"
        " auch auf aus bei das dass dem den der des die durch ein eine einer"
        " er es für hat ich im in ist mit nach nicht oder sich sie sind und"
        " von vor war wie wird zu zum zur au avec ce ces dans de des du elle"
        " en est et il la le les mais ne nous ou par pas pour que qui se"
        " sont sur un une vous class def elif else false import none null"
        " pass return self true"
    ).split()
)


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case and in its order."""
    return _WORD.findall(text.lower())


def telling(text: str) -> list[str]:
    """Return the words of a text that say what it is about."""
    return [word for word in words(text) if len(word) > 1 and word not in _FILLERS]
