"""Text into chunks: nothing lost, nothing larger than asked for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.dex.chunking import ChunkingOptions, cut
from sselib import JobFailed


@given(
    st.text(alphabet="ab.! \næ", max_size=200),
    st.integers(1, 20).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size // 2))),
)
def test_every_token_is_in_a_chunk(text: str, sizes: tuple[int, int]) -> None:
    """Chunks are pieces of the text, in order, of so many tokens, each overlapping the last."""
    size, overlap = sizes
    options = ChunkingOptions(chunk_size=size, chunk_overlap=overlap)
    tokens = re.findall(r"\w+|[^\w\s]", text)
    seen: list[str] = []
    chunks = cut(text, options, 1000)
    for index, chunk in enumerate(chunks):
        assert chunk.text == text[chunk.start : chunk.end]
        held = re.findall(r"\w+|[^\w\s]", chunk.text)
        assert len(held) == chunk.tokens
        assert len(held) == size or index == len(chunks) - 1
        if index:
            assert held[:overlap] == seen[-overlap:] if overlap else True
            seen += held[overlap:]
        else:
            seen = held
    assert seen == tokens


def test_the_overlap_is_never_more_than_half() -> None:
    """Unless it is asked for, when it is an error."""
    assert ChunkingOptions().chunk_overlap == 50
    assert ChunkingOptions(chunk_size=10).chunk_overlap == 5
    assert ChunkingOptions(chunk_size=1).chunk_overlap == 0
    with pytest.raises(ValueError, match="at most half"):
        ChunkingOptions(chunk_size=10, chunk_overlap=6)


def test_too_many_chunks_are_none() -> None:
    """It is said how many tokens there were."""
    options = ChunkingOptions(chunk_size=2, chunk_overlap=0)
    assert len(cut("a b c d", options, 2)) == 2
    with pytest.raises(JobFailed, match="has 5 tokens, which makes more than 2 chunks"):
        cut("a b c d e", options, 2)
