from __future__ import annotations

from typing import Any

import anthropic
import openai
import orjson
import pytest

from gateway.api.errors import STATUS
from gateway.api.formats import CHAT, COMPLETIONS, EMBEDDINGS, FORMATS, MESSAGES, RESPONSES, WireFormat
from gateway.api.formats.anthropic_messages import MessagesMeter, error_type
from gateway.api.formats.openai_responses import ResponsesMeter
from gateway.errors import GatewayError, ModelNotFoundError, OverloadedError, UpstreamResetError
from gateway.routing.snapshot import HOT_PATHS
from gateway.upstream.usage import Usage

TOOL = {"type": "function", "function": {"name": "f"}}


def test_every_hot_path_has_a_format() -> None:
    """No path that is passed to engines is without its format."""
    assert set(FORMATS) == set(HOT_PATHS)


@pytest.mark.parametrize(
    ("wire", "document", "expected"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 5, "n": 3}, 15),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 7}, 7),
        (CHAT, {"max_tokens": "9", "n": 2}, None),
        (CHAT, {"max_tokens": 5, "n": -1}, 5),
        (CHAT, {"max_tokens": True}, None),
        (CHAT, {"max_tokens": 2, "n": 10**9}, 2048),
        (COMPLETIONS, {"prompt": "a", "n": 2, "max_tokens": 4}, 8),
        (COMPLETIONS, {"prompt": ["a", "b", "c"], "n": 2, "max_tokens": 4}, 24),
        (COMPLETIONS, {"prompt": [1, 2, 3], "max_tokens": 4}, 4),
        (COMPLETIONS, {"prompt": [[1], [2]], "max_tokens": 4}, 8),
        (EMBEDDINGS, {"input": ["a"], "max_tokens": 9}, 0),
        (RESPONSES, {"max_output_tokens": 8, "max_tokens": 9, "n": 2}, 8),
        (MESSAGES, {"max_tokens": 6, "n": 4}, 6),
    ],
)  # fmt: skip
def test_most_output_tokens(wire: WireFormat, document: dict[str, Any], expected: int | None) -> None:
    """Each format reads its own fields over all choices; a malformed one counts as absent, and a count is bounded."""
    assert wire.max_tokens(document) == expected


@pytest.mark.parametrize(
    ("wire", "document", "usage", "reason"),
    [
        (CHAT, {"usage": {"prompt_tokens": 3, "completion_tokens": 2}, "choices": [{"finish_reason": "length"}]},
         Usage(3, None, 2), "length"),
        (CHAT, {"usage": {"prompt_tokens": -3, "completion_tokens": "2"}, "choices": [7]}, Usage(), None),
        (CHAT, {"usage": {"prompt_tokens": 3, "completion_tokens": 2**63 - 1}}, Usage(3, None, None), None),
        (CHAT, {"choices": {}}, None, None),
        (EMBEDDINGS, {"usage": {"prompt_tokens": 4, "total_tokens": 4}}, Usage(4, None, None), None),
        (RESPONSES, {"status": "completed", "usage": {"input_tokens": 5, "output_tokens": 6}, "output": []},
         Usage(5, None, 6), "stop"),
        (RESPONSES, {"status": "completed", "output": [{"type": "function_call"}]}, None, "tool_calls"),
        (RESPONSES, {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, None, "length"),
        (RESPONSES, {"status": "failed", "usage": None}, None, None),
        (MESSAGES, {"usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 1,
                              "output_tokens": 2}, "stop_reason": "max_tokens"}, Usage(13, 7, 2), "length"),
        (MESSAGES, {"usage": {"input_tokens": 5, "output_tokens": 2}, "stop_reason": "tool_use"},
         Usage(5, None, 2), "tool_calls"),
        (MESSAGES, {"stop_reason": "something_new"}, None, "something_new"),
    ],
)  # fmt: skip
def test_whole_answers(wire: WireFormat, document: dict[str, Any], usage: Usage | None, reason: str | None) -> None:
    """Tokens and finish reason come in the same words whatever the format; what is malformed is unknown."""
    assert wire.whole(document) == (usage, reason)


@pytest.mark.parametrize("kind", sorted(GatewayError.__subclasses__(), key=lambda kind: kind.__name__))
def test_every_error_has_the_shape_of_its_format(kind: type[GatewayError]) -> None:
    """On /v1/messages each error is Anthropic's, with a type that the SDK knows; elsewhere it is OpenAI's."""
    error = kind("expected this; got that", retry_after_seconds=3)
    for path, wire in FORMATS.items():
        answer = wire.render(error)
        body = orjson.loads(answer.body)
        assert (b"retry-after", b"3") in answer.headers
        assert answer.status == STATUS[error.code]
        if path == "/v1/messages":
            assert set(body) == {"type", "error"}
            assert body["type"] == "error"
            assert body["error"] == {"type": error_type(answer.status), "message": "expected this; got that"}
        else:
            assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"),
     (404, "not_found_error"), (413, "request_too_large"), (422, "invalid_request_error"), (429, "rate_limit_error"),
     (500, "api_error"), (502, "api_error"), (503, "overloaded_error"), (504, "timeout_error"),
     (529, "overloaded_error")],
)  # fmt: skip
def test_anthropics_error_types(status: int, kind: str) -> None:
    """Each status has the type of Anthropic's reference."""
    assert error_type(status) == kind


