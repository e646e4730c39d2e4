"""What the gateway's admin API takes and gives: `nexus keys` and operators' scripts speak to it."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from serving.contracts.base import ModelName, Name, StrictModel
from serving.contracts.observation import Side

MAX_OVERLAP_SECONDS = 30 * 86_400
"""A month: a key that nobody replaces in a month is in use by somebody who does not know of it."""

KeyLabel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/@-]{0,63}$")]
"""What people call a key."""


class KeyScope(StrEnum):
    """What a key may be used for."""

    INFERENCE = "inference"
    ADMIN = "admin"


class KeyState(StrEnum):
    """What a key is at some moment."""

    ACTIVE = "active"
    REPLACED = "replaced"
    """Rotated; still accepted until its overlap ends."""
    EXPIRED = "expired"
    REVOKED = "revoked"


class IssueKey(StrictModel):
    """Order of a new key."""

    tenant: Name
    name: KeyLabel
    scopes: tuple[KeyScope, ...] = Field(default=(KeyScope.INFERENCE,), min_length=1, max_length=2)
    models: tuple[ModelName, ...] = Field(default=(), max_length=1_000, description="Empty for all of the tenant's.")
    lasts_seconds: float | None = Field(default=None, gt=0, le=10 * 366 * 86_400, description="None for no end.")


class RotateKey(StrictModel):
    """How a key is replaced."""

    overlap_seconds: float = Field(
        default=86_400,
        ge=0,
        le=MAX_OVERLAP_SECONDS,
        description="How long the old key is accepted besides the new one.",
    )


class KeyView(StrictModel):
    """A key as operators see it; times are seconds since 1970.

    `old_pepper` says that it is not hashed with the pepper of new keys; its next use mends that.
    """

    id: str
    tenant: str
    name: str
    state: KeyState
    scopes: tuple[KeyScope, ...]
    models: tuple[str, ...]
    created: float
    expires: float | None
    rotated_from: str | None
    overlap_ends: float | None
    revoked: float | None
    old_pepper: bool


class IssuedKey(StrictModel):
    """A new key; `credential` is shown here and never again. `warnings` say what may be a mistake in the order."""

    key: KeyView
    credential: str = Field(repr=False)
    warnings: tuple[str, ...] = ()


class KeyList(StrictModel):
    """Keys, the newest first. `after` asks for the next page; None on the last one."""

    keys: tuple[KeyView, ...]
    after: str | None


class RestoredKeys(StrictModel):
    """How many keys were written into a Redis that had lost them."""

    restored: int


class EndpointView(StrictModel):
    """One endpoint of a service, as this process knows it."""

    address: str
    drained: bool
    breaker_closed: bool
    running: int
    queued: int
    outstanding_tokens: int
    concurrency_limit: int


class SideView(StrictModel):
    """One side of a model."""

    service: str
    side: Side
    weight_percent: float
    ready: bool
    endpoints: tuple[EndpointView, ...]


class RouteView(StrictModel):
    """One model."""

    model: str
    release_id: str | None
    fallbacks: tuple[str, ...]
    sides: tuple[SideView, ...]


class SnapshotView(StrictModel):
    """What one worker answers requests by. `after` asks for the next page of models.

    Routes, tenants and drains are those of all `workers`; breakers, queues and limits are of the one that `worker`
    names, from 0. Those of all are in /metrics.
    """

    worker: int
    workers: int
    revision: str | None
    ready: bool
    reasons: tuple[str, ...]
    authentication_required: bool
    issuers: tuple[str, ...]
    tenants: tuple[str, ...]
    routes: tuple[RouteView, ...]
    after: str | None


class DrainView(StrictModel):
    """Whether a service gets new requests. `shared` says that all gateways of this Redis follow."""

    service: str
    drained: bool
    shared: bool


class SpendRow(StrictModel):
    """What one tenant, key and model used in one calendar day, UTC."""

    day: date
    tenant: str
    key_id: str | None
    model: str
    requests: int
    prompt_tokens: int
    output_tokens: int
    usd: float


class SpendView(StrictModel):
    """Spend of some days."""

    rows: tuple[SpendRow, ...]
    usd: float
