from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import GatewayProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

START = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
BODY = b'{"model":"m"}'
GOOD = START + b"content-length: 13\r\n"
CLOSE = b"connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    engine = FakeUpstream().start_in_thread()
    gateway = GatewayProcess(
        tmp_path_factory.mktemp("gateway"), engine, KEEP_ALIVE_SECONDS="1", HEAD_TIMEOUT_SECONDS="1"
    )
    try:
        yield gateway.start()
    finally:
        gateway.stop()
        engine.stop_thread()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/7.0\r\n\r\n", 400),
        (START + b"content-length: 13\r\ncontent-length: 14\r\n\r\n" + BODY, 400),
        (START + b"content-length: 13\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (START + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (START + b"transfer-encoding: chunked\r\n\r\nZZ\r\n", 400),
        (START + b"content-length: -1\r\n\r\n", 400),
        (START + b"content-length: 99999999999999999999999\r\n\r\n", 400),
        (START + b"x-nexus-user: a\x00b\r\n\r\n", 400),
        (START + b"x y: a\r\n\r\n", 400),
        (START + b" folded: a\r\n\r\n", 400),
        (GOOD + b"x-nexus-user: a\r\nx-nexus-user: b\r\n" + CLOSE + BODY, 400),
        (GOOD + b"".join(b"h%d: v\r\n" % n for n in range(150)) + CLOSE + BODY, 431),
        (GOOD + b"h: " + b"v" * 40_000 + b"\r\n" + CLOSE + BODY, 431),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
        (START + b"h: " + b"v" * 3_000_000, 431),
        (START + b"content-length: 70000\r\n\r\n", 413),
        (
            START + b"transfer-encoding: chunked\r\n\r\n" + b"fff0\r\n" + b"x" * 0xFFF0 + b"\r\nfff0\r\n" + b"x" * 100,
            413,
        ),
        (START + b"content-length: 13\r\n\r\n{", 408),
        (START + b"content-length: 1\r\n" + CLOSE + b"{", 400),
        (START + CLOSE, 400),
        (GOOD + b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\n\r\n" + BODY, 400),
    ],
)
def test_what_is_no_good_request_is_answered_with_its_error(
    shared: GatewayProcess, request_bytes: bytes, status: int
) -> None:
    """A malformed, oversized or unfinished request gets its status, reaches no engine and harms no later request."""
    gateway = shared
    before = len(gateway.engine.requests)
    answer = gateway.raw(request_bytes)
    # A connection that is closed with bytes unread may be reset before its answer is read.
    if answer or len(request_bytes) < 60_000:
        assert status_of(answer) == status
        document = json.loads(answer.split(b"\r\n\r\n")[1])
        assert document["error"]["message"]
        assert b"x-request-id: " in answer
    assert len(gateway.engine.requests) == before
    assert gateway.post({})[0] == 200


def test_slow_and_silent_clients_are_let_go(shared: GatewayProcess) -> None:
    """A connection without a whole head is closed in silence; a whole request before a half one is answered."""
    gateway = shared
    for begun in (b"", b"POST /v1", GOOD):
        assert gateway.raw(begun) == b""
    answer = gateway.raw(GOOD + b"\r\n" + BODY + b"POST")
    assert status_of(answer) == 200


def test_a_drip_of_headers_does_not_hold_a_connection(shared: GatewayProcess) -> None:
    """A client that sends its head byte by byte is cut off, though it is never silent."""
    gateway = shared
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=0.1) as sock:
        closed = False
        for _ in range(100):  # 10 s, ten times the limit
            try:
                sock.sendall(b"x")
                if sock.recv(100) == b"":
                    closed = True
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
                break
    assert closed


def test_pipelined_requests_are_answered_in_order(shared: GatewayProcess) -> None:
    """Three requests sent at once on one connection are answered in their order."""
    gateway = shared
    requests = [GOOD + b"x-request-id: r%d\r\n\r\n" % number + BODY for number in range(3)]
    answer = gateway.raw(b"".join(requests))
    ids = [line for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids == [b"x-request-id: r0", b"x-request-id: r1", b"x-request-id: r2"]


def test_expect_continue_and_http_1_0_work(shared: GatewayProcess) -> None:
    """A client that waits for 100 Continue gets it and then its answer, and HTTP/1.0 is answered too."""
    gateway = shared
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as sock:
        sock.sendall(GOOD + b"expect: 100-continue\r\n" + CLOSE)
        assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue")
        sock.sendall(BODY)
        assert status_of(sock.recv(65536)) == 200
    assert status_of(gateway.raw(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n" + BODY)) == 200


def test_logs_hold_whole_json_lines_and_no_text_of_requests(gateway: GatewayProcess) -> None:
    """No text or credential of a request reaches the log or the spool, and every line of the log is JSON."""
    secret = "sk-secret-4711"
    evil = f'{secret}\\n{{"level":"FORGED"}}'
    for fake in ({"pieces": [], "end": "close"}, {"pieces": [secret + "\r\n\r\n"]}):
        names = {"authorization": f"Bearer {secret}", "x_request_id": evil, "x_nexus_user": secret}
        gateway.post({"messages": [{"role": "user", "content": evil}], "fake": fake}, **names)
    gateway.post({"model": secret})
    gateway.call("GET", f"/{secret}")
    gateway.stop()
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert sum(line["message"] == "engine failed" for line in lines) == 2
    written = [path.read_bytes() for path in [gateway.log, *gateway.spool.glob("*.jsonl")]]
    assert all(secret.encode() not in text and b"FORGED" not in text for text in written)
