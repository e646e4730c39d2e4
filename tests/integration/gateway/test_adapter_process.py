from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anthropic
import httpx
import httpx2
import openai
import pytest

from tests.fakes import anthropic_provider, openai_provider
from tests.fakes.adapter_process import AdapterProcess
from tests.fakes.anthropic_provider import AnthropicProvider
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.openai_provider import OpenAIProvider
from tests.fakes.provider_server import Fault, ProviderServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
GPT, CLAUDE = "openai/gpt-4o", "anthropic/claude-sonnet-4"
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CLAUDE_TOOLS: list[Any] = [{"name": "weather", "input_schema": TOOLS[0]["function"]["parameters"]}]
TEXT = "Hello wide world"


@pytest.fixture(scope="module")
def providers() -> Iterator[dict[str, ProviderServer]]:
    with OpenAIProvider() as gpt, AnthropicProvider() as claude:
        yield {GPT: gpt, CLAUDE: claude}


@pytest.fixture(scope="module")
def adapter(providers: dict[str, ProviderServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdapterProcess]:
    process = AdapterProcess(tmp_path_factory.mktemp("adapter"), providers[GPT], providers[CLAUDE])
    try:
        process.start()
        with process.client() as client:  # LiteLLM imports more with the first call of each kind
            for model in (GPT, CLAUDE):
                for path, body in bodies(model).items():
                    for stream in (False, True):
                        assert client.post(f"http://adapter{path}", json=body | {"stream": stream}).status_code == 200
        yield process
    finally:
        process.stop()


@pytest.fixture(autouse=True)
def clean(providers: dict[str, ProviderServer]) -> None:
    for provider in providers.values():
        provider.faults.clear()
        provider.asked.clear()


@pytest.fixture
def http(adapter: AdapterProcess) -> Iterator[httpx.Client]:
    with adapter.client() as client:
        yield client


@pytest.fixture
def gpt(http: httpx.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url="http://adapter/v1", api_key="none", http_client=http, max_retries=0)


@pytest.fixture
def ask(http: httpx.Client) -> Callable[..., httpx.Response]:
    """Post one request on a path, with a model and what the path needs besides."""

    def post(path: str, model: str, /, deadline_seconds: float | None = None, **body: Any) -> httpx.Response:
        headers = {} if deadline_seconds is None else {"x-request-timeout-seconds": str(deadline_seconds)}
        return http.post(f"http://adapter{path}", json=bodies(model)[path] | body, headers=headers)

    return post


def bodies(model: str) -> dict[str, dict[str, Any]]:
    return {
        "/v1/chat/completions": {"model": model, "messages": MESSAGES, "max_tokens": 10},
        "/v1/responses": {"model": model, "input": "hello", "max_output_tokens": 20},
        "/v1/messages": {"model": model, "messages": MESSAGES, "max_tokens": 10},
    }


@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_openais_sdk_through_the_adapter(gpt: openai.OpenAI, model: str) -> None:
    """Chat and responses answer, stream, call tools and report tokens alike for both providers."""
    answer = gpt.chat.completions.create(model=model, messages=MESSAGES, max_tokens=10)
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    prompt_tokens = 9 if model == GPT else 13  # Anthropic counts what it read from the cache apart
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt_tokens, 3)
    called = gpt.chat.completions.create(model=model, messages=MESSAGES, max_tokens=10, tools=TOOLS)
    (call,) = called.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Seoul"})
    assert called.choices[0].finish_reason == "tool_calls"
    events = list(gpt.chat.completions.create(model=model, messages=MESSAGES, max_tokens=10, stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events) == TEXT
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == 3
    options: Any = {"include_usage": True}
    events = list(
        gpt.chat.completions.create(
            model=model, messages=MESSAGES, max_tokens=10, stream=True, stream_options=options, tools=TOOLS
        )
    )
    parts = [part for event in events for choice in event.choices for part in choice.delta.tool_calls or ()]
    arguments = "".join(part.function.arguments or "" for part in parts if part.function is not None)
    assert json.loads(arguments) == {"city": "Seoul"}
    assert (events[-1].choices, events[-1].usage is not None) == ([], True)
    response = gpt.responses.create(model=model, input="hello", max_output_tokens=20)
    assert (response.output_text, response.status) == (TEXT, "completed")
    assert response.usage is not None
    assert response.usage.output_tokens == 3
    named = list(gpt.responses.create(model=model, input="hello", max_output_tokens=20, stream=True))
    assert [event.sequence_number for event in named] == list(range(len(named)))
    assert "".join(event.delta for event in named if event.type == "response.output_text.delta") == TEXT
    assert named[-1].type == "response.completed"


def test_completions_and_embeddings(gpt: openai.OpenAI, providers: dict[str, ProviderServer]) -> None:
    """The two older paths answer and stream, and try once."""
    model = "openai/gpt-3.5-turbo-instruct"
    assert gpt.completions.create(model=model, prompt="a").choices[0].text == TEXT
    events = list(gpt.completions.create(model=model, prompt="a", stream=True))
    assert "".join(event.choices[0].text or "" for event in events) == TEXT
    assert events[-1].usage is not None
    vectors = gpt.embeddings.create(model="openai/text-embedding-3-small", input=["a", "b"], encoding_format="float")
    assert [entry.embedding for entry in vectors.data] == [[0.25, -0.5, 1.0]] * 2
    assert vectors.usage.prompt_tokens == 5
    providers[GPT].asked.clear()
    providers[GPT].faults.extend([Fault(kind="rate"), Fault(kind="rate")])
    with pytest.raises(openai.RateLimitError):
        gpt.embeddings.create(model="openai/text-embedding-3-small", input="a")
    with pytest.raises(openai.RateLimitError):
        gpt.completions.create(model=model, prompt="a")
    assert len(providers[GPT].asked) == 2


@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_anthropics_sdk_through_the_adapter(adapter: AdapterProcess, model: str) -> None:
    """Messages answer, stream and call tools, whichever provider is behind them."""
    uds = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(adapter.socket)))
    with anthropic.Anthropic(base_url="http://adapter", api_key="none", http_client=uds, max_retries=0) as claude:
        answer = claude.messages.create(model=model, messages=MESSAGES, max_tokens=10)
        assert answer.content[0].type == "text"
        assert (answer.content[0].text, answer.stop_reason, answer.usage.output_tokens) == (TEXT, "end_turn", 3)
        with claude.messages.stream(model=model, messages=MESSAGES, max_tokens=10) as stream:
            assert "".join(stream.text_stream) == TEXT
            assert stream.get_final_message().usage.output_tokens == 3
        if model == CLAUDE:
            with claude.messages.stream(model=model, messages=MESSAGES, max_tokens=10, tools=CLAUDE_TOOLS) as stream:
                (block,) = stream.get_final_message().content
            assert block.type == "tool_use"
            assert block.input == {"city": "Seoul"}


