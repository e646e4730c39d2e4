"""The guide is true: a real gateway runs each of its examples, and a client sees what the text says."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import SecretStr

from nexus.chat import CredentialError, stream_chat
from tests.fakes import anthropic_provider
from tests.fakes.adapter_process import AdapterProcess
from tests.fakes.anthropic_provider import AnthropicProvider
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import FullGateway, policy_text, route_text
from tests.fakes.gateway_guide import POLICY_HEAD, examples
from tests.fakes.gateway_process import free_port
from tests.fakes.jwks_server import JwksServer
from tests.fakes.openai_provider import OpenAIProvider
from tests.fakes.redis_process import RedisProcess
from tests.fakes.token_issuer import TokenIssuer
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

EXAMPLES = examples()
MODEL = "support-assistant"
STABLE = "support-assistant-1f2e3d4c"
RESET = {"fake": {"pieces": [], "end": "reset"}}
Answer = tuple[int, dict[str, str], Any]


class Guide:
    """A gateway that runs one section's example at a time; every service answers by `engine` unless told otherwise."""

    def __init__(self, gateway: FullGateway, engine: FakeUpstream) -> None:
        self.gateway = gateway
        self.engine = engine

    def use(self, section: str, *also: str, services: dict[str, Any] | None = None, **words: str) -> None:
        """Put a section's documents in place, with plain routes for models that it does not show.

        Args:
            section: Heading of the example.
            also: Models.
            services: Addresses that are not the engine's; None for a service that is not ready.
            words: What stands in the policy in the place of something else (`old=new`).
        """
        example = EXAMPLES[section]
        policy = example.policy or f"{POLICY_HEAD}  {{}}\n"
        for old, new in words.items():
            assert old in policy
            policy = policy.replace(old, new)
        routes = {model: route_text(model) for model in (*also, *([] if MODEL in example.routes else [MODEL]))}
        self.gateway.policy, self.gateway.routes = policy, routes | example.routes
        names = {f"{model}-stable" for model in routes} | {"m-stable", STABLE, f"{STABLE}-b0a1"}
        listed = {name: {"url": self.engine.url, "ready": True} for name in {*names, "support-assistant-9a8b7c6d"}}
        for name, url in (services or {}).items():
            listed[name] = url if isinstance(url, dict) else {"url": url or self.engine.url, "ready": url is not None}
        self.gateway.endpoints(listed)
        revision = self.gateway.commit({"stable": 100})
        wait_until(lambda: self.ready()["revision"] == revision)
        time.sleep(0.25)  # the endpoints' file is looked at every 0.1 s and has no revision of its own

    def ready(self) -> Any:
        return json.loads(self.gateway.get("/health/ready")[2])

    def ask(self, key: str | None = None, /, model: str = MODEL, body: Any = None, **headers: str) -> Answer:
        """Ask a model, with a key or without."""
        own = {"authorization": f"Bearer {key}"} if key is not None else {}
        status, heads, raw = self.gateway.post({"model": model} | (body or {}), **own, **headers)
        return status, heads, json.loads(raw)

    def key(self, tenant: str = "demo") -> str:
        return self.gateway.issue(tenant)

    def asked_last(self) -> Any:
        return json.loads(self.engine.requests[-1].body)


def code(answer: Answer) -> tuple[int, str]:
    """Return status and error code of a refusal, which has OpenAI's form."""
    error = answer[2]["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer[0], error["code"]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with RedisProcess() as process:
        yield process


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory, redis: RedisProcess) -> Iterator[Guide]:
    root = tmp_path_factory.mktemp("guide")
    engine = FakeUpstream().start_in_thread()
    gateway = FullGateway(root, engine, redis, PROVIDER_SOCKET=str(root / "adapter.sock"))
    gateway.policy = policy_text(tenants=[{"name": "acme"}])
    gateway.commit({"stable": 100})
    try:
        gateway.start()
        gateway.headers = {}
        yield Guide(gateway, engine)
    finally:
        gateway.stop()
        engine.stop_thread()


@pytest.fixture
def broken() -> Iterator[FakeUpstream]:
    """An engine with a breaker and a limit of its own."""
    with_own_state = FakeUpstream().start_in_thread()
    yield with_own_state
    with_own_state.stop_thread()


