"""The node's provider adapter: started when it is needed, kept running, and stopped with the node."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from serving.contracts.node_status import ProcessStatus
from serving.gitops import GitOps
from serving.layout import route_path
from serving.local import node
from serving.local.processes import command_line, processes_of_home
from serving.settings import NexusSettings
from tests.fakes import openai_provider
from tests.fakes.node_home import fake_settings
from tests.fakes.openai_provider import OpenAIProvider
from tests.fakes.provider_server import Fault
from tests.fakes.running_node import found_within, running, status_within

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
LIMIT_SECONDS = 90.0  # LiteLLM's import takes 4 s on an idle machine
ROUTE = (
    "kind: Route\nmetadata: {name: gpt}\nspec:\n  model: gpt\n  endpoints:\n"
    "    - {service: openai, side: stable, weight_percent: 100, provider_model: openai/gpt-4o}\n"
)


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIProvider]:
    with OpenAIProvider() as server:
        yield server


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusSettings]:
    yield from running(fake_settings(tmp_path_factory.mktemp("node") / "home"))


eventually = partial(found_within, LIMIT_SECONDS)
status_of = partial(status_within, LIMIT_SECONDS)


def problems(settings: NexusSettings) -> list[str]:
    return [problem for problem in status_of(settings).problems if problem.startswith("adapter: ")]


def ready(settings: NexusSettings, but: int | None = None) -> int:
    """Wait for an adapter that answers, other than one of before."""

    def found() -> int | None:
        adapter: ProcessStatus | None = status_of(settings).adapter
        return adapter.pid if adapter is not None and adapter.ready and adapter.pid != but else None

    pid: int = eventually(found)
    return pid


def pids(settings: NexusSettings) -> list[int]:
    """Return the adapters that run, orphans among them."""
    found = processes_of_home(settings.home)
    return [process.pid for process in found if "gateway.adapter" in command_line(process.pid)]


def commit(settings: NexusSettings, route: str | None) -> None:
    made = GitOps.of(settings).commit(lambda _: {route_path("gpt", "local"): route}, "provider", {})
    assert made is not None
    node.wait_synced(settings, made, (), LIMIT_SECONDS)


def install(settings: NexusSettings) -> None:
    """Give the home this installation's provider environment."""
    installed = NexusSettings.load().home / "envs" / "provider"
    assert installed.exists(), f"expected the provider environment at {installed}: run make install-dev"
    if not settings.environment_dir("provider").exists():
        settings.environment_dir("provider").symlink_to(installed)


def write_document(settings: NexusSettings, provider: OpenAIProvider, *, comment: str = "") -> None:
    """Name a provider whose key lies where the guide says."""
    key = settings.secrets_dir / "openai.key"
    key.write_text(f"{openai_provider.KEY}\n")
    (settings.home / "providers.yaml").write_text(
        f"# {comment}\nkind: Providers\nmetadata: {{name: providers}}\nspec:\n  providers:\n"
        f"    - {{name: openai, base_url: {provider.url}/v1, api_key_file: secrets/openai.key}}\n"
    )


def ask(settings: NexusSettings) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", settings.gateway_port, timeout=30)
    try:
        body = json.dumps({"model": "gpt", "messages": [{"role": "user", "content": "Hello"}]})
        connection.request("POST", "/v1/chat/completions", body)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_an_adapter_lives_as_long_as_it_is_needed(settings: NexusSettings, provider: OpenAIProvider) -> None:
    """Route, document and environment start it; killed it comes back; a new document restarts it; no route ends it."""
    assert status_of(settings).adapter is None
    assert problems(settings) == []

    commit(settings, ROUTE)
    assert eventually(lambda: problems(settings))[0].startswith("adapter: expected the providers that routes name in")
    write_document(settings, provider)
    eventually(lambda: any("`nexus install provider`" in problem for problem in problems(settings)))
    assert ask(settings) == 503

    install(settings)
    first = ready(settings)
    assert problems(settings) == []
    eventually(lambda: ask(settings) == 200)
    assert b"NEXUS_GATEWAY_" not in Path(f"/proc/{first}/environ").read_bytes()

    os.kill(first, signal.SIGKILL)
    second = ready(settings, but=first)
    eventually(lambda: ask(settings) == 200)

    write_document(settings, provider, comment="changed")
    third = ready(settings, but=second)
    eventually(lambda: ask(settings) == 200)

    (settings.secrets_dir / "openai.key").unlink()
    eventually(lambda: any("api_key_file cannot be read" in problem for problem in problems(settings)))

    commit(settings, None)
    eventually(lambda: third not in pids(settings))
    eventually(lambda: status_of(settings).adapter is None)
    assert problems(settings) == []


def test_a_call_in_flight_outlives_a_new_document(settings: NexusSettings, provider: OpenAIProvider) -> None:
    """The successor answers while the old adapter still has a stream, which nothing breaks; then the old one ends."""
    install(settings)
    write_document(settings, provider)
    commit(settings, ROUTE)
    old = ready(settings)
    eventually(lambda: ask(settings) == 200)
    provider.faults.append(Fault(hang=2))
    connection = http.client.HTTPConnection("127.0.0.1", settings.gateway_port, timeout=60)
    body = json.dumps({"model": "gpt", "stream": True, "messages": [{"role": "user", "content": "Hello"}]})
    connection.request("POST", "/v1/chat/completions", body)
    answer = connection.getresponse()
    assert answer.readline().startswith(b"data:")

    write_document(settings, provider, comment="changed")
    ready(settings, but=old)
    assert ask(settings) == 200
    assert old in pids(settings)
    answer.close()
    connection.close()
    eventually(lambda: old not in pids(settings))


def test_it_ends_with_the_node_and_comes_back_with_it(settings: NexusSettings, provider: OpenAIProvider) -> None:
    """`down` leaves no adapter, and `up` brings it back; a reconciler that dies leaves it to its successor."""
    write_document(settings, provider)
    commit(settings, ROUTE)
    first = ready(settings)
    node.down(settings)
    assert pids(settings) == []
    node.up(settings)
    second = ready(settings, but=first)
    os.kill(status_of(settings).reconciler_pid, signal.SIGKILL)
    node.keep(settings)
    assert ready(settings) == second
    assert pids(settings) == [second]
    assert ask(settings) == 200
