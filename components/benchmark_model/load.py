"""Load generator: streamed chat requests in a closed loop, timed at the client.

One event loop; events are only time-stamped while they come, and parsed when the stream has ended. ADR 0005 has its
share of a core next to the engine's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 60.0
_EVENT = b"data: "
_DONE = b"[DONE]"


@dataclass(frozen=True)
class Prompt:
    """A conversation in the form of the chat completions API."""

    messages: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Answer:
    """One streamed answer. Times in seconds since the request was sent; `error` says why there is none.

    `itl_seconds` is the mean gap between its tokens, as the canary's observations have it: single gaps measure how the
    sockets' chunks fall, and half of them are zero under load.
    """

    error: str | None = None
    ttft_seconds: float = 0.0
    itl_seconds: float = 0.0
    total_seconds: float = 0.0
    output_tokens: int = 0


@dataclass(frozen=True)
class LoadResult:
    """All answers of one level in one round; `wall_seconds` from the first request to the last answer's end."""

    answers: tuple[Answer, ...]
    wall_seconds: float


async def run_level(
    url: str, model: str, prompts: Sequence[Prompt], *, concurrency: int, output_tokens: int
) -> LoadResult:
    """Send prompts, `concurrency` of them in flight at any time.

    Args:
        url: Engine's address without path.
        model: Served model name.
        prompts: One a request, sent in order.
        concurrency: Workers that each send the next prompt when their answer has ended.
        output_tokens: Exact length of every answer: its end token is masked, so that all models do the same work.

    Returns:
        One answer a prompt, in order of their ends; failed ones hold the error.
    """
    queue = iter(prompts)
    answers: list[Answer] = []
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    connector = aiohttp.TCPConnector(limit=concurrency)

    async def work(session: aiohttp.ClientSession) -> None:
        for prompt in queue:
            answers.append(await _ask(session, f"{url}/v1/chat/completions", _body(model, prompt, output_tokens)))

    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work(session))
        wall = time.perf_counter() - started
    return LoadResult(tuple(answers), wall)


def _body(model: str, prompt: Prompt, output_tokens: int) -> bytes:
    body: dict[str, Any] = {
        "model": model,
        "messages": list(prompt.messages),
        "temperature": 0,
        "max_tokens": output_tokens,
        "min_tokens": output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(body).encode()


async def _ask(session: aiohttp.ClientSession, url: str, body: bytes) -> Answer:
    started = time.perf_counter()
    try:
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
            if response.status != 200:
                text = (await response.text())[:300]
                return Answer(error=f"expected status 200; got {response.status}: {text}")
            return await _read(response, started)
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as exc:
        return Answer(error=f"{type(exc).__name__}: {exc}"[:300])


async def _read(response: aiohttp.ClientResponse, started: float) -> Answer:
    """Note when each event of a stream came; events that share a chunk share its arrival time."""
    rest, events, done = b"", [], False
    async for chunk in response.content.iter_any():
        arrived = time.perf_counter() - started
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(_EVENT):
                done = line.startswith(_DONE, len(_EVENT))
                events.append((arrived, line[len(_EVENT) :]))
    total = time.perf_counter() - started
    if not done:
        return Answer(error=f"expected a stream that ends with {_DONE.decode()}; it ended after {len(events)} events")
    return _answer(events[:-1], total)


def _answer(events: list[tuple[float, bytes]], total: float) -> Answer:
    """Make an answer of the events; one carries a token when its choice has a delta that is more than the role."""
    times, tokens = [], 0
    for arrived, raw in events:
        event = json.loads(raw)
        if "error" in event:
            return Answer(error=f"the stream reports {str(event['error'])[:300]}")
        for choice in event.get("choices", ()):
            delta = choice.get("delta", {})
            if delta.get("content") or ("content" in delta and "role" not in delta):
                times.append(arrived)
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    if not times or not tokens:
        return Answer(error=f"expected content and its usage; got {len(times)} content events and {tokens} tokens")
    itl = (times[-1] - times[0]) / max(1, tokens - 1)
    return Answer(ttft_seconds=times[0], itl_seconds=itl, total_seconds=total, output_tokens=tokens)