@pytest.mark.parametrize("path", bodies(GPT))
@pytest.mark.parametrize(
    ("model", "kind", "status"),
    [(GPT, "bad_request", 400), (GPT, "context", 400), (GPT, "key", 401), (GPT, "model", 404), (GPT, "rate", 429),
     (GPT, "quota", 429), (GPT, "server", 500), (GPT, "overloaded", 503), (CLAUDE, "bad_request", 400),
     (CLAUDE, "key", 401), (CLAUDE, "permission", 403), (CLAUDE, "model", 404), (CLAUDE, "rate", 429),
     (CLAUDE, "server", 500), (CLAUDE, "overloaded", 529)],
)  # fmt: skip
def test_errors_keep_status_words_and_headers(
    ask: Callable[..., httpx.Response],
    providers: dict[str, ProviderServer],
    path: str,
    model: str,
    kind: str,
    status: int,
) -> None:
    """Each error comes once, with the provider's status, message, Retry-After and limits, in the path's own shape."""
    for stream in (False, True):
        providers[model].asked.clear()
        providers[model].faults.append(Fault(kind=kind, retry_after="7"))
        answer = ask(path, model, stream=stream)
        assert answer.status_code == status
        assert len(providers[model].asked) == 1, "LiteLLM must not retry by itself"
        assert answer.headers["retry-after"] == "7"
        limits = "x-ratelimit-remaining-tokens" if model == GPT else "anthropic-ratelimit-tokens-remaining"
        assert answer.headers[limits] in {"29975", "47000"}
        body = answer.json()
        assert (body.get("type") == "error") is (path == "/v1/messages")
        error = openai_provider.ERRORS[kind][1]["message"] if model == GPT else anthropic_provider.ERRORS[kind][2]
        if status in {401, 403}:
            assert "credential" in body["error"]["message"]
            assert "sk-" not in answer.text
        else:
            assert body["error"]["message"] == error


