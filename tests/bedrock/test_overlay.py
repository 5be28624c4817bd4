"""Drawings read, aligned and compared, without a server."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from examples.bedrock.overlay import (
    MAX_PIXELS,
    Comparison,
    Overlay,
    Shift,
    SizesDiffer,
    UnreadableDrawing,
    find_shift,
    read_drawing,
    size_of,
)
from examples.bedrock.overlay import comparison as comparison_module
from examples.bedrock.overlay.comparison import MAX_CHANGES, PICTURES, TILE

from .drawings import DOOR, WINDOW, bomb, plan, png, png_header

PLAN = png(plan(DOOR))


def compare(old: Image.Image, new: Image.Image, *, rows: int | None = None) -> Overlay:
    """Run a comparison, of the first rows only if so asked."""
    before, after = read_drawing(png(old)), read_drawing(png(new))
    comparison = Comparison(before, after, find_shift(before, after))
    for row in range(comparison.rows if rows is None else rows):
        comparison.compare_row(row)
    return comparison.result()


def test_the_size_stands_in_the_first_bytes() -> None:
    """24 bytes are enough to know how large a drawing will be."""
    assert size_of(PLAN[:24]) == (400, 300)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PNG file"),
        (b"GIF89a" + bytes(100), "not a PNG file"),
        (b"%PDF-1.7\n", "not a PNG file"),
        (PLAN[:20], "cut off"),
        (PLAN[:8] + bytes(100), "no valid header"),
        (png_header(0, 10), "no valid header"),
        (png_header(10, 10), "damaged"),
        (PLAN[:-40], "damaged"),
        (PLAN[: len(PLAN) // 2], "damaged"),
        (PLAN[:60] + bytes(60) + PLAN[120:], "damaged"),
    ],
)
def test_what_is_no_whole_png_file_is_refused(content: bytes, message: str) -> None:
    """Other formats, cut files and broken ones: the error says which."""
    with pytest.raises(UnreadableDrawing, match=message):
        read_drawing(content)


def test_a_bomb_is_refused_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small file of far too many pixels only the header is looked at."""
    content = bomb(20_000, 5_000)
    assert len(content) < 150_000
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(UnreadableDrawing, match="20000 x 5000 pixels are more than"):
        read_drawing(content)


@pytest.mark.parametrize(
    ("hidden", "message"), [((500, 500), "contradictory"), ((30_000, 30_000), "damaged")]
)
def test_a_second_header_cannot_smuggle_a_bomb_in(hidden: tuple[int, int], message: str) -> None:
    """A file whose second header says another size than the first is refused, by us or Pillow."""
    content = png_header(10, 10) + png_header(*hidden)[8:] + bomb(10, 10)[33:]
    with pytest.raises(UnreadableDrawing, match=message):
        read_drawing(content)


def test_the_limit_of_pixels_is_exact() -> None:
    """As many pixels as allowed are read, and one row more is not."""
    assert MAX_PIXELS >= 9933 * 7016 // 4  # an A1 sheet at 150 dpi, whichever way it lies
    assert read_drawing(PLAN, max_pixels=400 * 300).size == (400, 300)
    with pytest.raises(UnreadableDrawing, match="400 x 300"):
        read_drawing(PLAN, max_pixels=400 * 299)


@given(st.integers(8, len(PLAN) - 1), st.binary(max_size=12), st.sampled_from(["cut", "go on"]))
def test_damage_is_an_error_of_the_file_and_of_nothing_else(
    at: int, other: bytes, then: str
) -> None:
    """Whatever is done to a file, it is read or it is unreadable."""
    content = PLAN[:at] + other + (b"" if then == "cut" else PLAN[at + len(other) :])
    try:
        image = read_drawing(content)
    except UnreadableDrawing:
        return
    assert image.mode == "L"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_ink_is_ink_in_every_kind_of_png(mode: str) -> None:
    """One bit, grey, palette, colour, with transparency, 16 bits: black on white reads the same."""
    grey = plan(DOOR)
    if mode == "I;16":
        image = Image.new("I;16", grey.size)
        image.putdata([value * 257 for value in grey.tobytes()])
    else:
        image = grey.convert(mode)
    assert read_drawing(png(image)).tobytes() == read_drawing(PLAN).tobytes()


def test_what_is_transparent_is_paper() -> None:
    """Black that cannot be seen is no ink: in an alpha channel and in a transparent colour."""
    invisible = Image.new("RGBA", (20, 10), (0, 0, 0, 0))
    assert read_drawing(png(invisible)).getextrema() == (0, 0)
    black = Image.new("L", (20, 10), 0)
    black.info["transparency"] = 0
    assert read_drawing(png(black)).getextrema() == (0, 0)


