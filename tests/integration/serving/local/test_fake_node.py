"""The local node with fake engines: every process is real, only the computing is not. Faults one after the other."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.contracts.node_status import NodeStatus, Phase, ServiceStatus
from serving.files import file_lock
from serving.gitops import GitOps
from serving.layout import route_path, service_path
from serving.local import node, ports, probe
from serving.local.daemons import core_env
from serving.local.errors import NodeError
from serving.local.processes import ProcessId, processes_of_home, spawn_detached
from serving.local.reconciler_client import ensure_reconciler, reconciler_runs
from serving.local.shutdown import model_lock_path
from serving.settings import NexusSettings
from tests.fakes.gateway_process import free_port
from tests.fakes.node_home import MODEL, commit_services, fake_settings, service_text, write_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
LIMIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusSettings]:
    made = fake_settings(tmp_path_factory.mktemp("node") / "home")
    try:
        node.up(made)
        yield made
    finally:
        node.down(made)
        assert processes_of_home(made.home) == []


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture(autouse=True)
def _clean(settings: NexusSettings) -> Iterator[None]:
    yield
    commit = commit_services(settings, {})
    node.wait_synced(settings, commit, (), LIMIT_SECONDS)
    eventually(lambda: not status_of(settings).services)


def eventually(check: Callable[[], Any], seconds: float = LIMIT_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found


def status_of(settings: NexusSettings) -> NodeStatus:
    found: NodeStatus = eventually(lambda: node.read_status(settings))
    return found


def service(settings: NexusSettings, name: str) -> ServiceStatus | None:
    return next((found for found in status_of(settings).services if found.name == name), None)


def ready(settings: NexusSettings, name: str) -> ServiceStatus | None:
    found = service(settings, name)
    return found if found is not None and found.phase is Phase.READY else None


def engines(settings: NexusSettings) -> list[int]:
    """Return the leaders of all engines that run for the home."""
    found = []
    for process in processes_of_home(settings.home):
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        if b"fake_engine.py" in line:
            found.append(process.pid)
    return found


def deploy(settings: NexusSettings, model: Path, *names: str, **engine: Any) -> NodeStatus:
    commit = commit_services(settings, {name: service_text(name, model, **engine) for name in names}, names)
    return node.wait_synced(settings, commit, names, LIMIT_SECONDS)


def test_services_follow_the_repository(settings: NexusSettings, model: Path) -> None:
    """A committed service answers through the gateway, and one taken out of the repository ends."""
    deploy(settings, model, "m-1", "m-2")
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "x"}}]}}'
    code, text = probe._exchange(f"http://127.0.0.1:{settings.gateway_port}", "POST", "/v1/chat/completions", body, 10)
    assert code == 200, text
    deploy(settings, model, "m-2")
    eventually(lambda: service(settings, "m-1") is None)
    assert len(engines(settings)) == 1


def test_draining_engine_finishes_its_requests(settings: NexusSettings, model: Path) -> None:
    """A request in flight when its service leaves the repository gets its whole answer."""
    found = deploy(settings, model, "m-1", arguments={"fake-tokens": 20, "fake-token-seconds": 0.1})
    url = found.services[0].url
    assert url is not None
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=20) as client:
        body = f'{{"model": "{MODEL}", "messages": [], "max_tokens": 20, "stream": true}}'.encode()
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert client.recv(10)
        commit_services(settings, {})
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"[DONE]" in answer
    eventually(lambda: engines(settings) == [])


def test_helper_of_a_killed_engine_ends_with_it(settings: NexusSettings, model: Path) -> None:
    """kill -9 of an engine leaves nothing of what it had started."""
    deploy(settings, model, "m-1", arguments={"fake-helper": True})
    leader = ready(settings, "m-1")
    assert leader is not None
    assert leader.pid is not None
    before = [process.pid for process in processes_of_home(settings.home) if os.getpgid(process.pid) == leader.pid]
    assert len(before) == 2
    os.kill(leader.pid, signal.SIGKILL)
    again = eventually(lambda: (found := ready(settings, "m-1")) and found.pid != leader.pid and found)
    assert again.pid is not None
    assert not any(ProcessId.of(pid) for pid in before)


def test_killed_engine_is_started_again(settings: NexusSettings, model: Path) -> None:
    """kill -9 of an engine: it is back, under a new process, once."""
    deploy(settings, model, "m-1")
    first = ready(settings, "m-1")
    assert first is not None
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: (found := ready(settings, "m-1")) and found.pid != first.pid)
    assert len(engines(settings)) == 1


def test_killed_reconciler_and_parent(settings: NexusSettings, model: Path) -> None:
    """kill -9 of reconciler and parent: engines run on, are taken over, and none is started twice."""
    deploy(settings, model, "m-1", "m-2")
    before = sorted(engines(settings))
    for pid in (reconciler_runs(settings), _parent(settings)):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert sorted(engines(settings)) == before
    node.up(settings)
    node.wait_synced(settings, _head(settings), ["m-1", "m-2"], LIMIT_SECONDS)
    assert sorted(engines(settings)) == before
    deploy(settings, model, "m-3")
    eventually(lambda: len(engines(settings)) == 1)


def test_reconciler_killed_while_engines_start(settings: NexusSettings, model: Path) -> None:
    """kill -9 at any moment of a start, parent included: the state converges and each engine runs once."""
    for round_number in range(3):
        names = [f"m-{round_number}{letter}" for letter in "ab"]
        commit = commit_services(
            settings, {name: service_text(name, model, arguments={"fake-delay-seconds": 0.3}) for name in names}
        )
        time.sleep(0.15 * (round_number + 1))
        for pid in (reconciler_runs(settings), _parent(settings) if round_number else None):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        node.wait_synced(settings, commit, names, LIMIT_SECONDS)
        eventually(lambda names=names: {found.name for found in status_of(settings).services} == set(names))
        assert len(engines(settings)) == 2


def test_killed_gateway_is_started_again(settings: NexusSettings) -> None:
    """kill -9 of the gateway: a new one answers, by the same revision."""
    pid = ports.owner_pid(settings.gateway_port)
    assert pid is not None
    revision = status_of(settings).gateway_revision
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: ports.owner_pid(settings.gateway_port) not in (None, pid))
    assert eventually(lambda: status_of(settings).gateway_revision) == revision


def test_broken_documents_are_refused(settings: NexusSettings, model: Path) -> None:
    """A broken service or route is refused with file and line; what was good stays, also for a new reconciler."""
    deploy(settings, model, "m-1")
    pid = engines(settings)
    files = {
        service_path(MODEL, "local", "m-1"): service_text("m-1", model).replace("storageUri", "storageUrl"),
        route_path(
            MODEL, "local"
        ): "apiVersion: nexus/v1alpha1\nkind: Route\nmetadata: {name: m}\nspec: {weights: 3}\n",
    }
    commit = GitOps.of(settings).commit(lambda _: files, "broken", {})
    assert commit is not None
    seen = node.wait_synced(settings, commit, ["m-1"], LIMIT_SECONDS)
    assert any("services/m-1.yaml:" in text and "storageUrl" in text for text in seen.problems), seen.problems
    assert any("routes/m.yaml:4" in text and "weights" in text for text in seen.problems)
    running = reconciler_runs(settings)
    assert running is not None
    os.kill(running, signal.SIGKILL)
    node.wait_synced(settings, commit, ["m-1"], LIMIT_SECONDS)
    assert engines(settings) == pid
    code, _ = probe.get(f"http://127.0.0.1:{settings.gateway_port}", "/v1/models", 5)
    assert code == 200


def test_unreadable_repository_stops_nothing(settings: NexusSettings, model: Path) -> None:
    """Without git nothing new is learnt, but what runs is kept running, also by a new reconciler."""
    deploy(settings, model, "m-1")
    running, head = reconciler_runs(settings), GitOps.of(settings).mirror / "HEAD"
    assert running is not None
    kept = head.read_text()
    head.unlink()
    try:
        os.kill(running, signal.SIGKILL)
        eventually(lambda: reconciler_runs(settings) != running)
        ensure_reconciler(settings)
        told = eventually(lambda: [text for text in status_of(settings).problems if "cannot be read" in text])
        assert len(told) == 1
        time.sleep(1.0)
        assert len(engines(settings)) == 1
        assert ready(settings, "m-1")
    finally:
        head.write_text(kept)
    eventually(lambda: not status_of(settings).problems)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"fake-exit-code": 3}, "told to fail"),
        ({"fake-broken": True}, "cpu_gemm_wna16"),
        ({"fake-never-answers": True}, "within"),
    ],
)
def test_engine_that_never_gets_ready(settings: NexusSettings, model: Path, arguments: Any, expected: str) -> None:
    """The reason and the engine's last words come within the time limit, and nothing of it is left."""
    text = service_text("m-1", model, arguments=arguments, ready_timeout_seconds=2.0)
    commit = commit_services(settings, {"m-1": text})
    with pytest.raises(NodeError, match=expected) as caught:
        node.wait_synced(settings, commit, ["m-1"], LIMIT_SECONDS)
    assert "fake engine: --host" in str(caught.value)
    assert engines(settings) == []


