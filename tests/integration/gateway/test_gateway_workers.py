from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.contracts import metric_names as names
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import ADMIN_TOKEN, KeyedLoad
from tests.fakes.gateway_process import POLICY, GatewayProcess, free_port
from tests.fakes.waiting import wait_until
from tests.fakes.workers import workers_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
Build = Callable[..., GatewayProcess]


def worker(gateway: GatewayProcess, index: int) -> int:
    """Return the process that is a worker's newest; 0 while there is none."""
    commands = {pid: command_of(pid) for pid in workers_of(gateway)}
    found = [pid for pid, words in commands.items() if "--worker" in words and words[-3] == str(index)]
    return max(found, default=0)


def command_of(pid: int) -> list[str]:
    """Return a process's command; one that is not its own yet, or no more, is no worker's."""
    return Path(f"/proc/{pid}/cmdline").read_text().removesuffix("\0").split("\0")


def get(gateway: GatewayProcess, path: str) -> tuple[int, str]:
    """Ask whichever worker answers: where one hangs, connections to it do, too."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=3)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except TimeoutError:
            continue
        finally:
            connection.close()


def series(gateway: GatewayProcess, name: str) -> dict[str, float]:
    """Return a metric by worker, empty for one without such a label, summed over other labels."""
    found: dict[str, float] = defaultdict(float)
    families: list[Any] = list(text_string_to_metric_families(get(gateway, "/metrics")[1]))
    for sample in (sample for family in families for sample in family.samples):
        if sample.name == name:
            found[sample.labels.get("worker", "")] += sample.value
    return dict(found)


def health(gateway: GatewayProcess) -> tuple[int, Any]:
    status, text = get(gateway, "/health/ready")
    return status, json.loads(text)


def all_scraped(gateway: GatewayProcess) -> bool:
    return series(gateway, names.GATEWAY_WORKERS_SCRAPED) == {"": 2}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def serving(gateway: GatewayProcess, pids: list[int]) -> bool:
    """Whether as many gateways as there are workers have put a snapshot in place since the log began."""
    return gateway.log.read_text().count("snapshot replaced") >= len(pids)


@pytest.fixture
def admin_port() -> int:
    return free_port()


@pytest.fixture
def administered(build: Build, admin_port: int) -> Iterator[GatewayProcess]:
    """Two workers, the first with an admin API, without a Redis."""
    gateway = build(WORKERS="2", ADMIN_PORT=str(admin_port), ADMIN_TOKEN=ADMIN_TOKEN).start()
    wait_until(lambda: all_scraped(gateway), seconds=30)
    yield gateway
    gateway.stop()


def admin(port: int, method: str, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, f"/admin/v1{path}", headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except ConnectionError:
        return 0, None
    finally:
        connection.close()


@pytest.fixture
def pair(build: Build) -> Iterator[GatewayProcess]:
    gateway = build(WORKERS="2").start()
    wait_until(lambda: serving(gateway, [1, 2]), seconds=30)
    yield gateway
    pids = workers_of(gateway) if gateway.process is not None and gateway.process.poll() is None else []
    gateway.stop()
    assert not [pid for pid in pids if alive(pid)]


def test_a_rolling_restart_under_load_fails_no_request(pair: GatewayProcess) -> None:
    """SIGHUP replaces both workers while eight clients ask: every answer is a 200."""
    before = workers_of(pair)
    with KeyedLoad(pair, {"messages": []}) as load:
        assert pair.process is not None
        pair.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "all workers are replaced" in pair.log.read_text(), seconds=40)
        time.sleep(0.2)
    assert set(load.outcomes) == {"200"}
    assert not set(before) & set(workers_of(pair))


def test_a_killed_worker_costs_only_its_own_requests(pair: GatewayProcess) -> None:
    """`kill -9` of one of two workers fails at most what it had in flight, and it is replaced."""
    victim = workers_of(pair)[0]
    with KeyedLoad(pair, {"messages": []}, clients=8) as load:
        wait_until(lambda: load.outcomes["200"] > 50)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(workers_of(pair)) == 2 and victim not in workers_of(pair))
        wait_until(lambda: serving(pair, [1, 2, 3]), seconds=30)
        time.sleep(0.2)
    broken = load.outcomes["RemoteDisconnected"] + load.outcomes["ConnectionResetError"]
    assert broken == sum(load.outcomes.values()) - load.outcomes["200"], load.outcomes  # no answer says an error
    assert broken <= 8


def test_the_admin_api_comes_back_with_its_worker(administered: GatewayProcess, admin_port: int) -> None:
    """`kill -9` of the worker that serves the admin API fails its own requests alone, and its successor serves it."""
    assert admin(admin_port, "GET", "/snapshot")[0] == 200
    victim = worker(administered, 0)
    with KeyedLoad(administered, {"messages": []}, clients=8) as load:
        wait_until(lambda: load.outcomes["200"] > 50)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: worker(administered, 0) not in {0, victim})
        wait_until(lambda: admin(admin_port, "GET", "/snapshot")[0] == 200, seconds=30)
        before = load.outcomes["200"]
        wait_until(lambda: load.outcomes["200"] > before + 50)
    failed = sum(load.outcomes.values()) - load.outcomes["200"]
    assert failed <= 8, load.outcomes
    assert all_scraped(administered)


def test_a_snapshot_says_whose_it_is(administered: GatewayProcess, admin_port: int) -> None:
    """Breakers and queues are one worker's: the snapshot names it, and how many there are."""
    _, snapshot = admin(admin_port, "GET", "/snapshot")
    assert (snapshot["worker"], snapshot["workers"]) == (0, 2)


