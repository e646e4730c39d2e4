from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from collections import Counter

import pytest

from serving.contracts import metric_names as names
from tests.fakes.gateway_process import GatewayProcess, route

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def readiness(gateway: GatewayProcess) -> dict[str, object]:
    document: dict[str, object] = json.loads(gateway.get("/health/ready")[2])
    return document


def until_revision(gateway: GatewayProcess, revision: str) -> None:
    end = time.monotonic() + 15
    while readiness(gateway)["revision"] != revision:
        assert time.monotonic() < end, readiness(gateway)
        time.sleep(0.02)


class Load:
    """A few clients that ask all the time, streaming and not, and keep what went wrong."""

    def __init__(self, gateway: GatewayProcess, clients: int = 3) -> None:
        self.gateway, self.stop = gateway, threading.Event()
        self.answered, self.wrong = Counter[str](), list[str]()
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=15)
        turn = 0
        while not self.stop.is_set():
            turn += 1
            stream = turn % 2 == 0
            body = json.dumps({"model": "m", "stream": stream, "max_tokens": 3, "user": f"user{turn % 50}"})
            try:
                connection.request("POST", "/v1/chat/completions", body)
                answer = connection.getresponse()
                text = answer.read()
                whole = text.endswith(b"[DONE]\n\n") if stream else b'"usage"' in text
                if answer.status != 200 or not whole:
                    self.wrong.append(f"{answer.status}: {text[:200]!r}")
            except (OSError, http.client.HTTPException) as exc:
                self.wrong.append(repr(exc))
                connection.close()
            self.answered[str(number)] += 1
            time.sleep(0.002)
        connection.close()

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(20)


def test_a_hundred_swaps_under_load_fail_nothing(gateway: GatewayProcess) -> None:
    """While a hundred commits swap in and old folders vanish, no request fails and the last revision is shown."""
    with Load(gateway) as load:
        name = ""
        for number in range(100):
            weight = (5, 25, 50)[number % 3]
            old = (gateway.root / "current").resolve()
            name = gateway.commit({"stable": 100 - 2 * weight, "baseline": weight, "candidate": weight})
            shutil.rmtree(old)
            time.sleep(0.03)
        until_revision(gateway, name)
    assert load.wrong == []
    assert sum(load.answered.values()) > 50
    assert gateway.metric(names.GATEWAY_RELOAD_FAILURES) == 0
    assert gateway.metric(names.GATEWAY_RELOADS) > 10
    assert readiness(gateway) == {"ready": True, "reasons": [], "revision": name, "unapplied": []}


def test_a_bad_commit_is_shown_and_the_last_good_one_answers(gateway: GatewayProcess) -> None:
    """A refused commit is named by readiness and counted once; requests are answered, and a good commit replaces it."""
    bad = route({"stable": 90})
    gateway.commit({}, bad)
    end = time.monotonic() + 15
    while not (now := readiness(gateway))["reasons"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert (now["ready"], now["revision"]) == (True, "commit0001")
    assert "weights must sum to 100; got 90" in str(now["reasons"])
    assert gateway.post({})[0] == 200
    assert gateway.metric(names.GATEWAY_RELOAD_FAILURES) == 1
    until_revision(gateway, gateway.commit({"stable": 100}))


def test_users_stick_to_their_side_and_shares_follow_the_weights(gateway: GatewayProcess) -> None:
    """Every user stays on one side, and each side's share is within four standard deviations of its weight."""
    weights = {"stable": 50, "baseline": 25, "candidate": 25}
    until_revision(gateway, gateway.commit(weights))
    for _ in range(2):
        for number in range(150):
            assert gateway.post({}, x_nexus_user=f"user{number}")[0] == 200
    gateway.stop()
    sides: dict[str, set[str]] = {}
    for line in gateway.observations():
        sides.setdefault(line["user_hash"], set()).add(line["side"])
    assert len(sides) == 150
    assert all(len(found) == 1 for found in sides.values())
    shares = Counter(side for found in sides.values() for side in found)
    assert shares.keys() == weights.keys()
    for side, weight in weights.items():
        share = weight / 100
        assert abs(shares[side] / 150 - share) < 4 * (share * (1 - share) / 150) ** 0.5, side


def test_a_side_that_is_not_ready_is_left_out_and_counted(gateway: GatewayProcess) -> None:
    """Users of a side that is not ready are answered by the stable one and counted as diverted."""
    until_revision(gateway, gateway.commit({"stable": 50, "candidate": 50}))
    endpoint = {"url": gateway.engine.url, "ready": True}
    gateway.endpoints({"m-stable": endpoint, "m-candidate": endpoint | {"ready": False}})
    end = time.monotonic() + 15
    while not readiness(gateway)["reasons"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    for number in range(40):
        assert gateway.post({}, x_nexus_user=f"user{number}")[0] == 200
    assert 5 < gateway.metric(names.GATEWAY_SPLIT_DIVERTED) < 35
    gateway.stop()
    assert {line["side"] for line in gateway.observations()} == {"stable"}


def test_no_ready_service_is_a_503_with_retry_after_and_recovers(gateway: GatewayProcess) -> None:
    """Without a ready service requests get 503 and a Retry-After; they succeed again once one is listed."""
    gateway.endpoints({})
    end = time.monotonic() + 15
    while (answer := gateway.post({}))[0] == 200:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert (answer[0], answer[1]["retry-after"]) == (503, "1")
    gateway.endpoints({"m-stable": {"url": gateway.engine.url, "ready": True}})
    while gateway.post({})[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.02)
