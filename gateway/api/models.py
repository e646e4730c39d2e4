"""GET /v1/models: the models that have a route."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from gateway.errors import ModelNotFoundError, NotReadyError
from gateway.routing.snapshot import Snapshot
from gateway.state import gateway_of

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List the models that have a route, in the form of OpenAI's API."""
    snapshot = _snapshot(request)
    return {"object": "list", "data": [_model(name) for name in sorted(snapshot.routes)]}


@router.get("/v1/models/{model}")
async def get_model(model: str, request: Request) -> dict[str, Any]:
    """Return one model."""
    if model not in _snapshot(request).routes:
        raise ModelNotFoundError(f"expected a model that is served; got {model[:100]!r}", param="model")
    return _model(model)


def _snapshot(request: Request) -> Snapshot:
    snapshot = gateway_of(request).store.snapshot
    if snapshot is None:
        raise NotReadyError("expected a policy; none has been loaded yet: try again later", retry_after_seconds=1)
    return snapshot


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "nexus"}
