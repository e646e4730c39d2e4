"""Ask the gateway, streaming; the standard library's HTTP client is enough for one request at a time."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

_TIMEOUT_SECONDS = 120
_MAX_ANSWER_BYTES = 1 << 20
_MODEL_NOT_FOUND = "model_not_found"  # the gateway's `error.code`


class ChatError(Exception):
    """The gateway could not be reached, or answered with an error."""


def stream_chat(base_url: str, model: str, messages: Sequence[dict[str, str]], *, user: str) -> Iterator[str]:
    """Yield the pieces of an answer as they arrive.

    Args:
        base_url: Gateway address without `/v1`.
        model: Served model name.
        messages: Conversation, oldest first, OpenAI's roles.
        user: Who asks; one user always meets the same side of a release.

    Raises:
        ChatError: No gateway answers there, or it refused; the message says why.
    """
    body = {"model": model, "messages": list(messages), "stream": True, "temperature": 0, "max_tokens": 64}
    request = urllib.request.Request(  # noqa: S310 - the address is the settings' own loopback gateway
        f"{base_url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "x-nexus-user": user},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            for line in response:
                if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
                    continue
                yield from _pieces(json.loads(line[5:]))
    except urllib.error.HTTPError as exc:
        raise ChatError(_refusal(base_url, model, exc)) from exc
    except OSError as exc:
        raise ChatError(f"expected a gateway at {base_url}; got {exc}: run `nexus up` first") from exc


def _refusal(base_url: str, model: str, answer: urllib.error.HTTPError) -> str:
    """Say in words why the gateway refused, and what to do about it."""
    try:
        error = json.loads(answer.read(_MAX_ANSWER_BYTES))["error"]
        reason, code = str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"expected an answer of the gateway at {base_url}; something else answered {answer.code} there"
    if code == _MODEL_NOT_FOUND:
        return f"expected a model that the gateway serves{_served(base_url)}; got {model!r}: name one, or release it"
    return f"the gateway answered {answer.code}: {reason}; `nexus status` says what runs"


def _served(base_url: str) -> str:
    """List what is served, in brackets; nothing when the gateway does not say."""
    try:
        with urllib.request.urlopen(f"{base_url}/v1/models", timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            names = [str(model["id"]) for model in json.load(response)["data"]]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f" ({', '.join(names) or 'none yet'})"


def _pieces(event: dict[str, object]) -> Iterator[str]:
    if "error" in event:
        error = event["error"]
        raise ChatError(f"the answer broke off: {error.get('message') if isinstance(error, dict) else error}")
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if content := choice.get("delta", {}).get("content"):
            yield content
