"""Simulated users as a real process against a small real HTTP server that plays the gateway."""

import asyncio
import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from components.analyze_canary.logic import analyze
from components.analyze_canary.observations import ObservationReader
from components.analyze_canary.simulated_users import TrafficPlan
from components.analyze_canary.traffic import labels_path, observations_dir, simulated_users
from components.analyze_canary.users import TrafficError
from serving.contracts.canary_verdict import Decision
from serving.contracts.data_contract import DataRow, Message
from serving.contracts.observation import Label, Outcome, Side
from serving.contracts.registration import Deployment
from serving.contracts.release_spec import ReleaseBody, SimulatedTraffic
from serving.data_rows import write_rows
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.canary_traffic import RELEASE_ID, FakeSpool, observation
from tests.fakes.releases import make_release

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
TRAFFIC = SimulatedTraffic(rate_per_second=150, users=400, streaming_fraction=0.5, multi_turn_fraction=0.5)


def rows() -> list[DataRow]:
    """Questions whose right answer names the last turn."""
    made = []
    for number in range(20):
        one = [Message(role="user", content=f"question {number}")]
        again = [*one, Message(role="assistant", content="An answer."), Message(role="user", content=f"more {number}")]
        made.append(DataRow(id=f"one-{number}", intent="fees", messages=tuple(one), answer=f"On question {number}."))
        made.append(DataRow(id=f"two-{number}", intent="fees", messages=tuple(again), answer=f"On more {number}."))
    return made


class Gateway:
    """Answers by the last user turn, or by the first one on a broken candidate, and writes observations."""

    def __init__(self, spool: FakeSpool) -> None:
        self.spool = spool
        self.weight = 0
        self.broken = False
        self.delay_seconds = 0.0
        self.fail = False
        self.asks_for_credential = False
        self.sides: dict[str, set[Side]] = {}
        self.requests: list[dict] = []

    def side(self, user: str) -> Side:
        bucket = int(hashlib.sha256(user.encode()).hexdigest(), 16) % 100
        if bucket < self.weight:
            return Side.CANDIDATE
        return Side.BASELINE if bucket < 2 * self.weight else Side.STABLE

    async def answer(self, request: web.Request) -> web.StreamResponse:
        started = time.time()
        if self.asks_for_credential:
            return web.json_response({"error": {"message": "no"}}, status=401)
        body, user = await request.json(), request.headers["x-nexus-user"]
        side = self.side(user)
        self.requests.append({**body, "user": user})
        number = len(self.requests)
        await asyncio.sleep(self.delay_seconds)
        turns = [message["content"] for message in body["messages"] if message["role"] == "user"]
        text = f"On {turns[0] if self.broken and side is Side.CANDIDATE else turns[-1]}."
        headers = {"x-request-id": f"request-{number}"}
        failed = self.fail
        elapsed = 1000 * (time.time() - started)
        self.spool.write(
            observation(
                number,
                side,
                ts=started,
                user_hash=user,
                streamed=body["stream"] and not failed,
                outcome=Outcome.UPSTREAM_ERROR if failed else Outcome.OK,
                total_ms=elapsed,
            )
        )
        if failed:
            return web.json_response({"error": {"message": "no"}}, status=502, headers=headers)
        if not body["stream"]:
            return web.json_response({"choices": [{"message": {"content": text}}]}, headers=headers)
        response = web.StreamResponse(headers={**headers, "content-type": "text/event-stream"})
        await response.prepare(request)
        for part in (text[:4], text[4:]):
            await response.write(b"data: " + json.dumps({"choices": [{"delta": {"content": part}}]}).encode() + b"\n\n")
        await response.write(b'data: {"choices": []}\n\ndata: [DONE]\n\n')
        return response


@contextmanager
def serve(gateway: Gateway):
    """Serve on a free loopback port from a thread."""
    loop = asyncio.new_event_loop()
    started: dict[str, str] = {}
    ready = threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", gateway.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield started["url"]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@pytest.fixture
