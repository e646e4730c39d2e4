"""Every way in which an engine fails, through the real gateway with keys and limits on a real Redis.

After each fault the same must hold: the client has one status and one end, the engine was asked as often as it should
be, Redis has booked what was served and holds nothing more, and the observations say the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from serving.contracts import metric_names as names
from tests.fakes.fake_upstream import LAST_CHUNK, STREAM_HEAD, FakeUpstream, chunk, event, head, whole
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy, route_text
from tests.fakes.gateway_process import free_port
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

RULES = (
    {"name": "key", "scope": "key", "tokens_per_day": 10_000_000, "concurrent_requests": 1_000},
    {"name": "tenant", "scope": "tenant", "usd_per_month": 1e6, "requests_per_minute": 1_000_000, "burst_requests": 99},
)
PRICE = {"input_usd_per_million_tokens": 1.0, "output_usd_per_million_tokens": 2.0}
BIG = "x" * 9000


class Site(NamedTuple):
    gateway: FullGateway
    engine: FakeUpstream
    backup: FakeUpstream


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    engine, backup = FakeUpstream().start_in_thread(), FakeUpstream(obedient=False).start_in_thread()
    services = {"m-stable": engine.url, "backup-stable": backup.url, "dead-stable": f"http://127.0.0.1:{free_port()}"}
    routes = {
        "backup": route_text("backup", price=PRICE),
        "alone": route_text("alone", "m-stable", price=PRICE),
        "dead": route_text("dead", price=PRICE, fallbacks=["backup"]),
        "dead-alone": route_text("dead-alone", "dead-stable", price=PRICE),
    }
    with (
        RedisProcess() as redis,
        full_gateway(
            tmp_path_factory.mktemp("gateway"),
            engine,
            redis,
            route_text("m", price=PRICE, fallbacks=["backup"]),
            routes=routes,
            services=services,
            settings={"MAX_ANSWER_BYTES": "65536", "MAX_EVENT_BYTES": "4096", "SPOOL_FLUSH_SECONDS": "0.02"},
            **keyed_policy(*RULES),
        ) as gateway,
    ):
        yield Site(gateway, engine, backup)
    engine.stop_thread()
    backup.stop_thread()


class Books:
    """What was asked, booked and observed since it was made."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._spent = site.gateway.spent()
        self._asked = len(site.engine.requests), len(site.backup.requests)
        self._seen = len(site.gateway.observations())

    @property
    def asked(self) -> tuple[int, int]:
        engine, backup = self._asked
        return len(self._site.engine.requests) - engine, len(self._site.backup.requests) - backup

    def observed(self, count: int) -> list[dict[str, Any]]:
        gateway = self._site.gateway
        wait_until(lambda: len(gateway.observations()) >= self._seen + count)
        found = gateway.observations()[self._seen :]
        assert len(found) == count, found
        return found

    def booked(self, requests: int) -> dict[str, int]:
        """Wait until nothing is held, and so many requests have been counted."""
        gateway = self._site.gateway
        wait_until(lambda: gateway.held() == 0 and gateway.spent()["requests"] == self._spent["requests"] + requests)
        now = gateway.spent()
        return {name: now[name] - self._spent[name] for name in ("requests", "prompt", "output")}


@pytest.fixture
def books(site: Site) -> Books:
    wait_until(lambda: site.gateway.held() == 0 and site.gateway.metric(names.GATEWAY_SPOOL_QUEUED) == 0)
    return Books(site)


class Fault(NamedTuple):
    """What an engine does before its first byte, and what the client gets where nobody else answers."""

    pieces: list[str]
    end: str
    status: int
    code: str
    stream: bool = False