def test_a_stream_that_fails_ends_with_the_formats_own_event() -> None:
    """Chat gets a plain event, messages and responses one named `error`; responses continue the numbers."""
    error = UpstreamResetError("the engine closed the connection")
    plain = CHAT.error_event(error, CHAT.meter())
    assert plain.startswith(b'data: {"error":{')
    named = MESSAGES.error_event(error, MessagesMeter())
    assert named.startswith(b'event: error\ndata: {"type":"error","error":{"type":"api_error",')
    meter = ResponsesMeter()
    meter.count(b'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n', 1.0)
    for number in range(1, 6):
        text = b'data: {"type":"response.output_text.delta","delta":"a","sequence_number":%d}\n\n' % number
        meter.count(text, 1.0)
    event = RESPONSES.error_event(error, meter)
    head, _, data = event.partition(b"\ndata: ")
    assert head == b"event: error"
    assert orjson.loads(data) == {
        "type": "error", "code": "upstream_reset", "message": error.message, "param": None, "sequence_number": 6,
    }  # fmt: skip
    assert all(one.endswith(b"\n\n") for one in (plain, named, event))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"type":"error","error":{"type":"invalid_request_error","message":"y"}}', None),
        (b'{"type":"error","error":{"type":"BadRequestError","message":"y"}}', "y"),
        (b'{"error":{"message":"max_tokens must be positive","type":"BadRequestError","code":400}}',
         "max_tokens must be positive"),
        (b'{"detail":[]}', "the engine refused the request and gave no reason"),
        (b"[1]", "the engine refused the request and gave no reason"),
        (b"not json", "the engine refused the request and gave no reason"),
    ],
)  # fmt: skip
def test_an_engines_refusal_on_messages_is_anthropics(body: bytes, expected: str | None) -> None:
    """A refusal in Anthropic's shape passes unchanged; one in OpenAI's keeps its message and changes its shape."""
    got = MESSAGES.refusal(body, 400)
    if expected is None:
        assert got is body
    else:
        error = {"type": "invalid_request_error", "message": expected}
        assert orjson.loads(got) == {"type": "error", "error": error}
    assert CHAT.refusal(body, 400) is body


def test_a_message_that_is_broken_off_keeps_what_is_known() -> None:
    """Tokens of the beginning stay when the event that completes them never comes."""
    meter = MessagesMeter()
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 8, "output_tokens": 1}}}
    meter.count(b"event: message_start\ndata: " + orjson.dumps(start) + b"\n\n", 1.0)
    meter.count(b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n', 2.0)
    meter.settle()
    assert (meter.usage, meter.failed, meter.done) == (Usage(8, None, 1), True, False)


@pytest.mark.parametrize(
    ("document", "chunks"),
    [
        ({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}}, 1),
        ({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}, 1),
        ({"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "s"}}, 0),
        ({"type": "content_block_delta", "delta": None}, 0),
        ({"type": "ping"}, 0),
        ({"type": "message_start", "message": 7}, 0),
        ({"type": "message_delta", "delta": [], "usage": []}, 0),
    ],
)
def test_kinds_of_message_events(document: dict[str, Any], chunks: int) -> None:
    """Text, thinking and tool input count as content, and nonsense as nothing."""
    meter = MessagesMeter()
    meter.count(b"event: x\ndata: " + orjson.dumps(document) + b"\n\n", 1.0)
    assert (meter.content_chunks, meter.failed) == (chunks, False)


@pytest.mark.parametrize(
    ("document", "chunks", "failed", "done", "reason"),
    [
        ({"type": "response.function_call_arguments.delta", "delta": "{"}, 1, False, False, None),
        ({"type": "response.reasoning_text.delta", "delta": "hm"}, 1, False, False, None),
        ({"type": "response.output_text.done", "text": "all"}, 0, False, False, None),
        ({"type": "response.failed", "response": {"status": "failed"}}, 0, True, True, None),
        ({"type": "response.completed", "response": []}, 0, False, True, None),
        ({"type": "response.incomplete",
          "response": {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}},
         0, False, True, "content_filter"),
        ({"type": "error", "message": "x"}, 0, True, False, None),
        ({"error": {"message": "x"}}, 0, True, False, None),
    ],
)  # fmt: skip
def test_kinds_of_response_events(
    document: dict[str, Any], chunks: int, failed: bool, done: bool, reason: str | None
) -> None:
    """Deltas count as content, each of the three last events ends the stream, and nonsense is nothing."""
    meter = ResponsesMeter()
    meter.count(b"event: x\ndata: " + orjson.dumps(document) + b"\n\n", 1.0)
    assert (meter.content_chunks, meter.failed, meter.done, meter.finish_reason) == (chunks, failed, done, reason)


def test_the_sdks_know_our_errors() -> None:
    """The bodies are what the SDKs' own classes read."""
    body = orjson.loads(MESSAGES.render(OverloadedError("too much")).body)
    parsed = anthropic.types.ErrorResponse.model_validate({**body, "request_id": None})
    assert parsed.error.type == "overloaded_error"
    plain = orjson.loads(CHAT.render(ModelNotFoundError("none", param="model")).body)
    assert openai.types.ErrorObject.model_validate(plain["error"]).param == "model"
