"""When a home's provider adapter runs, and with what."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from serving.local import engine_host
from serving.local.adapter_process import AdapterProcess, adapter_socket
from serving.local.gateway_process import GatewayProcess
from serving.local.processes import processes_of_home
from serving.settings import NexusSettings

DOCUMENT = "kind: Providers\n"


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_host, "_TEMPORARY", tmp_path)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[NexusSettings]:
    made = NexusSettings(home=tmp_path / "home", gateway_key_pepper=SecretStr("p" * 32))
    made.home.mkdir()
    yield made
    for process in processes_of_home(made.home):
        process.send(9)


def test_no_provider_no_adapter(settings: NexusSettings, executor: ThreadPoolExecutor) -> None:
    """Without a route to a provider nothing is started nor asked for, whether there is a document or not."""
    adapter = AdapterProcess(settings, executor)
    for _ in range(2):
        adapter.keep(named=False)
        assert (adapter.status(), adapter.problems, adapter.process) == (None, [], None)
        (settings.home / "providers.yaml").write_text(DOCUMENT)
    assert not settings.log_dir.exists()


def test_a_missing_document_is_told(settings: NexusSettings, executor: ThreadPoolExecutor) -> None:
    """A route to a provider without a document starts nothing, and says which file is missing."""
    adapter = AdapterProcess(settings, executor)
    adapter.keep(named=True)
    assert adapter.status() is None
    (problem,) = adapter.problems
    assert str(settings.home / "providers.yaml") in problem
    adapter.keep(named=False)
    assert adapter.problems == []


def test_a_missing_environment_is_told_with_its_command(settings: NexusSettings, executor: ThreadPoolExecutor) -> None:
    """Where LiteLLM is not installed the problem names the command that installs it."""
    (settings.home / "providers.yaml").write_text(DOCUMENT)
    adapter = AdapterProcess(settings, executor)
    adapter.keep(named=True)
    status = adapter.status()
    assert status is not None
    assert not status.ready
    (problem,) = adapter.problems
    assert problem.endswith("run `nexus install provider`")


def test_it_gets_providers_keys_and_no_gateway_secret(
    settings: NexusSettings, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It inherits what LiteLLM reads; the pepper and all else of the gateway stay out of its process."""
    (settings.home / "providers.yaml").write_text(DOCUMENT)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    env = AdapterProcess(settings, executor).env()
    assert env["OPENAI_API_KEY"] == "sk-x"
    assert env["NEXUS_HOME"] == str(settings.home)
    assert env["NEXUS_ADAPTER_PROVIDERS_FILE"] == str(settings.home / "providers.yaml")
    assert not [name for name in env if name.startswith("NEXUS_GATEWAY_")]
    assert "p" * 32 not in env.values()


def test_the_gateway_asks_where_the_adapter_listens(settings: NexusSettings, executor: ThreadPoolExecutor) -> None:
    """Both know one socket; where the settings name another, that one is asked."""
    (settings.home / "providers.yaml").write_text(DOCUMENT)
    gateway = GatewayProcess(settings, ("gateway",), executor).env()
    adapter = AdapterProcess(settings, executor).env()
    assert gateway["NEXUS_GATEWAY_PROVIDER_SOCKET"] == adapter["NEXUS_ADAPTER_SOCKET"]
    other = settings.model_copy(update={"gateway_provider_socket": Path("/x/y.sock")})
    assert GatewayProcess(other, ("gateway",), executor).env()["NEXUS_GATEWAY_PROVIDER_SOCKET"] == "/x/y.sock"


@pytest.mark.parametrize(("length", "below_home"), [(20, True), (85, True), (86, False)])
def test_the_socket_fits_its_address(length: int, below_home: bool) -> None:
    """A path of more than 107 bytes cannot be listened on, nor the longer one under which the adapter makes it."""
    home = Path("/" + "h" * (length - 1))
    path = adapter_socket(NexusSettings(home=home))
    assert path.is_relative_to(home) is below_home
    assert len(bytes(home / "run" / ".adapter.sock.new")) <= 107 or not below_home


def test_only_an_adapter_is_taken_for_one(settings: NexusSettings, executor: ThreadPoolExecutor) -> None:
    """The gateway and its workers are none."""
    adapter = AdapterProcess(settings, executor)
    assert adapter.is_mine(["/h/envs/provider/bin/python", "-P", "-m", "gateway.adapter"])
    for command in ([], ["python"], ["python", "-P", "-m", "gateway"], ["python", "-m", "gateway.adapter", "x"]):
        assert not adapter.is_mine(command)
