"""The local node with real vLLM: one warm parent for the whole file, engines with random tiny weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.contracts.node_status import NodeStatus
from serving.contracts.release_spec import EngineSettings
from serving.local import log_files, node, ports, probe
from serving.local.daemons import core_env
from serving.local.engine_client import EngineHandle, leased_engine
from serving.local.engine_host import scratch_folder
from serving.local.errors import EngineError, WeightsError
from serving.local.lock_file import lock_holder
from serving.local.parent_client import ensure_parent, parent_lock
from serving.local.processes import ProcessId, processes_of_home
from serving.local.reconciler_client import reconciler_runs
from serving.settings import NexusSettings
from tests.fakes.gateway_process import free_port
from tests.fakes.node_home import MODEL, commit_services, service_text, write_tiny_llama

ENVIRONMENTS = Path(sys.prefix).parent
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (ENVIRONMENTS / "engine" / "bin" / "python").exists(),
        reason=f"no engine environment beside {sys.prefix}: run `make install`",
    ),
]
ARGUMENTS: dict[str, Any] = {"max-model-len": 256, "kv-cache-memory-bytes": "64M", "enforce-eager": True}
ENGINE = EngineSettings(arguments=ARGUMENTS, ready_timeout_seconds=120)
LIMIT_SECONDS = 150.0

HOLDER = """
import sys, time
from pathlib import Path
from serving.contracts.release_spec import EngineSettings
from serving.local.engine_client import leased_engine
from serving.settings import NexusSettings
settings = NexusSettings.load()
engine = EngineSettings.model_validate_json(sys.argv[2])
log = settings.log_dir / "holder.log"
with leased_engine(settings, engine=engine, model_path=Path(sys.argv[1]), served_name="m", log_path=log) as handle:
    print(handle.pid, handle.url, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusSettings]:
    home = (tmp_path_factory.mktemp("node") / "home").resolve()
    home.mkdir()
    (home / "envs").symlink_to(ENVIRONMENTS)
    made = NexusSettings(home=home, gateway_port=free_port(), gateway_admin_port=free_port())
    try:
        yield made
    finally:
        node.down(made)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("weights") / "model")


def eventually(check: Callable[[], Any], seconds: float = LIMIT_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found


def lease(settings: NexusSettings, model: Path, **changes: Any) -> Any:
    engine = ENGINE.model_copy(update=changes)
    log_path = settings.log_dir / "lease.log"
    return leased_engine(settings, engine=engine, model_path=model, served_name=MODEL, log_path=log_path)


def nothing_left(settings: NexusSettings, handle: EngineHandle) -> bool:
    """Return whether no process, port, socket or file of an engine is there."""
    group = [process for process in processes_of_home(settings.home) if _group(process.pid) == handle.pid]
    port = int(handle.url.rsplit(":", 1)[1])
    files = [*scratch_folder(settings).iterdir(), *(settings.run_dir / "engines").iterdir()]
    return not group and ports.is_free(port) and not files


def test_leased_engine_serves_and_leaves_nothing(settings: NexusSettings, model: Path) -> None:
    """The benchmark's way: a real completion inside the block, nothing of the engine after it."""
    said: list[str] = []
    ensure_parent(settings, said.append)
    assert any("importing" in text for text in said)
    with lease(settings, model) as handle:
        assert probe.completion_problem(handle.url, MODEL, 30) is None
        assert len([p for p in processes_of_home(settings.home) if _group(p.pid) == handle.pid]) == 2
    eventually(lambda: nothing_left(settings, handle), 10)


def test_two_engines_at_once(settings: NexusSettings, model: Path) -> None:
    """Candidates are measured side by side, each on its own port."""
    with (
        lease(settings, model) as one,
        leased_engine(
            settings, engine=ENGINE, model_path=model, served_name="other", log_path=settings.log_dir / "other.log"
        ) as two,
    ):
        assert one.url != two.url
        assert probe.completion_problem(two.url, "other", 30) is None
    eventually(lambda: nothing_left(settings, one) and nothing_left(settings, two), 10)


def test_killed_holder_takes_its_engine_along(settings: NexusSettings, model: Path) -> None:
    """kill -9 of a benchmark: its engine, and vLLM's second process, are gone at once."""
    env = core_env(settings)
    argv = [sys.executable, "-c", HOLDER, str(model), ENGINE.model_dump_json()]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        pid, url = holder.stdout.readline().split()
        process = ProcessId.of(int(pid))
        assert process is not None
        holder.kill()
    handle = EngineHandle(url, process.pid, process.start_time, settings.log_dir / "holder.log")
    eventually(lambda: nothing_left(settings, handle), 10)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({**ARGUMENTS, "no-such-option": 1}, "unrecognized arguments: --no-such-option"),
        ({**ARGUMENTS, "max-model-len": 100_000}, "max_model_len"),
    ],
)
def test_engine_that_cannot_start(settings: NexusSettings, model: Path, arguments: Any, expected: str) -> None:
    """vLLM's own words come with the error, within seconds, and nothing is left."""
    with pytest.raises(EngineError, match=expected), lease(settings, model, arguments=arguments):
        pytest.fail("it must not get ready")
    eventually(lambda: list(scratch_folder(settings).iterdir()) == [], 10)


