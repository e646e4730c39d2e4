"""What a request asks for: its headers and body, read once and within the policy's limits."""

from __future__ import annotations

import itertools
import os
import re
from typing import Any, Final

import orjson

from gateway.auth.credential import API_KEY, AUTHORIZATION
from gateway.errors import InvalidRequestError
from gateway.resilience.deadline import DEADLINE_HEADERS
from gateway.routing.request import ADDRESS_PREFIX
from serving.contracts.gateway_policy import RequestLimits

USER: Final = b"x-nexus-user"
IDEMPOTENCY_KEY: Final = b"idempotency-key"
TRACE_PARENT: Final = b"traceparent"
TRACE_STATE: Final = b"tracestate"
_REQUEST_ID: Final = b"x-request-id"

ONCE: Final = DEADLINE_HEADERS | {USER, IDEMPOTENCY_KEY, AUTHORIZATION, API_KEY, TRACE_PARENT}
"""Headers that decide something: two of one kind could be read in two ways, so they are refused."""

_WANTED: Final = ONCE | {_REQUEST_ID, TRACE_STATE}
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:\-]{1,128}\Z")
_NUL: Final = chr(ADDRESS_PREFIX[0])
"""No name begins with it, so that none can be taken for an address."""

_CONTAINERS: Final = (dict, list)
_MAX_CONTAINERS: Final = 65_536
"""Objects and arrays in one document: each takes up to a hundred times the bytes that it has as JSON."""

_SHORT_BYTES: Final = 8192
"""Below this, walking the document is cheaper than counting brackets."""
_PROCESS: Final = os.urandom(8).hex().encode()
_NUMBERS: Final = itertools.count(1)


def read_head(headers: list[tuple[bytes, bytes]], routing: frozenset[bytes]) -> dict[bytes, bytes]:
    """Return the headers that count, by name.

    Args:
        headers: All that came, names in lower case.
        routing: Names of those that routing rules look at.

    Raises:
        InvalidRequestError: One that decides something stands twice.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _WANTED or name in routing:
            if name in found and (name in ONCE or name in routing):
                raise InvalidRequestError(f"expected one {name.decode()} header; got several: send it once")
            found[name] = value
    return found


def request_id_of(head: dict[bytes, bytes]) -> bytes:
    """Return the client's request id if it is a sane one, else a new one."""
    given = head.get(_REQUEST_ID)
    return given if given is not None and _SANE_ID.match(given) else new_request_id()


def new_request_id() -> bytes:
    """Make a request id: 64 random bits of this process and a running number, as hex; unique, not secret."""
    return b"%b%016x" % (_PROCESS, next(_NUMBERS))


def parse_document(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    """Parse a body as one JSON object of bounded depth and number of containers.

    Raises:
        InvalidRequestError: It is something else, nested too deeply, or made of too many pieces.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequestError(f"expected a JSON object as the body; {exc.msg}, at character {exc.pos}") from exc
    if not isinstance(document, dict):
        raise InvalidRequestError(f"expected a JSON object as the body; got {type(document).__name__}")
    # The number of opening brackets bounds both from above; where that says nothing, they are measured.
    if len(body) < _SHORT_BYTES or body.count(b"[") + body.count(b"{") > limits.max_json_depth:
        _check_shape(document, limits.max_json_depth)
    return document


def _check_shape(document: dict[str, Any], limit: int) -> None:
    level: list[Any] = [document]
    found = 1
    for _ in range(limit):
        level = [
            value
            for container in level
            for value in (container.values() if type(container) is dict else container)
            if type(value) in _CONTAINERS
        ]
        if not level:
            return
        found += len(level)
        if found > _MAX_CONTAINERS:
            raise InvalidRequestError(f"expected at most {_MAX_CONTAINERS} objects and arrays; got more: send fewer")
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


def user_of(head: dict[bytes, bytes], document: dict[str, Any], client: tuple[str, int] | None) -> bytes:
    """Return who asks: the header x-nexus-user, else the body's `user`, else the client's address."""
    named = head.get(USER)
    if named:
        return named
    user = document.get("user")
    if isinstance(user, str) and user and user[0] != _NUL:
        return user.encode()
    return address_of(client)


def address_of(client: tuple[str, int] | None) -> bytes:
    """Return the id of somebody known only by address; no header or body can claim it."""
    return ADDRESS_PREFIX + (client[0].encode() if client else b"unknown")
