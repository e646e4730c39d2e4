"""How much: rates, concurrency and budgets by key, user, tenant and model."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from serving.contracts.base import ModelName, Name, StrictModel


class LimitScope(StrEnum):
    """What a rule counts by. A request without a key (or user) is not counted by rules of that scope."""

    KEY = "key"
    USER = "user"
    TENANT = "tenant"
    MODEL = "model"


class RedisFailure(StrEnum):
    """What happens to requests with limits while Redis does not answer."""

    ALLOW = "allow"
    DENY = "deny"
    LOCAL_SHARE = "local-share"
    """Each process applies its share (`local_share_fraction`) of every limit from its own memory."""


class LimitRule(StrictModel):
    """Limits that each key, user, tenant or model has for itself; at least one of them."""

    name: Name
    scope: LimitScope
    tenants: tuple[Name, ...] = Field(default=(), description="Only requests of these; empty for all.")
    models: tuple[ModelName, ...] = Field(default=(), description="Only requests for these; empty for all.")
    requests_per_minute: int | None = Field(default=None, ge=1)
    burst_requests: int = Field(default=1, ge=1, description="Requests that may come at once within the rate (GCRA).")
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrent_requests: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1, description="Calendar day, UTC.")
    tokens_per_month: int | None = Field(default=None, ge=1, description="Calendar month, UTC.")
    usd_per_day: float | None = Field(default=None, gt=0, description="Calendar day, UTC; by the routes' prices.")
    usd_per_month: float | None = Field(default=None, gt=0, description="Calendar month, UTC; by the routes' prices.")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        amounts = (
            self.requests_per_minute, self.tokens_per_minute, self.concurrent_requests, self.tokens_per_day,
            self.tokens_per_month, self.usd_per_day, self.usd_per_month,
        )  # fmt: skip
        if all(amount is None for amount in amounts):
            raise ValueError("expected at least one limit; got none: add one or remove the rule")
        return self


class Limits(StrictModel):
    """All rules; a request has to pass every one that it falls under."""

    rules: tuple[LimitRule, ...] = ()
    redis_failure: RedisFailure = RedisFailure.LOCAL_SHARE
    local_share_fraction: float = Field(
        default=0.5, gt=0, le=1, description="Share of each limit that one process applies by itself: 1 / processes."
    )
