"""Observations: one record a request, written by the gateway, and labels that arrive on another way.

Both travel as JSON lines in append-only spool files. Nothing here holds prompt or answer text.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from serving.contracts.base import StrictModel


class Side(StrEnum):
    """Which side of a release served a request."""

    STABLE = "stable"
    BASELINE = "baseline"
    CANDIDATE = "candidate"


class Outcome(StrEnum):
    """How a request ended, as seen by the gateway."""

    OK = "ok"
    UPSTREAM_ERROR = "upstream-error"
    UPSTREAM_TIMEOUT = "upstream-timeout"
    CLIENT_DISCONNECT = "client-disconnect"
    ENGINE_REFUSED = "engine-refused"
    """The engine itself said that the request is at fault (400, 404, 405, 413, 415, 422). A broken chat template or a
    smaller context shows this way, so it is judged as an error; mistakes of clients hit both sides alike."""
    REJECTED = "rejected"
    """Refused or cut off by the gateway: says nothing about a side."""


class Observation(StrictModel):
    """One request through the gateway.

    Times are milliseconds on the gateway's monotonic clock; `ttft_ms` and `itl_ms` (mean gap between content chunks)
    exist only for streamed answers. `user_hash` is a keyed hash, never the user's name.
    """

    ts: float = Field(description="Unix seconds when the request was received.")
    request_id: str = Field(description="A try that another one followed has `~` and its number behind the id.")
    trace_id: str | None = None
    tenant: str | None = None
    key_id: str | None = None
    model: str
    rule: str | None = Field(default=None, description="Routing rule that chose the model.")
    arm: str | None = Field(default=None, description="Model that an experiment assigned.")
    release_id: str | None
    side: Side | None
    service: str | None
    user_hash: str
    streamed: bool
    outcome: Outcome
    status: int
    total_ms: float = Field(ge=0)
    ttft_ms: float | None = Field(default=None, ge=0)
    itl_ms: float | None = Field(default=None, ge=0)
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None


class Label(StrictModel):
    """What is learned of an answer outside the gateway; joined to its observation by `request_id`."""

    ts: float
    request_id: str
    exact_match: bool
    format_failure: bool
    refusal: bool
