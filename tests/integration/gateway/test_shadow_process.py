"""Shadow traffic through a real gateway: copies beside answers, never in their way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from serving.contracts import metric_names as names
from tests.fakes.fake_upstream import STREAM_HEAD, FakeUpstream, chunk, event, whole
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy, route_text
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

RULE = {"name": "key", "scope": "key", "tokens_per_day": 100_000_000, "concurrent_requests": 100}
SHADOW = {"model": "next", "fraction": 1.0, "match": {"headers": {"x-shadow": "yes"}}}


class Site(NamedTuple):
    gateway: FullGateway
    shadow: FakeUpstream

    def copies(self, outcome: str) -> float:
        lines = self.gateway.get("/metrics")[2].decode().splitlines()
        wanted = f'outcome="{outcome}"'
        found = [line for line in lines if line.startswith(names.GATEWAY_SHADOWS + "{") and wanted in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def pairs(self) -> list[dict[str, Any]]:
        folder = self.gateway.spool / "shadows"
        return [json.loads(line) for path in sorted(folder.glob("*")) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    engine, shadow = FakeUpstream().start_in_thread(), FakeUpstream(obedient=False).start_in_thread()
    services = {"m-stable": engine.url, "next-stable": shadow.url}
    with (
        RedisProcess() as redis,
        full_gateway(
            tmp_path_factory.mktemp("gateway"),
            engine,
            redis,
            route_text("m", shadow=SHADOW),
            routes={"next": route_text("next")},
            services=services,
            settings={"MAX_ANSWER_BYTES": "65536"},
            **keyed_policy(RULE, timeouts={"first_byte_seconds": 1, "between_bytes_seconds": 1, "total_seconds": 2}),
        ) as gateway,
    ):
        yield Site(gateway, shadow)
    engine.stop_thread()
    shadow.stop_thread()


@pytest.mark.parametrize("stream", [False, True])
def test_both_answers_are_stored_side_by_side(site: Site, stream: bool) -> None:
    """The copy has the shadow's model name and no credential; the pair has both answers whole and one request id."""
    before, asked = len(site.pairs()), len(site.shadow.requests)
    status, headers, body = site.gateway.post({"max_tokens": 3, "stream": stream, "x": [1.50]}, x_shadow="yes")
    assert status == 200
    wait_until(lambda: len(site.pairs()) == before + 1)
    pair = site.pairs()[-1]
    assert (pair["request_id"], pair["model"], pair["shadow_model"]) == (headers["x-request-id"], "m", "next")
    assert pair["answer"] == body.decode()
    assert pair["shadow_status"] == pair["status"] == 200
    assert ("[DONE]" in pair["shadow_answer"]) is stream
    copy = site.shadow.requests[asked]
    assert b'"model": "next"' in copy.body
    assert "authorization" not in copy.headers
    assert all(path.stat().st_mode & 0o007 == 0 for path in (site.gateway.spool / "shadows").glob("*"))


def test_only_matching_requests_and_only_good_answers_are_copied(site: Site) -> None:
    """No copy without the header, and none of a request whose primary failed or was refused."""
    asked = len(site.shadow.requests)
    site.gateway.post({})
    site.gateway.post({"fake": {"pieces": [whole("{}", 500)]}}, x_shadow="yes")
    site.gateway.post({"fake": {"pieces": [whole("{}", 400)]}}, x_shadow="yes")
    broken = {"pieces": [STREAM_HEAD, chunk(event("a"))], "end": "reset"}
    site.gateway.post({"stream": True, "fake": broken}, x_shadow="yes")
    time.sleep(0.2)
    assert len(site.shadow.requests) == asked


@pytest.mark.parametrize("name", ["reset", "hang", "oversized", "no-http"])
def test_a_shadow_that_fails_is_counted_and_changes_nothing(site: Site, name: str) -> None:
    """Whatever the shadow does, the primary is answered as fast as ever, billed once, and observed once."""
    site.shadow.script = {
        "reset": {"pieces": [], "end": "reset"},
        "hang": {"pieces": [], "end": "hang"},
        "oversized": {"pieces": [whole("x" * 600_000)]},
        "no-http": {"pieces": ["nonsense\r\n\r\n"]},
    }[name]
    try:
        failed, spent = site.copies("failed"), site.gateway.spent()["requests"]
        begun = time.monotonic()
        assert all(site.gateway.post({}, x_shadow="yes")[0] == 200 for _ in range(5))
        assert time.monotonic() - begun < 1  # one stalled shadow takes a second
        wait_until(lambda: site.copies("failed") == failed + 5)
        wait_until(lambda: site.gateway.spent()["requests"] == spent + 5)
    finally:
        site.shadow.script = None


def test_copies_are_bounded_and_dropped_ones_counted(site: Site) -> None:
    """A shadow that hangs holds a bounded number of copies; the others are dropped and counted, all are answered."""
    site.shadow.script = {"pieces": [], "end": "hang"}
    try:
        dropped, asked = site.copies("dropped"), len(site.shadow.requests)
        assert all(site.gateway.post({}, x_shadow="yes")[0] == 200 for _ in range(60))
        assert site.copies("dropped") - dropped >= 10
        assert len(site.shadow.requests) - asked <= 50
    finally:
        site.shadow.script = None
    before = len(site.pairs())
    wait_until(lambda: site.gateway.post({}, x_shadow="yes")[0] == 200 and len(site.pairs()) > before)
