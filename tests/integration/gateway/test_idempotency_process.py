"""`Idempotency-Key` end to end: one answer a key, over two workers that share a Redis, whatever happens meanwhile."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.contracts import metric_names as names
from tests.fakes.fake_upstream import STREAM_HEAD, FakeUpstream, chunk, event, whole
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

RULE = {"name": "key", "scope": "key", "tokens_per_day": 100_000_000, "concurrent_requests": 100}
POLICY = keyed_policy(RULE, idempotency={"max_answer_bytes": 4096}, limits={"redis_failure": "allow"})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullGateway]:
    engine = FakeUpstream().start_in_thread()
    folder = tmp_path_factory.mktemp("gateway")
    with (
        RedisProcess(persistent=True) as redis,
        full_gateway(folder, engine, redis, settings={"WORKERS": "2"}, **POLICY) as made,
    ):
        wait_until(lambda: made.log.read_text().count("snapshot replaced") == 2)
        yield made
    engine.stop_thread()


def test_repeats_get_the_first_answer_and_the_engine_one_request(gateway: FullGateway) -> None:
    """Twenty repeats, on whichever worker: the same bytes, marked as replayed; one request asked for and billed."""
    asked, spent = len(gateway.engine.requests), gateway.spent()["requests"]
    answers = [gateway.post({"max_tokens": 3}, idempotency_key="same") for _ in range(20)]
    assert {answer[0] for answer in answers} == {200}
    assert len({answer[2] for answer in answers}) == 1
    assert [answer[1].get("idempotency-replayed") for answer in answers] == [None] + ["true"] * 19
    assert len({answer[1]["x-request-id"] for answer in answers}) == 20
    assert len(gateway.engine.requests) == asked + 1
    wait_until(lambda: gateway.held() == 0)
    assert gateway.spent()["requests"] == spent + 1


def test_duplicates_at_the_same_time_wait_for_the_one(gateway: FullGateway) -> None:
    """Ten at once over both workers: one goes to the engine, nine wait and get its answer."""
    asked = len(gateway.engine.requests)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: gateway.post({"pause": 0.3}, idempotency_key="at-once"), range(10)))
    assert {answer[0] for answer in answers} == {200}
    assert len({answer[2] for answer in answers}) == 1
    assert len(gateway.engine.requests) == asked + 1
    assert Counter(answer[1].get("idempotency-replayed") for answer in answers) == {"true": 9, None: 1}


def test_another_body_or_path_is_refused_and_another_owner_has_keys_of_its_own(gateway: FullGateway) -> None:
    """422 for another request with the key, the credential's only; a second credential's key is another key."""
    assert gateway.post({}, idempotency_key="mine")[0] == 200
    status, _, body = gateway.post({"max_tokens": 9}, idempotency_key="mine")
    assert (status, json.loads(body)["error"]["code"]) == (422, "idempotency_conflict")
    raw = json.dumps({"model": "m"})
    headers = gateway.headers | {"idempotency-key": "mine"}
    assert gateway.call("POST", "/v1/completions", raw, headers)[0] == 422
    other = gateway.issue(name="other")
    wait_until(lambda: all(gateway.post({}, authorization=f"Bearer {other}")[0] == 200 for _ in range(10)))
    answer = gateway.post({"max_tokens": 9}, idempotency_key="mine", authorization=f"Bearer {other}")
    assert (answer[0], answer[1].get("idempotency-replayed")) == (200, None)


def test_a_stream_is_replayed_whole(gateway: FullGateway) -> None:
    """The repeat of a stream gets the same events with the same content type, [DONE] included."""
    first, second = (gateway.post({"stream": True, "pause": 0.01}, idempotency_key="stream") for _ in range(2))
    assert first[2] == second[2]
    assert second[2].endswith(b"data: [DONE]\n\n")
    assert first[1]["content-type"] == second[1]["content-type"]


def test_failures_free_the_key_and_long_answers_are_said_to_be_gone(gateway: FullGateway) -> None:
    """After 5xx a repeat is a new try; an engine's 400 is kept; a repeat of a long answer is told that it is gone."""
    asked = len(gateway.engine.requests)
    broken = {"fake": {"pieces": [whole("{}", 500)]}}
    assert [gateway.post(broken, idempotency_key="bad")[0] for _ in range(2)] == [502, 502]
    assert len(gateway.engine.requests) == asked + 2
    refused = {"fake": {"pieces": [whole('{"error":{"message":"no"}}', 400)]}}
    answers = [gateway.post(refused, idempotency_key="refused") for _ in range(2)]
    assert [answer[0] for answer in answers] == [400, 400]
    assert answers[1][1]["idempotency-replayed"] == "true"
    assert len(gateway.engine.requests) == asked + 3
    assert gateway.post({"max_tokens": 2000}, idempotency_key="long")[0] == 200
    status, _, body = gateway.post({"max_tokens": 2000}, idempotency_key="long")
    assert status in (409, 422)
    assert "too long to keep" in json.loads(body)["error"]["message"]
    assert len(gateway.engine.requests) == asked + 4