def test_engine_that_takes_too_long(settings: NexusSettings, model: Path) -> None:
    """The time limit holds, the last log lines are quoted, and the engine is ended."""
    with (
        pytest.raises(EngineError, match=r"within 0 s[\s\S]*last lines"),
        lease(settings, model, ready_timeout_seconds=0.3),
    ):
        pytest.fail("it must not get ready")
    eventually(lambda: list(scratch_folder(settings).iterdir()) == [], 10)


def test_damaged_weights_start_nothing(settings: NexusSettings, tmp_path: Path) -> None:
    """Truncated weights and an unreadable tokenizer are found before a process exists."""
    model = write_tiny_llama(tmp_path / "model")
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    (model / "tokenizer.json").write_bytes(b"\0")
    log = settings.log_dir / "lease.log"
    before = log_files.tail(log)
    with pytest.raises(WeightsError, match=r"truncated[\s\S]*tokenizer"), lease(settings, model):
        pytest.fail("it must not start")
    assert log_files.tail(log) == before


def test_node_survives_the_death_of_everything(settings: NexusSettings, model: Path) -> None:
    """kill -9 of an engine, the parent, the reconciler and the gateway at once: `up` brings the same state back.

    A leased engine dies with the parent, for nobody would own it; a persistent one lives on and is taken over.
    """
    node.up(settings)
    names = ["m-1", "m-2"]
    texts = {name: service_text(name, model, arguments=ARGUMENTS, ready_timeout_seconds=120) for name in names}
    commit = commit_services(settings, texts, names)
    first = node.wait_synced(settings, commit, names, LIMIT_SECONDS)
    assert ask_gateway(settings)
    victims = [_pid(first, "m-1"), lock_holder(parent_lock(settings)), reconciler_runs(settings)]
    with lease(settings, model) as handle:
        for pid in (*victims, ports.owner_pid(settings.gateway_port)):
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not [p for p in processes_of_home(settings.home) if _group(p.pid) == handle.pid], 10)
    node.up(settings)
    second = node.wait_synced(settings, commit, names, LIMIT_SECONDS)
    assert second.gateway_revision == commit
    assert ask_gateway(settings)
    assert _pid(second, "m-2") == _pid(first, "m-2")
    assert _pid(second, "m-1") not in victims
    groups = [_group(p.pid) for p in processes_of_home(settings.home)]
    engines = [group for group in groups if groups.count(group) > 1]
    assert sorted(engines) == sorted(2 * [_pid(second, name) for name in names]), "two engines of two processes each"


def test_down_leaves_nothing(settings: NexusSettings, model: Path) -> None:
    """After `down`: no process, no port, no socket; a second one has nothing to do."""
    status = node.read_status(settings)
    assert status is not None
    numbers = [settings.gateway_port, *(int(str(found.url).rsplit(":", 1)[1]) for found in status.services)]
    node.down(settings)
    assert processes_of_home(settings.home) == []
    assert all(ports.is_free(port) for port in numbers)
    assert node.read_status(settings) is None
    assert not [path for path in settings.run_dir.iterdir() if path.is_socket()]
    node.down(settings)


def ask_gateway(settings: NexusSettings) -> bool:
    """Ask the gateway for a chat completion; it may take a moment to see that an engine is back."""

    def answered() -> bool:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4})
        url = f"http://127.0.0.1:{settings.gateway_port}"
        status, text = probe._exchange(url, "POST", "/v1/chat/completions", body, 30)
        return status == 200 and bool(json.loads(text)["choices"])

    return bool(eventually(answered, 20))


def _pid(status: NodeStatus, name: str) -> int:
    pid = next(service.pid for service in status.services if service.name == name)
    assert pid is not None
    return pid


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