def test_api_keys(guide: Guide) -> None:
    """Section "API keys": who has none or a wrong one is 401, a model outside of the tenant's is 403."""
    guide.use("Who may ask: API keys", "small-assistant")
    key, narrow = guide.key(), guide.key("batch")
    assert guide.gateway.get("/v1/models")[0] == 401
    listed = guide.gateway.call("GET", "/v1/models", headers={"authorization": f"Bearer {narrow}"})[2]
    assert [model["id"] for model in json.loads(listed)["data"]] == ["small-assistant"]
    assert code(guide.ask()) == (401, "invalid_api_key")
    missing, wrong = guide.ask("nx_wrong"), guide.ask(key[:-1] + ("a" if key[-1] != "a" else "b"))
    assert code(missing) == code(wrong) == (401, "invalid_api_key")
    assert missing[2]["error"]["message"] == wrong[2]["error"]["message"]
    assert guide.ask(key)[0] == 200
    question = (f"http://127.0.0.1:{guide.gateway.port}", MODEL, [{"role": "user", "content": "x"}])
    assert "".join(stream_chat(*question, user="u", key=SecretStr(key)))
    with pytest.raises(CredentialError, match="NEXUS_API_KEY"):
        list(stream_chat(*question, user="u"))
    assert guide.ask(None, x_api_key=key)[0] == 200
    assert guide.ask(narrow, "small-assistant")[0] == 200
    assert code(guide.ask(narrow)) == (403, "permission_denied")
    order = {"tenant": "demo", "name": "ops", "scopes": ["admin"]}
    status, admin = guide.gateway.admin("POST", "/admin/v1/keys", order)
    assert status == 201
    assert code(guide.ask(admin["credential"])) == (403, "permission_denied")
    assert guide.gateway.admin("POST", "/admin/v1/keys", {"tenant": "nobody", "name": "x"})[0] == 400


def test_rotated_and_revoked_keys(guide: Guide) -> None:
    """Section "API keys": the old key is accepted beside the new one, and a revoked one ends."""
    guide.use("Who may ask: API keys")
    old = guide.key()
    path = f"/admin/v1/keys/{old.split('_')[1]}"
    status, rotated = guide.gateway.admin("POST", f"{path}/rotate", {"overlap_seconds": 86_400})
    assert status == 201
    assert guide.ask(rotated["credential"])[0] == guide.ask(old)[0] == 200
    assert guide.gateway.admin("POST", f"{path}/revoke")[0] == 200
    assert code(guide.ask(old)) == (401, "invalid_api_key")
    assert guide.ask(rotated["credential"])[0] == 200


def test_keys_while_redis_is_down(guide: Guide, redis: RedisProcess) -> None:
    """Section "API keys": known keys go on working, new ones cannot be issued."""
    guide.use("Who may ask: API keys")
    key = guide.key()
    redis.pause()
    try:
        assert guide.ask(key)[0] == 200
        assert guide.gateway.admin("POST", "/admin/v1/keys", {"tenant": "demo", "name": "x"})[0] == 503
    finally:
        redis.resume()
    wait_until(lambda: guide.gateway.admin("POST", "/admin/v1/keys", {"tenant": "demo", "name": "x"})[0] == 201)


def test_tokens(guide: Guide) -> None:
    """Section "JSON Web Tokens": the tenant's are accepted beside keys, others' are 401 or 403."""
    issuer = TokenIssuer()
    with JwksServer(issuer.jwks) as server:
        guide.use("Who may ask: JSON Web Tokens", **{"https://idp.example/realms/one/keys": f"{server.url}/jwks"})
        wait_until(lambda: not guide.ready()["reasons"])
        assert guide.ask(issuer.mint())[0] == 200
        assert guide.ask(guide.key("acme"))[0] == 200
        assert code(guide.ask(issuer.mint(exp=time.time() - 3600))) == (401, "invalid_api_key")
        assert code(guide.ask(issuer.mint(aud="others"))) == (401, "invalid_api_key")
        assert code(guide.ask(issuer.mint(tenant="nobody"))) == (403, "permission_denied")
        assert code(guide.ask(issuer.mint(kid="ed"))) == (401, "invalid_api_key")