@pytest.mark.parametrize("path", bodies(GPT))
@pytest.mark.parametrize(("model", "kind"), [(GPT, ""), (CLAUDE, ""), (CLAUDE, "overloaded")])
def test_a_stream_that_breaks_ends_with_an_error_event(
    ask: Callable[..., httpx.Response], providers: dict[str, ProviderServer], path: str, model: str, kind: str
) -> None:
    """Half a stream, or an error in it, ends with the path's error event and never with the mark of a whole one."""
    whole = ask(path, model, stream=True).text
    assert ("[DONE]" in whole) or ("message_stop" in whole) or ("response.completed" in whole)
    providers[model].faults.append(Fault(kind=kind, cut=4))
    answer = ask(path, model, stream=True)
    assert answer.status_code == 200
    last = answer.text.strip().rpartition("\n\n")[2]
    document = json.loads(last.partition("data: ")[2])
    assert not {"[DONE]", "message_stop", "response.completed"} & set(answer.text.replace('"', " ").split())
    if path == "/v1/chat/completions":
        assert document["error"]["message"]
    else:
        assert last.startswith("event: error")
        assert document["type"] == "error"


@pytest.mark.parametrize("path", bodies(GPT))
@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_time_is_bounded_by_the_gateways_deadline(
    ask: Callable[..., httpx.Response], providers: dict[str, ProviderServer], path: str, model: str
) -> None:
    """A silent provider is 504, a stream that stalls ends with an error event, and the provider sees us leave."""
    provider = providers[model]
    for stream in (False, True):
        provider.faults.append(Fault(silent=True))
        answer = ask(path, model, deadline_seconds=0.6, stream=stream)
        assert answer.status_code == 504
        assert provider.asked[-1].left.wait(5)
    provider.faults.append(Fault(hang=4))
    answer = ask(path, model, deadline_seconds=0.6, stream=True)
    assert answer.status_code == 200
    assert "in time" in answer.text
    assert provider.asked[-1].left.wait(5)


@pytest.mark.parametrize("path", bodies(GPT))
@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_a_gateway_that_leaves_cancels_the_call(
    http: httpx.Client, providers: dict[str, ProviderServer], path: str, model: str
) -> None:
    """The provider sees its client leave, before and in the middle of an answer."""
    provider = providers[model]
    provider.faults.append(Fault(silent=True))
    with pytest.raises(httpx.ReadTimeout):
        http.post(f"http://adapter{path}", json=bodies(model)[path], timeout=0.8)
    assert provider.asked[-1].left.wait(5)
    provider.faults.append(Fault(hang=4))
    with http.stream("POST", f"http://adapter{path}", json=bodies(model)[path] | {"stream": True}) as answer:
        assert next(answer.iter_raw())
    assert provider.asked[-1].left.wait(5)


def test_providers_through_the_gateway(
    adapter: AdapterProcess, providers: dict[str, ProviderServer], tmp_path: Path
) -> None:
    """To clients a provider is one more model: both SDKs, streams, tokens observed, a busy provider told apart."""
    endpoint = {"service": "claude", "side": "stable", "weight_percent": 100, "provider_model": CLAUDE}
    spec = {"model": "claude", "endpoints": [endpoint]}
    route = json.dumps({"kind": "Route", "metadata": {"name": "claude"}, "spec": spec})
    gateway = GatewayProcess(
        tmp_path, cast("FakeUpstream", SimpleNamespace(url="http://127.0.0.1:9")), PROVIDER_SOCKET=str(adapter.socket)
    )
    gateway.commit({}, route)
    try:
        gateway.start()
        url = f"http://127.0.0.1:{gateway.port}"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as gpt:
            create: Any = gpt.chat.completions.create
            ask = {"model": "claude", "messages": MESSAGES, "max_tokens": 10}
            assert create(**ask).choices[0].message.content == TEXT
            events = list(create(**ask, stream=True))
            assert "".join(event.choices[0].delta.content or "" for event in events) == TEXT
        with anthropic.Anthropic(base_url=url, api_key="x", max_retries=0) as claude:
            with claude.messages.stream(model="claude", messages=MESSAGES, max_tokens=10) as stream:
                assert stream.get_final_message().content[0].type == "text"
            providers[CLAUDE].faults.append(Fault(kind="rate", retry_after="7"))
            with pytest.raises(anthropic.APIStatusError) as busy:
                claude.messages.create(model="claude", messages=MESSAGES, max_tokens=10)
            assert busy.value.response.headers["retry-after"] == "7"
    finally:
        gateway.stop()
    assert [asked.body["model"] for asked in providers[CLAUDE].asked] == ["claude-sonnet-4"] * 4
    answered = gateway.observations()[:3]
    assert [(line["prompt_tokens"], line["output_tokens"]) for line in answered] == [(13, 3)] * 3


