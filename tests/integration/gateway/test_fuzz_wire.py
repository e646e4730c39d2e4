"""Raw bytes at the real gateway: smuggling, injection, odd targets, and streams cut at every byte."""

from __future__ import annotations

import contextlib
import json
import random
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.fake_upstream import LAST_CHUNK, STREAM_HEAD, FakeUpstream, chunk, event
from tests.fakes.gateway_process import GatewayProcess, free_port
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
BODY = b'{"model":"m"}'
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
WHOLE = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"
EVIL = POST + b"x-request-id: evil\r\ncontent-length: 13\r\n\r\n" + BODY
TOKEN = "admin-token-for-tests-" * 2


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    engine = FakeUpstream().start_in_thread()
    settings = {"KEEP_ALIVE_SECONDS": "1", "HEAD_TIMEOUT_SECONDS": "1", "ADMIN_TOKEN": TOKEN}
    made = GatewayProcess(tmp_path_factory.mktemp("gateway"), engine, ADMIN_PORT=str(free_port()), **settings)
    try:
        yield made.start()
    finally:
        made.stop()
        engine.stop_thread()


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


SMUGGLING = {
    "both-cl-first": POST + b"content-length: 4\r\n" + CHUNKED + b"0\r\n\r\n" + EVIL,
    "both-te-first": POST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" + EVIL,
    "two-lengths": POST + b"content-length: 0\r\ncontent-length: 13\r\n\r\n" + EVIL,
    "lengths-in-a-list": POST + b"content-length: 13, 0\r\n\r\n" + EVIL,
    "length-with-plus": POST + b"content-length: +0\r\n\r\n" + EVIL,
    "length-in-hex": POST + b"content-length: 0x0\r\n\r\n" + EVIL,
    "length-with-space": POST + b"content-length: 1 3\r\n\r\n" + EVIL,
    "negative-length": POST + b"content-length: -1\r\n\r\n" + EVIL,
    "space-before-colon": POST + b"content-length : 0\r\n\r\n" + EVIL,
    "te-space-before-colon": POST + b"content-length: 0\r\ntransfer-encoding : chunked\r\n\r\n" + EVIL,
    "te-tab": POST + b"transfer-encoding:\tchunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n" + EVIL,
    "te-unknown": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + EVIL,
    "te-not-last": POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n" + EVIL,
    "te-twice": POST + b"transfer-encoding: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"
    + EVIL,
    "te-quoted": POST + b'transfer-encoding: "chunked"\r\ncontent-length: 5\r\n\r\n0\r\n\r\n' + EVIL,
    "obs-fold": POST + b"transfer-encoding:\r\n chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + EVIL,
    "fold-in-length": POST + b"content-length: 1\r\n 3\r\n\r\n" + EVIL,
    "bare-lf-head": POST.replace(b"\r\n", b"\n") + b"content-length: 0\n\n" + EVIL,
    "bare-lf-header": POST + b"x: y\ncontent-length: 0\r\n\r\n" + EVIL,
    "bare-cr-header": POST + b"x: y\rcontent-length: 0\r\n\r\n" + EVIL,
    "nul-in-header": POST + b"x: y\0content-length: 0\r\n\r\n" + EVIL,
    "chunk-minus": POST + CHUNKED + b"-1\r\n" + EVIL,
    "chunk-0x": POST + CHUNKED + b"0x0\r\n\r\n" + EVIL,
    "chunk-overflow": POST + CHUNKED + b"10000000000000000\r\n" + EVIL,
    "chunk-bare-lf": POST + CHUNKED + b"0\n\n" + EVIL,
    "chunk-space": POST + CHUNKED + b"d \n" + BODY + b"\r\n0\r\n\r\n" + EVIL,
    "chunk-data-short": POST + CHUNKED + b"d\r\n" + BODY + b"xx\r\n0\r\n\r\n" + EVIL,
    "chunk-extension-lf": POST + CHUNKED + b"0;a\nb\r\n\r\n" + EVIL,
    "te-in-1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"0\r\n\r\n" + EVIL,
    "upgrade": POST + b"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n" + EVIL,
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLING)
def test_no_framing_trick_gets_a_second_request_through_unseen(gateway: GatewayProcess, name: str) -> None:
    """Where two servers could read the framing in two ways, the connection ends: what is behind it is not served."""
    before = len(gateway.engine.requests)
    answer = gateway.raw(SMUGGLING[name], wait=5)
    seen = gateway.engine.requests[before:]
    assert [one.headers["x-request-id"] for one in seen if one.headers["x-request-id"] == "evil"] == []
    assert len(statuses(answer)) <= 1
    assert all(status in (400, 405, 431) for status in statuses(answer))