def test_limits(guide: Guide) -> None:
    """Section "Limits": five at once, the sixth is 429 and told when to come back; others have their own."""
    guide.use("Limits")
    key, other = guide.key(), guide.key()
    first = guide.ask(key, body={"max_tokens": 5})
    kinds = [
        f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")
    ]
    assert set(kinds) <= first[1].keys()
    assert (first[1][kinds[0]], first[1][kinds[1]], first[1][kinds[3]]) == ("60", "4", "20000")
    assert [guide.ask(key)[0] for _ in range(4)] == [200] * 4
    sixth = guide.ask(key)
    assert code(sixth) == (429, "rate_limit_exceeded")
    assert int(sixth[1]["retry-after"]) == 1
    assert sixth[1]["x-ratelimit-remaining-requests"] == "0"
    assert guide.ask(other)[0] == 200
    assert "x-ratelimit-limit-requests" not in guide.ask()[1]
    time.sleep(1.1)
    assert guide.ask(key)[0] == 200


def test_local_share(guide: Guide, redis: RedisProcess) -> None:
    """Section "When Redis is down": by default a process lets its share of the limits through, then refuses."""
    guide.use("Limits")
    key, metric = guide.key(), "nexus_gateway_limited_without_redis_total"
    before = guide.gateway.metric(metric)
    redis.pause()
    try:
        statuses = [guide.ask(key)[0] for _ in range(5)]
        assert set(statuses) == {200, 429}
        assert statuses[0] == 200
        assert guide.gateway.metric(metric) > before
    finally:
        redis.resume()
    wait_until(lambda: guide.ask(guide.key())[1].get("x-ratelimit-remaining-requests") == "4")


def test_budgets(guide: Guide) -> None:
    """Section "Budgets": what is used up is `insufficient_quota` until the next day, and `spend` tells the price."""
    guide.use("Budgets")
    key = guide.key()
    assert guide.ask(key, body={"max_tokens": 1500})[0] == 200
    refused = guide.ask(key, body={"max_tokens": 1500})
    assert code(refused) == (429, "insufficient_quota")
    assert 0 < int(refused[1]["retry-after"]) <= 86_400

    def spent() -> Any:
        rows = guide.gateway.admin("GET", "/admin/v1/spend?tenant=demo")[1]["rows"]
        return [row for row in rows if row["key_id"] == key.split("_")[1]]

    wait_until(spent)
    row = spent()[0]
    assert (row["model"], row["requests"], row["prompt_tokens"], row["output_tokens"]) == (MODEL, 1, 7, 1500)
    assert row["usd"] == pytest.approx((7 * 0.5 + 1500 * 1.5) / 1e6)


def test_deny_while_redis_is_down(guide: Guide, redis: RedisProcess) -> None:
    """Section "When Redis is down": `deny` refuses requests with limits, and nobody else's."""
    guide.use("When Redis is down")
    key = guide.key()
    assert guide.ask(key)[0] == 200
    redis.pause()
    try:
        refused = guide.ask(key)
        assert code(refused) == (503, "limiter_unavailable")
        assert "retry-after" in refused[1]
        assert guide.ask()[0] == 200
    finally:
        redis.resume()
    wait_until(lambda: guide.ask(key)[0] == 200)


def test_routing(guide: Guide) -> None:
    """Section "Routing": alias, switch and experiment answer by the models that the text names."""
    guide.use("Routing: aliases, switches, experiments", f"{MODEL}-sglang", "small-assistant")
    assert guide.ask(None, "gpt-4o-mini")[0] == 200
    assert guide.asked_last()["model"] == MODEL
    listed = json.loads(guide.gateway.get("/v1/models")[2])["data"]
    assert {"gpt-4o-mini", "assistant", MODEL} <= {model["id"] for model in listed}
    assert guide.gateway.get("/v1/models/gpt-4o-mini")[0] == 200
    guide.ask(None, x_nexus_workflow="multi-step")
    assert guide.asked_last()["model"] == f"{MODEL}-sglang"
    assert guide.ask(None, "small-assistant", x_nexus_workflow="multi-step")[0] == 200
    assert guide.asked_last()["model"] == "small-assistant"
    arms = []
    for number in range(60):
        for _ in range(2):
            guide.ask(None, "assistant", x_nexus_user=f"user-{number}")
            arms.append(guide.asked_last()["model"])
    assert arms[::2] == arms[1::2]
    assert 0 < arms[::2].count("small-assistant") < 30
    assert code(guide.ask(None, "nothing")) == (404, "model_not_found")


