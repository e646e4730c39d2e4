"""The hot path without a server: real sockets to a fake engine, a client's exchange by hand in front."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.api.call import Recorder
from gateway.api.forward import Forwarder
from gateway.api.hot import HotPath, Stages
from gateway.auth.authenticator import Authenticator
from gateway.beside.idempotency import Idempotency, MemoryStore
from gateway.beside.shadow import Shadows
from gateway.limits.limiter import Limiter
from gateway.policy_store import PolicyStore
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.spool import Spool, SpoolFile
from gateway.telemetry.user_hash import UserHasher
from gateway.upstream.pool import UpstreamPool
from serving.contracts import metric_names as names
from serving.contracts.observation import Observation, Outcome, Side
from tests.fakes.fake_exchange import Answer, FakeExchange
from tests.fakes.fake_upstream import LAST_CHUNK, STREAM_HEAD, FakeUpstream, chunk, event, head, whole
from tests.fakes.waiting import until

pytestmark = pytest.mark.asyncio

POLICY = """kind: GatewayPolicy
metadata: {name: gateway}
spec:
  timeouts: {connect_seconds: 0.5, first_byte_seconds: 0.15, between_bytes_seconds: 0.15, total_seconds: 2}
"""
ROUTE = """kind: Route
metadata: {name: m}
spec:
  model: m
  release_id: r1
  endpoints:
    - {service: m-1, side: stable, weight_percent: 100}
    - {service: m-2, side: candidate, weight_percent: 0}
