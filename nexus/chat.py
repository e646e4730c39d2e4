"""Ask the gateway, streaming; the standard library's HTTP client is enough for one request at a time."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import SecretStr

from nexus.direct_http import bearer, open_direct

_TIMEOUT_SECONDS = 120
_MAX_ANSWER_BYTES = 1 << 20
_MODEL_NOT_FOUND = "model_not_found"  # the gateway's `error.code`
_SETTING: Final = "NEXUS_API_KEY"


class ChatError(Exception):
    """The gateway could not be reached, or answered with an error."""


class UnknownModelError(ChatError):
    """The gateway serves no model of that name."""


class CredentialError(ChatError):
    """The gateway asks for a key, or the one that was sent may not use the model; the message never holds it."""


def stream_chat(
    base_url: str, model: str, messages: Sequence[dict[str, str]], *, user: str, key: SecretStr | None = None
) -> Iterator[str]:
    """Yield the pieces of an answer as they arrive.

    Args:
        base_url: Gateway address without `/v1`.
        model: Served model name.
        messages: Conversation, oldest first, OpenAI's roles.
        user: Who asks; one user always meets the same side of a release.
        key: API key or token, where the gateway's policy requires one.

    Raises:
        UnknownModelError: The gateway serves no such model.
        CredentialError: It refuses the key, or asks for one.
        ChatError: No gateway answers there, or it refused for another reason; the message says why.
    """
    body = {"model": model, "messages": list(messages), "stream": True, "temperature": 0, "max_tokens": 64}
    request = urllib.request.Request(  # noqa: S310 - the address is the settings' own loopback gateway
        f"{base_url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "x-nexus-user": user, **_credential(key)},
    )
    try:
        with open_direct().open(request, timeout=_TIMEOUT_SECONDS) as response:
            for line in response:
                if line.strip() == b"data: [DONE]":
                    return
                if line.startswith(b"data:") and line.endswith(b"\n"):
                    yield from _pieces(json.loads(line[5:]))
        raise ChatError(f"the answer of {base_url} broke off: `nexus status` says what runs")
    except urllib.error.HTTPError as exc:
        raise _refusal(base_url, model, key, exc) from exc
    except http.client.HTTPException as exc:
        raise ChatError(
            f"expected a gateway at {base_url}; got no whole answer in HTTP ({type(exc).__name__}): "
            "`nexus status` says what runs"
        ) from exc
    except OSError as exc:
        raise ChatError(
            f"expected a gateway at {base_url}; got {getattr(exc, 'reason', exc)}: run `nexus up` first"
        ) from exc


def _credential(key: SecretStr | None) -> dict[str, str]:
    return bearer(key, _SETTING) if key is not None else {}


def _refusal(base_url: str, model: str, key: SecretStr | None, answer: urllib.error.HTTPError) -> ChatError:
    """Say in words why the gateway refused, and what to do about it."""
    try:
        error = json.loads(answer.read(_MAX_ANSWER_BYTES))["error"]
        reason, code = str(error["message"]), error.get("code")
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return ChatError(
            f"expected an answer of the gateway at {base_url}; something else answered {answer.code} there"
        )
    if code == _MODEL_NOT_FOUND:
        served = _served(base_url, key)
        return UnknownModelError(
            f"expected a model that the gateway serves{served}; got {model!r}: name one, or release it"
        )
    if answer.code == 401:
        got = "another, or one that has ended" if _credential(key) else "none"
        return CredentialError(
            f"expected a valid API key in {_SETTING}; got {got}: `nexus keys issue TENANT NAME` prints a new one"
        )
    if answer.code == 403:
        return CredentialError(f"expected an API key in {_SETTING} that may use {model!r}; the gateway says: {reason}")
    return ChatError(f"the gateway answered {answer.code}: {reason}; `nexus status` says what runs")


def _served(base_url: str, key: SecretStr | None) -> str:
    """List what is served, in brackets; nothing when the gateway does not say."""
    request = urllib.request.Request(f"{base_url}/v1/models", headers=_credential(key))  # noqa: S310 - as above
    try:
        with open_direct().open(request, timeout=_TIMEOUT_SECONDS) as response:
            names = [str(model["id"]) for model in json.load(response)["data"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
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