def test_a_rule_without_a_route(guide: Guide) -> None:
    """Sections "Change a policy" and "Routing": it is passed over, and `/health/ready` lists it."""
    guide.use("Routing: aliases, switches, experiments")
    assert guide.ask(None, x_nexus_workflow="multi-step")[0] == 200
    assert guide.asked_last()["model"] == MODEL
    assert any("try-the-small-one" in text for text in guide.ready()["unapplied"])


def test_a_wrong_document_is_refused(guide: Guide) -> None:
    """Section "Change a policy": the last good one stays in force and the reason is told."""
    guide.use("Limits")
    revision = guide.ready()["revision"]
    guide.gateway.policy = guide.gateway.policy.replace("burst_requests", "burst")
    guide.gateway.commit({"stable": 100})
    wait_until(lambda: any("burst" in reason for reason in guide.ready()["reasons"]))
    assert guide.ready()["revision"] == revision
    assert guide.ask()[0] == 200


def test_sticky_canary(guide: Guide) -> None:
    """Section "Canary": a conversation stays on its side, all get some, and stable stands in for an absent one."""
    section = "Canary: a user stays on a side"
    names = (STABLE, f"{STABLE}-b0a1", "support-assistant-9a8b7c6d")
    engines = {name: FakeUpstream().start_in_thread() for name in names}
    addresses = {name: engine.url for name, engine in engines.items()}

    def sides() -> list[str]:
        found = []
        for number in range(40):
            before = {name: len(engine.requests) for name, engine in engines.items()}
            guide.ask(None, x_nexus_conversation=f"c-{number}")
            found += [name for name, engine in engines.items() if len(engine.requests) > before[name]]
        return found

    try:
        guide.use(section, services=addresses)
        first = sides()
        assert set(first) == set(names)
        assert sides() == first
        guide.use(section, services=addresses | {names[2]: None})
        assert sides() == [STABLE if name == names[2] else name for name in first]
    finally:
        for engine in engines.values():
            engine.stop_thread()


def test_fallbacks(guide: Guide) -> None:
    """Section "Fallbacks": with the model's engine gone the next model answers; a key that may not use it gets none."""
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
        guide.use("Fallbacks", "small-assistant", "claude", services={STABLE: url})
        status, _, answer = guide.ask()
        assert status == 200, answer
    assert guide.asked_last()["model"] == "small-assistant"
    guide.use("Fallbacks", "small-assistant", "claude", services={STABLE: None, "small-assistant-stable": None})
    status, _, answer = guide.ask()
    assert status == 200, (answer, guide.ready())
    assert guide.asked_last()["model"] == "claude"
    guide.gateway.policy = policy_text(tenants=[{"name": "demo", "models": [MODEL]}])
    revision = guide.gateway.commit({"stable": 100})
    wait_until(lambda: guide.ready()["revision"] == revision)
    assert code(guide.ask(guide.key())) == (503, "no_endpoint")


def test_external_provider(guide: Guide) -> None:
    """Section "External providers": the model is unreachable without the adapter, and answers with it."""
    guide.use("External providers")
    assert code(guide.ask(None, "claude")) == (503, "upstream_unreachable")
    with OpenAIProvider() as openai, AnthropicProvider() as anthropic:
        adapter = AdapterProcess(guide.gateway.root, openai, anthropic)
        text = EXAMPLES["External providers"].others["Providers"]
        text = text.replace("secrets/anthropic.key", f"{adapter.key_file}\n      base_url: {anthropic.url}", 1)
        adapter.document.write_text(text.replace("# read for", "\n# read for"))
        try:
            adapter.start()
            status, _, answer = guide.ask(None, "claude", {"messages": [{"role": "user", "content": "Hi"}]})
            assert status == 200
            assert answer["choices"][0]["message"]["content"] == "".join(anthropic_provider.WORDS)
            assert anthropic.asked[-1].body["model"] == "claude-sonnet-4"
        finally:
            adapter.stop()


