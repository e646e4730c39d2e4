from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import openai
import pytest

from serving.contracts import metric_names as names
from serving.contracts.observation import Observation
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

Build = Callable[..., GatewayProcess]


def run_once(gateway: GatewayProcess) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway"]
    return subprocess.run(command, env=gateway.environment(), capture_output=True, text=True, timeout=60, check=False)


def test_the_cold_paths(gateway: GatewayProcess) -> None:
    """Health, models and schema answer; wrong paths and methods get a JSON error; no engine is asked."""
    assert json.loads(gateway.get("/health/live")[2]) == {"live": True}
    expected = {"ready": True, "reasons": [], "revision": "commit0001", "unapplied": []}
    assert json.loads(gateway.get("/health/ready")[2]) == expected
    listed = json.loads(gateway.get("/v1/models")[2])
    assert [model["id"] for model in listed["data"]] == ["m"]
    assert gateway.get("/v1/models/m")[0] == 200
    paths = json.loads(gateway.get("/openapi.json")[2])["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/metrics"} <= set(paths)
    for method, path, status in (
        ("GET", "/v1/models/none", 404), ("GET", "/nothing", 404), ("POST", "/v1/models", 405),
        ("GET", "/v1/chat/completions", 405), ("DELETE", "/v1/completions", 405),
        ("POST", "/v1//chat/completions", 404),
        ("POST", "/v1/chat/completions/", 404), ("POST", "/V1/chat/completions", 404),
    ):  # fmt: skip
        answer = gateway.call(method, path)
        assert answer[0] == status, (method, path)
        assert json.loads(answer[2])["error"]["message"]
        assert answer[1]["x-request-id"]
    assert gateway.engine.requests == []


def test_the_official_sdk_works(gateway: GatewayProcess) -> None:
    """OpenAI's client reads answers, streams and models, and raises its own errors for ours and for a broken stream."""
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0) as client:
        messages = [{"role": "user", "content": "hello"}]
        answer = client.chat.completions.create(model="m", messages=messages, max_tokens=3)  # type: ignore[call-overload]
        assert answer.choices[0].message.content == "word word word "
        stream = client.chat.completions.create(model="m", messages=messages, max_tokens=3, stream=True)  # type: ignore[call-overload]
        assert "".join(event.choices[0].delta.content or "" for event in stream) == "w0 w1 w2 "
        with pytest.raises(openai.NotFoundError, match="expected a model that is served"):
            client.chat.completions.create(model="none", messages=messages)  # type: ignore[call-overload]
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        broken = {"fake": {"pieces": [head, 'data: {"choices":[]}\n\n'], "end": "reset"}}
        with pytest.raises(openai.APIError, match=r"closed the connection|\[DONE\]"):
            for _ in client.chat.completions.create(model="m", messages=messages, stream=True, extra_body=broken):  # type: ignore[call-overload]
                pass
        assert [model.id for model in client.models.list()] == ["m"]


def test_requests_are_observed_and_counted(gateway: GatewayProcess) -> None:
    """Every request, also a refused one, is observed and counted once, and only the owner can read the hash key."""
    for number in range(20):
        assert gateway.post({}, x_nexus_user=f"user{number}")[0] == 200
    gateway.post({"model": "none"})
    wait_until(lambda: len(gateway.observations()) == 21)
    seen = [Observation.model_validate(line) for line in gateway.observations()]
    assert len({observation.user_hash for observation in seen}) == 21
    assert gateway.metric(names.GATEWAY_REQUESTS) == 21
    assert gateway.metric(names.GATEWAY_SPOOL_WRITTEN) == 21
    assert gateway.metric(names.GATEWAY_REQUESTS_IN_FLIGHT) == 0
    assert (gateway.spool / "user-hash.key").stat().st_mode & 0o777 == 0o600


def test_nobody_can_claim_another_address(gateway: GatewayProcess) -> None:
    """Forwarding headers do not change who a client is taken for."""
    for address in ("10.0.0.1", "10.0.0.2"):
        assert gateway.post({}, x_forwarded_for=address, forwarded=f"for={address}")[0] == 200
    gateway.stop()
    assert len({line["user_hash"] for line in gateway.observations()}) == 1


