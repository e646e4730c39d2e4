"""Clients that leave, that are slow, and that do not read: engines are freed, and nobody else is kept waiting."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from serving.contracts import metric_names as names
from tests.fakes.fake_upstream import STREAM_HEAD, FakeUpstream, chunk, event, whole
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy, route_text
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

RULE = {"name": "key", "scope": "key", "tokens_per_day": 100_000_000, "concurrent_requests": 100}
NARROW = {"initial_concurrency": 1, "min_concurrency": 1, "max_concurrency": 1}
HANG = {"pieces": [STREAM_HEAD, chunk(event("a"))], "end": "hang"}
SILENT: dict[str, Any] = {"pieces": [], "end": "hang"}
PATIENT = {"connect_seconds": 1, "first_byte_seconds": 20, "between_bytes_seconds": 20, "total_seconds": 25}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    fake = FakeUpstream().start_in_thread()
    yield fake
    fake.stop_thread()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[FullGateway]:
    routes = {"other": route_text("other")}
    services = {"m-stable": upstream.url, "other-stable": upstream.url}
    policy = keyed_policy(RULE, timeouts=PATIENT, overload=NARROW)
    folder = tmp_path_factory.mktemp("gateway")
    settings = {"KEEP_ALIVE_SECONDS": "1", "HEAD_TIMEOUT_SECONDS": "1"}
    with (
        RedisProcess() as redis,
        full_gateway(folder, upstream, redis, routes=routes, services=services, settings=settings, **policy) as made,
    ):
        yield made


def opened(gateway: FullGateway, body: dict[str, Any], **headers: str) -> socket.socket:
    """Send a request and leave the answer to the test."""
    raw = json.dumps({"model": "m"} | body).encode()
    lines = gateway.headers | {"host": "x", "content-length": str(len(raw))} | headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=15)
    sock.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + raw)
    return sock


def unread(gateway: FullGateway, *, stream: bool = False, **headers: str) -> socket.socket:
    """Send a request and have the kernel take little of its answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", gateway.port))
    raw = json.dumps({"model": "m", "stream": stream}).encode()
    sent = gateway.headers | {"host": "x", "content-length": str(len(raw))} | headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + raw)
    return client


def queued(gateway: FullGateway, model: str = "m") -> int:
    routes = gateway.admin("GET", "/admin/v1/snapshot")[1]["routes"]
    sides = [side for route in routes if route["model"] == model for side in route["sides"]]
    return sum(endpoint["queued"] for side in sides for endpoint in side["endpoints"])


def is_idle(gateway: FullGateway) -> bool:
    return gateway.metric(names.GATEWAY_REQUESTS_IN_FLIGHT) == 0 and gateway.held() == 0


@pytest.mark.parametrize("script", [HANG, SILENT], ids=["in-mid-stream", "before-the-answer"])
def test_a_client_that_leaves_frees_its_engine(
    gateway: FullGateway, script: dict[str, Any], record_property: Any
) -> None:
    """The engine's connection ends with the client's: within 100 ms on a machine that has time for it."""
    engine, times = gateway.engine, []
    for _ in range(10):
        count = len(engine.requests)
        client = opened(gateway, {"stream": script is HANG, "fake": script})
        wait_until(lambda count=count: len(engine.requests) > count)
        if script is HANG:
            while b"data: " not in client.recv(65536):
                pass
        begun = time.monotonic()
        client.close()
        assert engine.requests[-1].client_left.wait(5)
        times.append(time.monotonic() - begun)
    record_property("cancel_ms", [round(1e3 * seconds, 1) for seconds in times])
    print("cancelled after ms:", [round(1e3 * seconds, 1) for seconds in sorted(times)])
    assert sorted(times)[5] < 0.1 * 5  # five times the bound: other work may have the machine
    wait_until(lambda: is_idle(gateway))


def test_a_client_that_leaves_the_line_never_reaches_the_engine(gateway: FullGateway) -> None:
    """Queued and gone: out of the line at once, refunded, observed; who waits behind it is served."""
    engine = gateway.engine
    before = len(engine.requests)
    first = opened(gateway, {"stream": True, "fake": HANG})
    wait_until(lambda: len(engine.requests) > before)
    waiting = opened(gateway, {"messages": ["gone"]})
    wait_until(lambda: queued(gateway) == 1)
    behind = opened(gateway, {"messages": ["stays"]})
    wait_until(lambda: queued(gateway) == 2)
    begun = time.monotonic()
    waiting.close()
    wait_until(lambda: queued(gateway) == 1)
    assert time.monotonic() - begun < 1
    first.close()
    assert b"200 OK" in behind.recv(65536)
    behind.close()
    assert [json.loads(one.body)["messages"] for one in engine.requests[before + 1 :]] == [["stays"]]
    wait_until(lambda: is_idle(gateway))