def test_retries_and_deadlines(guide: Guide) -> None:
    """Section "Timeouts, deadlines, retries": another replica answers; a deadline is 504, and the engine was told."""
    dead = f"http://127.0.0.1:{free_port()}"
    replicas = {"url": dead, "ready": True, "replicas": [guide.engine.url]}
    guide.use("Timeouts, deadlines, retries", services={f"{MODEL}-stable": replicas})
    assert [guide.ask()[0] for _ in range(4)] == [200] * 4
    guide.use("Timeouts, deadlines, retries", services={f"{MODEL}-stable": dead})
    assert code(guide.ask()) == (503, "upstream_unreachable")
    guide.use("Timeouts, deadlines, retries")
    late = guide.ask(None, body={"pause": 2}, x_request_timeout_seconds="0.3")
    assert code(late) == (504, "upstream_timeout")
    told = float(guide.engine.requests[-1].headers["x-request-timeout-seconds"])
    assert 0 < told <= 0.3
    assert guide.engine.requests[-1].client_left.wait(5)
    assert code(guide.ask(None, x_request_timeout_seconds="soon")) == (400, "invalid_request")


def test_a_stream_that_breaks(guide: Guide) -> None:
    """Section "Timeouts, deadlines, retries": nothing is tried again after the first byte; an error event ends it."""
    guide.use("Timeouts, deadlines, retries")
    head = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = 'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    script = {"pieces": [head, f"{len(event):x}\r\n{event}\r\n"], "end": "reset"}
    before = len(guide.engine.requests)
    status, _, raw = guide.gateway.post({"model": MODEL, "stream": True, "fake": script})
    assert status == 200
    assert b'"code":"upstream_reset"' in raw
    assert b"[DONE]" not in raw
    assert len(guide.engine.requests) == before + 1


def test_breaker(guide: Guide, broken: FakeUpstream) -> None:
    """Section "Circuit breakers": after ten failures the client is refused at once; answered probes end that."""
    guide.use("Circuit breakers", services={f"{MODEL}-stable": broken.url})
    assert [code(guide.ask(None, body=RESET)) for _ in range(10)] == [(502, "upstream_reset")] * 10
    asked = len(broken.requests)
    refused = guide.ask()
    assert code(refused) == (503, "no_endpoint")
    assert "retry-after" in refused[1]
    assert len(broken.requests) == asked
    wait_until(lambda: guide.ask()[0] == 200)
    assert [guide.ask()[0] for _ in range(5)] == [200] * 5
    assert guide.ask(None, body={"fake": {"pieces": ["HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n"]}})[0] == 400


def test_overload(guide: Guide, broken: FakeUpstream) -> None:
    """Section "Overload and priorities": eight run, four wait, the next is 529; a higher class takes a place."""
    guide.use("Overload and priorities", services={f"{MODEL}-stable": broken.url})
    low, high = guide.key("nightly"), guide.key("support")

    def endpoint() -> tuple[int, int]:
        routes = guide.gateway.admin("GET", "/admin/v1/snapshot")[1]["routes"]
        found = next(route for route in routes if route["model"] == MODEL)["sides"][0]["endpoints"][0]
        return found["running"], found["queued"]

    with ThreadPoolExecutor(13) as clients:
        running = [clients.submit(guide.ask, low, MODEL, {"pause": 1.2}) for _ in range(12)]
        wait_until(lambda: endpoint() == (8, 4))
        refused = guide.ask(low)
        assert code(refused) == (529, "overloaded")
        assert int(refused[1]["retry-after"]) >= 1
        assert guide.ask(high)[0] == 200
        statuses = sorted(each.result()[0] for each in running)
    assert statuses == [200] * 11 + [529]


