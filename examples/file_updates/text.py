"""Text that may hold what is no text.

Names of files are bytes, which Python gives as ``str`` with lone surrogates in it (PEP 383), and
JSON can spell such surrogates too. They can be neither sent nor stored as text.
"""

from __future__ import annotations

import re
from typing import Final

_NOT_TEXT: Final = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Return the text, with what is no text in it replaced."""
    return text if text.isprintable() else _NOT_TEXT.sub("\ufffd", text)
