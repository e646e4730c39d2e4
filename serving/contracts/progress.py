"""Progress events: what a step says while it works, one JSON line each, read by the CLI and the report."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from serving.contracts.base import StrictModel


class EventKind(StrEnum):
    """What happened to a step."""

    STARTED = "started"
    PROGRESS = "progress"
    CACHED = "cached"
    FINISHED = "finished"
    FAILED = "failed"


class ProgressEvent(StrictModel):
    """One line of `events.jsonl`."""

    ts: float = Field(description="Unix seconds.")
    step: str
    kind: EventKind
    message: str = ""
    fraction: float | None = Field(default=None, ge=0, le=1)