BEFORE = {
    "reset": Fault([], "reset", 502, "upstream_reset"),
    "closed": Fault([], "close", 502, "upstream_reset"),
    "stalled": Fault([], "hang", 504, "upstream_timeout"),
    "stalled-in-the-head": Fault(["HTTP/1.1 200 OK\r\ncontent-"], "hang", 504, "upstream_timeout"),
    "half-an-answer": Fault([head(content_length="100") + "\r\n{"], "reset", 502, "upstream_reset"),
    "stalled-half-an-answer": Fault([head(content_length="100") + "\r\n{"], "hang", 504, "upstream_timeout"),
    "500": Fault([whole('{"error":"x"}', 500)], "keep", 502, "upstream_status"),
    "302": Fault([whole("", 302, location="http://evil/")], "keep", 502, "upstream_status"),
    "204": Fault([head(204) + "\r\n"], "keep", 502, "upstream_status"),
    "429": Fault([whole("{}", 429)], "keep", 503, "upstream_overloaded"),
    "503": Fault([whole("{}", 503)], "keep", 503, "upstream_overloaded"),
    "429-with-nonsense": Fault([whole("{}", 429, Retry_After="soon")], "keep", 503, "upstream_overloaded"),
    "wrong-type": Fault([whole("<html>", content_type="text/html")], "keep", 502, "upstream_protocol"),
    "no-http": Fault(["nonsense\r\n\r\n"], "keep", 502, "upstream_protocol"),
    "endless-head": Fault(["HTTP/1.1 200 OK\r\n" + "h: v\r\n" * 20_000], "hang", 502, "upstream_protocol"),
    "compressed": Fault([whole("{}", content_encoding="gzip")], "keep", 502, "upstream_protocol"),
    "two-lengths": Fault([head(content_length="2") + "content-length: 3\r\n\r\n{} "], "keep", 502, "upstream_protocol"),
    "oversized": Fault([whole('"' + "x" * 300_000 + '"')], "keep", 502, "upstream_protocol"),
    "stalled-first-token": Fault([STREAM_HEAD], "hang", 504, "upstream_timeout", stream=True),
    "comments-and-no-token": Fault([STREAM_HEAD, chunk(": ping\n")], "hang", 504, "upstream_timeout", stream=True),
    "stream-reset": Fault([STREAM_HEAD], "reset", 502, "upstream_reset", stream=True),
    "half-a-chunk-first": Fault([STREAM_HEAD, "ff\r\ndata: {"], "reset", 502, "upstream_reset", stream=True),
    "bad-chunk-size": Fault([STREAM_HEAD, "zz\r\n"], "keep", 502, "upstream_protocol", stream=True),
    "oversized-first-event": Fault([STREAM_HEAD, chunk(f"data: {BIG}")], "hang", 502, "upstream_protocol", stream=True),
}  # fmt: skip


def asks(fault: Fault, **fields: Any) -> dict[str, Any]:
    script = {"pieces": fault.pieces, "end": fault.end}
    return {"stream": fault.stream, "max_tokens": 5, "fake": script, "messages": []} | fields


@pytest.mark.parametrize("name", BEFORE)
def test_a_fault_before_the_first_byte_fails_over(site: Site, books: Books, name: str) -> None:
    """The fallback model answers once; both tries are observed; only the answer is billed, and it once."""
    fault = BEFORE[name]
    status, headers, body = site.gateway.post(asks(fault))
    assert status == 200, body
    assert headers["content-type"].startswith("text/event-stream" if fault.stream else "application/json")
    assert body.endswith(b"data: [DONE]\n\n") if fault.stream else json.loads(body)["usage"]
    assert books.asked in ((1, 1), (2, 1) if name == "closed" else ())  # what looks like an idle close is sent again
    first, answer = books.observed(2)
    assert first["request_id"] == f"{answer['request_id']}~1"
    assert (first["service"], answer["service"]) == ("m-stable", "backup-stable")
    assert (answer["outcome"], answer["status"]) == ("ok", 200)
    assert first["outcome"] == ("upstream-timeout" if fault.status == 504 else "upstream-error")
    booked = books.booked(1)
    assert (booked["requests"], booked["output"]) == (1, answer["output_tokens"]) == (1, 5)


@pytest.mark.parametrize("name", BEFORE)
def test_a_fault_before_the_first_byte_is_an_error_where_nobody_else_answers(
    site: Site, books: Books, name: str
) -> None:
    """One try, one clear error in OpenAI's shape, nothing billed, and the next request is answered."""
    fault = BEFORE[name]
    status, headers, body = site.gateway.post(asks(fault, model="alone"))
    assert (status, json.loads(body)["error"]["code"]) == (fault.status, fault.code)
    assert "evil" not in str(headers)
    assert books.asked in ((1, 0), (2, 0) if name == "closed" else ())  # what looks like an idle close is sent again
    [seen] = books.observed(1)
    assert (seen["status"], seen["service"]) == (status, "m-stable")
    assert books.booked(0) == {"requests": 0, "prompt": 0, "output": 0}
    assert site.gateway.post({"model": "alone"})[0] == 200


def test_a_refused_connection_fails_over_and_is_a_503_alone(site: Site, books: Books) -> None:
    """Nobody listens: the fallback answers; without one it is 503 with a Retry-After."""
    assert site.gateway.post({"model": "dead"})[0] == 200
    status, headers, body = site.gateway.post({"model": "dead-alone"})
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["error"]["code"] == "upstream_unreachable"
    assert books.asked == (0, 1)
    assert [line["status"] for line in books.observed(3)] == [503, 200, 503]
    assert books.booked(1)["requests"] == 1


def test_retry_after_is_obeyed_and_passed_on(site: Site, books: Books) -> None:
    """429 with Retry-After: the engine gets nothing for so long, the client is told, and then it is asked again."""
    fault = Fault([whole("{}", 429, Retry_After="1")], "keep", 503, "upstream_overloaded")
    status, headers, _ = site.gateway.post(asks(fault, model="alone"))
    assert (status, headers["retry-after"]) == (503, "1")
    while_held = site.gateway.post({"model": "alone"})
    assert (while_held[0], while_held[1]["retry-after"]) == (503, "1")
    assert site.gateway.post({})[0] == 200
    assert books.asked == (1, 1)
    wait_until(lambda: site.gateway.post({"model": "alone"})[0] == 200, seconds=5)


