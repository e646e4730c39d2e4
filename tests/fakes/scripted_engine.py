"""An OpenAI-compatible engine whose answers, speed and faults are written down; real HTTP, no model."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

DEFAULT_ANSWER = "I do not know."


@dataclass
class Script:
    """What an engine does. Tokens are words; a word of a right answer has log probability `word_logprob`."""

    answers: Mapping[str, str] = field(default_factory=dict)
    word_logprob: float = -0.1
    window_tokens: int = 256
    token_seconds: float = 0.0
    status: int = 200
    dies_after: int | None = None
    cuts_streams: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0


@dataclass(frozen=True)
class RunningEngine:
    """A running engine's address."""

    url: str


@contextmanager
def run_engine(script: Script) -> Iterator[RunningEngine]:
    """Serve a script on a free port of the loopback address, in a thread, while the context is open."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    port: list[int] = []
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(_application(script), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(runner.addresses[0][1])
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield RunningEngine(f"http://127.0.0.1:{port[0]}")
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


def _application(script: Script) -> web.Application:
    async def chat(request: web.Request) -> web.StreamResponse:
        body = await _note(script, request)
        script.in_flight += 1
        script.most_in_flight = max(script.most_in_flight, script.in_flight)
        try:
            if body.get("stream"):
                return await _stream(script, request, body)
            question = body["messages"][-1]["content"]
            message = {"role": "assistant", "content": script.answers.get(question, DEFAULT_ANSWER)}
            return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        finally:
            script.in_flight -= 1

    async def completions(request: web.Request) -> web.Response:
        body = await _note(script, request)
        (tokens,) = body["prompt"]
        logprobs = [None, *[script.word_logprob] * len(tokens)]
        top = [None, *[{"word": script.word_logprob}] * len(tokens)]
        choice = {"index": 0, "text": "", "logprobs": {"token_logprobs": logprobs, "top_logprobs": top}}
        return web.json_response({"choices": [choice]})

    async def tokenize(request: web.Request) -> web.Response:
        body = await request.json()
        text = body.get("prompt") or " ".join(message["content"] for message in body["messages"])
        tokens = list(range(len(text.split())))
        return web.json_response({"tokens": tokens, "count": len(tokens), "max_model_len": script.window_tokens})

    application = web.Application()
    application.router.add_post("/v1/chat/completions", chat)
    application.router.add_post("/v1/completions", completions)
    application.router.add_post("/tokenize", tokenize)
    return application


async def _note(script: Script, request: web.Request) -> dict[str, Any]:
    body: dict[str, Any] = await request.json()
    script.asked.append(body)
    if script.dies_after is not None and len(script.asked) > script.dies_after:
        assert request.transport is not None
        request.transport.abort()
        raise asyncio.CancelledError
    if script.status != 200:
        raise web.HTTPException(reason="scripted") if script.status < 400 else _failure(script.status)
    return body


def _failure(status: int) -> web.HTTPException:
    return {400: web.HTTPBadRequest, 500: web.HTTPInternalServerError, 503: web.HTTPServiceUnavailable}[status](
        text=json.dumps({"error": "scripted"})
    )


async def _stream(script: Script, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await _send(response, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    for number in range(body["max_tokens"]):
        await asyncio.sleep(script.token_seconds)
        await _send(response, {"choices": [{"index": 0, "delta": {"content": f"w{number} "}}]})
    if not script.cuts_streams:
        await _send(response, {"choices": [], "usage": {"completion_tokens": body["max_tokens"]}})
        await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(event)}\n\n".encode())
