"""Health and metrics: what probes, the node and Prometheus ask."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from gateway.state import gateway_of

router = APIRouter(tags=["operations"])


class Live(BaseModel):
    """The process answers."""

    live: bool = True


class Ready(BaseModel):
    """Whether requests can be answered; `reasons` also names what is wrong while they can.

    `unapplied` names routing rules that are passed over, or targets left out, because they have no route.
    """

    ready: bool
    reasons: tuple[str, ...]
    revision: str | None
    unapplied: tuple[str, ...]


@router.get("/health/live")
async def live() -> Live:
    """Answer as long as the event loop runs."""
    return Live()


@router.get("/health/ready", responses={503: {"model": Ready}})
async def ready(request: Request, response: Response) -> Ready:
    """Answer 200 while there is a policy to answer by and the process is not shutting down, else 503."""
    gateway = gateway_of(request)
    readiness, authenticator = gateway.store.readiness, gateway.authenticator
    is_ready = readiness.ready and authenticator.ready
    if not is_ready:
        response.status_code = 503
    return Ready(
        ready=is_ready,
        reasons=readiness.reasons + authenticator.reasons,
        revision=readiness.revision,
        unapplied=readiness.unapplied,
    )


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return this process's metrics in Prometheus' text format."""
    return Response(gateway_of(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)