def test_workers_without_redis_cannot_drain(administered: GatewayProcess, admin_port: int) -> None:
    """A drain that only one worker would keep to is refused, and says what is missing."""
    status, answer = admin(admin_port, "POST", "/endpoints/m-stable/drain")
    assert status == 503
    assert "NEXUS_GATEWAY_REDIS_URL" in answer["error"]["message"]
    endpoints = [side["endpoints"] for side in admin(admin_port, "GET", "/snapshot")[1]["routes"][0]["sides"]]
    assert not any(endpoint["drained"] for endpoint in endpoints[0])


def test_workers_without_redis_promise_no_idempotency(pair: GatewayProcess, engine: FakeUpstream) -> None:
    """A repeat could reach another worker and be carried out again: a request with a key is refused, none is sent."""
    status, _, body = pair.post({}, Idempotency_Key="once")
    assert (status, json.loads(body)["error"]["code"]) == (503, "not_ready")
    assert "NEXUS_GATEWAY_REDIS_URL" in json.loads(body)["error"]["message"]
    assert engine.requests == []
    assert pair.post({})[0] == 200


def test_workers_find_modules_as_their_parent_does(build: Build) -> None:
    """`python -P`, which the compiled gateway needs, goes for every worker."""
    gateway = build(WORKERS="2")
    gateway.command = [gateway.command[0], "-P", *gateway.command[1:]]
    gateway.start()
    assert all(command_of(pid)[1] == "-P" for pid in workers_of(gateway))


def test_workers_end_with_their_parent(pair: GatewayProcess) -> None:
    """When the parent is killed, its workers stop by themselves and the port is free."""
    pids = workers_of(pair)
    assert pair.process is not None
    pair.process.kill()
    pair.process.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), seconds=20)


def test_a_worker_that_cannot_start_leaves_the_old_ones(pair: GatewayProcess) -> None:
    """A rolling restart whose first new worker ends at once keeps every old worker and says so."""
    before = workers_of(pair)
    key = pair.spool / "user-hash.key"
    pair.spool.rename(pair.spool.with_name("away"))
    pair.spool.write_text("a file where a folder has to be")
    assert pair.process is not None
    pair.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old ones stay" in pair.log.read_text(), seconds=40)
    assert workers_of(pair) == before
    assert pair.post({})[0] == 200
    assert not key.exists()


def test_a_scrape_shows_the_whole_gateway(pair: GatewayProcess) -> None:
    """Whichever worker is scraped, what both have answered is there, each with its number."""
    wait_until(lambda: all_scraped(pair))
    with KeyedLoad(pair, {"messages": []}, clients=16) as load:
        wait_until(lambda: load.outcomes["200"] > 200)
    scrapes = [series(pair, names.GATEWAY_REQUESTS) for _ in range(10)]
    assert [sum(scrape.values()) for scrape in scrapes] == [load.outcomes["200"]] * 10
    assert all(scrape.keys() == {"0", "1"} for scrape in scrapes)
    assert series(pair, names.GATEWAY_WORKERS) == {"": 2}


