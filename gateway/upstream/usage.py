"""Usage: the tokens of one answer, in the same words for every wire format."""

from __future__ import annotations

from typing import Final, NamedTuple

_MAX_COUNT: Final = 16_777_216
"""More than any model's window holds: a count beyond it is a fault of the engine's, and would use a budget up."""


class Usage(NamedTuple):
    """Tokens as the engine reports them; None is what it did not say.

    `prompt_tokens` is the whole prompt; `cached_tokens` of them came from a prefix cache.
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


def count_of(value: object) -> int | None:
    """Return a count of tokens, or None for what is none."""
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None