@pytest.mark.parametrize(
    ("file", "kept_bytes", "expected"),
    [
        ("model.safetensors", -10, r"model\.safetensors: expected .* truncated"),
        ("model.safetensors", None, "got no weights at all"),
        ("tokenizer.json", 20, r"tokenizer\.json: expected a readable tokenizer"),
    ],
)
def test_damaged_files_are_named_and_nothing_is_lost(
    settings: NexusSettings, model: Path, tmp_path: Path, file: str, kept_bytes: int | None, expected: str
) -> None:
    """Truncated or missing weights and an unreadable tokenizer are named before any start; mended, they are served."""
    text = service_text("m-1", model)
    kept = tmp_path / "kept"
    shutil.move(model / file, kept)
    if kept_bytes is not None:
        (model / file).write_bytes(kept.read_bytes()[:kept_bytes])
    commit = commit_services(settings, {"m-1": text})
    with pytest.raises(NodeError, match=expected):
        node.wait_synced(settings, commit, ["m-1"], LIMIT_SECONDS)
    assert engines(settings) == []
    shutil.copy(kept, model / file)
    assert node.wait_synced(settings, commit, ["m-1"], LIMIT_SECONDS).services[0].phase is Phase.READY


def test_changed_weights_are_refused(settings: NexusSettings, model: Path) -> None:
    """Weights that are whole but not those of the document are refused by their digest."""
    text = service_text("m-1", model, digest="sha256:" + "0" * 64)
    commit = commit_services(settings, {"m-1": text})
    with pytest.raises(NodeError, match="expected weights sha256:0000"):
        node.wait_synced(settings, commit, ["m-1"], LIMIT_SECONDS)


