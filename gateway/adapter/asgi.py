"""The little that the adapter needs of HTTP: a bounded body, a request id, a whole answer."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Receive, Scope, Send

from gateway.errors import BodyTooLargeError, ClientGoneError


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return a header's value, None when it is not there."""
    return next((value for key, value in scope["headers"] if key == name), None)


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Receive the whole body.

    Raises:
        BodyTooLargeError: It is longer than `max_bytes`.
        ClientGoneError: The gateway left before its end.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError("the gateway left before the end of its request")
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise BodyTooLargeError(f"expected a body of at most {max_bytes} bytes; got more: send less")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_whole(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    """Send an answer of known length."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