@pytest.mark.parametrize(
    "shift", [(0, 0), (1, 0), (0, -1), (7, -5), (-23, 17), (31, 31), (-38, -30)]
)
@pytest.mark.parametrize("size", [(400, 300), (96, 80), (1300, 900)])
def test_a_shift_is_found_to_the_pixel(size: tuple[int, int], shift: tuple[int, int]) -> None:
    """A drawing that lies elsewhere on its sheet is put back, on sheets small and large."""
    scale = size[0] / 400
    moved = Shift(round(shift[0] * scale), round(shift[1] * scale))
    sheet = plan(DOOR).resize(size, Image.Resampling.NEAREST)
    new = Image.new("L", size, 255)
    new.paste(sheet, moved)
    # What went over the edge of the sheet is missing, and that does not confuse it.
    assert find_shift(read_drawing(png(sheet)), read_drawing(png(new))) == (-moved.x, -moved.y)


def test_sheets_of_slightly_different_size_are_aligned() -> None:
    """A new margin is no change."""
    new = Image.new("L", (420, 290), 255)
    new.paste(plan(DOOR), (12, -6))
    overlay = compare(plan(DOOR), new)
    assert overlay.shift == (-12, 6)
    assert overlay.size == (420, 300)
    assert overlay.score == 1


def test_a_long_strip_is_aligned_along_itself() -> None:
    """Shifts that leave no overlap at all are no candidates."""
    old, new = (Image.new("L", (1200, 30), 255) for _ in range(2))
    for strip, start in ((old, 100), (new, 140)):
        for x, width in ((start, 60), (start + 200, 9), (start + 410, 30)):
            ImageDraw.Draw(strip).rectangle((x, 8, x + width, 20), fill=0)
    overlay = compare(old, new)
    assert overlay.shift == (-40, 0)
    assert overlay.score == 1


def test_empty_sheets_are_the_same() -> None:
    """Without any ink there is no shift, no change, and a perfect score."""
    empty = Image.new("L", (50, 40), 255)
    overlay = compare(empty, empty)
    assert (overlay.shift, overlay.score, overlay.changes) == ((0, 0), 1, ())


@pytest.mark.parametrize("size", [(300, 300), (400, 400), (500, 300), (40, 30)])
def test_sheets_of_another_format_are_refused(size: tuple[int, int]) -> None:
    """More than a tenth of difference in width or height is an error that names both sizes."""
    message = rf"400 x 300 and {size[0]} x {size[1]}"
    with pytest.raises(SizesDiffer, match=message):
        compare(plan(), plan(size=size))


def test_a_drawing_is_the_same_as_itself_moved() -> None:
    """Nothing was added, nothing removed."""
    overlay = compare(plan(DOOR, WINDOW), plan(DOOR, WINDOW, at=(9, -4)))
    assert (overlay.score, overlay.added_area, overlay.removed_area) == (1, 0, 0)
    assert overlay.changes == ()


def test_what_was_added_and_removed_is_found_where_it_is() -> None:
    """A new window and a door that is gone: two changes, each in its box on the canvas."""
    overlay = compare(plan(DOOR), plan(WINDOW, at=(5, 3)))
    assert overlay.shift == (-5, -3)
    assert overlay.size == (405, 303)
    x, y = 5, 3  # the canvas begins where the new sheet does
    left, top, right, bottom = WINDOW
    window, door = overlay.changes
    assert window.category == "added"
    assert window.box == (x + left, y + top, x + right + 1, y + bottom + 1)
    assert door.category == "removed"
    # The side of the door that lies on the wall is still there, and one pixel beside it too.
    assert door.box == (x + DOOR[0] + 2, y + DOOR[1], x + DOOR[2] + 1, y + DOOR[3] + 1)
    assert overlay.added_area == window.area == 2 * 3 * (41 + 25) - 4 * 9
    assert overlay.removed_area == door.area
    assert 0 < overlay.score < 1
    assert overlay.changes_total == 2


def test_what_was_redrawn_in_one_place_is_one_change() -> None:
    """Removed and added ink in touching cells is a modification."""
    (change,) = compare(plan((200, 200, 230, 230)), plan((206, 206, 236, 236))).changes
    assert change.category == "modified"
    assert change.box == (200, 200, 237, 237)


def test_a_line_that_is_a_pixel_off_is_no_change() -> None:
    """Nor is dust of three pixels."""
    old, new = plan((200, 200, 230, 230)), plan((201, 201, 231, 231))
    ImageDraw.Draw(new).line((20, 20, 22, 20), fill=0)
    overlay = compare(old, new)
    assert overlay.changes == ()
    assert overlay.added_area == 3


