"""Turns whatever a FastAPI route raises into an OpenAI-shaped error with a request id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.api.errors import error_body, render
from gateway.api.intake import new_request_id
from gateway.errors import ErrorCode, GatewayError

_CODES = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}
_MESSAGES = {404: "there is nothing at this path", 405: "this path does not know this method"}


def add_error_handlers(app: FastAPI, post_only: frozenset[str] = frozenset()) -> None:
    """Give an application the gateway's error answers.

    Args:
        app: The application.
        post_only: Paths that are answered outside its router, for POST alone.
    """
    app.add_exception_handler(GatewayError, _domain_error)
    app.add_exception_handler(HTTPException, _http_error(post_only))
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _internal_error)


def error_response(exc: GatewayError) -> Response:
    """Return a domain error as an answer."""
    answer = render(exc)
    extra = {name.decode(): value.decode() for name, value in answer.headers if name != b"content-type"}
    return _respond(answer.status, answer.body, extra)


def _respond(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    request_id = new_request_id().decode()
    return Response(
        body, status, media_type="application/json", headers={"x-request-id": request_id, **(headers or {})}
    )


async def _domain_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, GatewayError)
    return error_response(exc)


def _http_error(post_only: frozenset[str]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        status, headers = exc.status_code, dict(exc.headers or {})
        if request.url.path in post_only:
            status, headers = 405, {"allow": "POST"}
        code = _CODES.get(status, ErrorCode.INVALID_REQUEST)
        return _respond(status, error_body(code, _MESSAGES.get(status, exc.detail), status=status), headers)

    return answer


async def _validation_error(_: Request, exc: Exception) -> Response:
    """Name what is wrong and where; never what was sent."""
    assert isinstance(exc, RequestValidationError)
    problems = exc.errors()
    text = "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in problems[:10])
    param = ".".join(str(part) for part in problems[0]["loc"][1:]) if problems else None
    body = error_body(ErrorCode.INVALID_REQUEST, text[:1000], status=400, param=(param or "")[:100] or None)
    return _respond(400, body)


async def _internal_error(_: Request, exc: Exception) -> Response:
    return _respond(500, error_body(ErrorCode.INTERNAL, "the gateway failed; see its log", status=500))