def settings(tmp_path):
    return NexusSettings(home=tmp_path)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "live.jsonl", rows())
    return folder


@pytest.fixture
def gateway(settings):
    return Gateway(FakeSpool(settings.spool_dir))


def release(traffic=TRAFFIC):
    body = make_release(1).spec.model_dump(mode="json")
    body["canary"] = {
        "steps": [{"weight_percent": w, "min_candidate_requests": n} for w, n in ((5, 10), (25, 40), (50, 40))],
        "metrics": [
            {"name": "error", "kind": "rate", "margin": 0.1},
            {"name": "exact_match", "kind": "rate", "margin": 0.15},
            {"name": "total_ms", "kind": "quantile", "quantile": 0.5, "max_ratio": 3.0, "required": False},
        ],
        "max_seconds": 40,
        "traffic": traffic.model_dump(mode="json"),
    }  # fmt: skip
    return make_release(1).model_copy(update={"spec": ReleaseBody.model_validate(body), "release_id": RELEASE_ID})


def labels(settings) -> list[Label]:
    path = labels_path(settings, RELEASE_ID)
    return [Label.model_validate_json(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_answers_are_labelled_and_users_keep_their_id(settings, data, gateway):
    """Requests follow the plan and every label joins its observation; only the broken side has wrong answers."""
    with serve(gateway) as url:
        gateway.weight, gateway.broken = 50, True
        with simulated_users(release(), TRAFFIC, data, settings=settings, gateway_url=url) as traffic:
            wait_for(lambda: len(labels(settings)) >= 150)
            traffic.check()
            wait_for(lambda: traffic.counts().answered >= 100)
    found = labels(settings)
    asked = gateway.requests
    assert {request["temperature"] for request in asked} == {0}
    assert {request["max_tokens"] for request in asked} == {64}
    assert 0.3 < sum(request["stream"] for request in asked) / len(asked) < 0.7
    assert max(Counter(request["user"] for request in asked).values()) > 1
    wrong = sum(not one.exact_match for one in found) / len(found)
    assert 0.1 < wrong < 0.4
    assert not any(one.format_failure or one.refusal for one in found)
    reader = ObservationReader(observations_dir(settings), labels_path(settings, RELEASE_ID), RELEASE_ID)
    joined = [one for one in reader.poll(time.time() + 100) if one.label is not None]
    wrong_sides = {one.observation.side for one in joined if one.label and not one.label.exact_match}
    assert wrong_sides == {Side.CANDIDATE}
    assert len(joined) >= 150


def test_slow_answers_do_not_slow_the_arrivals(settings, data, gateway):
    """With answers that take seconds, requests go on until the limit is reached, then are dropped and counted."""
    gateway.delay_seconds = 3.0
    with (
        serve(gateway) as url,
        simulated_users(release(), TRAFFIC, data, settings=settings, gateway_url=url) as traffic,
    ):
        wait_for(lambda: traffic.counts().dropped > 0)
        assert traffic.counts().sent >= 256
        assert traffic.process.poll() is None


def test_failed_requests_get_no_label(settings, data, gateway):
    """A request that failed is counted as failed and leaves no label behind."""
    gateway.fail = True
    with (
        serve(gateway) as url,
        simulated_users(release(), TRAFFIC, data, settings=settings, gateway_url=url) as traffic,
    ):
        wait_for(lambda: traffic.counts().failed >= 20)
    assert labels(settings) == []


def test_a_gateway_that_asks_for_a_credential_ends_the_canary_at_once(settings, data, gateway):
    """Simulated users have none, so the error says why and what to do instead of waiting for answers in vain."""
    gateway.asks_for_credential = True
    with (
        serve(gateway) as url,
        simulated_users(release(), TRAFFIC, data, settings=settings, gateway_url=url) as traffic,
    ):
        wait_for(lambda: traffic.process.poll() is not None)
        with pytest.raises(TrafficError, match="asks for a credential"):
            traffic.check()


def test_users_end_with_the_body_and_with_its_errors(settings, data, gateway):
    """An error inside the block passes out of it, and the users' process has ended by then."""
    with serve(gateway) as url:
        running = []

        def fail() -> None:
            with simulated_users(release(), TRAFFIC, data, settings=settings, gateway_url=url) as traffic:
                running.append(traffic.process)
                wait_for(lambda: gateway.requests)
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert running[0].poll() is not None


def test_users_die_with_the_process_that_started_them(settings, data, gateway, tmp_path):
    """A SIGKILL to the parent process ends the users' process too."""
    script = (
        "import os, subprocess, sys, time\n"
        "from components.analyze_canary.simulated_users import TrafficPlan\n"
        "plan = TrafficPlan.model_validate_json(sys.argv[1]).model_copy(update={'parent_pid': os.getpid()})\n"
        "module = 'components.analyze_canary.simulated_users'\n"
        "child = subprocess.Popen([sys.executable, '-m', module, plan.model_dump_json()])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with serve(gateway) as url:
        plan = TrafficPlan(
            gateway_url=url,
            model="support-assistant",
            data=data / "live.jsonl",
            labels=labels_path(settings, RELEASE_ID),
            counts=tmp_path / "counts.json",
            traffic=TRAFFIC,
            seconds=60,
            parent_pid=1,
        )
        parent = subprocess.Popen([sys.executable, "-c", script, plan.model_dump_json()], stdout=subprocess.PIPE)
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            wait_for(lambda: gateway.requests)
        finally:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            parent.stdout.close()
        wait_for(lambda: not is_alive(child))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_without_live_data_the_error_names_the_file_and_the_log(settings, tmp_path):
    """Without the live data the process ends, and the check raises an error that names the missing file and the log."""
    with simulated_users(
        release(), TRAFFIC, tmp_path / "none", settings=settings, gateway_url="http://127.0.0.1:9"
    ) as traffic:
        wait_for(lambda: traffic.process.poll() is not None)
        with pytest.raises(TrafficError, match=rf"none/live\.jsonl.* \(see {re.escape(str(traffic.log))}\)$"):
            traffic.check()
        assert "live.jsonl" in traffic.log.read_text()


@pytest.mark.parametrize("url", ["http://192.0.2.1:80", "https://127.0.0.1", "http://example.com"])
def test_only_the_loopback_is_ever_loaded(settings, data, url):
    """A gateway address that is not plain HTTP on the loopback is refused before any user starts."""
    with (
        pytest.raises(ValueError, match="loopback"),
        simulated_users(release(), TRAFFIC, data, settings=settings, gateway_url=url),
    ):
        pass


@pytest.mark.parametrize(("broken", "decision"), [(False, Decision.PROMOTE), (True, Decision.ROLL_BACK)])
def test_a_canary_over_real_http_ends_in_the_right_verdict(settings, data, gateway, broken, decision):
    """A good candidate is promoted at 50 %, and a broken one is rolled back before that weight."""
    gateway.broken = broken

    def shift(weight: int) -> str:
        gateway.weight = weight
        return f"commit-{weight}"

    deployment = Deployment(
        model="support-assistant",
        release_id=RELEASE_ID,
        candidate_service="candidate",
        stable_service="stable",
        baseline_service="baseline",
        commit="c" * 40,
        ready_seconds=1,
    )
    with serve(gateway) as url:
        verdict = analyze(
            release(),
            deployment,
            settings=settings,
            record=ReleaseRecord(settings.home / "record"),
            shift=shift,
            data=data,
            gateway_url=url,
        )
    assert verdict.decision is decision, verdict.reason
    assert verdict.max_weight_percent in ({5, 25} if broken else {50})
    assert 0 < verdict.users_on_candidate < verdict.users_total
