"""The application: FastAPI for documentation and cold routes; hot paths are served straight on the connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from gateway.api import health, models
from gateway.api.error_handlers import add_error_handlers
from gateway.api.openapi import hot_paths
from gateway.opening import open_gateway
from gateway.peers import ALONE, Place
from gateway.routing.snapshot import HOT_PATHS
from gateway.settings import GatewaySettings
from gateway.state import State


class GatewayApp(FastAPI):
    """FastAPI whose document also has the hot paths, which the connection serves without it."""

    def openapi(self) -> dict[str, Any]:
        """Return the document of all routes, hot ones included."""
        document = super().openapi()
        document["paths"] = hot_paths() | document["paths"]
        return document


def create_app(settings: GatewaySettings, place: Place = ALONE) -> FastAPI:
    """Build the application; nothing is opened before its lifespan begins.

    Args:
        settings: Of the process.
        place: Which of several workers this is.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            yield {"gateway": await open_gateway(settings, stack, place)}

    app = GatewayApp(title="Nexus gateway", version="v1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(models.router)
    app.include_router(health.router)
    add_error_handlers(app, post_only=frozenset(HOT_PATHS))
    return app
