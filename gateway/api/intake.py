"""What a request asks for: its headers and body, read once and within the policy's limits."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.errors import BodyTimeoutError, BodyTooLargeError, ClientGoneError, InvalidRequestError
from serving.contracts.gateway_policy import RequestLimits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_USER: Final = b"x-nexus-user"
_WANTED: Final = frozenset({_USER, b"x-request-id", b"traceparent", b"tracestate", b"content-length"})
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:\-]{1,128}\Z")
_TRACE_PARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,256})?\Z")
_TRACE_STATE: Final = re.compile(rb"[ -~]{1,512}\Z")
_CONTAINERS: Final = (dict, list)
_PROCESS: Final = os.urandom(8).hex().encode()
_NUMBERS: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a request's headers say. `user` is None when no header names one."""

    request_id: bytes
    user: bytes | None
    trace: bytes
    content_length: int | None


def read_head(scope: Scope) -> RequestHead:
    """Take what counts from the headers; anything malformed that only serves tracing is replaced or left out.

    Raises:
        InvalidRequestError: Two headers claim to name the user.
    """
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _WANTED:
            if name == _USER and name in found:
                raise InvalidRequestError("expected one x-nexus-user header; got several: send it once")
            found[name] = value
    request_id = found.get(b"x-request-id")
    if request_id is None or not _REQUEST_ID.match(request_id):
        request_id = new_request_id()
    length = found.get(b"content-length", b"")
    return RequestHead(
        request_id, found.get(_USER) or None, _trace(found), int(length[:19]) if length.isdigit() else None
    )


def _trace(found: dict[bytes, bytes]) -> bytes:
    """Return the header lines that carry W3C trace context to the engine, or nothing."""
    parent = found.get(b"traceparent")
    if parent is None or not _TRACE_PARENT.match(parent):
        return b""
    state = found.get(b"tracestate")
    if state is None or not _TRACE_STATE.match(state):
        return b"traceparent: " + parent + b"\r\n"
    return b"traceparent: " + parent + b"\r\ntracestate: " + state + b"\r\n"


def new_request_id() -> bytes:
    """Make a request id: 64 random bits of this process and a running number, as hex; unique, not secret."""
    return b"%b%016x" % (_PROCESS, next(_NUMBERS))


async def read_body(receive: Receive, head: RequestHead, limits: RequestLimits) -> bytes:
    """Receive the whole body.

    Raises:
        BodyTooLargeError: It is, or says it is, longer than the limit.
        BodyTimeoutError: It did not arrive in time.
        ClientGoneError: The client left before its end.
    """
    if head.content_length is not None and head.content_length > limits.max_body_bytes:
        raise _too_large(limits)
    message: Message = {"type": "http.request", "more_body": True}
    if head.content_length is not None:
        message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body") or b""
        if len(body) > limits.max_body_bytes:
            raise _too_large(limits)
        return body
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await _read_rest(receive, message, limits)
    except TimeoutError as exc:
        raise BodyTimeoutError(
            f"expected the whole body within {limits.body_seconds:g} s; it did not come: send it faster"
        ) from exc


async def _read_rest(receive: Receive, message: Message, limits: RequestLimits) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientGoneError("the client left before the end of its request")
        part = message.get("body", b"")
        size += len(part)
        if size > limits.max_body_bytes:
            raise _too_large(limits)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def _too_large(limits: RequestLimits) -> BodyTooLargeError:
    return BodyTooLargeError(f"expected a body of at most {limits.max_body_bytes} bytes; got more: send less")


def parse_document(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    """Parse a body as one JSON object of bounded depth.

    Raises:
        InvalidRequestError: It is something else, or nested too deeply.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequestError(f"expected a JSON object as the body; {exc.msg}, at character {exc.pos}") from exc
    if not isinstance(document, dict):
        raise InvalidRequestError(f"expected a JSON object as the body; got {type(document).__name__}")
    # The number of opening brackets bounds the depth from above; only where that says nothing is it measured.
    if body.count(b"[") + body.count(b"{") > limits.max_json_depth:
        _check_depth(document, limits.max_json_depth)
    return document


def _check_depth(document: dict[str, Any], limit: int) -> None:
    level: list[Any] = [document]
    for _ in range(limit):
        level = [
            value
            for container in level
            for value in (container.values() if type(container) is dict else container)
            if type(value) in _CONTAINERS
        ]
        if not level:
            return
    raise InvalidRequestError(f"expected at most {limit} levels of nesting; got more: send a flatter document")


def model_of(document: dict[str, Any]) -> str:
    """Return the model that a document names.

    Raises:
        InvalidRequestError: It names none.
    """
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequestError("expected `model` to be the name of a model, see /v1/models", param="model")
    return model


def user_of(head: RequestHead, document: dict[str, Any], client: tuple[str, int] | None) -> bytes:
    """Return who asks: the header x-nexus-user, else the body's `user`, else the client's address."""
    if head.user is not None:
        return head.user
    user = document.get("user")
    if isinstance(user, str) and user:
        return user.encode()
    return address_of(client)


def address_of(client: tuple[str, int] | None) -> bytes:
    """Return the id of somebody known only by address; no header or body can claim it."""
    return b"\0address:" + (client[0].encode() if client else b"unknown")
