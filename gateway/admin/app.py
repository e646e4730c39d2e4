"""The admin API's application: everything in it, the unknown path included, is behind the gate."""

from __future__ import annotations

import logging
from typing import Final

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from gateway.admin import key_routes, node_routes
from gateway.admin.state import AdminState
from gateway.api.error_handlers import add_error_handlers, error_response
from gateway.errors import BodyTooLargeError, GatewayError, InvalidRequestError

_MAX_BODY_BYTES: Final = 65_536

log = logging.getLogger(__name__)


class AdminApp(FastAPI):
    """FastAPI that lets nobody in without a credential."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one ASGI connection."""
        if scope["type"] != "http":
            return
        admin: AdminState = self.state.admin
        try:
            scope["nexus.actor"] = admin.gate.actor(scope["headers"])
            _check_body(scope)
        except GatewayError as exc:
            log.warning("admin request refused", extra={"fields": {"client": scope.get("client"), "code": exc.code}})
            response = error_response(exc)
            response.headers["connection"] = "close"  # what is left of the body is not waited for
            await response(scope, receive, send)
            return
        await super().__call__(scope, receive, send)


def _check_body(scope: Scope) -> None:
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        raise InvalidRequestError("expected a body with content-length; got a chunked one: send its length")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:19]) > _MAX_BODY_BYTES:
        raise BodyTooLargeError(f"expected a body of at most {_MAX_BODY_BYTES} bytes; got more: send less")


def create_admin_app(state: AdminState) -> FastAPI:
    """Build the application over the parts of a running gateway."""
    app = AdminApp(title="Nexus gateway, admin API", version="v1", docs_url=None, redoc_url=None)
    app.state.admin = state
    app.include_router(key_routes.router)
    app.include_router(node_routes.router)
    add_error_handlers(app)
    return app
