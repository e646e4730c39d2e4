"""What a request will use, learned from what requests used: tokens per byte of body, and output tokens."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

_WEIGHT: Final = 1 / 8
_DEVIATION_WEIGHT: Final = 1 / 4
_DEVIATIONS: Final = 2.0
"""Mean plus two mean deviations: about the 95th percentile where values scatter like a normal distribution.

Source: RFC 6298, section 2 (weights of smoothed time and variation); a mean deviation is 0.8 standard deviations.
"""

FIRST_TOKENS_PER_BYTE: Final = 0.3
"""Before anything is learned: English text has a token in 4 bytes, JSON and other languages have more."""

FIRST_OUTPUT_TOKENS: Final = 512
"""Before anything is learned, of requests without max_tokens."""


class Estimate:
    """What is known of one key's requests for one model; until the first answer these are cautious constants."""

    __slots__ = ("_output", "_output_deviation", "_ratio", "_ratio_deviation", "learned")

    def __init__(self) -> None:
        self.learned = False
        self._ratio = FIRST_TOKENS_PER_BYTE
        self._ratio_deviation = 0.0
        self._output = float(FIRST_OUTPUT_TOKENS)
        self._output_deviation = 0.0

    def prompt_tokens(self, body_bytes: int) -> int:
        """Guess a prompt's tokens from the size of its body; never more than a token a byte, at least 1."""
        ratio = self._ratio + _DEVIATIONS * self._ratio_deviation
        return math.ceil(body_bytes * ratio) if ratio < 1.0 else body_bytes or 1

    def output_tokens(self, max_tokens: int | None) -> int:
        """Guess an answer's tokens; never more than `max_tokens`, which is the guess until something is learned."""
        if max_tokens is None:
            return math.ceil(self._output + _DEVIATIONS * self._output_deviation)
        if not self.learned:
            return max_tokens
        guess = self._output + _DEVIATIONS * self._output_deviation
        return math.ceil(guess) if guess < max_tokens else max_tokens

    def learn(self, body_bytes: int, prompt_tokens: int, output_tokens: int) -> None:
        """Take in what a request really used."""
        ratio = prompt_tokens / body_bytes if body_bytes > 0 else self._ratio
        if not self.learned:
            self.learned = True
            self._ratio, self._ratio_deviation = ratio, ratio / 2
            self._output, self._output_deviation = float(output_tokens), output_tokens / 2
            return
        error = ratio - self._ratio
        self._ratio += _WEIGHT * error
        self._ratio_deviation += _DEVIATION_WEIGHT * (abs(error) - self._ratio_deviation)
        error = output_tokens - self._output
        self._output += _WEIGHT * error
        self._output_deviation += _DEVIATION_WEIGHT * (abs(error) - self._output_deviation)


class EstimateBook:
    """Estimates by who asks and for which model; the least recently used are forgotten.

    Args:
        size: Estimates held at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[tuple[str, str], Estimate] = OrderedDict()

    def of(self, asker: str, model: str) -> Estimate:
        """Return the estimate of a key (a tenant, for requests without one) and a model."""
        estimate = self._held.get((asker, model))
        if estimate is None:
            estimate = self._held[asker, model] = Estimate()
            if len(self._held) > self._size:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end((asker, model))
        return estimate