def test_shadow(guide: Guide) -> None:
    """Section "Shadow traffic": some answered requests go to the other model as well, and both answers to a file."""
    guide.use("Shadow traffic", f"{MODEL}-next")
    folder = guide.gateway.spool / "shadows"

    def pairs() -> list[Any]:
        return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]

    assert {guide.ask()[0] for _ in range(80)} == {200}
    wait_until(pairs)
    pair = pairs()[0]
    assert (pair["model"], pair["shadow_model"], pair["status"], pair["shadow_status"]) == (
        MODEL,
        f"{MODEL}-next",
        200,
        200,
    )
    assert "word" in pair["answer"]
    assert "word" in pair["shadow_answer"]
    assert len(pairs()) < 60
    assert {path.stat().st_mode & 0o077 for path in folder.glob("*.jsonl")} == {0}


def test_idempotency(guide: Guide) -> None:
    """Section "Idempotency-Key": a repeat gets the first answer, another request 422, and the engine one request."""
    guide.use("Idempotency-Key")
    before = len(guide.engine.requests)
    with ThreadPoolExecutor(3) as clients:
        sent = [clients.submit(guide.ask, None, body={"pause": 0.2}, idempotency_key="order-1") for _ in range(3)]
        answers = [each.result() for each in sent]
    assert [answer[0] for answer in answers] == [200] * 3
    assert sum("idempotency-replayed" in answer[1] for answer in answers) == 2
    assert len(guide.engine.requests) == before + 1
    assert code(guide.ask(None, body={"max_tokens": 9}, idempotency_key="order-1")) == (422, "idempotency_conflict")
    assert code(guide.ask(None, body=RESET, idempotency_key="order-2")) == (502, "upstream_reset")
    assert guide.ask(None, idempotency_key="order-2")[0] == 200


def test_idempotency_while_redis_is_down(guide: Guide, redis: RedisProcess) -> None:
    """Section "Idempotency-Key": what cannot be promised is refused; requests without a key are not."""
    guide.use("Idempotency-Key")
    redis.pause()
    try:
        assert code(guide.ask(None, idempotency_key="order-3")) == (503, "not_ready")
        assert guide.ask()[0] == 200
    finally:
        redis.resume()


def test_tracing(guide: Guide) -> None:
    """Section "Tracing": a caller's sampled request leaves spans where the collector looks, and the engine is told."""
    guide.use("Tracing")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    status, headers, _ = guide.ask(None, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    assert status == 200
    assert headers["traceparent"].split("-")[1] == trace
    assert guide.engine.requests[-1].headers["traceparent"].split("-")[1] == trace

    def spans() -> list[Any]:
        folder = guide.gateway.spool / "spans"
        lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
        found = [json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for line in lines]
        return [span for span in found if span["traceId"] == trace]

    wait_until(lambda: len(spans()) == 2)
    assert {span["name"] for span in spans()} == {"POST /v1/chat/completions", "forward"}
    assert "spool/observations/spans/*.jsonl" in EXAMPLES["Tracing"].others["Collector"]


def test_drain(guide: Guide) -> None:
    """Section "Admin API": a drained service gets no new requests, until it is taken back."""
    guide.use("Tracing")
    path = f"/admin/v1/endpoints/{MODEL}-stable"
    assert guide.gateway.admin("POST", f"{path}/drain")[1]["shared"]
    assert code(guide.ask()) == (503, "no_endpoint")
    assert guide.gateway.admin("POST", f"{path}/undrain")[0] == 200
    assert guide.ask()[0] == 200


def test_every_error_answer_has_its_identity(guide: Guide) -> None:
    """The guide's beginning: every answer has `x-request-id`, the client's own if it is sane, and `traceparent`."""
    guide.use("Tracing")
    for answer in (guide.ask(None, x_request_id="mine-1"), guide.ask(None, "nothing", x_request_id="mine-1")):
        assert answer[1]["x-request-id"] == "mine-1"
        assert answer[1]["traceparent"].startswith("00-")
    assert guide.ask(None, x_request_id="not sane!")[1]["x-request-id"] != "not sane!"
    status, _, raw = guide.gateway.call("POST", "/v1/messages", '{"model": "nothing"}')
    assert (status, json.loads(raw)["type"], json.loads(raw)["error"]["type"]) == (404, "error", "not_found_error")