MIDDLE = {
    "reset": ([chunk(event("a")), chunk(event("b"))], "reset", "upstream_reset"),
    "closed-without-end": ([chunk(event("a")), chunk(event("b"))], "close", "upstream_reset"),
    "half-a-chunk": ([chunk(event("a")), chunk(event("b")), "ff\r\ndata: {"], "reset", "upstream_reset"),
    "half-an-event": ([chunk(event("a")), chunk(event("b")), chunk('data: {"cho')], "reset", "upstream_reset"),
    "stalled": ([chunk(event("a")), chunk(event("b"))], "hang", "upstream_timeout"),
    "bad-chunk": ([chunk(event("a")), chunk(event("b")), "zz\r\n"], "keep", "upstream_protocol"),
    "oversized-event": ([chunk(event("a")), chunk(event("b")), chunk(f"data: {BIG}")], "keep", "upstream_protocol"),
}


@pytest.mark.parametrize("name", MIDDLE)
@pytest.mark.parametrize("model", ["m", "alone"])
def test_a_fault_after_the_first_token_ends_the_stream_and_is_never_retried(
    site: Site, books: Books, name: str, model: str
) -> None:
    """Whole events, then one error event and no [DONE]; one try; what came is billed once and observed."""
    pieces, end, code = MIDDLE[name]
    fault = Fault([STREAM_HEAD, *pieces], end, 200, code, stream=True)
    script = {"pieces": fault.pieces, "end": fault.end, "pause": 0.02}
    status, _, body = site.gateway.post(asks(fault, model=model, fake=script))
    events = [part.removeprefix(b"data: ") for part in body.split(b"\n\n") if part]
    assert status == 200
    assert [json.loads(one).get("error", {}).get("code") for one in events] == [None, None, code]
    assert b"[DONE]" not in body
    assert books.asked == (1, 0)
    [seen] = books.observed(1)
    assert (seen["status"], seen["output_tokens"]) == (200, 2)
    assert seen["outcome"] == ("upstream-timeout" if code == "upstream_timeout" else "upstream-error")
    booked = books.booked(1)
    assert (booked["requests"], booked["output"]) == (1, 2)


def test_a_slow_engine_is_waited_for(site: Site, books: Books) -> None:
    """Tokens that come just within each limit are passed on whole, though the answer takes longer than each limit."""
    status, _, body = site.gateway.post({"stream": True, "max_tokens": 5, "pause": 0.2})
    assert status == 200
    assert body.endswith(b"data: [DONE]\n\n")
    assert books.asked == (1, 0)
    [seen] = books.observed(1)
    assert (seen["outcome"], seen["output_tokens"]) == ("ok", 5)
    assert seen["total_ms"] > 1_000


def test_the_total_time_bounds_a_stream_that_never_ends(site: Site, books: Books) -> None:
    """A token now and then for ever: the stream ends with a timeout after `total_seconds`."""
    pieces = [STREAM_HEAD, *(chunk(event("a")) for _ in range(60))]
    body = site.gateway.post({"stream": True, "fake": {"pieces": pieces, "pause": 0.1, "end": "hang"}})[2]
    assert json.loads(body.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"
    [seen] = books.observed(1)
    assert 2_900 < seen["total_ms"] < 5_900
    assert books.booked(1)["output"] == seen["output_tokens"]


def test_the_total_time_bounds_all_tries_together(site: Site, books: Books) -> None:
    """Tries share `total_seconds`: three of them do not take three times as long."""
    site.backup.script = {"pieces": [STREAM_HEAD, *[chunk(event("a"))] * 60], "pause": 0.2, "end": "hang"}
    try:
        fault = BEFORE["stalled-first-token"]
        site.gateway.post(asks(fault))
    finally:
        site.backup.script = None
    seen = books.observed(2)[-1]
    assert seen["total_ms"] < 3_400
    assert books.booked(1)["requests"] == 1


def test_everything_was_counted_and_nothing_is_left(site: Site) -> None:
    """After all of it: no request under way, no reservation held, no failure without its log line, no leak."""
    gateway = site.gateway
    assert gateway.metric(names.GATEWAY_REQUESTS_IN_FLIGHT) == 0
    assert gateway.held() == 0
    assert gateway.process is not None
    snapshot = gateway.admin("GET", "/admin/v1/snapshot")[1]
    endpoints = [one for route in snapshot["routes"] for side in route["sides"] for one in side["endpoints"]]
    assert all(one["running"] == one["queued"] == one["outstanding_tokens"] == 0 for one in endpoints)
    assert gateway.metric(names.GATEWAY_LIMITS_UNSETTLED) == 0
    assert gateway.metric(names.GATEWAY_RETRIES) >= len(BEFORE)
    gateway.stop()
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert "request failed" not in {line["message"] for line in lines}
    assert LAST_CHUNK not in gateway.log.read_text()
