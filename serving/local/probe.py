"""Ask an engine for a real answer. Health endpoints lie: they are green on a model that cannot compute (FACTS)."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit


def completion_problem(url: str, served_name: str, timeout_seconds: float) -> str | None:
    """Ask for one token of text and one of chat.

    A chat request may be refused as the client's fault (a base model has no chat template), but may not break the
    server.

    Returns:
        None when the engine answered, otherwise what is wrong.
    """
    body = {"model": served_name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    status, answer = _post(url, "/v1/completions", body, timeout_seconds)
    if status != 200 or not isinstance(answer, dict) or not answer.get("choices"):
        return _told("/v1/completions", status, answer)
    chat = {"model": served_name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    status, answer = _post(url, "/v1/chat/completions", chat, timeout_seconds)
    if status is None or status >= 500:
        return _told("/v1/chat/completions", status, answer)
    return None


def _told(path: str, status: int | None, answer: Any) -> str:
    if status is None:
        return f"{path} does not answer ({answer})"
    return f"{path} answered {status}: {json.dumps(answer)[:300]}"


def get(url: str, path: str, timeout_seconds: float) -> tuple[int | None, str]:
    """Get a page; the status is None and the text says why when there is no answer."""
    try:
        return _exchange(url, "GET", path, None, timeout_seconds)
    except (OSError, http.client.HTTPException) as exc:
        return None, f"{type(exc).__name__}: {exc}"


def _post(url: str, path: str, body: dict[str, Any], timeout_seconds: float) -> tuple[int | None, Any]:
    try:
        status, text = _exchange(url, "POST", path, json.dumps(body), timeout_seconds)
    except (OSError, http.client.HTTPException) as exc:
        return None, f"{type(exc).__name__}: {exc}"
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def _exchange(url: str, method: str, path: str, body: str | None, timeout_seconds: float) -> tuple[int, str]:
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout_seconds)
    try:
        connection.request(method, path, body=body, headers={"content-type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read(1 << 20).decode(errors="replace")
    finally:
        connection.close()