"""


class Site:
    def __init__(self, hot: HotPath, engine: FakeUpstream, spool: list[bytes], metrics: GatewayMetrics) -> None:
        self.hot, self.engine, self.spool, self.metrics = hot, engine, spool, metrics
        self.answer = Answer()

    async def post(
        self,
        body: dict[str, Any] | bytes,
        headers: dict[str, str] | None = None,
        leave: asyncio.Event | None = None,
        path: str = "/v1/chat/completions",
    ) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps({"model": "m"} | body).encode()
        exchange = FakeExchange(path, raw, headers)
        self.answer = exchange.got
        async with asyncio.TaskGroup() as tasks:
            left = tasks.create_task(leaving(exchange, leave)) if leave is not None else None
            await self.hot(exchange)
            if left is not None:
                left.cancel()
        return exchange.got

    @property
    def observation(self) -> Observation:
        return Observation.model_validate_json(self.spool[-1], strict=True)

    def failures(self, kind: str) -> float:
        labels = {"service": "m-1", "kind": kind}
        return self.metrics.registry.get_sample_value(names.GATEWAY_UPSTREAM_FAILURES, labels) or 0.0


async def leaving(exchange: FakeExchange, leave: asyncio.Event) -> None:
    await leave.wait()
    exchange.lost()


class ListSpool(Spool):
    def __init__(self, folder: Path, metrics: GatewayMetrics, name: str = "observations") -> None:
        super().__init__(name, SpoolFile(folder, 4096), queue_bytes=1, flush_seconds=1, metrics=metrics)
        self.lines: list[bytes] = []

    def put(self, line: bytes) -> None:
        self.lines.append(line)


@asynccontextmanager
async def opened(root: Path, ready: bool = True) -> AsyncIterator[Site]:
    metrics = GatewayMetrics()
    spool = ListSpool(root, metrics)
    async with FakeUpstream() as engine, asyncio.TaskGroup() as tasks:
        (root / "routes").mkdir()
        (root / "policy.yaml").write_text(POLICY)
        (root / "routes/m.yaml").write_text(ROUTE)
        (root / "endpoints.json").write_text(json.dumps({"m-1": {"url": engine.url, "ready": ready}}))
        store = PolicyStore(root, root / "endpoints.json", interval_seconds=1, metrics=metrics)
        await store.refresh()
        pool = UpstreamPool(idle_seconds=4, max_answer_bytes=300_000)
        keeper = tasks.create_task(pool.run())
        recorder = Recorder(metrics, spool, ListSpool(root, metrics, "spans"), UserHasher(b"k" * 32))
        shadows = ListSpool(root, metrics, "shadows")
        stages = Stages(
            store,
            Authenticator(None, metrics, tasks),
            Idempotency(MemoryStore()),
            Limiter(None, metrics),
            Forwarder(pool, recorder, metrics, max_event_bytes=8192),
            Shadows(pool, shadows, metrics, tasks),
            recorder,
        )
        yield Site(HotPath(stages, metrics), engine, spool.lines, metrics)
        keeper.cancel()
        pool.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "HotPath" in repr(task):
                task.cancel()


async def test_an_answer_passes_unchanged_and_is_observed(tmp_path: Path) -> None:
    """The request's bytes reach the engine unchanged; ids, outcome and tokens are observed, the user's name is not."""
    async with opened(tmp_path) as site:
        raw = b'{ "model":"m", "max_tokens":4,\n "unknown":{"kept":[1.50, "\\u00e9"]} }'
        answer = await site.post(raw, {"x-request-id": "id-1", "x-nexus-user": "zebulon"})
        assert answer.status == 200
        assert answer.headers["x-request-id"] == "id-1"
        assert int(answer.headers["content-length"]) == len(answer.body)
        (request,) = site.engine.requests
        assert request.body == raw
        assert request.target == "POST /v1/chat/completions HTTP/1.1"
        assert request.headers["x-request-id"] == "id-1"
        assert "authorization" not in request.headers
        seen = site.observation
        assert (seen.request_id, seen.model, seen.release_id, seen.side) == ("id-1", "m", "r1", Side.STABLE)
        assert (seen.outcome, seen.status, seen.streamed, seen.finish_reason) == (Outcome.OK, 200, False, "stop")
        assert (seen.prompt_tokens, seen.cached_tokens, seen.output_tokens) == (7, 3, 4)
        assert (seen.ttft_ms, seen.itl_ms) == (None, None)
        assert b"zebulon" not in site.spool[-1]


async def test_credentials_and_hop_headers_stay_here(tmp_path: Path) -> None:
    """Only what the engine needs and what finds the request again is sent to it."""
    async with opened(tmp_path) as site:
        await site.post({}, {"authorization": "Bearer s", "cookie": "c", "x-evil": "1", "te": "trailers"})
        allowed = {"host", "content-type", "content-length", "x-request-id", "traceparent"}
        assert set(site.engine.requests[0].headers) == allowed
        await site.post({}, {"x-request-timeout-seconds": "5"})
        assert set(site.engine.requests[1].headers) == allowed | {"x-request-timeout-seconds"}
        assert 0 < float(site.engine.requests[1].headers["x-request-timeout-seconds"]) <= 5


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_the_other_paths_reach_their_own_path(tmp_path: Path, path: str) -> None:
    """Completions and embeddings reach the engine under their own paths."""
    async with opened(tmp_path) as site:
        assert (await site.post({}, path=path)).status == 200
        assert site.engine.requests[0].target == f"POST {path} HTTP/1.1"


async def test_a_stream_passes_unchanged_and_is_measured(tmp_path: Path) -> None:
    """A stream reaches the client to its end, and its tokens, first token and time between tokens are observed."""
    async with opened(tmp_path) as site:
        options = {"stream": True, "max_tokens": 5, "pause": 0.004}
        answer = await site.post(options | {"stream_options": {"include_usage": True}})
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.ended
        assert answer.body.endswith(b"data: [DONE]\n\n")
        seen = site.observation
        assert (seen.outcome, seen.streamed, seen.finish_reason) == (Outcome.OK, True, "stop")
        assert (seen.prompt_tokens, seen.cached_tokens, seen.output_tokens) == (7, 3, 5)
        assert seen.ttft_ms is not None
        assert seen.itl_ms is not None
        assert 0 < seen.ttft_ms < seen.total_ms
        assert 0 < seen.itl_ms < seen.total_ms


async def test_without_usage_the_stream_is_not_altered_and_content_chunks_are_counted(tmp_path: Path) -> None:
    """A stream without usage gets none added, and its output tokens are the chunks with content."""
    async with opened(tmp_path) as site:
        answer = await site.post({"stream": True, "max_tokens": 6})
        assert b"usage" not in answer.body
        seen = site.observation
        assert (seen.prompt_tokens, seen.output_tokens) == (None, 6)


BAD_JSON = [b"", b"{", b"[]", b'{"messages":[]}', b'{"model":5}']


@pytest.mark.parametrize("body", BAD_JSON)
async def test_a_bad_request_is_the_clients_and_never_reaches_an_engine(tmp_path: Path, body: bytes) -> None:
    """A body that names no model gets 400, reaches no engine and is observed as rejected, on no side."""
    async with opened(tmp_path) as site:
        answer = await site.post(body)
        assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
        assert answer.headers["x-request-id"]
        assert site.engine.requests == []
        seen = site.observation
        assert (seen.outcome, seen.side, seen.model) == (Outcome.REJECTED, None, "unknown")


async def test_a_model_without_a_route_is_not_found_and_becomes_no_label(tmp_path: Path) -> None:
    """An unknown model gets 404, and its name stands in neither the observation nor the metrics."""
    async with opened(tmp_path) as site:
        answer = await site.post({"model": "my secret prompt"})
        assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
        assert b"secret" not in site.spool[-1]
        assert b"secret" not in site.metrics.render()


async def test_no_ready_service_says_when_to_come_back(tmp_path: Path) -> None:
    """Without a ready service the answer is 503 with a Retry-After of one second."""
    async with opened(tmp_path, ready=False) as site:
        answer = await site.post({})
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "no_endpoint", "1")


ENGINE_REFUSAL = json.dumps({"error": {"message": "too long", "type": "BadRequestError", "code": 400}})
OVER = "x" * 400_000
HALF = head(content_length="9") + "\r\nab"


@pytest.mark.parametrize(
    ("fake", "status", "code", "outcome"),
    [
        ({"pieces": [], "end": "close"}, 502, "upstream_reset", Outcome.UPSTREAM_ERROR),
        ({"pieces": [], "end": "reset"}, 502, "upstream_reset", Outcome.UPSTREAM_ERROR),
        ({"pieces": ["HTTP/1.1 2"], "end": "close"}, 502, "upstream_reset", Outcome.UPSTREAM_ERROR),
        ({"pieces": ["garbage\r\n\r\n"]}, 502, "upstream_protocol", Outcome.UPSTREAM_ERROR),
        ({"pieces": [whole("{}")[:-1]], "end": "close"}, 502, "upstream_reset", Outcome.UPSTREAM_ERROR),
        ({"pieces": [whole("<html>", content_type="text/html")]}, 502, "upstream_protocol", Outcome.UPSTREAM_ERROR),
        ({"pieces": [whole("boom", 500, "text/plain")]}, 502, "upstream_status", Outcome.UPSTREAM_ERROR),
        ({"pieces": [whole("{}", 302, location="http://x")]}, 502, "upstream_status", Outcome.UPSTREAM_ERROR),
        ({"pieces": [whole("{}", 503)]}, 503, "upstream_overloaded", Outcome.UPSTREAM_ERROR),
        ({"pieces": [whole("{}", 429)]}, 503, "upstream_overloaded", Outcome.UPSTREAM_ERROR),
        ({"pieces": [whole(OVER)]}, 502, "upstream_protocol", Outcome.UPSTREAM_ERROR),
        ({"pieces": [], "end": "hang"}, 504, "upstream_timeout", Outcome.UPSTREAM_TIMEOUT),
        ({"pieces": [STREAM_HEAD], "end": "hang"}, 504, "upstream_timeout", Outcome.UPSTREAM_TIMEOUT),
        ({"pieces": [STREAM_HEAD, chunk("data: {")], "end": "close"}, 502, "upstream_reset", Outcome.UPSTREAM_ERROR),
        ({"pieces": [STREAM_HEAD, chunk("data: " + "x" * 9000)]}, 502, "upstream_protocol", Outcome.UPSTREAM_ERROR),
        ({"pieces": [HALF], "end": "hang"}, 504, "upstream_timeout", Outcome.UPSTREAM_TIMEOUT),
    ],
)  # fmt: skip
async def test_a_failure_before_the_first_byte_becomes_a_proper_error(
    tmp_path: Path, fake: dict[str, Any], status: int, code: str, outcome: Outcome
) -> None:
    """An engine's failure before any output becomes one JSON error, counted and observed; the next request succeeds."""
    async with opened(tmp_path) as site:
        answer = await site.post({"fake": fake}, {"x-request-id": "id-2"})
        assert (answer.status, answer.error["code"], answer.ended) == (status, code, True)
        assert answer.headers["x-request-id"] == "id-2"
        assert site.failures(code) == 1
        seen = site.observation
        assert (seen.outcome, seen.status, seen.side) == (outcome, status, Side.STABLE)
        assert (await site.post({})).status == 200


