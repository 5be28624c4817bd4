"""Summaries and vectors."""

from __future__ import annotations

import math

import pytest

from examples.file_updates.pipeline.embedding import DIMENSIONS, embed, similarity
from examples.file_updates.pipeline.summary import MAX_CHARACTERS, summarize
from examples.file_updates.pipeline.words import telling, words

WHALES = (
    "Chapter one\n\nThe whale is a mammal. It was raining that day. Whales breathe air, and a whale"
    " nurses its young as every mammal does. Somebody sneezed. The mammal called whale can dive for"
    " an hour without air. He went home."
)


def test_words_are_letters_and_digits_in_lower_case() -> None:
    """In any script, in their order; what joins names in programs parts them."""
    assert words("Größe_2 x.y Привет-МИР!") == ["größe", "2", "x", "y", "привет", "мир"]
    assert telling("The whale is a mammal") == ["whale", "mammal"]


def test_a_summary_is_the_sentences_that_say_most() -> None:
    """In the order of the text, and nothing else."""
    assert summarize(WHALES) == (
        "The whale is a mammal. Whales breathe air, and a whale nurses its young as every mammal"
        " does. The mammal called whale can dive for an hour without air."
    )


@pytest.mark.parametrize("text", ["", "  \n\n ", "\n"])
def test_of_nothing_there_is_no_summary(text: str) -> None:
    """And no error."""
    assert summarize(text) == ""


@pytest.mark.parametrize("text", ["word " * 10_000, "x" * 10_000, ". " * 1000, "a\n" * 1000])
def test_a_summary_is_short(text: str) -> None:
    """Whatever the text is like, and no sentence comes twice."""
    summary = summarize(text)
    assert 0 < len(summary) <= MAX_CHARACTERS


@pytest.mark.parametrize("piece", [" ", "\n", ".", ". ", "a", "\n "])
def test_no_summary_takes_long(piece: str) -> None:
    """A megabyte of the same is summed up in less than the deadline of this test, by far."""
    summarize(piece * 500_000)


def test_a_vector_has_length_one_or_none() -> None:
    """Of a text without words there is nothing to say."""
    vector = embed(WHALES)
    assert len(vector) == DIMENSIONS
    assert math.isclose(sum(value * value for value in vector), 1, rel_tol=1e-5)
    assert not any(embed("... !?"))


def test_near_texts_are_near() -> None:
    """More words in common, and words that are written alike, come nearer."""
    asked = embed("mammals that dive")
    near, far = embed(WHALES), embed("The stock exchange closed higher on Friday.")
    assert similarity(asked, near) > 2 * similarity(asked, far)
    assert similarity(embed("whales"), embed("whale")) > 0.3
    assert similarity(near, near) == pytest.approx(1, abs=1e-5)


def test_a_rare_word_counts_more() -> None:
    """Who asks for two words means the rarer one."""
    rare = {"whale": 5.0, "report": 0.1}
    asked = embed("whale report", rarity=rare.__getitem__)
    assert similarity(asked, embed("whale")) > similarity(asked, embed("report"))
