"""A drawing from the bytes of a PNG file that a stranger has sent.

How large it is to become in memory stands in the first 24 bytes of the file, and is read there,
before anything is decoded. Only then does Pillow see it, which is told to expect a PNG, and whose
every complaint becomes an :class:`UnreadableDrawing`.

A drawing is an image of ink: 8-bit grey, 255 where the ink is full and 0 where there is paper. So
what lies outside of it, which Pillow takes to be 0, is paper too.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Final

from PIL import Image, ImageChops

# An A1 sheet at 200 dpi has 31 million. A comparison holds about ten bytes for each.
MAX_PIXELS: Final = 32_000_000

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER: Final = struct.Struct(">8sI4sII")  # signature, length and type of a chunk, width, height
_COMPLAINTS: Final = (  # of Pillow, about PNG files
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


class UnreadableDrawing(Exception):
    """The bytes are no drawing that can be compared. The message is for whoever sent them."""


def size_of(content: bytes) -> tuple[int, int]:
    """Return the width and the height that a PNG file claims to have, in pixels.

    Args:
        content: The file, or its first 24 bytes.

    Raises:
        UnreadableDrawing: It does not begin like a PNG file.
    """
    if not content.startswith(_SIGNATURE):
        raise UnreadableDrawing("not a PNG file")
    if len(content) < _HEADER.size:
        raise UnreadableDrawing("the PNG file is cut off")
    _, length, kind, width, height = _HEADER.unpack_from(content)
    if (length, kind) != (13, b"IHDR") or not width or not height:
        raise UnreadableDrawing("the PNG file has no valid header")
    return width, height


def read_drawing(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the drawing in a PNG file. What is transparent is paper.

    Args:
        content: The whole file.
        max_pixels: The most pixels to decode.

    Raises:
        UnreadableDrawing: It is no PNG file, is damaged, or has more pixels than that.
    """
    size = size_of(content)
    if size[0] * size[1] > max_pixels:
        raise UnreadableDrawing(
            f"{size[0]} x {size[1]} pixels are more than the {max_pixels} that can be compared"
        )
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            if image.size != size:  # a second header, behind the one that was looked at
                raise UnreadableDrawing("the PNG file has contradictory headers")
            return ImageChops.invert(_grey(image))
    except _COMPLAINTS as error:
        raise UnreadableDrawing(f"the PNG file is damaged: {error}") from error


def _grey(image: Image.Image) -> Image.Image:
    """Return the image in 8-bit grey on white paper."""
    image.load()
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        paper = Image.new("L", image.size, 255)
        paper.paste(image.convert("L"), mask=image.getchannel("A"))
        return paper
    if image.mode.startswith("I"):  # 16 bits
        image = image.convert("I").point(lambda value: value / 257)
    return image.convert("L")
