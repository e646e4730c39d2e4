"""GET /v1/models: the models that the caller may use, aliases of the routing rules included."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from gateway.auth.credential import credential_headers
from gateway.auth.principal import Principal
from gateway.errors import ModelNotFoundError, NotReadyError
from gateway.state import gateway_of

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List the caller's models, in the form of OpenAI's API."""
    return {"object": "list", "data": [_model(name) for name in sorted(await _names(request))]}


@router.get("/v1/models/{model:path}")
async def get_model(model: str, request: Request) -> dict[str, Any]:
    """Return one of the caller's models."""
    if model not in await _names(request):
        raise ModelNotFoundError(f"expected a model that is served; got {model[:100]!r}", param="model")
    return _model(model)


async def _names(request: Request) -> set[str]:
    """Authenticate as for a request to a model, and return the names that the caller may use."""
    gateway = gateway_of(request)
    snapshot = gateway.store.snapshot
    if snapshot is None:
        raise NotReadyError("expected a policy; none has been loaded yet: try again later", retry_after_seconds=1)
    principal: Principal = await gateway.authenticator.identify_slowly(
        snapshot.policy, *credential_headers(request.scope["headers"])
    )
    return snapshot.router.names(principal)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "nexus"}
