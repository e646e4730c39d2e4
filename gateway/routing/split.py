"""Weighted sticky split: which side of a model answers a user.

Weighted rendezvous hashing: each side draws a number in (0, 1) from the user and the side alone, and the largest
weight / -ln(number) wins. Shares follow the weights exactly in expectation; the answer depends on nothing but the user
and the weights, so it is the same in every worker. Two properties make it fit a canary:

- A user leaves side a for side b only when b's weight grew in proportion to a's. So when one side grows at the cost of
  another, exactly the share that must move, moves.
- When a side is left out, only its own users move, to the other sides in proportion to their weights.

Source: C. Schindelhauer, G. Schomaker, "Weighted distributed hash tables", SPAA 2005, the logarithmic method.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import log
from typing import Protocol, TypeVar


class Weighted(Protocol):
    """What can be split over."""

    @property
    def weight(self) -> float:
        """Share in any unit, above 0."""

    @property
    def seed(self) -> bytes:
        """What tells this side's draws from the others': 16 bytes."""


SideT = TypeVar("SideT", bound=Weighted)


def seed_of(*parts: str) -> bytes:
    """Derive a side's seed (16 bytes) from what names it."""
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()


def score(user: bytes, side: Weighted) -> float:
    """Return the side's score for a user: above 0, the largest wins."""
    digest = blake2b(user, digest_size=8, salt=side.seed).digest()
    number = ((int.from_bytes(digest, "big") >> 11) + 0.5) * 2.0**-53  # 53 bits, never 0 or 1
    return side.weight / -log(number)


def pick(user: bytes, sides: Sequence[SideT]) -> SideT:
    """Return the side for a user.

    Args:
        user: Who asks; any bytes.
        sides: At least one, all with a weight above 0.
    """
    if len(sides) == 1:
        return sides[0]
    best, best_score = sides[0], -1.0
    for side in sides:
        points = score(user, side)
        if points > best_score:
            best, best_score = side, points
    return best
