"""When an upstream fails, or too much comes: retries, circuit breaker, and protection against overload."""

from __future__ import annotations

from pydantic import Field

from serving.contracts.base import Fraction, StrictModel


class Retry(StrictModel):
    """Second tries, only before the first byte has gone to the client."""

    max_attempts: int = Field(default=3, ge=1, le=10, description="Tries of one request over its whole fallback chain.")
    budget_fraction: Fraction = Field(
        default=0.2, description="Retries allowed for each first try of the last ten seconds."
    )
    min_retries_per_second: float = Field(
        default=1.0, ge=0, description="Allowed besides, so that little traffic can retry."
    )
    backoff_ms: float = Field(default=25.0, ge=0, description="Before the second try; doubles, with full jitter.")
    max_backoff_ms: float = Field(default=1_000.0, ge=0)


class Breaker(StrictModel):
    """Circuit breaker of each endpoint: opens on its share of failures, closes after answered probes."""

    window_seconds: float = Field(default=10.0, gt=0, le=600)
    min_requests: int = Field(default=10, ge=1, description="Requests in the window before it can open.")
    failure_fraction: Fraction = Field(default=0.5, description="Share of failures at which it opens.")
    open_seconds: float = Field(
        default=5.0, gt=0, description="Before the first probe; doubles up to max_open_seconds."
    )
    max_open_seconds: float = Field(default=60.0, gt=0)
    probes: int = Field(default=3, ge=1, description="Answered probes in a row that close it.")
    max_ejected_fraction: Fraction = Field(
        default=0.5, description="Largest share of a model's endpoints open at once."
    )


class Overload(StrictModel):
    """Adaptive limit on requests under way at each endpoint, and the queue in front of it."""

    initial_concurrency: int = Field(
        default=16,
        ge=1,
        description="Where the limit of an endpoint begins; it grows by half a round while none waits.",
    )
    min_concurrency: int = Field(default=4, ge=1)
    max_concurrency: int = Field(default=1_024, ge=1)
    target_queue_ms: float = Field(
        default=100.0, gt=0, description="Time to the first token above the best that is taken for queueing."
    )
    max_queued: int = Field(default=512, ge=0, description="Requests that wait for one endpoint.")
    max_wait_seconds: float = Field(
        default=5.0, gt=0, description="Longest wait; the request's own deadline may be shorter."
    )
