"""Two aligned drawings compared tile by tile, and what that comes to.

Both drawings lie on one canvas that is large enough for either. Each of its pixels is given one of
four classes: paper, unchanged, added, removed. Everything that is told afterwards (pictures, boxes,
score) is read from that one image of classes, so that no two answers can differ.

Ink counts as the same if the other drawing has some within a pixel of it: lines that were printed
or scanned twice never fall on quite the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import attrs
from PIL import Image, ImageChops, ImageFilter

from .shift import Shift

TILE: Final = 128  # pixels: rows are done in milliseconds, and there are enough of them to tell of
MAX_CHANGES: Final = 100  # the largest: more boxes than that are no help to anybody

_INK: Final = 128  # of 255: as much counts as ink
_TOLERANCE: Final = 1  # pixels
# Pixels. What is closer together than one or two cells is one change.
_CELL: Final = 8
_LEAST_AREA: Final = 4  # pixels: less is dust

_PAPER, _UNCHANGED, _ADDED, _REMOVED = range(4)
_COLOURS: Final = ((255, 255, 255), (96, 96, 96), (22, 163, 74), (220, 38, 38))

Category = Literal["added", "removed", "modified"]
Picture = Literal["overlay", "addition", "deletion", "aligned_a", "aligned_b"]
PICTURES: Final[tuple[Picture, ...]] = (
    *("overlay", "addition", "deletion"),
    *("aligned_a", "aligned_b"),
)


@attrs.frozen(kw_only=True)
class Change:
    """A connected region of the canvas in which something was added, removed, or both.

    Attributes:
        category: Which of these.
        box: Left, top, right, bottom on the canvas, in pixels; right and bottom are outside.
        area: Pixels in it that were added or removed.
    """

    category: Category
    box: tuple[int, int, int, int]
    area: int


class Comparison:
    """A comparison that is under way: :meth:`compare_row` for each row of tiles, then the result.

    Args:
        old: The drawing before, as :func:`read_drawing` gives it.
        new: The drawing after.
        shift: Where the new one lies on the old one.

    Attributes:
        rows: How many rows of tiles there are.
    """

    def __init__(self, old: Image.Image, new: Image.Image, shift: Shift) -> None:
        left, top = min(0, shift.x), min(0, shift.y)
        size = (
            max(old.width, shift.x + new.width) - left,
            max(old.height, shift.y + new.height) - top,
        )
        self._shift = shift
        self._old = _placed(old, (-left, -top), size)
        self._new = _placed(new, (shift.x - left, shift.y - top), size)
        self._classes = Image.new("L", size, _PAPER)
        self.rows = -(-size[1] // TILE)

    def compare_row(self, row: int) -> None:
        """Compare a row of tiles, the first of which is 0. The rows do not depend on each other."""
        top = row * TILE
        bottom = min(top + TILE, self._classes.height)
        for left in range(0, self._classes.width, TILE):
            right = min(left + TILE, self._classes.width)
            self._classes.paste(self._tile(left, top, right, bottom), (left, top))

    def result(self) -> Overlay:
        """Return what the rows that were compared come to."""
        return Overlay.of(self._classes, self._old, self._new, self._shift)

    def _tile(self, left: int, top: int, right: int, bottom: int) -> Image.Image:
        """Return the classes of one tile."""
        around = (left - _TOLERANCE, top - _TOLERANCE, right + _TOLERANCE, bottom + _TOLERANCE)
        inside = (_TOLERANCE, _TOLERANCE, _TOLERANCE + right - left, _TOLERANCE + bottom - top)
        old, new = (_is_ink(drawing.crop(around)) for drawing in (self._old, self._new))
        near = ImageFilter.MaxFilter(2 * _TOLERANCE + 1)
        tile = Image.new("L", old.size, _PAPER)
        tile.paste(_UNCHANGED, mask=ImageChops.lighter(old, new))
        tile.paste(_ADDED, mask=ImageChops.subtract(new, old.filter(near)))
        tile.paste(_REMOVED, mask=ImageChops.subtract(old, new.filter(near)))
        return tile.crop(inside)


@attrs.frozen(kw_only=True, eq=False)
class Overlay:
    """What a comparison has found.

    Attributes:
        size: Width and height of the canvas, in pixels.
        shift: Where the new drawing lies on the old one.
        unchanged_area: Pixels of ink that both drawings have.
        added_area: Pixels of ink that only the new one has.
        removed_area: Pixels of ink that only the old one had.
        changes: Where: the largest first, at most :data:`MAX_CHANGES`.
        changes_total: How many there are, all told.
    """

    size: tuple[int, int]
    shift: Shift
    unchanged_area: int
    added_area: int
    removed_area: int
    changes: tuple[Change, ...]
    changes_total: int
    _classes: Image.Image
    _old: Image.Image
    _new: Image.Image

    @classmethod
    def of(cls, classes: Image.Image, old: Image.Image, new: Image.Image, shift: Shift) -> Overlay:
        """Read what the image of classes says."""
        counts = classes.histogram()
        changes = sorted(_changes(classes), key=lambda change: (-change.area, change.box))
        return cls(
            size=classes.size,
            shift=shift,
            unchanged_area=counts[_UNCHANGED],
            added_area=counts[_ADDED],
            removed_area=counts[_REMOVED],
            changes=tuple(changes[:MAX_CHANGES]),
            changes_total=len(changes),
            classes=classes,
            old=old,
            new=new,
        )

    @property
    def score(self) -> float:
        """The share of all ink that is unchanged, from 0 to 1. Two empty sheets are the same."""
        ink = self.unchanged_area + self.added_area + self.removed_area
        return self.unchanged_area / ink if ink else 1.0

    def picture(self, name: Picture) -> Image.Image:
        """Return a picture of the canvas.

        ``overlay`` has what is unchanged in grey, what was added in green, what was removed in
        red; ``addition`` and ``deletion`` have one of these, and nothing behind it; ``aligned_a``
        and ``aligned_b`` are the two drawings, old and new.
        """
        match name:
            case "overlay":
                picture = self._classes.copy()
                picture.putpalette([value for colour in _COLOURS for value in colour])
                return picture
            case "addition":
                return _layer(self._classes, _ADDED)
            case "deletion":
                return _layer(self._classes, _REMOVED)
            case "aligned_a":
                return ImageChops.invert(self._old)
            case _:  # aligned_b
                return ImageChops.invert(self._new)


def _placed(drawing: Image.Image, at: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    canvas = Image.new("L", size, 0)
    canvas.paste(drawing, at)
    return canvas


def _is_ink(drawing: Image.Image) -> Image.Image:
    return drawing.point([255 * (value >= _INK) for value in range(256)])


def _only(classes: Image.Image, kind: int) -> Image.Image:
    return classes.point([255 * (value == kind) for value in range(256)])


def _layer(classes: Image.Image, kind: int) -> Image.Image:
    layer = classes.point([int(value == kind) for value in range(256)])
    layer.putpalette([255, 255, 255, *_COLOURS[kind]])
    layer.info["transparency"] = 0
    return layer


def _changes(classes: Image.Image) -> Iterator[Change]:
    """Yield the connected regions of what has changed. Cells that touch, by a corner too, connect.

    Regions are made of cells, for a drawing has too many pixels to walk over them one by one.
    """
    kinds = {}
    for kind in (_ADDED, _REMOVED):
        # A single pixel of a cell is 255 / 64 of its mean, which does not vanish.
        cells = _only(classes, kind).reduce(_CELL)
        kinds[kind] = {index for index, value in enumerate(cells.tobytes()) if value}
    across = -(-classes.width // _CELL)
    for region in _regions(kinds[_ADDED] | kinds[_REMOVED], across):
        xs = [cell % across for cell in region]
        ys = [cell // across for cell in region]
        around = (
            min(xs) * _CELL,
            min(ys) * _CELL,
            min((max(xs) + 1) * _CELL, classes.width),
            min((max(ys) + 1) * _CELL, classes.height),
        )
        seen = classes.crop(around)
        counts = seen.histogram()
        changed = ImageChops.lighter(_only(seen, _ADDED), _only(seen, _REMOVED)).getbbox()
        assert changed is not None
        area = counts[_ADDED] + counts[_REMOVED]
        if area < _LEAST_AREA:
            continue
        is_added = not region.isdisjoint(kinds[_ADDED])
        is_removed = not region.isdisjoint(kinds[_REMOVED])
        yield Change(
            category="modified" if is_added and is_removed else "added" if is_added else "removed",
            box=(
                around[0] + changed[0],
                around[1] + changed[1],
                around[0] + changed[2],
                around[1] + changed[3],
            ),
            area=area,
        )


def _regions(cells: set[int], across: int) -> Iterator[set[int]]:
    """Take cells apart into sets that do not touch each other, of a grid so many cells across."""
    while cells:
        region: set[int] = set()
        edge = [cells.pop()]
        while edge:
            cell = edge.pop()
            region.add(cell)
            column = cell % across
            for x in range(max(0, column - 1), min(across, column + 2)):
                for neighbour in (cell - column + x + step for step in (-across, 0, across)):
                    if neighbour in cells:
                        cells.remove(neighbour)
                        edge.append(neighbour)
        yield region
