"""Drawings for the tests: walls, rooms, a door and a window, and revisions of them."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from PIL import Image, ImageDraw

WALLS = ((40, 40, 360, 260), (40, 40, 160, 150), (250, 100, 360, 260))
DOOR = (160, 80, 176, 110)
WINDOW = (180, 200, 220, 224)


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def plan(
    *boxes: tuple[int, int, int, int],
    at: tuple[int, int] = (0, 0),
    size: tuple[int, int] = (400, 300),
) -> Image.Image:
    """Draw the walls and further boxes, all moved by ``at``."""
    image = Image.new("L", size, 255)
    draw = ImageDraw.Draw(image)
    for left, top, right, bottom in (*WALLS, *boxes):
        x, y = at
        draw.rectangle((left + x, top + y, right + x, bottom + y), outline=0, width=3)
    return image


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file of that size without any pixels: what a bomb begins with."""
    return b"\x89PNG\r\n\x1a\n" + _chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    )


def bomb(width: int, height: int) -> bytes:
    """Return a whole and valid PNG file of black pixels, a thousandth of their size."""
    rows = zlib.compressobj(9)
    line = bytes(1 + width)
    pixels = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    return png_header(width, height) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