def test_a_slow_body_is_bounded_and_holds_nobody_up(gateway: FullGateway) -> None:
    """A body byte by byte ends with 408 after its time, while others are answered."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=15) as sock:
        key = gateway.headers["authorization"]
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\ncontent-length: 60000\r\n\r\n"
        sock.sendall(head.encode())
        sock.settimeout(0.1)
        answer, begun = b"", time.monotonic()
        while not answer and time.monotonic() - begun < 10:
            sock.sendall(b" ")
            try:
                answer = sock.recv(65536)
            except TimeoutError:
                assert gateway.post({})[0] == 200
        assert answer.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/models", "/nothing"])
def test_a_body_behind_its_answer_does_not_hold_the_connection(gateway: FullGateway, target: str) -> None:
    """Refused before its body came: who then sends the body byte by byte is cut off, though never silent."""
    head = f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=0.1) as sock:
        sock.sendall(head.encode())
        wait_until(lambda: sock.recv(65536).startswith(b"HTTP/1.1 4"))
        begun, closed = time.monotonic(), False
        while not closed and time.monotonic() - begun < 6:
            try:
                sock.sendall(b"x")
                closed = sock.recv(100) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
        assert closed


def test_a_client_that_does_not_read_a_stream_is_let_go(gateway: FullGateway) -> None:
    """It holds its engine no longer than an idle client its connection, and no more memory than the buffers."""
    piece = chunk(event("x" * 60_000))
    gateway.engine.script = {"pieces": [STREAM_HEAD, *[piece] * 400], "end": "hang"}
    try:
        count = len(gateway.engine.requests)
        client = unread(gateway, stream=True)
        wait_until(lambda: len(gateway.engine.requests) > count)
        assert gateway.engine.requests[-1].client_left.wait(8)
        gateway.engine.script = None
        wait_until(lambda: is_idle(gateway), seconds=8)
        assert gateway.post({})[0] == 200  # the only place at the engine is free again
    finally:
        gateway.engine.script = None
        client.close()


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_client_that_does_not_read_an_answer_is_let_go(gateway: FullGateway, connection: str) -> None:
    """An answer of 20 MB that nobody reads: the engine is free at once, the memory soon after."""
    gateway.engine.script = {"pieces": [whole('"' + "x" * 20_000_000 + '"')]}
    client = unread(gateway, connection=connection)
    try:
        wait_until(lambda: gateway.metric(names.GATEWAY_REQUESTS) > 0 and is_idle(gateway))
        time.sleep(3.5)  # idle for 1 s, and then nothing taken for another
        got = 0
        try:
            while piece := client.recv(1_000_000):
                got += len(piece)
        except ConnectionError:
            pass
        assert got < 15_000_000  # what the kernel had
    finally:
        gateway.engine.script = None
        client.close()


def test_a_slow_reader_gets_all_of_its_stream(gateway: FullGateway) -> None:
    """Backpressure loses nothing: a client that reads in small steps gets every event and the end."""
    pieces = [STREAM_HEAD, *(chunk(event(f"{n} " + "x" * 2000)) for n in range(200)), chunk("data: [DONE]\n\n")]
    client = opened(gateway, {"stream": True, "fake": {"pieces": [*pieces, "0\r\n\r\n"]}}, connection="close")
    got = b""
    while piece := client.recv(16384):
        got += piece
        time.sleep(0.002)
    assert got.count(b'"content":"') == 200
    assert got.endswith(b"0\r\n\r\n")
    client.close()


def test_many_clients_that_leave_at_once_leave_nothing_behind(gateway: FullGateway) -> None:
    """Forty clients, one place: all leave; the line, the reservations and the tasks are gone, the next is served."""
    clients = [opened(gateway, {"stream": True, "fake": HANG}) for _ in range(40)]
    wait_until(lambda: gateway.metric(names.GATEWAY_REQUESTS_IN_FLIGHT) == 40)
    threads = [threading.Thread(target=client.close) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: is_idle(gateway) and queued(gateway) == 0)
    assert gateway.post({})[0] == 200
