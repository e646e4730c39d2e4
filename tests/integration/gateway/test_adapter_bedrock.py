"""Bedrock behind the provider adapter: Converse and ConverseStream on the wire, OpenAI and Anthropic to clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anthropic
import httpx
import httpx2
import openai
import pytest

from tests.fakes.adapter_process import AdapterProcess
from tests.fakes.anthropic_provider import AnthropicProvider
from tests.fakes.bedrock_provider import (
    ACCESS_KEY_ID,
    ERRORS,
    SECRET_ACCESS_KEY,
    BedrockProvider,
    frame,
)
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.openai_provider import OpenAIProvider
from tests.fakes.provider_server import Fault

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MODEL = "bedrock/amazon.nova-lite-v1:0"
TEXT = "Hello wide world"
MESSAGES: list[Any] = [{"role": "user", "content": "zebra-crossing"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": MODEL, "messages": MESSAGES, "max_tokens": 10},
    "/v1/responses": {"model": MODEL, "input": "zebra-crossing", "max_output_tokens": 20},
    "/v1/messages": {"model": MODEL, "messages": MESSAGES, "max_tokens": 10},
}


@pytest.fixture(scope="module")
def bedrock() -> Iterator[BedrockProvider]:
    with BedrockProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def adapter(bedrock: BedrockProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdapterProcess]:
    with OpenAIProvider() as gpt, AnthropicProvider() as claude:
        process = AdapterProcess(tmp_path_factory.mktemp("adapter"), gpt, claude, bedrock)
        try:
            process.start()
            with process.client() as client:  # LiteLLM imports more with the first call of each kind
                for path, body in BODIES.items():
                    assert client.post(f"http://adapter{path}", json=body).status_code == 200
            yield process
        finally:
            process.stop()
    log = process.log.read_text()
    for secret in (SECRET_ACCESS_KEY, ACCESS_KEY_ID, "zebra-crossing", "Hello wide"):
        assert secret not in log


@pytest.fixture
def http(adapter: AdapterProcess, bedrock: BedrockProvider) -> Iterator[httpx.Client]:
    bedrock.faults.clear()
    bedrock.asked.clear()
    with adapter.client() as client:
        yield client


def test_openais_sdk(http: httpx.Client, bedrock: BedrockProvider) -> None:
    """Chat and responses answer, stream, call tools and report tokens; each request has Amazon's signature."""
    gpt = openai.OpenAI(base_url="http://adapter/v1", api_key="none", http_client=http, max_retries=0)
    create: Any = gpt.chat.completions.create
    answer = create(model=MODEL, messages=MESSAGES, max_tokens=10)
    assert answer.choices[0].message.content == TEXT
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 3)
    events = list(create(model=MODEL, messages=MESSAGES, max_tokens=10, stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events) == TEXT
    assert (events[-1].usage.prompt_tokens, events[-1].usage.completion_tokens) == (11, 3)
    (call,) = create(model=MODEL, messages=MESSAGES, max_tokens=10, tools=TOOLS).choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Seoul"})
    events = list(create(model=MODEL, messages=MESSAGES, max_tokens=10, tools=TOOLS, stream=True))
    parts = [part for event in events for choice in event.choices for part in choice.delta.tool_calls or ()]
    assert json.loads("".join(part.function.arguments or "" for part in parts)) == {"city": "Seoul"}
    response = gpt.responses.create(model=MODEL, input="hello", max_output_tokens=20)
    assert (response.output_text, response.status) == (TEXT, "completed")
    assert {asked.path.rpartition("/")[2] for asked in bedrock.asked} == {"converse", "converse-stream"}
    assert bedrock.asked[0].body["inferenceConfig"] == {"maxTokens": 10}


def test_anthropics_sdk(adapter: AdapterProcess, http: httpx.Client) -> None:
    """Messages answer and stream."""
    del http
    uds = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(adapter.socket)))
    with anthropic.Anthropic(base_url="http://adapter", api_key="none", http_client=uds, max_retries=0) as claude:
        answer = claude.messages.create(model=MODEL, messages=MESSAGES, max_tokens=10)
        assert answer.content[0].type == "text"
        assert (answer.content[0].text, answer.stop_reason, answer.usage.output_tokens) == (TEXT, "end_turn", 3)
        with claude.messages.stream(model=MODEL, messages=MESSAGES, max_tokens=10) as stream:
            assert "".join(stream.text_stream) == TEXT
            assert stream.get_final_message().usage.output_tokens == 3


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("kind", ERRORS)
def test_errors_keep_status_words_and_retry_after(
    http: httpx.Client, bedrock: BedrockProvider, path: str, kind: str
) -> None:
    """Each error comes once, with Amazon's status and message, whole and streamed; a credential's never in words."""
    status, _, message = ERRORS[kind]
    for stream in (False, True):
        bedrock.asked.clear()
        bedrock.faults.append(Fault(kind=kind, retry_after="7"))
        answer = http.post(f"http://adapter{path}", json=BODIES[path] | {"stream": stream})
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
        assert len(bedrock.asked) == 1, "neither LiteLLM nor botocore may retry by itself"
        assert (answer.json()["error"]["message"] == message) is (status != 403)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("kind", "words"), [("", "broke off"), ("rate", ERRORS["rate"][2])])