def test_port_in_use_is_told_within_seconds(tmp_path: Path) -> None:
    """The message names the owner; the node goes on by itself as soon as the port is free."""
    other = fake_settings(tmp_path / "home")
    try:
        with socket.create_server(("127.0.0.1", other.gateway_port)):
            with pytest.raises(NodeError, match=f"port {other.gateway_port} free.*process {os.getpid()}"):
                node.up(other)
            status = node.read_status(other)
            assert status is not None
            assert any("NEXUS_GATEWAY_PORT" in problem for problem in status.problems)
            assert not (other.log_dir / "gateway.log").exists()
        eventually(lambda: status_of(other).gateway_revision)
    finally:
        node.down(other)
    assert processes_of_home(other.home) == []


def test_other_settings_are_refused_while_a_node_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second shell with another port is told both, and takes nothing from the first; after `down` it may start."""
    first = fake_settings(tmp_path / "home")
    second = first.model_copy(update={"gateway_port": free_port()})
    try:
        node.up(first)
        before = reconciler_runs(first)
        said = f"NEXUS_GATEWAY_PORT={first.gateway_port}.*got NEXUS_GATEWAY_PORT={second.gateway_port}.*nexus down"
        for start in (node.up, node.keep):
            with pytest.raises(NodeError, match=said):
                start(second)
        monkeypatch.setenv("NEXUS_GATEWAY_ADMIN_TOKEN", "hunter2")
        with pytest.raises(NodeError, match=r"no NEXUS_GATEWAY_ADMIN_TOKEN.*got another NEXUS_GATEWAY_ADMIN_TOKEN"):
            node.up(first)
        monkeypatch.delenv("NEXUS_GATEWAY_ADMIN_TOKEN")
        assert reconciler_runs(first) == before
        assert node.down(first) > 0
        assert node.down(first) == 0
        assert node.up(second).gateway_url == f"http://127.0.0.1:{second.gateway_port}"
        assert ports.is_free(first.gateway_port)
    finally:
        node.down(second)


def test_down_ends_a_release_that_keeps_the_node_up(tmp_path: Path) -> None:
    """A release starts a dead reconciler again while its pipeline runs; `down` ends both, and nothing is left."""
    home = fake_settings(tmp_path / "home")
    program = [sys.executable, "-c", "import time; time.sleep(60)", "pipelines.run_local"]
    held = threading.Event()

    def release() -> None:
        with file_lock(model_lock_path(home, "m")):
            held.set()
            while pipeline.alive():
                node.keep(home)

    try:
        node.up(home)
        pipeline = spawn_detached(program, core_env(home), home.log_dir / "pipeline.log")
        thread = threading.Thread(target=release)
        thread.start()
        held.wait(10)
        node.down(home)
        assert not thread.is_alive()
        assert processes_of_home(home.home) == []
    finally:
        pipeline.send(signal.SIGKILL)
        thread.join()
        node.down(home)


def test_up_twice_changes_nothing(settings: NexusSettings) -> None:
    """`up` on a running node starts nothing."""
    before = sorted(process.pid for process in processes_of_home(settings.home))
    node.up(settings)
    assert sorted(process.pid for process in processes_of_home(settings.home)) == before


def _head(settings: NexusSettings) -> str:
    commit = GitOps.of(settings).head().commit
    assert commit is not None
    return commit


def _parent(settings: NexusSettings) -> int | None:
    for process in processes_of_home(settings.home):
        if b"serving.local.engine_parent" in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            return process.pid
    return None