def test_what_a_client_may_not_do(ask: Callable[..., httpx.Response], providers: dict[str, ProviderServer]) -> None:
    """Other providers, LiteLLM's controls, broken bodies and other paths are refused before any call."""
    for body in ({"model": "cohere/x"}, {"model": "gpt-4o"}, {"api_base": "http://127.0.0.1:9"}, {"mock_response": "x"},
                 {"api_key": "x"}, {"extra_headers": {"a": "b"}}, {"messages": None}):  # fmt: skip
        assert ask("/v1/chat/completions", GPT, **body).status_code == 400, body
    assert ask("/v1/messages", CLAUDE, messages=None).json()["type"] == "error"
    assert not any(provider.asked for provider in providers.values())


def test_cold_paths(http: httpx.Client) -> None:
    """Readiness lists the providers; what is not there is 404; a body that is no JSON is 400, one too long 413."""
    ready = http.get("http://adapter/health/ready").json()
    assert ready == {"ready": True, "providers": ["openai", "anthropic"], "reasons": []}
    assert http.get("http://adapter/v1/chat/completions").status_code == 404
    assert http.post("http://adapter/v1/models").status_code == 404
    assert http.post("http://adapter/v1/messages", content=b"{").json()["type"] == "error"


def test_secrets_and_texts_stay_out_of_the_log(
    ask: Callable[..., httpx.Response], adapter: AdapterProcess, providers: dict[str, ProviderServer]
) -> None:
    """After failures of every kind the log has neither a key nor what was asked or answered."""
    for model in (GPT, CLAUDE):
        for fault in (Fault(kind="key"), Fault(kind="rate"), Fault(kind="server"), Fault(cut=3)):
            providers[model].faults.append(fault)
            ask(
                "/v1/chat/completions",
                model,
                stream=fault.cut is not None,
                messages=[{"role": "user", "content": "zebra-crossing"}],
            )
    log = adapter.log.read_text()
    assert "provider call failed" in log
    for secret in (openai_provider.KEY, anthropic_provider.KEY, "zebra-crossing", "Hello wide", "Give Feedback"):
        assert secret not in log


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"NEXUS_ADAPTER_SOKCET": "x"}, "SOKCET"),
        ({"NEXUS_ADAPTER_PROVIDERS_FILE": "/nonexistent"}, "/nonexistent"),
        ({"NEXUS_ADAPTER_SOCKET": "/nonexistent/s"}, "No such file"),
    ],
)
def test_what_cannot_be_used_is_exit_2(
    tmp_path: Path, providers: dict[str, ProviderServer], change: dict[str, str], words: str
) -> None:
    """A wrong setting, document or socket ends the process with its reason."""
    adapter = AdapterProcess(tmp_path, providers[GPT], providers[CLAUDE])
    command = [str(adapter.python), "-m", "gateway.adapter"]
    env = adapter.environment() | change
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr


def test_stopping_finishes_what_is_in_flight(tmp_path: Path, providers: dict[str, ProviderServer]) -> None:
    """SIGTERM lets a running stream end whole, exits with 0; a killed one is replaced on the same socket."""
    adapter = AdapterProcess(tmp_path, providers[GPT], providers[CLAUDE]).start()
    try:
        with adapter.client() as client:
            url, body = "http://adapter/v1/chat/completions", bodies(CLAUDE)["/v1/chat/completions"] | {"stream": True}
            with client.stream("POST", url, json=body) as answer:
                assert adapter.process is not None
                adapter.process.send_signal(signal.SIGTERM)
                assert "".join(answer.iter_text()).endswith("data: [DONE]\n\n")
        assert adapter.process.wait(20) == 0
        adapter.start()
        adapter.stop(signal.SIGKILL)
        adapter.start()
        begun = time.monotonic()
        assert adapter.stop() == 0
        assert time.monotonic() - begun < 15  # the grace time is 30 s, and nothing runs
    finally:
        adapter.stop()