@pytest.mark.parametrize(
    "trailer",
    [
        b"content-length: 5\r\n",
        b"authorization: Bearer x\r\n",
        b"x-nexus-user: forged\r\n",
        b"x-request-id: forged\r\n",
    ],
)
def test_trailers_change_nothing(gateway: GatewayProcess, trailer: bytes) -> None:
    """What comes behind a chunked body is dropped, or refused where it is about framing, whatever it is called."""
    request = POST + b"connection: close\r\n" + CHUNKED + b"d\r\n" + BODY + b"\r\n0\r\n" + trailer + b"\r\n"
    answer = gateway.raw(request)
    assert statuses(answer) == ([400] if trailer.startswith(b"content-length") else [200])
    assert b"forged" not in answer


def test_hot_and_cold_requests_in_one_pipeline_stay_in_order(gateway: GatewayProcess) -> None:
    """Any mix sent at once is answered in order, each by itself, however it is cut into packets."""
    kinds = {
        "hot": (POST + b"content-length: 13\r\n\r\n" + BODY, 200),
        "chunked": (POST + CHUNKED + WHOLE, 200),
        "cold": (b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 200),
        "health": (b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n", 200),
        "none": (b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        "wrong": (POST + b"content-length: 2\r\n\r\n{}", 400),
        "method": (b"DELETE /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", 405),
        "post-cold": (b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n" + EVIL[:40], 405),
        "head": (b"GET /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 200),
    }  # fmt: skip
    chance = random.Random(1)
    for _ in range(25):
        chosen = [chance.choice(list(kinds)) for _ in range(chance.randint(2, 8))]
        data = b"".join(kinds[name][0] for name in chosen)
        data += b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data:
                size = chance.choice([1, 7, 50, 1000])
                sock.sendall(data[:size])
                data = data[size:]
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
        assert statuses(answer) == [*(kinds[name][1] for name in chosen), 200], chosen


def test_a_long_pipeline_is_answered_whole(gateway: GatewayProcess) -> None:
    """Far more at once than a head may have: each request is counted by itself, wherever packets are cut."""
    count = 6_000
    last = POST + b"connection: close\r\ncontent-length: 13\r\n\r\n" + BODY
    answer = gateway.raw((POST + b"content-length: 13\r\n\r\n" + BODY) * count + last, wait=30)
    assert statuses(answer) == [200] * (count + 1)


@pytest.mark.parametrize(
    "value", ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\r\n\r\nGET / HTTP/1.1", "a\0b", "\x7f", "é" * 30]
)
@pytest.mark.parametrize("name", ["x-request-id", "tracestate", "x-nexus-user", "idempotency-key", "traceparent"])
def test_no_header_value_becomes_a_header(gateway: GatewayProcess, name: str, value: str) -> None:
    """Raw bytes in a header never make another header, at the engine or in the answer."""
    before = len(gateway.engine.requests)
    line = f"{name}: {value}\r\n".encode("latin-1")
    answer = gateway.raw(POST + line + b"connection: close\r\ncontent-length: 13\r\n\r\n" + BODY)
    assert b"x-evil" not in answer.partition(b"\r\n\r\n")[0]
    for one in gateway.engine.requests[before:]:
        assert "x-evil" not in one.headers


def test_no_text_of_a_body_becomes_a_header_or_a_log_line(gateway: GatewayProcess) -> None:
    """Model, user and messages with line breaks and JSON in them: no header, and each log line is one JSON object."""
    evil = 'x\r\nx-evil: 1\r\n\r\n{"level":"FORGED","message":"forged"}\n'
    for body in ({"model": evil}, {"user": evil}, {"messages": [evil]}, {"fake": {"pieces": [evil]}}):
        _, headers, _ = gateway.post(body)
        assert "x-evil" not in headers
    gateway.call("GET", "/v1/models/" + "%0d%0ax-evil:%201")
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert all(line["level"] != "FORGED" for line in lines)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://x/v1/chat/completions", 200), ("http://evil:80/v1/chat/completions?x", 200),
        ("http://x", 404), ("https://evil/", 404), ("//evil/v1/chat/completions", 404), ("/v1/chat%2fcompletions", 200),
        ("/v1/chat/completions?x=/admin", 200), ("/v1/chat/completions#x", 405), ("/v1/./chat/completions", 404),
        ("/v1/chat/completions%00", 404), ("/v1/chat/completions;x=1", 404), ("/%76%31/chat/completions", 200),
        ("/v1/chat/completions/..", 404), ("*", 404), ("x", 400), ("/v1/chat/completions%", 404),
        ("/v1/chat/completions%zz", 404), ("/v1/\u00e9", 404),
    ],
)  # fmt: skip
def test_odd_targets_are_that_path_or_none(gateway: GatewayProcess, target: str, status: int) -> None:
    """The engine is asked on the one path only, whatever form the target has; nothing is proxied elsewhere."""
    before = len(gateway.engine.requests)
    request = f"POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 13\r\n\r\n".encode() + BODY
    [got] = statuses(gateway.raw(request))
    assert got == status or (status == 404 and got in (200, 400))
    for one in gateway.engine.requests[before:]:
        assert one.target == "POST /v1/chat/completions HTTP/1.1"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PRI", "OPTIONS", "PUT", "FOO"])
def test_other_methods_are_refused(gateway: GatewayProcess, method: str) -> None:
    """No tunnel, no echo, no HTTP/2: 400 or 405, and the engine hears nothing."""
    before = len(gateway.engine.requests)
    target = "x:443" if method == "CONNECT" else "/v1/chat/completions"
    answer = gateway.raw(
        f"{method} {target} HTTP/1.1\r\nhost: x\r\nx-secret: 4711\r\nconnection: close\r\n\r\n".encode()
    )
    assert set(statuses(answer)) <= {400, 404, 405}
    assert b"4711" not in answer
    assert len(gateway.engine.requests) == before


def test_a_stream_cut_at_every_byte_is_the_same_stream(gateway: GatewayProcess) -> None:
    """Events of every kind, cut anywhere into chunks and packets, reach the client as the same bytes."""
    data = ": hello\n\n" + event("é".encode().decode("latin-1")) + 'data: {"choices":[]}\r\n\r\n'
    data += event(None, choice={"finish_reason": "stop"}) + "data: [DONE]\n\n"
    for at in range(1, len(data)):
        pieces = [STREAM_HEAD + chunk(data[:at]), chunk(data[at:]) + LAST_CHUNK]
        body = gateway.post({"stream": True, "fake": {"pieces": pieces, "pause": 0.001}})[2]
        assert body == data.encode("latin-1"), at


def test_an_answer_cut_at_every_byte_of_its_wire_is_the_same_answer(gateway: GatewayProcess) -> None:
    """Head, chunk sizes and chunk ends cut anywhere: the client sees whole events."""
    data = event("a") + "data: [DONE]\n\n"
    wire = STREAM_HEAD + chunk(data[:7]) + chunk(data[7:]) + LAST_CHUNK
    for at in range(1, len(wire)):
        fake = {"pieces": [wire[:at], wire[at:]], "pause": 0.001}
        status, _, body = gateway.post({"stream": True, "fake": fake})
        assert (status, body) == (200, data.encode()), at


HOSTILE = {
    "nan": b'{"model":"m","temperature":NaN}',
    "infinity": b'{"model":"m","max_tokens":-Infinity}',
    "beyond-a-double": b'{"model":"m","max_tokens":1e400}',
    "number-of-5000-digits": b'{"model":"m","max_tokens":' + b"9" * 5000 + b"}",
    "lone-surrogate": b'{"model":"m","user":"\\ud800"}',
    "lone-surrogate-as-model": b'{"model":"\\udfff"}',
    "surrogate-in-utf-8": b'{"model":"m","user":"\xed\xa0\x80"}',
    "overlong-utf-8": b'{"model":"m","user":"\xc0\xaf"}',
    "latin-1": b'{"model":"m","user":"\xe9"}',
    "utf-16": '{"model":"m"}'.encode("utf-16"),
    "byte-order-mark": b'\xef\xbb\xbf{"model":"m"}',
    "31000-levels": b'{"model":"m","messages":' + b"[" * 31_000 + b"]" * 31_000 + b"}",
    "33-levels": b'{"model":"m","messages":' + b"[" * 33 + b"]" * 33 + b"}",
    "two-documents": b'{"model":"m"}{"model":"m"}',
    "last-duplicate-counts": b'{"model":"m","model":"none"}',
    "last-duplicate-in-escapes": b'{"model":"m","mod\\u0065l":"none"}',
    "name-with-nul": b'{"model":"m\\u0000"}',
    "name-of-60000": b'{"model":"' + b"a" * 60_000 + b'"}',
    "name-as-path": b'{"model":"../m"}',
    "name-in-a-list": b'{"model":["m"]}',
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_document_reaches_an_engine(gateway: GatewayProcess, name: str, path: str) -> None:
    """Each is refused as what it is, in a short answer and in the path's shape; nothing of it is logged."""
    before, logged = len(gateway.engine.requests), len(gateway.log.read_text())
    body = HOSTILE[name]
    head = POST.replace(b"/v1/chat/completions", path.encode()) + b"connection: close\r\n"
    answer = gateway.raw(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert statuses(answer) in ([400], [404])
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert 0 < len(error["message"]) < 500
    assert len(gateway.engine.requests) == before
    assert len(gateway.log.read_text()) == logged


def test_a_flood_of_connections_ends_without_a_restart(tmp_path: Path) -> None:
    """Every file descriptor is taken by silent clients: when they are gone, requests are answered as before."""
    engine = FakeUpstream().start_in_thread()
    gateway = GatewayProcess(tmp_path, engine, HEAD_TIMEOUT_SECONDS="30")
    try:
        gateway.start()
        assert gateway.process is not None
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        clients = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(150)]
        descriptors = Path(f"/proc/{gateway.process.pid}/fd")
        wait_until(lambda: len(list(descriptors.iterdir())) == 64)
        for client in clients:
            client.close()
        wait_until(lambda: answers(gateway))
        gateway.commit({"stable": 50, "candidate": 50})  # documents are read again, too
        wait_until(lambda: json.loads(gateway.get("/health/ready")[2])["revision"] == "commit0002")
        assert json.loads(gateway.get("/health/ready")[2])["reasons"] == []
    finally:
        gateway.stop()
        engine.stop_thread()


def answers(gateway: GatewayProcess) -> bool:
    try:
        return gateway.post({})[0] == 200
    except OSError:
        return False


def memory_kib(gateway: GatewayProcess) -> int:
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0])


def test_a_body_of_tiny_chunks_takes_about_its_size(gateway: GatewayProcess) -> None:
    """Chunks of two bytes, to the limit of the body, on many connections at once: no multiple of what was sent."""
    assert gateway.post({})[0] == 200
    before = memory_kib(gateway)
    tiny = b"2\r\n  \r\n" * 32_000
    socks = [socket.create_connection(("127.0.0.1", gateway.port), timeout=10) for _ in range(16)]
    for sock in socks:
        sock.sendall(POST + CHUNKED + tiny)
    for sock in socks:
        sock.sendall(b"d\r\n" + BODY + b"\r\n0\r\n\r\n")
    assert [sock.recv(12)[9:] for sock in socks] == [b"200"] * 16
    for sock in socks:
        sock.close()
    assert memory_kib(gateway) - before < 16 * 1024  # 16 bodies of 64 kB; as objects of their own they took 45 MB


@pytest.mark.parametrize("request_line", [POST, b"POST /nothing HTTP/1.1\r\nhost: x\r\n"], ids=["hot", "cold"])
@pytest.mark.parametrize(
    "begin",
    [b"1;", b"d\r\n" + BODY + b"\r\n0\r\nx: ", b"d\r\n" + BODY + b'\r\n1;x="'],
    ids=["extension", "trailer", "second-extension"],
)
def test_framing_without_an_end_is_cut_off(gateway: GatewayProcess, request_line: bytes, begin: bytes) -> None:
    """A chunk extension or trailer that goes on for ever costs a bounded number of bytes, whatever else is allowed."""
    sent = 0
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as sock:
        sock.sendall(request_line + CHUNKED + begin)
        with contextlib.suppress(ConnectionError):
            while sent < 64_000_000:
                sock.sendall(b"a" * 65_536)
                sent += 65_536
    assert sent < 32_000_000  # what is on its way in the kernel's buffers included
    assert gateway.post({})[0] == 200


def test_random_bytes_never_hang_or_break_it(gateway: GatewayProcess) -> None:
    """Mutated requests: each connection ends in time, no 5xx, and the gateway goes on."""
    chance = random.Random(7)
    good = POST + b"connection: close\r\nx-nexus-user: a\r\ncontent-length: 13\r\n\r\n" + BODY
    for _ in range(60):
        raw = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw))
            raw[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
        assert all(status < 500 for status in statuses(gateway.raw(bytes(raw), wait=5)))
    assert gateway.post({})[0] == 200
    assert "request failed" not in gateway.log.read_text()
