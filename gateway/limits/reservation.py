"""Reservation: what one request has taken of its limits, from `Limiter.reserve` to `Limiter.settle`."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING

from gateway.limits.memory import Hold
from gateway.limits.plan import LimitPlan
from gateway.limits.verdict import Answer, headers_of

if TYPE_CHECKING:
    from gateway.limits.stock import Shelf

Used = tuple[int, int, int, int]
"""Requests (0 for one that does not count), prompt tokens, output tokens, nano-USD."""


class Place(IntEnum):
    """What Redis knows of a reservation."""

    NOWHERE = 0
    """Nothing, for good."""
    QUEUED = 1
    """Nothing yet: it stands in a queue."""
    SENT = 2
    """Not known: a batch that holds it has been sent."""
    HELD = 3
    """It is held."""


class Reservation:
    """One request's share of its limits.

    Attributes:
        plan: The caller's and model's limits.
        prompt_tokens: Expected.
        output_tokens: Expected.
        tokens: What is held for it; more than expected if it was made ahead.
        answer: What the counters said; None when nothing was asked.
        shelf: Where it goes when it was made ahead.
    """

    __slots__ = (
        "answer", "body_bytes", "day", "epoch", "final", "future", "hold", "month", "nano", "number", "output_tokens",
        "place", "plan", "prompt_tokens", "receipt", "settled", "shelf", "spare", "tokens",
    )  # fmt: skip

    def __init__(self, plan: LimitPlan, body_bytes: int, prompt_tokens: int, output_tokens: int) -> None:
        self.plan = plan
        self.body_bytes = body_bytes
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.tokens = prompt_tokens + output_tokens
        self.place = Place.NOWHERE
        self.settled = False
        self.answer: Answer | None = None
        self.hold: Hold | None = None
        self.future: asyncio.Future[Answer | None] | None = None
        self.final: tuple[Used, bool] | None = None
        self.shelf: Shelf | None = None
        self.spare = 0.0

    # Set when the request joins a batch, and when Redis grants it; never read before.
    nano: int
    number: bytes
    epoch: bytes
    receipt: bytes
    day: int
    month: int

    @property
    def headers(self) -> bytes:
        """The `x-ratelimit-*` header lines of the answer; none when nothing was asked."""
        return headers_of(self.answer, self.plan.counters) if self.answer is not None else b""
