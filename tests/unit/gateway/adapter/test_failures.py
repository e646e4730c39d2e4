from __future__ import annotations

from typing import Any

import pytest

from gateway.adapter.failures import Failure, Redactor, failure_of, passed_headers

LIMITS = {"retry-after": "7", "anthropic-ratelimit-tokens-remaining": "0", "content-type": "application/json"}


TimeoutOfOpenAI = type("APITimeoutError", (Exception,), {"__module__": "openai"})


class OpenAIError(Exception):
    """As LiteLLM raises it: what the provider answered."""

    __module__ = "litellm.llms.openai.common_utils"

    def __init__(self, status_code: int, message: str, body: Any = None) -> None:
        super().__init__(message)
        self.status_code, self.message, self.body = status_code, message, body


def translated(status: int, message: str, cause: BaseException | None = None, **attributes: Any) -> Exception:
    """An exception of LiteLLM's own, raised from another."""
    kind = type("BadRequestError", (Exception,), {"__module__": "litellm.exceptions"})
    error: Any = kind(message)
    error.status_code, error.message = status, message
    for name, value in attributes.items():
        setattr(error, name, value)
    error.__context__ = cause
    return error  # type: ignore[no-any-return]


def read(error: BaseException, *secrets: str) -> Failure:
    return failure_of(error, Redactor(secrets))


def test_the_providers_own_status_and_words_win() -> None:
    """LiteLLM turns 529 into 500 and wraps the message; what the provider said is passed on, with its headers."""
    document = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    inner = OpenAIError(529, document)
    error = translated(500, f"litellm.InternalServerError: AnthropicError - {document}", inner,
                       litellm_response_headers=LIMITS)  # fmt: skip
    headers = ((b"anthropic-ratelimit-tokens-remaining", b"0"), (b"retry-after", b"7"))
    assert read(error) == Failure(529, "overloaded", "Overloaded", None, headers)


def test_openais_error_object_is_read_from_the_body() -> None:
    """Code and parameter of OpenAI's object survive."""
    body = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "context_length"}
    error = translated(400, "litellm.ContextWindowExceededError: x", OpenAIError(400, "Error code: 400", body))
    assert read(error) == Failure(400, "context_length", "too long", "messages")


def test_a_mid_stream_error_is_read_through_its_wrapper() -> None:
    """The exception that LiteLLM holds in `original_exception` counts."""
    inner = translated(500, "litellm.InternalServerError: AnthropicError - Overloaded", OpenAIError(529, "Overloaded"))
    assert read(translated(500, "litellm.MidStreamFallbackError: x", None, original_exception=inner)).status == 529


@pytest.mark.parametrize(
    ("error", "status", "code", "words"),
    [
        (TimeoutError(), 504, "provider_timeout", "in time"),
        (translated(408, "litellm.Timeout", TimeoutOfOpenAI()), 504, "provider_timeout", "in time"),
        (translated(500, "litellm.APIConnectionError: x", ConnectionError()), 502, "provider_error", "not be reached"),
        (ConnectionError("half a chunk"), 502, "provider_error", "broke off"),
        (translated(400, "litellm.UnsupportedParamsError: no logprobs"), 400, "invalid_request", "no logprobs"),
        (KeyError("what was asked"), 500, "internal_error", "its log"),
        (translated(404, "litellm.NotFoundError: x", OpenAIError(404, "no such model")), 404, "model_not_found", "x"),
    ],
)  # fmt: skip
def test_kinds_of_failures(error: BaseException, status: int, code: str, words: str) -> None:
    """A limit is 504, a provider that is not there or breaks off 502, what LiteLLM itself refuses 400."""
    failure = read(error)
    assert (failure.status, failure.code) == (status, code)
    assert words in failure.message


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_is_not_described(status: int) -> None:
    """The provider's words about the key stay here: they repeat parts of it."""
    error = OpenAIError(status, "Incorrect API key provided: sk-proj-****4e4f", {"message": "sk-proj-****4e4f"})
    failure = read(translated(status, "litellm.AuthenticationError: sk-proj-****4e4f", error))
    assert failure.status == status
    assert "sk-" not in failure.message


def test_secrets_are_taken_out_of_messages() -> None:
    """A provider that repeats the whole key does not make us repeat it."""
    error = OpenAIError(400, "x", {"message": "bad header: Bearer sk-secret-key-1, sk-secret"})
    assert read(error, "sk-secret", "sk-secret-key-1").message == "bad header: Bearer ***, ***"


def test_a_cycle_of_causes_ends() -> None:
    """Exceptions that cause each other are read once."""
    one, two = OpenAIError(429, "a"), OpenAIError(429, "b")
    one.__context__, two.__context__ = two, one
    assert read(one).status == 429


def test_only_limits_and_retry_after_are_passed_on() -> None:
    """LiteLLM's prefix is taken off, other headers and forged lines are dropped."""
    given = {
        "llm_provider-x-ratelimit-limit-tokens": "30000", "x-ratelimit-reset-requests": "120ms", "Retry-After": "2",
        "llm_provider-openai-organization": "org", "set-cookie": "a=b", "x-ratelimit-evil": "1\r\nx: y",
    }  # fmt: skip
    assert passed_headers(given) == (
        (b"retry-after", b"2"), (b"x-ratelimit-limit-tokens", b"30000"), (b"x-ratelimit-reset-requests", b"120ms"),
    )  # fmt: skip