def test_changes_across_tiles_are_one_change() -> None:
    """A line through the corners of four tiles leaves no seam."""
    new = plan((TILE - 20, TILE - 3, TILE + 20, TILE + 3))
    (change,) = compare(plan(), new).changes
    assert change.box == (TILE - 20, TILE - 3, TILE + 21, TILE + 4)


@given(
    st.lists(st.binary(min_size=23, max_size=23), min_size=1, max_size=30),
    st.lists(st.binary(min_size=21, max_size=21), min_size=1, max_size=30),
    st.integers(-4, 4),
    st.integers(-4, 4),
)
def test_tiles_come_to_what_every_pixel_by_itself_does(
    old_rows: list[bytes], new_rows: list[bytes], x: int, y: int
) -> None:
    """Whatever is drawn, and however it lies: at the seams of tiles and at the edges as well."""
    old, new = (
        Image.frombytes("L", (len(rows[0]), len(rows)), b"".join(rows))
        for rows in (old_rows, new_rows)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison_module, "TILE", 8)
        comparison = Comparison(old, new, Shift(x, y))
        for row in range(comparison.rows):
            comparison.compare_row(row)
        overlay = comparison.result()
    left, top = min(0, x), min(0, y)
    was, is_ = (
        {
            (column + at[0], row + at[1])
            for row in range(image.height)
            for column in range(image.width)
            if image.getpixel((column, row)) >= 128  # type: ignore[operator] # a pixel of a grey picture is a number
        }
        for image, at in ((old, (-left, -top)), (new, (x - left, y - top)))
    )

    def is_near(pixel: tuple[int, int], ink: set[tuple[int, int]]) -> bool:
        near = (-1, 0, 1)
        return any((pixel[0] + dx, pixel[1] + dy) in ink for dx in near for dy in near)

    added = {pixel for pixel in is_ if not is_near(pixel, was)}
    removed = {pixel for pixel in was if not is_near(pixel, is_)}
    for name, expected in (("addition", added), ("deletion", removed)):
        layer = overlay.picture(name)  # type: ignore[arg-type] # the names are literals where they come from
        seen = {
            (column, row)
            for row in range(layer.height)
            for column in range(layer.width)
            if layer.getpixel((column, row))
        }
        assert seen == expected
    assert (overlay.added_area, overlay.removed_area) == (len(added), len(removed))
    assert overlay.unchanged_area == len((was | is_) - added - removed)


def test_only_the_rows_that_were_compared_count() -> None:
    """What lies below them is not known yet, and the work of a row is done in its call alone."""
    old, new = plan(size=(400, 300)), plan(WINDOW, DOOR)
    assert DOOR[3] < TILE < WINDOW[1]
    assert [change.box[1] for change in compare(old, new, rows=1).changes] == [DOOR[1]]
    assert len(compare(old, new, rows=2).changes) == 2
    assert compare(old, new, rows=0).unchanged_area == 0


def test_there_are_at_most_so_many_changes_and_their_number_is_told() -> None:
    """The largest come first."""
    new = plan(size=(800, 600))
    for index in range(150):
        x, y = 400 + index % 15 * 24, 20 + index // 15 * 50
        ImageDraw.Draw(new).rectangle((x, y, x + 4 + index % 3, y + 6), fill=0)
    overlay = compare(plan(size=(800, 600)), new)
    assert len(overlay.changes) == MAX_CHANGES
    assert overlay.changes_total == 150
    areas = [change.area for change in overlay.changes]
    assert areas == sorted(areas, reverse=True)
    assert areas[:50] == [49] * 50


def test_pictures_show_what_was_found() -> None:
    """Grey, green and red in the overlay; one colour and nothing else in the layers."""
    old, new = plan(DOOR), plan(WINDOW)
    overlay = compare(old, new)
    wall, window, door, paper = (200, 41), (181, 210), (175, 95), (200, 180)
    pictures = {name: overlay.picture(name).convert("RGBA") for name in PICTURES}
    assert {picture.size for picture in pictures.values()} == {overlay.size}
    grey, green, red = (96, 96, 96, 255), (22, 163, 74, 255), (220, 38, 38, 255)
    nothing, white = (255, 255, 255, 0), (255, 255, 255, 255)
    seen = {
        name: [picture.getpixel(at) for at in (wall, window, door, paper)]
        for name, picture in pictures.items()
    }
    black = (0, 0, 0, 255)
    assert seen == {
        "overlay": [grey, green, red, white],
        "addition": [nothing, green, nothing, nothing],
        "deletion": [nothing, nothing, red, nothing],
        "aligned_a": [black, white, black, white],
        "aligned_b": [black, black, white, white],
    }


def test_pictures_survive_being_saved() -> None:
    """The layers are transparent in the file too."""
    overlay = compare(plan(), plan(WINDOW))
    layer = Image.open(BytesIO(png(overlay.picture("addition"))))
    assert layer.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 0)
