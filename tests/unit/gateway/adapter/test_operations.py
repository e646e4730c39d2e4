from __future__ import annotations

import pytest

from gateway.adapter.operations import OPERATIONS, asked_for_usage
from gateway.api.formats import FORMATS
from gateway.errors import InvalidRequestError

CHAT = OPERATIONS["/v1/chat/completions"]
CONTROLS = (
    "api_base", "base_url", "api_key", "api_version", "organization", "custom_llm_provider", "extra_headers",
    "headers", "default_headers", "extra_body", "extra_query", "timeout", "request_timeout", "num_retries",
    "max_retries", "fallbacks", "context_window_fallback_dict", "mock_response", "mock_tool_calls", "caching", "cache",
    "no-log", "litellm_params", "litellm_metadata", "litellm_call_id", "litellm_logging_obj", "metadata", "client",
    "model_list", "callbacks", "success_callback", "drop_params", "additional_drop_params", "allowed_openai_params",
    "deployment_id", "aws_access_key_id", "aws_region_name", "vertex_credentials", "input_cost_per_token",
    "proxy_server_request", "guardrails", "prompt_id", "prompt_variables", "ssl_verify", "shared_session",
    "use_litellm_proxy", "user_continue_message",
)  # fmt: skip
"""Arguments by which a caller of LiteLLM chooses where a request goes, with which key, and what happens to it."""


def test_every_path_of_the_gateway_is_served() -> None:
    """The adapter answers on the paths that the gateway passes on."""
    assert set(OPERATIONS) == set(FORMATS)


@pytest.mark.parametrize("path", OPERATIONS)
@pytest.mark.parametrize("name", CONTROLS)
def test_no_client_reaches_litellms_controls(path: str, name: str) -> None:
    """A field that would steer LiteLLM is refused by name on every path."""
    if path == "/v1/messages" and name == "metadata":
        return  # Anthropic's own field, of which LiteLLM passes the user's id only
    with pytest.raises(InvalidRequestError, match=name) as caught:
        OPERATIONS[path].arguments({"model": "openai/x", "messages": [], "input": "", "max_tokens": 1, name: "x"})
    assert caught.value.param is not None


def test_fields_reach_litellm_as_they_are() -> None:
    """Known fields pass unchanged; null is as good as absent."""
    tools = [{"type": "function", "function": {"name": "f", "strict": True}}]
    document = {
        "model": "openai/x",
        "messages": [{"role": "user", "content": "a"}],
        "tools": tools,
        "n": 2,
        "stop": None,
    }
    assert CHAT.arguments(document) == {k: v for k, v in document.items() if k != "stop"}


def test_a_stream_is_always_asked_for_its_usage() -> None:
    """The gateway bills by it; what the client asked for is known apart from that."""
    document = {"model": "openai/x", "messages": [], "stream": True, "stream_options": {"include_usage": False}}
    assert CHAT.arguments(document)["stream_options"] == {"include_usage": True}
    assert not asked_for_usage(document)
    assert asked_for_usage({"stream_options": {"include_usage": True}})
    assert not asked_for_usage({"stream_options": "x"})
    assert "stream_options" not in OPERATIONS["/v1/messages"].arguments(
        {"model": "anthropic/x", "messages": [], "max_tokens": 1, "stream": True}
    )


@pytest.mark.parametrize(
    ("path", "missing"),
    [("/v1/chat/completions", "messages"), ("/v1/completions", "prompt"), ("/v1/embeddings", "input"),
     ("/v1/responses", "input"), ("/v1/messages", "messages")],
)  # fmt: skip
def test_what_is_missing_is_named(path: str, missing: str) -> None:
    """A request without its main field is refused by that field."""
    with pytest.raises(InvalidRequestError, match=f"`{missing}`"):
        OPERATIONS[path].arguments({"model": "openai/x"})