async def test_the_engines_retry_after_is_passed_on(tmp_path: Path) -> None:
    """An overloaded engine's Retry-After reaches the client with the same number, and the engine is left alone."""
    async with opened(tmp_path) as site:
        answer = await site.post({"fake": {"pieces": [whole("{}", 429, retry_after="7")]}})
        assert answer.headers["retry-after"] == "7"
        assert (await site.post({})).error["code"] == "no_endpoint"
        assert len(site.engine.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422])
async def test_the_engines_own_refusal_passes_through(tmp_path: Path, status: int) -> None:
    """A refusal in JSON reaches the client unchanged, one in HTML as a JSON error; both count for their side."""
    async with opened(tmp_path) as site:
        answer = await site.post({"fake": {"pieces": [whole(ENGINE_REFUSAL, status)]}})
        assert (answer.status, answer.body.decode()) == (status, ENGINE_REFUSAL)
        assert site.observation.outcome is Outcome.ENGINE_REFUSED
        plain = await site.post({"fake": {"pieces": [whole("<b>no</b>", status, "text/html")]}})
        assert (plain.status, plain.error["type"]) == (status, "invalid_request_error")


@pytest.mark.parametrize(
    ("end", "code", "outcome"),
    [
        ("close", "upstream_reset", Outcome.UPSTREAM_ERROR),
        ("reset", "upstream_reset", Outcome.UPSTREAM_ERROR),
        ("hang", "upstream_timeout", Outcome.UPSTREAM_TIMEOUT),
    ],
)
@pytest.mark.parametrize("half", ["", 'data: {"id":"x","cho'])
async def test_a_failure_in_the_middle_ends_with_a_well_formed_error_event(
    tmp_path: Path, end: str, half: str, code: str, outcome: Outcome
) -> None:
    """A broken stream keeps its whole events and ends with one error event, never with half an event or [DONE]."""
    async with opened(tmp_path) as site:
        pieces = [STREAM_HEAD, chunk(event("a")), chunk(event("b")), *([chunk(half)] if half else [])]
        answer = await site.post({"stream": True, "fake": {"pieces": pieces, "end": end}})
        assert (answer.status, answer.ended) == (200, True)
        events = [json.loads(line[6:]) for line in answer.body.decode().split("\n\n")[:-1]]
        assert [choice["choices"][0]["delta"]["content"] for choice in events[:-1]] == ["a", "b"]
        assert events[-1]["error"]["code"] == code
        assert b"[DONE]" not in answer.body
        seen = site.observation
        assert (seen.outcome, seen.status, seen.output_tokens) == (outcome, 200, 2)


