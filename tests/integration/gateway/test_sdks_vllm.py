"""The SDKs through a real gateway in front of a real vLLM engine with tiny random weights."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import anthropic
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from serving.contracts.release_spec import EngineSettings
from serving.local import node
from serving.local.engine_client import leased_engine
from serving.settings import NexusSettings
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import GatewayProcess, free_port
from tests.fakes.tiny_llama import write_tiny_llama

ENVIRONMENTS = NexusSettings.load().home / "envs"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not (ENVIRONMENTS / "engine" / "bin" / "python").exists(),
        reason=f"no engine environment at {ENVIRONMENTS}: run `make install`",
    ),
]
ENGINE = EngineSettings(
    arguments={
        "max-model-len": 256,
        "kv-cache-memory-bytes": "64M",
        "enforce-eager": True,
        "max-num-seqs": 4,
        "enable-auto-tool-choice": True,
        "tool-call-parser": "hermes",
    }
)
MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"enum": ["Seoul"]}}, "required": ["city"],
                          "additionalProperties": False}  # fmt: skip
FORCED: dict[str, Any] = {"temperature": 0, "seed": 1}
COMPACT = {"structured_outputs": {"choice": ["north", "south"]}}
"""vLLM's own field: whatever the random weights say, the answer is one of these."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    home = (tmp_path_factory.mktemp("sdks") / "home").resolve()
    home.mkdir()
    (home / "envs").symlink_to(ENVIRONMENTS)
    settings = NexusSettings(home=home, gateway_port=free_port(), gateway_admin_port=free_port())
    weights = write_tiny_llama(home / "weights")
    log_path = settings.log_dir / "engine.log"
    try:
        with leased_engine(settings, engine=ENGINE, model_path=weights, served_name="m", log_path=log_path) as handle:
            made = GatewayProcess(home / "gateway", cast("FakeUpstream", SimpleNamespace(url=handle.url)))
            try:
                yield made.start()
            finally:
                made.stop()
    finally:
        node.down(settings)


@pytest.fixture(scope="module")
def gpt(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(gateway: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="x", max_retries=0) as client:
        yield client


def test_openais_sdk(gpt: openai.OpenAI) -> None:
    """Chat and completions answer alike whole and streamed; vLLM's fields, tools, logprobs and structure survive."""
    create: Any = gpt.chat.completions.create
    ask = {"model": "m", "messages": MESSAGES, "max_tokens": 8, **FORCED}
    whole = create(**ask)
    events = list(create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text == whole.choices[0].message.content
    assert events[-1].usage.completion_tokens == whole.usage.completion_tokens > 0
    assert create(**ask, extra_body=COMPACT).choices[0].message.content in {"north", "south"}
    choice = {"type": "function", "function": {"name": "weather"}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    (call,) = create(**ask | {"max_tokens": 128}, tools=tools, tool_choice=choice).choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) is not None  # vLLM holds a named call to JSON, not to its schema
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    shaped = create(**ask | {"max_tokens": 128}, response_format=form).choices[0].message.content
    assert json.loads(shaped) == {"city": "Seoul"}
    scored = create(**ask, logprobs=True, top_logprobs=2)
    assert len(scored.choices[0].logprobs.content[0].top_logprobs) == 2
    assert len(create(**ask | {"temperature": 1}, n=2).choices) == 2
    plain = gpt.completions.create(model="m", prompt="hello", max_tokens=8, **FORCED)
    streamed = gpt.completions.create(model="m", prompt="hello", max_tokens=8, stream=True, **FORCED)
    assert "".join(event.choices[0].text for event in streamed) == plain.choices[0].text


def test_responses(gpt: openai.OpenAI) -> None:
    """vLLM's own /v1/responses answers and streams through the gateway."""
    ask: Any = {"model": "m", "input": "hello", "max_output_tokens": 8, "temperature": 0}
    whole = gpt.responses.create(**ask)
    assert whole.usage is not None
    assert whole.usage.output_tokens > 0
    events = list(gpt.responses.create(**ask, stream=True))
    assert (events[0].type, events[-1].type) in {
        ("response.created", "response.completed"), ("response.created", "response.incomplete"),
    }  # fmt: skip
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text


def test_anthropics_sdk(claude: anthropic.Anthropic) -> None:
    """vLLM's own /v1/messages answers and streams through the gateway."""
    ask: Any = {"model": "m", "max_tokens": 8, "messages": MESSAGES, "extra_body": {"temperature": 0}}
    whole = claude.messages.create(**ask)
    assert whole.content[0].type == "text"
    assert whole.usage.output_tokens > 0
    with claude.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens


def test_refusals_of_the_engine(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """What vLLM refuses, the SDKs raise, each in its own shape and with vLLM's words."""
    create: Any = gpt.chat.completions.create
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        create(model="m", messages=MESSAGES, max_tokens=10_000)
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
    with pytest.raises(openai.BadRequestError, match=r"multimodal|image"):
        create(model="m", messages=image, max_tokens=4)
    with pytest.raises(openai.BadRequestError):
        create(model="m", messages="hello")
    with pytest.raises(openai.BadRequestError):
        gpt.responses.create(model="m", input="hello", temperature=-1.0, max_output_tokens=4)
    with pytest.raises(openai.NotFoundError, match="see /v1/models"):
        create(model="none", messages=MESSAGES)
    send: Any = claude.messages.create
    for wrong in ({"max_tokens": 0}, {"max_tokens": 10_000}, {"max_tokens": 4, "messages": []}):
        with pytest.raises(anthropic.BadRequestError) as refused:
            send(**{"model": "m", "messages": MESSAGES, **wrong})
        body: Any = refused.value.body
        assert body["type"] == "error"
        assert body["error"]["message"]


def test_langchain(gateway: GatewayProcess) -> None:
    """ChatOpenAI answers and streams the same text."""
    url = f"http://127.0.0.1:{gateway.port}/v1"
    llm = ChatOpenAI(model="m", base_url=url, api_key=SecretStr("x"), max_retries=0, temperature=0, max_tokens=8)
    assert "".join(str(part.content) for part in llm.stream("hello")) == llm.invoke("hello").content


LITELLM = """
import json, sys
import litellm
ask = dict(messages=[{"role": "user", "content": "hello"}], max_tokens=8, temperature=0, api_key="x", max_retries=0)
out = []
for model, base in (("openai/m", sys.argv[1] + "/v1"), ("anthropic/m", sys.argv[1])):
    whole = litellm.completion(model=model, api_base=base, **ask).choices[0].message.content
    pieces = litellm.completion(model=model, api_base=base, stream=True, **ask)
    out.append(whole == "".join(piece.choices[0].delta.content or "" for piece in pieces) != "")
print(json.dumps(out))
"""


def test_litellms_sdk(gateway: GatewayProcess) -> None:
    """LiteLLM's client gets the same text whole and streamed, by both formats."""
    python = ENVIRONMENTS / "provider" / "bin" / "python"
    argv = [str(python), "-c", LITELLM, f"http://127.0.0.1:{gateway.port}"]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}
    env = gateway.environment() | offline
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [True, True]


def test_every_request_was_observed(gateway: GatewayProcess) -> None:
    """Tokens and finish reasons of every answered request are known, whatever the format."""
    gateway.stop()
    seen = [line for line in gateway.observations() if line["outcome"] == "ok"]
    assert len(seen) > 15
    assert all(line["output_tokens"] and line["finish_reason"] for line in seen)
    assert all(line["ttft_ms"] is not None for line in seen if line["streamed"])