@pytest.mark.parametrize(
    "pieces",
    [[chunk(event("a"))], [chunk(event("a")), chunk('data: {"error":{"message":"x"}}\n\n') + "0\r\n\r\n"]],
    ids=["broken", "ended-by-the-engines-error"],
)
def test_a_stream_that_failed_is_not_kept(gateway: FullGateway, pieces: list[str]) -> None:
    """Half an answer is never replayed: the repeat asks the engine again."""
    asked = len(gateway.engine.requests)
    end = "keep" if len(pieces) > 1 else "reset"
    body = {"stream": True, "fake": {"pieces": [STREAM_HEAD, *pieces], "end": end}}
    answers = [gateway.post(body, idempotency_key=f"half-{end}") for _ in range(2)]
    assert all(b'"error"' in answer[2] for answer in answers)
    assert len(gateway.engine.requests) == asked + 2


def test_a_client_that_leaves_frees_its_key_and_one_that_waits_is_let_go(gateway: FullGateway) -> None:
    """The first leaves in mid-answer: the key is free. A repeat that leaves while it waits is not waited for."""
    asked = len(gateway.engine.requests)

    def begin() -> socket.socket:
        raw = json.dumps({"model": "m", "fake": {"pieces": [], "end": "hang"}}).encode()
        headers = gateway.headers | {"host": "x", "idempotency-key": "left", "content-length": str(len(raw))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        sock.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + raw)
        return sock

    first = begin()
    wait_until(lambda: len(gateway.engine.requests) == asked + 1)
    repeat = begin()
    repeat.close()
    first.close()
    assert gateway.engine.requests[asked].client_left.wait(5)
    assert len(gateway.engine.requests) == asked + 1
    wait_until(lambda: gateway.held() == 0)


def test_redis_lost_in_mid_answer_costs_the_repeat_and_not_the_answer(gateway: FullGateway) -> None:
    """The answer goes out whole and is observed as served; while Redis is away, requests with a key are refused."""
    with ThreadPoolExecutor(1) as pool:
        asked = len(gateway.engine.requests)
        running = pool.submit(gateway.post, {"pause": 0.5}, idempotency_key="lost")
        wait_until(lambda: len(gateway.engine.requests) == asked + 1)
        gateway.redis.kill()
        status, headers, _ = running.result(10)
    assert status == 200
    assert gateway.post({}, idempotency_key="refused-meanwhile")[0] == 503
    assert gateway.post({})[0] == 200
    wait_until(lambda: any(line["request_id"] == headers["x-request-id"] for line in gateway.observations()))
    [seen] = [line for line in gateway.observations() if line["request_id"] == headers["x-request-id"]]
    assert (seen["outcome"], seen["status"], seen["output_tokens"]) == ("ok", 200, 5)
    gateway.redis.start()
    wait_until(lambda: gateway.post({}, idempotency_key="again")[0] == 200)
    wait_until(lambda: gateway.metric(names.GATEWAY_REQUESTS_IN_FLIGHT) == 0)
