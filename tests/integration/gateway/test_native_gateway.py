"""The compiled gateway is the same program: everything that a request passes through, once, on extension modules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.environments.native_gateway import MODULES, build
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import GatewayProcess, route
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native") / "packages"
    build(folder)
    return folder


@pytest.fixture
def gateway(native: Path, tmp_path: Path, engine: FakeUpstream) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path, engine)
    process.command = ["env", "PYTHONSAFEPATH=1", f"PYTHONPATH={native}", *process.command]
    yield process.start()
    process.stop()


def test_every_listed_module_is_compiled(native: Path) -> None:
    """Each module of the list loads as an extension module, and so does nothing else by accident."""
    names = [module.removesuffix(".py").replace("/", ".") for module in MODULES]
    code = f"import importlib\nfor name in {names!r}: print(importlib.import_module(name).__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(native)}, capture_output=True, text=True, check=True
    )
    files = done.stdout.split()
    assert len(files) == len(MODULES)
    assert [file for file in files if not (file.startswith(str(native)) and file.endswith(".so"))] == []


def test_answers_streams_errors_and_observations_are_the_same(gateway: GatewayProcess) -> None:
    """Whole answers, streams, engine failures, wrong requests and reloads behave, and all are observed."""
    assert gateway.post({"messages": []}, x_request_id="one")[1]["x-request-id"] == "one"
    status, headers, body = gateway.post({"stream": True, "max_tokens": 3, "messages": []})
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert body.endswith(b"data: [DONE]\n\n")
    assert gateway.post({"fake": {"pieces": [], "end": "reset"}})[0] == 502
    assert gateway.call("POST", "/v1/chat/completions", "{")[0] == 400
    assert gateway.call("POST", "/v1/messages", '{"model": "m", "max_tokens": 1}')[0] == 200
    assert gateway.post({}, idempotency_key="k")[0] == 200
    assert gateway.post({}, idempotency_key="k")[1]["idempotency-replayed"] == "true"
    gateway.commit({"stable": 50, "candidate": 50}, route({"stable": 50, "candidate": 50}))
    wait_until(lambda: gateway.get("/health/ready")[2].count(b"commit0002") == 1)
    assert all(gateway.post({}, x_nexus_user=f"user-{number}")[0] == 200 for number in range(20))
    wait_until(lambda: len(gateway.observations()) >= 26)
    assert {line["side"] for line in gateway.observations()} >= {"stable", "candidate"}
