"""Bedrock's Converse and ConverseStream as clients see them: signed requests, binary event frames, errors by header.

Source: the published API reference and the description of the service that botocore carries, with which its own parser
reads these frames in the tests.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import urllib.parse
import zlib
from typing import Any

from tests.fakes.provider_server import Asked, Fault, ProviderServer, Reply

ACCESS_KEY_ID = "AKIATESTTESTTEST1F2E"
SECRET_ACCESS_KEY = "wJalrTestTestTestTestTestTestTest1F2E3D4C"
REGION = "us-west-2"
USAGE = {"inputTokens": 11, "outputTokens": 3, "totalTokens": 14}
WORDS = ("Hello", " wide", " world")
ARGUMENTS = ('{"city"', ': "Seo', 'ul"}')
ERRORS: dict[str, tuple[int, str, str]] = {
    "bad_request": (400, "ValidationException", "The model returned the following errors: messages: too short"),
    "key": (403, "UnrecognizedClientException", "The security token included in the request is invalid."),
    "permission": (403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
    "model": (404, "ResourceNotFoundException", "Could not resolve the foundation model from the model identifier."),
    "rate": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "server": (500, "InternalServerException", "The system encountered an unexpected error during processing."),
    "overloaded": (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
}
_HEADERS = {"x-amzn-requestid": "0f0e0d0c-0000-4000-8000-000000000000"}


def frame(kind: str, document: dict[str, Any], message_type: str = "event") -> bytes:
    """One message of `application/vnd.amazon.eventstream`."""
    name = ":event-type" if message_type == "event" else ":exception-type"
    fields = {name: kind, ":content-type": "application/json", ":message-type": message_type}
    head = b"".join(
        struct.pack(">B", len(key)) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in fields.items()
    )
    payload = json.dumps(document, separators=(",", ":")).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


def signed(asked: Asked, secret: str = SECRET_ACCESS_KEY) -> bool:
    """Whether a request has the signature (version 4) of the credential."""
    scheme, _, rest = asked.headers.get("authorization", "").partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    if scheme != "AWS4-HMAC-SHA256" or not parts.get("Credential", "").startswith(f"{ACCESS_KEY_ID}/"):
        return False
    _, day, region, service, _ = parts["Credential"].split("/")
    names = parts["SignedHeaders"].split(";")
    headers = "".join(f"{name}:{asked.headers[name]}\n" for name in names)
    digest = hashlib.sha256(asked.raw).hexdigest()
    path = urllib.parse.quote(asked.path)
    request = f"POST\n{path}\n\n{headers}\n{parts['SignedHeaders']}\n{digest}".encode()
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join((scheme, asked.headers["x-amz-date"], scope, hashlib.sha256(request).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    return (region, service) == (REGION, "bedrock") and hmac.compare_digest(key.hex(), parts["Signature"])


class BedrockProvider(ProviderServer):
    """The provider; `faults` are taken by the next requests. One with kind and cut is an exception in the stream."""

    def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        kind = fault.kind if fault is not None else ""
        model, _, operation = asked.path.removeprefix("/model/").rpartition("/")
        assert model, asked.path
        assert operation in {"converse", "converse-stream"}, asked.path
        if not signed(asked):
            kind = "key"
        elif not kind and not asked.body.get("messages"):
            kind = "bad_request"
        if kind and (fault is None or fault.cut is None):
            status, name, message = ERRORS[kind]
            headers = _HEADERS | {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
            if fault is not None and fault.retry_after is not None:
                headers |= {"retry-after": fault.retry_after}
            return Reply(status, {"message": message}, headers=headers)
        if operation == "converse":
            return Reply(document=_answer(asked.body), headers=dict(_HEADERS))
        events = _events(asked.body)
        if kind and fault is not None and fault.cut is not None:
            _, name, message = ERRORS[kind]
            events = [*events[: fault.cut], frame(name[0].lower() + name[1:], {"message": message}, "exception")]
            fault.cut = None
        return Reply(events=events, headers=_HEADERS | {"content-type": "application/vnd.amazon.eventstream"})


def _answer(body: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"text": "".join(WORDS)}
    if body.get("toolConfig"):
        content = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Seoul"}}}
    return {
        "metrics": {"latencyMs": 12},
        "output": {"message": {"content": [content], "role": "assistant"}},
        "stopReason": "tool_use" if body.get("toolConfig") else "end_turn",
        "usage": USAGE,
    }


def _events(body: dict[str, Any]) -> list[bytes]:
    tools = bool(body.get("toolConfig"))
    start = (
        [{"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}}}] if tools else []
    )
    deltas: list[dict[str, Any]] = (
        [{"toolUse": {"input": part}} for part in ARGUMENTS] if tools else [{"text": word} for word in WORDS]
    )
    return [
        frame("messageStart", {"p": "abcd", "role": "assistant"}),
        *(frame("contentBlockStart", one | {"p": "ab"}) for one in start),
        *(frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta, "p": "abcdef"}) for delta in deltas),
        frame("contentBlockStop", {"contentBlockIndex": 0, "p": "abc"}),
        frame("messageStop", {"p": "abcde", "stopReason": "tool_use" if tools else "end_turn"}),
        frame("metadata", {"metrics": {"latencyMs": 12}, "p": "a", "usage": USAGE}),
    ]
