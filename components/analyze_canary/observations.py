"""Reads what the gateway observed of a release, joined with the labels of its answers, in one fixed order.

The order is that of completion (time received plus duration): each request is held back for a moment until every
earlier one must have reached the spool, so the sequence is a function of the files alone and a killed analysis that
reads them again sees the same one. An answer counts once; its label follows as an arrival of its own.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from components.analyze_canary.spool import SpoolTail
from serving.contracts.observation import Label, Observation, Outcome, Side

HOLD_SECONDS: Final = 1.0
"""A request is judged this long after it ended; more than the gateway takes to write a batch of observations."""

LABEL_WAIT_SECONDS: Final = 10.0
"""A label that comes later than this after its answer does not count; answers after it wait for it no longer."""

DocumentT = TypeVar("DocumentT", bound=BaseModel)

_JUDGED_SIDES: Final = (Side.BASELINE, Side.CANDIDATE)


@dataclass(frozen=True)
class Arrival:
    """A request that ended (`label` is None), or the label of one that arrived earlier.

    `completed_at` is in Unix seconds; `number` counts the judged candidate requests up to this request.
    """

    observation: Observation
    completed_at: float
    number: int
    label: Label | None = None


@dataclass
class Tally:
    """What the reader saw of the release, whether judged or not."""

    total: int = 0
    candidate: int = 0
    baseline: int = 0
    disconnected: int = 0
    rejected: int = 0
    unlabelled: int = 0
    users: set[str] = field(default_factory=set)
    users_on_candidate: set[str] = field(default_factory=set)


class ObservationReader:
    """Follows the spools of one release; `poll` returns what became certain since the last call."""

    def __init__(self, observations: Path, labels: Path, release_id: str) -> None:
        """Follow the folder `observations` of JSON lines and the file `labels`; neither needs to exist yet."""
        self.tally = Tally()
        self._release_id = release_id
        self._observations = SpoolTail(observations, "*.jsonl*")
        self._labels = SpoolTail(labels.parent, labels.name)
        self._broken = 0
        self._seen: set[str] = set()
        self._held: list[tuple[float, str, Observation]] = []
        self._unlabelled: list[Arrival] = []
        self._label_of: dict[str, Label] = {}

    @property
    def broken_lines(self) -> int:
        """Lines that are no observation or no label."""
        return self._broken + self._observations.broken_lines + self._labels.broken_lines

    def poll(self, now: float) -> list[Arrival]:
        """Read new lines and return the arrivals that are certain at Unix time `now`, in order.

        Raises:
            OSError: A spool file exists and cannot be read.
        """
        for observation in self._parse(self._observations.read(containing=self._release_id.encode()), Observation):
            self._take(observation)
        for label in self._parse(self._labels.read(), Label):
            self._label_of.setdefault(label.request_id, label)
        arrivals = list(self._release(now - HOLD_SECONDS))
        arrivals.extend(self._join(now - HOLD_SECONDS))
        return arrivals

    def _parse(self, lines: list[bytes], model: type[DocumentT]) -> Iterator[DocumentT]:
        for line in lines:
            try:
                yield model.model_validate(json.loads(line))
            except (ValueError, ValidationError):
                self._broken += 1

    def _take(self, observation: Observation) -> None:
        """Hold one observation back; the same request twice counts once."""
        if observation.release_id != self._release_id or observation.request_id in self._seen:
            return
        self._seen.add(observation.request_id)
        completed_at = observation.ts + observation.total_ms / 1000
        heapq.heappush(self._held, (completed_at, observation.request_id, observation))

    def _release(self, until: float) -> Iterator[Arrival]:
        while self._held and self._held[0][0] <= until:
            completed_at, _, observation = heapq.heappop(self._held)
            if not self._count(observation):
                continue
            arrival = Arrival(observation, completed_at, self.tally.candidate)
            if observation.outcome is Outcome.OK:
                self._unlabelled.append(arrival)
            yield arrival

    def _count(self, observation: Observation) -> bool:
        """Tally one observation; True when it is to be judged."""
        tally = self.tally
        tally.total += 1
        tally.users.add(observation.user_hash)
        if observation.side is Side.CANDIDATE:
            tally.users_on_candidate.add(observation.user_hash)
        if observation.outcome is Outcome.CLIENT_DISCONNECT:
            tally.disconnected += 1
            return False
        if observation.outcome is Outcome.REJECTED:
            tally.rejected += 1
            return False
        tally.candidate += observation.side is Side.CANDIDATE
        tally.baseline += observation.side is Side.BASELINE
        return observation.side in _JUDGED_SIDES

    def _join(self, until: float) -> Iterator[Arrival]:
        """Yield labels in the order of their requests; one that is late blocks those behind it for a bounded time."""
        done = 0
        for arrival in self._unlabelled:
            deadline = arrival.completed_at + LABEL_WAIT_SECONDS
            label = self._label_of.get(arrival.observation.request_id)
            if label is not None and label.ts <= deadline:
                del self._label_of[arrival.observation.request_id]
                yield Arrival(arrival.observation, arrival.completed_at, arrival.number, label)
            elif label is not None or until > deadline:
                self.tally.unlabelled += 1
            else:
                break
            done += 1
        del self._unlabelled[:done]
