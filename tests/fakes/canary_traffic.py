"""Observations and labels of a made-up gateway, for tests of the canary analysis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.analyze_canary.observations import Arrival
from serving.contracts.observation import Label, Observation, Outcome, Side

RELEASE_ID = "support-assistant-000000000001"
START = 1_772_323_200.0


def observation(number: int, side: Side | None = Side.CANDIDATE, **changes: Any) -> Observation:
    """One answered, streamed request; request ids and times follow from its number, a tenth of a second apart."""
    fields: dict[str, Any] = {
        "ts": START + number / 10,
        "request_id": f"request-{number}",
        "model": "support-assistant",
        "release_id": RELEASE_ID,
        "side": side,
        "service": f"service-{side}",
        "user_hash": f"user-{number}",
        "streamed": True,
        "outcome": Outcome.OK,
        "status": 200,
        "total_ms": 50.0,
        "ttft_ms": 20.0,
        "itl_ms": 3.0,
        "finish_reason": "stop",
    }
    return Observation(**{**fields, **changes})


def label(of: Observation, **changes: Any) -> Label:
    """A label of a right answer, written when the answer ended."""
    fields: dict[str, Any] = {
        "ts": of.ts + of.total_ms / 1000,
        "request_id": of.request_id,
        "exact_match": True,
        "format_failure": False,
        "refusal": False,
    }
    return Label(**{**fields, **changes})


def arrivals(of: Observation, number: int = 1, labelled: Label | None = None) -> Iterator[Arrival]:
    """What the reader makes of one request: its end, and its label."""
    ended = of.ts + of.total_ms / 1000
    yield Arrival(of, ended, number)
    if labelled is not None:
        yield Arrival(of, ended, number, labelled)


class FakeSpool:
    """Writes the files that the gateway and the simulated users would write below a spool folder."""

    def __init__(self, spool: Path, release_id: str = RELEASE_ID) -> None:
        self.observations = spool / "observations"
        self.labels = spool / "labels" / f"{release_id}.jsonl"
        self.file = self.observations / "observations-1.jsonl"
        self.observations.mkdir(parents=True, exist_ok=True)
        self.labels.parent.mkdir(parents=True, exist_ok=True)

    def write(self, of: Observation, labelled: Label | None = None) -> None:
        """Append one observation and its label."""
        self.raw(self.file, of.model_dump_json() + "\n")
        if labelled is not None:
            self.raw(self.labels, labelled.model_dump_json() + "\n")

    @staticmethod
    def raw(path: Path, text: str) -> None:
        """Append text as it is."""
        with path.open("a") as file:
            file.write(text)