def test_a_stream_that_breaks_ends_with_an_error_event(
    http: httpx.Client, bedrock: BedrockProvider, path: str, kind: str, words: str
) -> None:
    """Half a stream, or an exception in it: the path's error event with the reason, and none of LiteLLM's own words."""
    bedrock.faults.append(Fault(kind=kind, cut=3))
    answer = http.post(f"http://adapter{path}", json=BODIES[path] | {"stream": True})
    assert answer.status_code == 200
    last = answer.text.strip().rpartition("\n\n")[2]
    document = json.loads(last.partition("data: ")[2])
    assert words in (document.get("error") or document)["message"]
    assert "litellm" not in answer.text
    assert not {"[DONE]", "message_stop", "response.completed"} & set(answer.text.replace('"', " ").split())


@pytest.mark.parametrize("path", BODIES)
def test_a_frame_whose_checksum_is_wrong_ends_the_stream(
    http: httpx.Client, bedrock: BedrockProvider, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came damaged is never passed on as text."""
    good = frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}})
    begin = frame("messageStart", {"role": "assistant"})
    bad = good.replace(b"Hello", b"Jello")
    monkeypatch.setattr("tests.fakes.bedrock_provider._events", lambda _: [begin, good, bad])
    answer = http.post(f"http://adapter{path}", json=BODIES[path] | {"stream": True})
    assert "Jello" not in answer.text
    assert "error" in answer.text
    assert not {"[DONE]", "message_stop", "response.completed"} & set(answer.text.replace('"', " ").split())


def test_through_the_gateway(adapter: AdapterProcess, bedrock: BedrockProvider, tmp_path: Path) -> None:
    """One more model to clients; throttling is 503 with its Retry-After; the gateway's process has no credential."""
    bedrock.faults.clear()
    endpoint = {"service": "nova", "side": "stable", "weight_percent": 100, "provider_model": MODEL}
    route = json.dumps(
        {"kind": "Route", "metadata": {"name": "nova"}, "spec": {"model": "nova", "endpoints": [endpoint]}}
    )
    nowhere = cast("FakeUpstream", SimpleNamespace(url="http://127.0.0.1:9"))
    gateway = GatewayProcess(tmp_path, nowhere, PROVIDER_SOCKET=str(adapter.socket))
    gateway.commit({}, route)
    try:
        gateway.start()
        assert gateway.process is not None
        held = Path(f"/proc/{gateway.process.pid}/environ").read_bytes()
        for secret in (SECRET_ACCESS_KEY, ACCESS_KEY_ID):
            assert secret.encode() not in held
        ask = {"model": "nova", "messages": MESSAGES, "max_tokens": 10}
        whole = gateway.post(ask)
        assert json.loads(whole[2])["choices"][0]["message"]["content"] == TEXT
        streamed = gateway.post(ask | {"stream": True})
        assert streamed[2].endswith(b"data: [DONE]\n\n")
        bedrock.faults.append(Fault(kind="rate", retry_after="7"))
        busy = gateway.post(ask)
        assert (busy[0], busy[1]["retry-after"]) == (503, "7")
    finally:
        gateway.stop()
    answered = gateway.observations()
    assert [line["outcome"] for line in answered[:2]] == ["ok", "ok"]
    assert [(line["prompt_tokens"], line["output_tokens"]) for line in answered[:2]] == [(11, 3)] * 2