def test_a_hung_worker_is_seen(pair: GatewayProcess) -> None:
    """A worker that does not answer is missing from the count of those scraped, and named; then all is as it was."""
    wait_until(lambda: all_scraped(pair))
    victim = worker(pair, 1)
    os.kill(victim, signal.SIGSTOP)
    try:
        assert series(pair, names.GATEWAY_WORKERS_SCRAPED) == {"": 1}
        assert series(pair, names.GATEWAY_SNAPSHOT_INFO) == {"0": 1}
        status, body = health(pair)
        assert (status, body["revision"]) == (200, "commit0001")
        assert body["reasons"] == ["worker 1 does not answer the others: it is starting, hung or busy"]
    finally:
        os.kill(victim, signal.SIGCONT)
    wait_until(lambda: all_scraped(pair))
    assert health(pair)[1]["reasons"] == []


def test_counters_of_the_living_never_fall(pair: GatewayProcess) -> None:
    """While a worker is killed and replaced the other's count only grows; the new one's begins again in its series."""
    wait_until(lambda: all_scraped(pair))
    seen: list[dict[str, float]] = []
    victim = worker(pair, 1)
    with KeyedLoad(pair, {"messages": []}, clients=16) as load:
        wait_until(lambda: load.outcomes["200"] > 500)
        seen.append(series(pair, names.GATEWAY_REQUESTS))
        os.kill(victim, signal.SIGKILL)
        while len(seen) < 5 or "1" not in seen[-1]:
            seen.append(series(pair, names.GATEWAY_REQUESTS))
    first = [scrape["0"] for scrape in seen if "0" in scrape]
    assert first == sorted(first)
    assert seen[0].keys() == {"0", "1"}
    assert seen[-1]["1"] < seen[0]["1"]


def test_a_worker_that_ends_is_scraped_until_its_last_request_is_done(pair: GatewayProcess) -> None:
    """In a rolling restart a scrape has what the old worker still does, until all of it is done."""
    pair.policy = POLICY.replace("first_byte_seconds: 5", "first_byte_seconds: 60").replace("20}", "120}")
    name = pair.commit({"stable": 100})
    wait_until(lambda: all_scraped(pair) and health(pair)[1]["revision"] == name)
    body = json.dumps({"model": "m", "fake": {"pieces": [], "end": "hang"}})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    asks = [socket.create_connection(("127.0.0.1", pair.port)) for _ in range(16)]
    for ask in asks:
        ask.sendall(f"{head}{body}".encode())
    wait_until(lambda: sum(series(pair, names.GATEWAY_REQUESTS_IN_FLIGHT).values()) == 16)
    assert pair.process is not None
    pair.process.send_signal(signal.SIGHUP)
    wait_until(lambda: serving(pair, [1, 2, 3, 4, 5]), seconds=30)  # two, again by the new policy, and a new one
    assert sum(series(pair, names.GATEWAY_REQUESTS_IN_FLIGHT).values()) == 16
    for ask in asks:
        ask.close()
    wait_until(lambda: "all workers are replaced" in pair.log.read_text(), seconds=40)
    wait_until(lambda: series(pair, names.GATEWAY_REQUESTS_IN_FLIGHT) == {"0": 0, "1": 0})


def test_no_command_line_tells_the_sockets_name(pair: GatewayProcess) -> None:
    """Every user of the machine reads command lines, and could take a name before the worker does."""
    wait_until(lambda: all_scraped(pair))
    words = [word for index in (0, 1) for word in command_of(worker(pair, index))]
    assert "--worker" in words
    assert not [word for word in words if "nexus-gateway" in word]


def test_a_revision_is_named_when_all_answer_by_it(pair: GatewayProcess) -> None:
    """Whoever is asked never names a commit that only some answer by."""
    wait_until(lambda: all_scraped(pair))
    for _ in range(5):
        name = pair.commit({"stable": 100})
        wait_until(lambda: health(pair)[1]["revision"] == name)  # noqa: B023 - waited for at once
        assert series(pair, names.GATEWAY_SNAPSHOT_INFO) == {"0": 1, "1": 1}
        lines = get(pair, "/metrics")[1].splitlines()
        shown = [line for line in lines if line.startswith(names.GATEWAY_SNAPSHOT_INFO)]
        assert all(name in line for line in shown)
