"""What this process answers by, services taken out of service, and spend."""

from __future__ import annotations

import time
from bisect import bisect_right
from datetime import UTC, date, datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Request

from gateway.admin.state import actor_of, admin_of
from gateway.errors import InvalidRequestError, NotReadyError
from gateway.health import own_health
from gateway.resilience.endpoint import EndpointState
from gateway.routing.snapshot import ModelRoute, RouteSide
from serving.contracts.admin_api import DrainView, EndpointView, RouteView, SideView, SnapshotView, SpendView

router = APIRouter(prefix="/admin/v1", tags=["operations"])

_PAGE = 100
_MAX_DAYS = 400
"""Spend is kept for little more than a year."""


@router.get("/snapshot")
async def snapshot(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = _PAGE
) -> SnapshotView:
    """Show what this process answers by: no secret is part of it. Models come by name, a page at a time."""
    admin = admin_of(request)
    health, current = own_health(admin.store, admin.authenticator), admin.store.snapshot
    if current is None:
        raise NotReadyError("expected a policy; none has been loaded yet: see /health/ready")
    names = sorted(current.routes)
    start = 0 if after is None else bisect_right(names, after)
    page = tuple(islice(names, start, start + limit))
    policy = current.policy
    return SnapshotView(
        worker=admin.place.index,
        workers=admin.place.count,
        revision=current.revision,
        ready=health.ready,
        reasons=health.reasons,
        authentication_required=policy.authentication.required,
        issuers=tuple(issuer.issuer for issuer in policy.authentication.jwt),
        tenants=tuple(tenant.name for tenant in policy.tenants),
        routes=tuple(_route(current.routes[name]) for name in page),
        after=page[-1] if start + limit < len(names) else None,
    )


def _route(route: ModelRoute) -> RouteView:
    return RouteView(
        model=route.model,
        release_id=route.release_id,
        fallbacks=route.fallbacks,
        sides=tuple(_side(side) for side in route.weighted),
    )


def _side(side: RouteSide) -> SideView:
    now = time.monotonic()
    return SideView(
        service=side.service,
        side=side.side,
        weight_percent=side.weight,
        ready=side.ready,
        endpoints=tuple(_endpoint(target.state, now) for target in side.targets),
    )


def _endpoint(state: EndpointState, now: float) -> EndpointView:
    return EndpointView(
        address=state.address,
        drained=state.drained,
        breaker_closed=state.breaker.allows(now),
        running=state.running,
        queued=state.queued,
        outstanding_tokens=state.outstanding,
        concurrency_limit=int(state.limiter.limit),
    )


@router.post("/endpoints/{service}/drain")
async def drain(service: str, request: Request) -> DrainView:
    """Take a service out of service: it gets no new requests, those under way go on."""
    return await _set_drained(service, request, drained=True)


@router.post("/endpoints/{service}/undrain")
async def undrain(service: str, request: Request) -> DrainView:
    """Take a service back."""
    return await _set_drained(service, request, drained=False)


async def _set_drained(service: str, request: Request, *, drained: bool) -> DrainView:
    admin = admin_of(request)
    action = "endpoint.drain" if drained else "endpoint.undrain"
    with admin.audit.change(actor_of(request), action, service[:64]):
        if admin.place.count > 1 and not admin.drains.shared:
            raise NotReadyError(
                "expected a Redis, by which all workers of the gateway follow; this one has none: set "
                "NEXUS_GATEWAY_REDIS_URL, or NEXUS_GATEWAY_WORKERS=1"
            )
        await admin.drains.set(service, drained=drained)
    return DrainView(service=service, drained=drained, shared=admin.drains.shared)


@router.get("/spend")
async def spend(
    request: Request, first: date | None = None, last: date | None = None, tenant: str | None = None
) -> SpendView:
    """Show what was used, by calendar day (UTC), tenant, key and model; by default today."""
    reader = admin_of(request).spend
    if reader is None:
        raise NotReadyError("expected a gateway that counts spend; this one has no Redis: set NEXUS_GATEWAY_REDIS_URL")
    end = last or datetime.now(UTC).date()
    begin = first or end
    if not 0 <= (end - begin).days < _MAX_DAYS:
        raise InvalidRequestError(f"expected `first` before `last`, at most {_MAX_DAYS} days; got {begin} to {end}")
    rows = tuple(row for row in await reader.spend(begin, end) if tenant is None or row.tenant == tenant)
    return SpendView(rows=rows, usd=sum(row.usd for row in rows))