async def test_an_error_that_the_engine_reports_in_its_stream_counts_as_one(tmp_path: Path) -> None:
    """An error event of the engine passes unchanged, and the request is observed as the engine's error."""
    async with opened(tmp_path) as site:
        broken = 'data: {"error":{"message":"oom"}}\n\n'
        pieces = [STREAM_HEAD, chunk(event("a")), chunk(broken), chunk("data: [DONE]\n\n"), LAST_CHUNK]
        answer = await site.post({"stream": True, "fake": {"pieces": pieces}})
        assert answer.body.decode() == event("a") + broken + "data: [DONE]\n\n"
        assert site.observation.outcome is Outcome.UPSTREAM_ERROR


@pytest.mark.parametrize(("tail", "outcome"), [("data: [DONE]\n\n", Outcome.OK), ("", Outcome.UPSTREAM_ERROR)])
async def test_a_stream_that_ends_with_the_connection_must_say_done(
    tmp_path: Path, tail: str, outcome: Outcome
) -> None:
    """A stream ended by its connection is whole after [DONE], and otherwise gets an error event."""
    async with opened(tmp_path) as site:
        pieces = [head(content_type="text/event-stream") + "\r\n", event("a"), tail]
        answer = await site.post({"stream": True, "fake": {"pieces": pieces, "end": "close"}})
        assert (b'"error"' in answer.body) is (outcome is not Outcome.OK)
        assert site.observation.outcome is outcome


@pytest.mark.parametrize("pieces", [[], [STREAM_HEAD, chunk(event("a"))]])
async def test_a_client_that_leaves_closes_the_engines_connection(tmp_path: Path, pieces: list[str]) -> None:
    """A client that leaves before or after the first event ends the engine's work, and is no failure of the engine."""
    async with opened(tmp_path) as site:
        leave = asyncio.Event()
        asked = asyncio.ensure_future(
            site.post({"stream": True, "fake": {"pieces": pieces, "end": "hang"}}, leave=leave)
        )
        await until(lambda: site.answer.pieces if pieces else site.engine.requests)
        leave.set()
        await asked
        assert await asyncio.to_thread(site.engine.requests[0].client_left.wait, 2)
        seen = site.observation
        assert (seen.outcome, seen.status) == (Outcome.CLIENT_DISCONNECT, 499)
        assert site.failures("client_gone") == 0


async def test_nothing_is_in_flight_after_all_this(tmp_path: Path) -> None:
    """After a success, a refusal and a failure no request counts as in flight, and each was observed once."""
    async with opened(tmp_path) as site:
        for body in ({}, {"model": "none"}, {"fake": {"pieces": [], "end": "close"}}):
            await site.post(body)
        assert site.hot.in_flight == 0
        assert len(site.spool) == 3


async def test_a_repeat_is_answered_without_the_engine_and_counted(tmp_path: Path) -> None:
    """The second request with a key gets the first one's bytes, and the metric tells first from replayed."""
    async with opened(tmp_path) as site:
        first, again = [await site.post({}, {"idempotency-key": "k"}) for _ in range(2)]
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["idempotency-replayed"] == "true"
        assert len(site.engine.requests) == 1
        for outcome in ("first", "replayed"):
            labels = {"outcome": outcome}
            assert site.metrics.registry.get_sample_value(names.GATEWAY_IDEMPOTENT, labels) == 1
