"""By how much two revisions of a drawing are shifted against each other.

The better the shift, the more ink lies on ink: what is looked for is the shift with the greatest
sum of the darker of two pixels' ink, over where they overlap. (The sum of all differences is the
same question: it is the ink of both, less twice that sum.)

All shifts are tried on copies so small that this takes milliseconds; then each copy of twice the
size has only the neighbours of the shift to try, up to the drawings themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from PIL import Image, ImageChops

# The longest side of the copies on which every shift is tried, in pixels: small enough for a
# thousand comparisons, large enough that walls are still lines.
_COARSE: Final = 128
# Of the longest side: revisions come off the same printer or scanner, and not from elsewhere.
_FARTHEST: Final = 0.125
_MOST_DIFFERENT: Final = 0.1  # of the larger width or height
# Pixels: half a pixel of the copy before is one of this, and thin lines drown in coarse ones.
_NEIGHBOURHOOD: Final = 2


class Shift(NamedTuple):
    """Where the new drawing's origin lies on the old one, in pixels."""

    x: int
    y: int


class SizesDiffer(Exception):
    """The drawings are no revisions of one sheet. The message is for whoever sent them."""


def find_shift(old: Image.Image, new: Image.Image) -> Shift:
    """Return the shift under which the two match best; of equally good ones, the smallest.

    Raises:
        SizesDiffer: By more than a tenth in width or height.
    """
    for one, other in zip(old.size, new.size, strict=True):
        if abs(one - other) > _MOST_DIFFERENT * max(one, other):
            raise SizesDiffer(
                "the drawings differ too much in size: "
                f"{old.width} x {old.height} and {new.width} x {new.height} pixels"
            )
    longest = max(*old.size, *new.size)
    factor = 1
    while longest > _COARSE * factor:
        factor *= 2
    reach = round(longest / factor * _FARTHEST)
    best = _best(old, new, factor, Shift(0, 0), reach)
    while factor > 1:
        factor //= 2
        best = _best(old, new, factor, Shift(2 * best.x, 2 * best.y), _NEIGHBOURHOOD)
    return best


def _best(old: Image.Image, new: Image.Image, factor: int, around: Shift, reach: int) -> Shift:
    """Return the best shift around one on copies reduced by a factor, in pixels of these."""
    if factor > 1:
        old, new = old.reduce(factor), new.reduce(factor)
    return max(
        _within(around, reach),
        key=lambda shift: (_ink_on_ink(old, new, shift), -(shift.x**2 + shift.y**2)),
    )


def _within(around: Shift, reach: int) -> Iterable[Shift]:
    reaches = range(-reach, reach + 1)
    return (Shift(around.x + x, around.y + y) for y in reaches for x in reaches)


def _ink_on_ink(old: Image.Image, new: Image.Image, shift: Shift) -> int:
    """Return how much ink lies on ink, over where the two overlap."""
    left, top = max(0, shift.x), max(0, shift.y)
    right = min(old.width, shift.x + new.width)
    bottom = min(old.height, shift.y + new.height)
    if left >= right or top >= bottom:
        return 0
    seen = old.crop((left, top, right, bottom))
    other = new.crop((left - shift.x, top - shift.y, right - shift.x, bottom - shift.y))
    counts = ImageChops.darker(seen, other).histogram()
    return sum(value * count for value, count in enumerate(counts))