def test_a_client_that_leaves_closes_the_engines_connection(gateway: GatewayProcess) -> None:
    """A client that leaves in mid-stream ends the engine's connection and is observed as a disconnect."""
    fake = {"pieces": ["HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", "data: {}\n\n"], "end": "hang"}
    body = json.dumps({"model": "m", "stream": True, "fake": fake}).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        seen = b""
        while b"data: {}" not in seen:
            seen += sock.recv(65536)
    assert gateway.engine.requests[0].client_left.wait(
        2
    )  # 20 times the bound of 100 ms; the engine would hang for 30 s
    wait_until(lambda: [line["outcome"] for line in gateway.observations()] == ["client-disconnect"])


def test_stopping_finishes_what_is_in_flight_and_writes_the_spool(build: Build) -> None:
    """SIGTERM lets a running stream end whole, writes its observation, exits with 0 and closes the port."""
    gateway = build(SPOOL_FLUSH_SECONDS="10").start()
    answers: list[bytes] = []
    body = {"stream": True, "max_tokens": 20, "pause": 0.05}
    caller = threading.Thread(target=lambda: answers.append(gateway.post(body)[2]))
    caller.start()
    wait_until(lambda: len(gateway.engine.requests) == 1)
    assert gateway.stop(signal.SIGTERM) == 0
    caller.join(10)
    assert answers
    assert answers[0].endswith(b"data: [DONE]\n\n")
    assert [(line["outcome"], line["output_tokens"]) for line in gateway.observations()] == [("ok", 20)]
    with pytest.raises(ConnectionRefusedError):
        gateway.get("/health/live")


def test_stopping_does_not_wait_for_ever(build: Build) -> None:
    """An answer that never ends is cut off after the grace time, and is still observed."""
    gateway = build(SHUTDOWN_GRACE_SECONDS="1").start()
    caller = threading.Thread(target=lambda: gateway.raw(_post({"fake": {"pieces": [], "end": "hang"}})))
    caller.start()
    wait_until(lambda: len(gateway.engine.requests) == 1)
    assert gateway.stop(signal.SIGTERM) == 0
    caller.join(10)
    assert gateway.engine.requests[0].client_left.wait(2)
    assert len(gateway.observations()) == 1


def _post(body: dict[str, object]) -> bytes:
    raw = json.dumps({"model": "m"} | body).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw)


def test_a_killed_gateway_loses_at_most_the_last_batch_and_starts_again(gateway: GatewayProcess) -> None:
    """After SIGKILL what was written is whole; the next start keeps the hash key and begins a file of its own."""
    for _ in range(30):
        gateway.post({})
    wait_until(lambda: len(gateway.observations()) == 30)
    gateway.post({})
    gateway.stop(signal.SIGKILL)
    assert 30 <= len(gateway.observations()) <= 31
    key = (gateway.spool / "user-hash.key").read_bytes()
    gateway.start()
    assert gateway.post({})[0] == 200
    gateway.stop()
    assert (gateway.spool / "user-hash.key").read_bytes() == key
    seen = gateway.observations()
    assert 31 <= len(seen) <= 32
    assert len({line["user_hash"] for line in seen}) == 1
    assert len(list(gateway.spool.glob("*.jsonl"))) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"PROT": "1"}, "NEXUS_GATEWAY_PROT: correct or unset it"), ({"PORT": "x"}, "port")],
)
def test_wrong_settings_are_refused_with_a_reason(build: Build, settings: dict[str, str], message: str) -> None:
    """A misspelt or unusable setting ends the start with code 2 and is named on standard error."""
    gateway = build(**settings)
    done = run_once(gateway)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_port_in_use_is_a_clear_error(gateway: GatewayProcess) -> None:
    """A start on a port in use ends with code 2 and names the address and the setting to change."""
    done = run_once(gateway)
    assert done.returncode == 2
    assert f"127.0.0.1:{gateway.port}" in done.stderr
    assert "NEXUS_GATEWAY_PORT" in done.stderr
