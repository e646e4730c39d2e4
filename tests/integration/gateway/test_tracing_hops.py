"""Trace context and request id, hop by hop: client, gateway, engine, answer, error, log, observation, span."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.fakes.fake_upstream import STREAM_HEAD, FakeUpstream, chunk, event, whole
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy, route_text
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
HEADER = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


class Site(NamedTuple):
    gateway: FullGateway
    engine: FakeUpstream
    backup: FakeUpstream

    def spans(self, trace_id: str, count: int) -> list[dict[str, Any]]:
        """Wait for the spans of a trace and return them by name."""

        def found() -> list[dict[str, Any]]:
            files = (self.gateway.spool / "spans").glob("*")
            lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
            every = [
                span
                for line in lines
                for resource in line["resourceSpans"]
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            ]
            return [span for span in every if span["traceId"] == trace_id]

        wait_until(lambda: len(found()) >= count)
        assert len(found()) == count
        return found()

    def observed(self, request_id: str) -> dict[str, Any]:
        wait_until(lambda: any(line["request_id"] == request_id for line in self.gateway.observations()))
        return next(line for line in self.gateway.observations() if line["request_id"] == request_id)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    engine, backup = FakeUpstream().start_in_thread(), FakeUpstream(obedient=False).start_in_thread()
    services = {"m-stable": engine.url, "backup-stable": backup.url}
    with (
        RedisProcess() as redis,
        full_gateway(
            tmp_path_factory.mktemp("gateway"),
            engine,
            redis,
            route_text("m", fallbacks=["backup"]),
            routes={"backup": route_text("backup"), "alone": route_text("alone", "m-stable")},
            services=services,
            **keyed_policy({"name": "k", "scope": "key", "tokens_per_day": 10**9}),
        ) as gateway,
    ):
        yield Site(gateway, engine, backup)
    engine.stop_thread()
    backup.stop_thread()


@pytest.mark.parametrize("stream", [False, True])
def test_a_sampled_trace_goes_through_every_hop(site: Site, stream: bool) -> None:
    """Same trace everywhere; each hop's parent is the hop before; the request id is the client's own."""
    trace = TRACE.replace("4", "5" if stream else "6")
    headers = {
        "traceparent": SAMPLED.replace(TRACE, trace),
        "tracestate": "a=1,b=2",
        "x_request_id": f"client-{stream}",
    }
    status, answer, _ = site.gateway.post({"stream": stream}, **headers)
    assert status == 200
    assert answer["x-request-id"] == f"client-{stream}"
    upstream = site.engine.requests[-1].headers
    assert upstream["x-request-id"] == f"client-{stream}"
    assert upstream["tracestate"] == "a=1,b=2"
    told, sent = HEADER.fullmatch(answer["traceparent"]), HEADER.fullmatch(upstream["traceparent"])
    assert told is not None
    assert sent is not None
    assert (told[1], told[3], sent[1], sent[3]) == (trace, "01", trace, "01")
    spans = {span["name"]: span for span in site.spans(trace, 2)}
    server, client = spans["POST /v1/chat/completions"], spans["forward"]
    assert (server["parentSpanId"], server["spanId"]) == (PARENT, told[2])
    assert (client["parentSpanId"], client["spanId"]) == (told[2], sent[2])
    assert int(server["startTimeUnixNano"]) <= int(client["startTimeUnixNano"])
    assert int(client["endTimeUnixNano"]) <= int(server["endTimeUnixNano"]) + 1_000_000
    assert site.observed(f"client-{stream}")["trace_id"] == trace


def test_every_try_has_a_span_of_its_own(site: Site) -> None:
    """A failed try and its fallback: two client spans under one server span, the first one in error."""
    trace = "a" * 32
    broken = {"fake": {"pieces": [whole("{}", 500)]}}
    assert site.gateway.post(broken, traceparent=f"00-{trace}-{PARENT}-01", x_request_id="twice")[0] == 200
    spans = site.spans(trace, 3)
    tries = [span for span in spans if span["name"] == "forward"]
    sent = [one.requests[-1].headers["traceparent"].split("-")[2] for one in (site.engine, site.backup)]
    assert [span["spanId"] for span in tries] == sent
    assert ["status" in span and span["status"].get("code") == 2 for span in tries] == [True, False]
    [line] = [json.loads(line) for line in site.gateway.log.read_text().splitlines() if '"twice"' in line]
    assert (line["message"], line["trace_id"]) == ("engine failed", trace)


def test_errors_of_every_stage_carry_both_ids(site: Site) -> None:
    """Refused before, by, and after the engine: answer, observation and span say who it was."""
    cases: list[tuple[dict[str, Any], dict[str, str], int]] = [
        ({}, {"authorization": "Bearer nexus-wrong"}, 401),
        ({"model": "none"}, {}, 404),
        ({"model": "alone", "fake": {"pieces": [whole("{}", 500)]}}, {}, 502),
        ({"model": "alone", "fake": {"pieces": [whole("{}", 400)]}}, {}, 400),
    ]
    for number, (body, headers, status) in enumerate(cases):
        trace, name = f"{number + 1:032x}", f"error-{number}"
        ids = {"traceparent": f"00-{trace}-{PARENT}-01", "x_request_id": name}
        answer = site.gateway.post(body, **(headers | ids))
        assert answer[0] == status
        assert answer[1]["x-request-id"] == name
        assert answer[1]["traceparent"].split("-")[1] == trace
        assert site.observed(name)["trace_id"] == trace
        assert any(span["name"].startswith("POST") for span in site.spans(trace, 2 if "fake" in body else 1))


def test_a_stream_that_breaks_is_an_error_span(site: Site) -> None:
    """200 has gone out; span, observation and log still say that it failed."""
    trace = "b" * 32
    broken = {"pieces": [STREAM_HEAD, chunk(event("a"))], "end": "reset"}
    ids = {"traceparent": f"00-{trace}-{PARENT}-01", "x_request_id": "broken"}
    assert site.gateway.post({"stream": True, "fake": broken}, **ids)[0] == 200
    spans = site.spans(trace, 2)
    assert all(span["status"]["code"] == 2 for span in spans)
    assert site.observed("broken")["outcome"] == "upstream-error"


@pytest.mark.parametrize(
    "given",
    [
        "", "nonsense", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-01\t",
        f"00-{TRACE[1:]}-{PARENT}-01",
    ],
)  # fmt: skip
def test_a_wrong_traceparent_begins_a_new_trace(site: Site, given: str) -> None:
    """What cannot be read is not passed on, nor its tracestate: a new trace begins, unsampled."""
    status, answer, _ = site.gateway.post({}, traceparent=given, tracestate="a=1")
    assert status == 200
    upstream = site.engine.requests[-1].headers
    assert "tracestate" not in upstream
    told = HEADER.fullmatch(answer["traceparent"])
    assert told is not None
    if given.strip() != f"00-{TRACE}-{PARENT}-01":
        assert told[1] != TRACE
        assert told[3] == "00"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "a\tb", "é", "a;b", "../x"])
def test_a_request_id_that_could_do_harm_is_replaced(site: Site, given: str) -> None:
    """Ours is used instead: in the answer, at the engine, in the observation."""
    status, answer, _ = site.gateway.post({}, x_request_id=given)
    assert status == 200
    assert re.fullmatch("[0-9a-f]{32}", answer["x-request-id"])
    assert site.engine.requests[-1].headers["x-request-id"] == answer["x-request-id"]
