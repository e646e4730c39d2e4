"""Estimates: cautious first, then close to what requests use, always bounded."""

from __future__ import annotations

import random

from gateway.limits.estimates import FIRST_OUTPUT_TOKENS, Estimate, EstimateBook


def test_before_anything_is_learned_max_tokens_counts() -> None:
    """The first request is reserved at its worst, or at a constant when it names no maximum."""
    estimate = Estimate()
    assert estimate.output_tokens(77) == 77
    assert estimate.output_tokens(None) == FIRST_OUTPUT_TOKENS
    assert estimate.prompt_tokens(1_000) == 300
    assert estimate.prompt_tokens(0) == 0 or estimate.prompt_tokens(0) == 1


def test_an_estimate_covers_most_requests_and_no_more_than_twice_the_mean() -> None:
    """Of normally scattered lengths nine in ten are within it."""
    estimate, chance = Estimate(), random.Random(1)
    lengths = [max(1, int(chance.gauss(200, 40))) for _ in range(500)]
    covered = 0
    for length in lengths:
        covered += length <= estimate.output_tokens(None)
        estimate.learn(1_000, 250, length)
    assert covered > 450
    assert 200 < estimate.output_tokens(None) < 400
    assert estimate.output_tokens(100) == 100


def test_prompts_are_estimated_by_their_bytes() -> None:
    """Tokens per byte are learned; never more than one token a byte."""
    estimate = Estimate()
    for size in range(100, 2_000, 50):
        estimate.learn(size, size // 5, 10)
    assert 200 <= estimate.prompt_tokens(1_000) <= 260
    for _ in range(50):
        estimate.learn(10, 1_000, 10)
    assert estimate.prompt_tokens(100) == 100


def test_answers_that_grow_are_followed() -> None:
    """After twenty answers of another length the estimate is near it."""
    estimate = Estimate()
    for _ in range(50):
        estimate.learn(100, 25, 10)
    for _ in range(20):
        estimate.learn(100, 25, 1_000)
    assert estimate.output_tokens(None) >= 1_000


def test_memory_is_bounded() -> None:
    """The least recently used estimate is forgotten; the same asker and model share one."""
    book = EstimateBook(2)
    first = book.of("a", "m")
    book.of("b", "m")
    assert book.of("a", "m") is first
    book.of("c", "m")
    assert book.of("a", "m") is first
    assert len(book._held) == 2
