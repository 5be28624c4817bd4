"""Text into chunks of so many tokens, each beginning with the last ones of the chunk before it.

A token is a word or a mark of punctuation. (The tables of the encodings that language models use
have to be downloaded, so they are not used here; the numbers are of the same order.)
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from sselib import JobFailed

MAX_CHUNK_SIZE: Final = 8192
TOKENIZER: Final = "words"

_TOKEN: Final = re.compile(r"\w+|[^\w\s]")


def _check_size(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    least = 1 if attribute.name == "chunk_size" else 0
    if not least <= value <= MAX_CHUNK_SIZE:
        raise ValueError(f"Input should be from {least} to {MAX_CHUNK_SIZE}")


@attrs.frozen(kw_only=True)
class ChunkingOptions:
    """How to cut a text.

    Args:
        strategy: ``token_size`` is the only one.
        chunk_size: The most tokens of a chunk.
        chunk_overlap: How many of them repeat the end of the chunk before: at most half.
        encoding_name: Accepted for the sake of clients that send it; see above.

    Raises:
        ValueError: A size out of range.
    """

    strategy: str = attrs.field(default="token_size")
    chunk_size: int = attrs.field(default=512, validator=_check_size)
    chunk_overlap: int = attrs.field(
        default=attrs.Factory(lambda self: min(50, self.chunk_size // 2), takes_self=True),
        validator=_check_size,
    )
    encoding_name: str = "cl100k_base"

    @strategy.validator
    def _check_strategy(self, _: object, value: str) -> None:
        if value != "token_size":
            raise ValueError("Input should be 'token_size'")

    def __attrs_post_init__(self) -> None:
        if 2 * self.chunk_overlap > self.chunk_size:
            raise ValueError("chunk_overlap should be at most half of chunk_size")


@attrs.frozen
class Chunk:
    """A piece of a document's text, from the character ``start`` to before ``end``."""

    text: str
    tokens: int
    start: int
    end: int


def cut(text: str, options: ChunkingOptions, most: int) -> list[Chunk]:
    """Return the chunks of a text; each token is in one of them, or in two that overlap.

    Raises:
        JobFailed: There would be more than ``most``.
    """
    spans = [match.span() for match in _TOKEN.finditer(text)]
    step = options.chunk_size - options.chunk_overlap
    if len(spans) > most * step:
        raise JobFailed(
            f"the document has {len(spans):,} tokens, which makes more than {most:,} chunks",
            code="too_many_chunks",
        )
    chunks = []
    for first in range(0, len(spans), step):
        held = spans[first : first + options.chunk_size]
        start, end = held[0][0], held[-1][1]
        chunks.append(Chunk(text[start:end], len(held), start, end))
        if first + options.chunk_size >= len(spans):
            break
    return chunks


def json_of(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """Return chunks as the API shows them."""
    return [{"index": index, **attrs.asdict(chunk)} for index, chunk in enumerate(chunks)]
