from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from serving.settings import NexusSettings
from tests.fakes import anthropic_provider, openai_provider
from tests.fakes.anthropic_provider import AnthropicProvider
from tests.fakes.fake_upstream import LAST_CHUNK, STREAM_HEAD, chunk, whole
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.openai_provider import OpenAIProvider
from tests.fakes.provider_server import Reply

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}]
UNKNOWN = {
    "x_unknown": {"deep": [1, 2.5, None, "한국어 \U0001f600", {"big": 2**53 + 1}]},
    "min_p": 0.05,
    "chat_template_kwargs": {"a": 1},
}
TEXT = "Hello wide world"


class City(BaseModel):
    city: str


def answers(reply: Reply, cut: int | None = None, end: str = "keep") -> dict[str, Any]:
    """What makes the fake engine answer like this; goes along as an unknown field of the request."""
    if reply.document is not None:
        return {"fake": {"pieces": [whole(json.dumps(reply.document), reply.status, **reply.headers)]}}
    pieces = [STREAM_HEAD, *(chunk(event) for event in reply.events[:cut])]
    if cut is None:
        pieces.append(LAST_CHUNK)
    return {"fake": {"pieces": pieces, "end": end, "pause": 0.002}}


def refuses(status: int, document: dict[str, Any], **headers: str) -> dict[str, Any]:
    return {"fake": {"pieces": [whole(json.dumps(document), status, **headers)]}}


@pytest.fixture
def gateway(build: Callable[..., GatewayProcess]) -> GatewayProcess:
    return build().start()


@pytest.fixture
def sent() -> list[bytes]:
    """Bodies as the SDKs sent them."""
    return []


@pytest.fixture
def gpt(gateway: GatewayProcess, sent: list[bytes]) -> Iterator[openai.OpenAI]:
    hooks: dict[str, list[Any]] = {"request": [lambda request: sent.append(request.read())]}
    with httpx.Client(event_hooks=hooks, timeout=20) as http:
        url = f"http://127.0.0.1:{gateway.port}/v1"
        yield openai.OpenAI(base_url=url, api_key="x", http_client=http, max_retries=0)


@pytest.fixture
def claude(gateway: GatewayProcess, sent: list[bytes]) -> Iterator[anthropic.Anthropic]:
    hooks: dict[str, list[Any]] = {"request": [lambda request: sent.append(request.read())]}
    with httpx2.Client(event_hooks=hooks, timeout=20) as http:
        url = f"http://127.0.0.1:{gateway.port}"
        yield anthropic.Anthropic(base_url=url, api_key="x", http_client=http, max_retries=0)


