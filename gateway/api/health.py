"""Health and metrics: what probes, the node and Prometheus ask."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from gateway.health import whole_health
from gateway.peers import HEALTH, METRICS
from gateway.state import gateway_of
from gateway.telemetry.whole_metrics import whole_metrics

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
    """Answer 200 while there is a policy to answer by and no worker says it is shutting down, else 503."""
    health = whole_health(await gateway_of(request).peers.ask(HEALTH))
    if not health.ready:
        response.status_code = 503
    return Ready(ready=health.ready, reasons=health.reasons, revision=health.revision, unapplied=health.unapplied)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the metrics of all workers in Prometheus' text format."""
    return Response(whole_metrics(await gateway_of(request).peers.ask(METRICS)), media_type=CONTENT_TYPE_LATEST)
