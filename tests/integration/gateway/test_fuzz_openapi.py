"""Schemathesis over the documents that the real gateway and its admin port serve: no 5xx, no hang, proper errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.fakes.fake_upstream import FakeUpstream, whole
from tests.fakes.full_gateway import ADMIN_TOKEN, FullGateway, full_gateway, keyed_policy
from tests.fakes.redis_process import RedisProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
some = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullGateway]:
    engine = FakeUpstream({"pieces": [whole('{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}')]})
    engine.start_in_thread()
    policy = keyed_policy({"name": "k", "scope": "key", "tokens_per_day": 10**12})
    with RedisProcess() as redis, full_gateway(tmp_path_factory.mktemp("g"), engine, redis, **policy) as made:
        yield made
    engine.stop_thread()


def fuzz(gateway: FullGateway, port: int, authorization: str) -> int:
    """Call every operation of a served document with what it allows and what it does not; return how many calls."""
    headers = {"authorization": authorization}
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json", headers=headers)
    calls = 0

    def check(case: schemathesis.Case) -> None:
        nonlocal calls
        calls += 1
        answer = case.call(headers=headers, timeout=10)
        assert answer.status_code < 500, (answer.status_code, answer.text[:500])
        if answer.status_code >= 400 and case.method != "HEAD":
            assert answer.json()["error"]
            assert authorization[7:] not in answer.text

    for operation in schema.get_all_operations():
        for mode in GenerationMode:
            with suppress(Unsatisfiable):  # nothing can be wrong with a request without parameters

                def once(case: schemathesis.Case) -> None:  # a function takes settings only once
                    check(case)

                some(given(operation.ok().as_strategy(generation_mode=mode))(once))()
    return calls


def test_the_public_document_holds(gateway: FullGateway) -> None:
    """Whatever the document allows, and what it does not: an answer in time, and never the gateway's own failure."""
    assert fuzz(gateway, gateway.port, gateway.headers["authorization"]) > 100


def test_the_admin_document_holds(gateway: FullGateway) -> None:
    """The same for whoever has the admin token."""
    assert fuzz(gateway, gateway.admin_port, f"Bearer {ADMIN_TOKEN}") > 100


def test_nothing_failed_inside(gateway: FullGateway) -> None:
    """After all of it the log has no exception and the next request is answered."""
    text = gateway.log.read_text()
    assert '"exception"' not in text, text[text.index('"exception"') - 500 :][:3000]
    assert gateway.post({})[0] == 200