def test_every_byte_of_a_body_reaches_the_engine(
    gateway: GatewayProcess, gpt: openai.OpenAI, claude: anthropic.Anthropic, sent: list[bytes]
) -> None:
    """Tools, structured output, logprobs, images and unknown fields arrive on each path as the SDK sent them."""
    parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}]
    seen: Any = {"type": "input_image", "image_url": PIXEL, "detail": "low"}
    source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL.partition(",")[2]}
    system: Any = [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]
    form: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    create: Any = gpt.chat.completions.create
    create(
        model="m", messages=[{"role": "user", "content": parts}], tools=TOOLS, tool_choice="auto", logprobs=True,
        response_format=form, top_logprobs=3, n=1, seed=7, stop=["\n\n"], logit_bias={"5": -1},
        parallel_tool_calls=False, extra_body=UNKNOWN,
    )  # fmt: skip
    gpt.completions.create(model="m", prompt=[1, 2, 3], logprobs=2, extra_body=UNKNOWN)
    gpt.embeddings.create(model="m", input=["a", "b"], dimensions=8, extra_body=UNKNOWN | answers(embeddings()))
    gpt.responses.create(
        model="m", input=[{"role": "user", "content": [seen]}], include=["message.output_text.logprobs"],
        tools=[{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}],
        text={"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}},
        extra_body=UNKNOWN | answers(response()),
    )  # fmt: skip
    claude.messages.create(
        model="m", max_tokens=9, messages=[{"role": "user", "content": [{"type": "image", "source": source}]}],
        tools=[{"name": "weather", "input_schema": SCHEMA}], system=system,
        thinking={"type": "enabled", "budget_tokens": 1024}, extra_body=UNKNOWN | answers(message()),
    )  # fmt: skip
    assert [request.body for request in gateway.engine.requests] == sent
    assert [request.target.split()[1] for request in gateway.engine.requests] == [
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
    ]  # fmt: skip
    assert all(json.loads(body)["x_unknown"] == UNKNOWN["x_unknown"] for body in sent)


def message(**extra: Any) -> Reply:
    return Reply(document=AnthropicProvider()._message({"model": "m", **extra}))


def message_events(**extra: Any) -> Reply:
    return Reply(events=AnthropicProvider()._events({"model": "m", **extra}))


def response(**extra: Any) -> Reply:
    return OpenAIProvider()._response({"model": "m", **extra})


def embeddings() -> Reply:
    return OpenAIProvider()._embedding({"model": "m", "input": "a"})


def chat(**extra: Any) -> Reply:
    return OpenAIProvider()._chat({"model": "m", **extra})


def test_openais_sdk(gateway: GatewayProcess, gpt: openai.OpenAI) -> None:
    """Chat, tools, structured output, embeddings and responses, whole and streamed; tokens are observed."""
    create: Any = gpt.chat.completions.create
    assert create(model="m", messages=MESSAGES, extra_body=answers(chat())).choices[0].message.content == TEXT
    called = create(model="m", messages=MESSAGES, tools=TOOLS, extra_body=answers(chat(tools=TOOLS)))
    assert json.loads(called.choices[0].message.tool_calls[0].function.arguments) == {"city": "Seoul"}
    options = {"include_usage": True}
    events = list(
        create(model="m", messages=MESSAGES, tools=TOOLS, stream=True, stream_options=options,
               extra_body=answers(chat(tools=TOOLS, stream=True, stream_options=options)))
    )  # fmt: skip
    parts = [part for event in events for item in event.choices for part in item.delta.tool_calls or ()]
    assert json.loads("".join(part.function.arguments or "" for part in parts)) == {"city": "Seoul"}
    assert events[-1].usage.completion_tokens == 3
    document: Any = chat().document
    document["choices"][0]["message"]["content"] = '{"city": "Seoul"}'
    parsed = gpt.chat.completions.parse(
        model="m", messages=MESSAGES, response_format=City, extra_body=answers(Reply(document=document))
    )
    assert parsed.choices[0].message.parsed == City(city="Seoul")
    vectors = gpt.embeddings.create(model="m", input="a", encoding_format="float", extra_body=answers(embeddings()))
    assert vectors.data[0].embedding == [0.25, -0.5, 1.0]
    assert gpt.responses.create(model="m", input="a", extra_body=answers(response())).output_text == TEXT
    with gpt.responses.stream(model="m", input="a", extra_body=answers(response(stream=True))) as stream:
        assert stream.get_final_response().output_text == TEXT
    gateway.stop()
    seen = gateway.observations()
    assert [line["output_tokens"] for line in seen] == [3, 3, 3, 3, None, 3, 3]
    assert [line["cached_tokens"] for line in seen] == [4, 4, 4, 4, None, 4, 4]
    assert [line["finish_reason"] for line in seen][:3] == ["stop", "tool_calls", "tool_calls"]
    assert [line["ttft_ms"] is not None for line in seen] == [line["streamed"] for line in seen]
    assert all(line["outcome"] == "ok" for line in seen)


def test_anthropics_sdk(gateway: GatewayProcess, claude: anthropic.Anthropic) -> None:
    """Messages and tool use, whole and streamed; tokens are observed in the same words as for OpenAI."""
    create: Any = claude.messages.create
    assert create(model="m", max_tokens=9, messages=MESSAGES, extra_body=answers(message())).content[0].text == TEXT
    tools: Any = [{"name": "weather", "input_schema": SCHEMA}]
    for events, content in (
        (message_events(), {"text": TEXT}),
        (message_events(tools=tools), {"input": {"city": "Seoul"}}),
    ):
        with claude.messages.stream(
            model="m", max_tokens=9, messages=MESSAGES, tools=tools, extra_body=answers(events)
        ) as stream:
            final = stream.get_final_message().model_dump()
        assert content.items() <= final["content"][0].items()
    gateway.stop()
    seen = gateway.observations()
    assert [(line["prompt_tokens"], line["cached_tokens"], line["output_tokens"]) for line in seen] == [(13, 4, 3)] * 3
    assert [line["finish_reason"] for line in seen] == ["stop", "stop", "tool_calls"]
    assert [line["ttft_ms"] is not None for line in seen] == [False, True, True]


def test_openais_sdk_raises_its_own_errors(gpt: openai.OpenAI) -> None:
    """Refusals keep the engine's words; failures of engine, route and stream become the SDK's errors."""
    create: Any = gpt.chat.completions.create
    refusal = {
        "error": {"message": "max_tokens is too large", "type": "BadRequestError", "param": "max_tokens", "code": 400}
    }
    with pytest.raises(openai.BadRequestError, match="max_tokens is too large") as refused:
        create(model="m", messages=MESSAGES, extra_body=refuses(400, refusal))
    assert refused.value.param == "max_tokens"
    with pytest.raises(openai.NotFoundError, match="expected a model that is served"):
        create(model="none", messages=MESSAGES)
    with pytest.raises(openai.InternalServerError) as failed:
        create(model="m", messages=MESSAGES, extra_body=refuses(500, {"error": {"message": "secret details"}}))
    assert (failed.value.status_code, failed.value.code) == (502, "upstream_status")
    assert "secret details" not in str(failed.value)
    with pytest.raises(openai.APIError, match="closed the connection"):
        list(create(model="m", messages=MESSAGES, stream=True, extra_body=answers(chat(stream=True), 3, "reset")))
    with pytest.raises(openai.NotFoundError):
        gpt.responses.create(model="none", input="a")
    broken = answers(response(stream=True), 5, "reset")
    events = list(gpt.responses.create(model="m", input="a", stream=True, extra_body=broken))
    last = events[-1]
    assert last.type == "error"
    assert (last.code, last.sequence_number) == ("upstream_reset", 5)
    with pytest.raises(openai.InternalServerError) as busy:
        create(model="m", messages=MESSAGES, extra_body=refuses(429, {"error": {}}, retry_after="7"))
    assert busy.value.response.headers["retry-after"] == "7"


def test_anthropics_sdk_raises_its_own_errors(gateway: GatewayProcess, claude: anthropic.Anthropic) -> None:
    """Errors come in Anthropic's shape on /v1/messages, whoever makes them, also in the middle of a stream."""
    create: Any = claude.messages.create
    own = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too large"}}
    openais = {"error": {"message": "max_tokens: too large", "type": "BadRequestError", "code": 400}}
    for document in (own, openais):
        with pytest.raises(anthropic.BadRequestError, match="max_tokens: too large") as refused:
            create(model="m", max_tokens=9, messages=MESSAGES, extra_body=refuses(400, document))
        assert refused.value.body == own
    with pytest.raises(anthropic.NotFoundError) as missing:
        create(model="none", max_tokens=9, messages=MESSAGES)
    body: Any = missing.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    with pytest.raises(anthropic.InternalServerError) as failed:
        create(model="m", max_tokens=9, messages=MESSAGES, extra_body=refuses(500, {}))
    assert failed.value.status_code == 502
    with pytest.raises(anthropic.APIStatusError, match="closed the connection"):
        list(
            create(
                model="m",
                max_tokens=9,
                messages=MESSAGES,
                stream=True,
                extra_body=answers(message_events(), 4, "reset"),
            )
        )
    overloaded = anthropic_provider.event(anthropic_provider.error("overloaded"))
    events = Reply(events=[*message_events().events[:4], overloaded])
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(create(model="m", max_tokens=9, messages=MESSAGES, stream=True, extra_body=answers(events)))
    with pytest.raises(anthropic.APIStatusError) as busy:
        create(model="m", max_tokens=9, messages=MESSAGES, extra_body=refuses(429, {}, retry_after="7"))
    assert busy.value.response.headers["retry-after"] == "7"
    gateway.stop()
    outcomes = [line["outcome"] for line in gateway.observations()]
    assert outcomes == ["engine-refused"] * 2 + ["rejected"] + ["upstream-error"] * 4


@pytest.mark.parametrize(
    ("path", "reply", "mark"),
    [
        ("/v1/chat/completions", OpenAIProvider()._chat({"model": "m", "stream": True}), "[DONE]"),
        ("/v1/messages", Reply(events=AnthropicProvider()._events({"model": "m"})), '"message_stop"'),
        ("/v1/responses", OpenAIProvider()._response({"model": "m", "stream": True}), "response.completed"),
    ],
)
def test_a_client_that_leaves_at_the_end_has_its_answer(
    gateway: GatewayProcess, path: str, reply: Reply, mark: str
) -> None:
    """SDKs close at the mark of the end, which may be before the last bytes of the framing: that is no disconnect."""
    script = answers(reply, len(reply.events), "hang")
    url, body = f"http://127.0.0.1:{gateway.port}{path}", {"model": "m", "stream": True, **script}
    with httpx.Client() as client, client.stream("POST", url, json=body) as answer:
        lines = answer.iter_lines()
        assert any(mark in line for line in lines)
    assert gateway.engine.requests[0].client_left.wait(5)
    gateway.stop()
    (line,) = gateway.observations()
    assert (line["outcome"], line["status"], line["finish_reason"]) == ("ok", 200, "stop")


def test_langchain(gateway: GatewayProcess) -> None:
    """ChatOpenAI answers, streams, calls tools, gives structured output and raises OpenAI's errors."""
    common: dict[str, Any] = {
        "model": "m",
        "base_url": f"http://127.0.0.1:{gateway.port}/v1",
        "api_key": SecretStr("x"),
        "max_retries": 0,
    }
    llm = ChatOpenAI(**common, extra_body=answers(chat()))
    answer = llm.invoke([HumanMessage("hello")])
    assert answer.content == TEXT
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 3
    streaming = ChatOpenAI(
        **common, stream_usage=True, extra_body=answers(chat(stream=True, stream_options={"include_usage": True}))
    )
    assert "".join(str(part.content) for part in streaming.stream("hello")) == TEXT
    tooled = ChatOpenAI(**common, extra_body=answers(chat(tools=TOOLS))).bind_tools(TOOLS).invoke("hello")
    assert tooled.tool_calls[0]["args"] == {"city": "Seoul"}
    document: Any = chat().document
    document["choices"][0]["message"]["content"] = '{"city": "Seoul"}'
    structured = ChatOpenAI(**common, extra_body=answers(Reply(document=document))).with_structured_output(
        City, method="json_schema"
    )
    assert structured.invoke("hello") == City(city="Seoul")
    with pytest.raises(openai.NotFoundError):
        ChatOpenAI(**common | {"model": "none"}).invoke("hello")
    vectors = OpenAIEmbeddings(
        **common,
        check_embedding_ctx_length=False,
        model_kwargs={"extra_body": answers(embeddings()), "encoding_format": "float"},
    )
    assert vectors.embed_query("a") == [0.25, -0.5, 1.0]


LITELLM = """
import json, sys
import litellm
litellm.suppress_debug_info = True
base, chat, stream, message = sys.argv[1], *map(json.loads, sys.argv[2:])
ask = dict(messages=[{"role": "user", "content": "hello"}], max_tokens=9, api_key="x", num_retries=0, max_retries=0)
v1 = dict(model="openai/m", api_base=base + "/v1")
out = [litellm.completion(**v1, **ask, extra_body=chat).choices[0].message.content]
pieces = litellm.completion(**v1, **ask, stream=True, extra_body=stream)
out.append("".join(piece.choices[0].delta.content or "" for piece in pieces))
out.append(litellm.completion(model="anthropic/m", api_base=base, **ask, **message).choices[0].message.content)
for model, where in (("openai/none", base + "/v1"), ("anthropic/none", base)):
    try:
        litellm.completion(model=model, api_base=where, **ask)
    except litellm.NotFoundError as error:
        out.append(f"{type(error).__name__} {error.status_code}")
print(json.dumps(out))
"""


def test_litellms_sdk(gateway: GatewayProcess) -> None:
    """LiteLLM's client answers and streams by both formats, and raises its own errors."""
    python = NexusSettings.load().home / "envs" / "provider" / "bin" / "python"
    scripts = [answers(chat()), answers(chat(stream=True)), answers(message())]
    argv = [str(python), "-c", LITELLM, f"http://127.0.0.1:{gateway.port}", *map(json.dumps, scripts)]
    env = gateway.environment() | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    }
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [TEXT] * 3 + ["NotFoundError 404"] * 2


def test_the_fakes_speak_for_the_providers() -> None:
    """The SDKs' own types accept every whole answer that the tests above use."""
    assert anthropic.types.Message.model_validate(message().document).content[0].type == "text"
    assert openai.types.responses.Response.model_validate(response().document).output_text == TEXT
    assert openai_provider.USAGE["completion_tokens"] == 3
