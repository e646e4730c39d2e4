"""What simulated users ask, and when: a sequence that the seed alone decides.

Every request is drawn from a generator of its own number, so a restarted traffic process goes on where the last one
stopped without drawing the earlier ones again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from serving.contracts.data_contract import DataRow
from serving.contracts.release_spec import SimulatedTraffic


class TrafficError(Exception):
    """The simulated users could not do their work; the message says what was missing."""


@dataclass(frozen=True)
class Ask:
    """One request: `gap_seconds` after the one before it, this user asks this conversation."""

    gap_seconds: float
    user: str
    row: DataRow
    stream: bool


class Population:
    """Users and what they can ask, split into single questions and conversations of several turns."""

    def __init__(self, rows: Sequence[DataRow], traffic: SimulatedTraffic) -> None:
        self._traffic = traffic
        self._single = [row for row in rows if _user_turns(row) == 1]
        self._multi = [row for row in rows if _user_turns(row) > 1]
        share = traffic.multi_turn_fraction
        for found, wanted, kind in ((self._multi, share, "several turns"), (self._single, 1 - share, "one turn")):
            if wanted > 0 and not found:
                raise TrafficError(
                    f"expected live conversations of {kind} (multi_turn_fraction is {share}); got none: add some"
                )

    def asks(self, start: int = 0) -> Iterator[Ask]:
        """Yield requests number `start`, `start + 1`, … without end."""
        number = start
        while True:
            yield self._ask(number)
            number += 1

    def _ask(self, number: int) -> Ask:
        traffic = self._traffic
        random = Random(f"{traffic.seed}/{number}")
        gap = -math.log1p(-random.random()) / traffic.rate_per_second
        user = f"user-{random.randrange(traffic.users):07d}"
        pool = self._multi if random.random() < traffic.multi_turn_fraction else self._single
        return Ask(gap, user, pool[random.randrange(len(pool))], random.random() < traffic.streaming_fraction)


def _user_turns(row: DataRow) -> int:
    return sum(message.role == "user" for message in row.messages)
