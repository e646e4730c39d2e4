"""One simulated user's request over HTTP: ask, read the answer as it comes, return it whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from components.analyze_canary.users import Ask

MAX_TOKENS: Final = 64
_DATA: Final = b"data:"
_END: Final = b"[DONE]"
_MAX_ANSWER_BYTES: Final = 1 << 20
_NOT_ADMITTED: Final = frozenset({401, 403})


class BadAnswerError(Exception):
    """The gateway answered with an error, broke off, or sent what is no chat completion."""


class NotAdmittedError(BadAnswerError):
    """The gateway asks for a credential."""


@dataclass(frozen=True)
class Answer:
    """A whole answer and the id under which the gateway observed it."""

    request_id: str
    text: str


async def ask(session: aiohttp.ClientSession, model: str, question: Ask) -> Answer:
    """Ask one question and read its answer to the end.

    Raises:
        NotAdmittedError: The gateway asks for a credential.
        BadAnswerError: There is no whole answer.
        aiohttp.ClientError: The connection failed.
        TimeoutError: The session's time limit passed.
    """
    body = {
        "model": model,
        "messages": [message.model_dump() for message in question.row.messages],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "stream": question.stream,
    }
    headers = {"x-nexus-user": question.user}
    async with session.post("/v1/chat/completions", json=body, headers=headers) as response:
        request_id = response.headers.get("x-request-id")
        if response.status in _NOT_ADMITTED:
            raise NotAdmittedError(f"status {response.status}")
        if response.status != 200 or request_id is None:
            raise BadAnswerError(f"status {response.status}, x-request-id {request_id}")
        text = await (_read_stream(response) if question.stream else _read_whole(response))
    return Answer(request_id, text)


async def _read_whole(response: aiohttp.ClientResponse) -> str:
    try:
        return _text(json.loads(await response.read()), "message")
    except ValueError as exc:
        raise BadAnswerError("the answer is no JSON") from exc


async def _read_stream(response: aiohttp.ClientResponse) -> str:
    parts: list[str] = []
    size = 0
    async for line in response.content:
        size += len(line)
        if size > _MAX_ANSWER_BYTES:
            raise BadAnswerError(f"the answer is longer than {_MAX_ANSWER_BYTES} bytes")
        if not line.startswith(_DATA):
            continue
        data = line[len(_DATA) :].strip()
        if data == _END:
            return "".join(parts)
        try:
            parts.append(_text(json.loads(data), "delta"))
        except ValueError as exc:
            raise BadAnswerError("a part of the answer is no JSON") from exc
    raise BadAnswerError("the answer broke off before its end")


def _text(document: object, part: str) -> str:
    """Return the text of the first choice of a completion or of a chunk; a chunk may carry none."""
    if not isinstance(document, Mapping) or "error" in document:
        raise BadAnswerError(f"expected a completion; got {str(document)[:200]}")
    choices: Any = document.get("choices") or [{}]
    content = (choices[0].get(part) or {}).get("content") if isinstance(choices[0], Mapping) else None
    return content if isinstance(content, str) else ""
