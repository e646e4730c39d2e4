"""`nexus up` with fake engines: it returns when all that git wants answers, or says why not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.client import NexusClient
from serving.contracts.node_status import Phase
from serving.local import node, probe
from serving.local.errors import NodeError
from serving.local.processes import processes_of_home
from tests.fakes.node_home import MODEL, commit_services, fake_settings, service_text, write_model
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
LIMIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusClient]:
    """A client of a home whose node runs and serves nothing yet."""
    made = NexusClient(fake_settings(tmp_path_factory.mktemp("up") / "home"))
    try:
        made.up()
        yield made
    finally:
        made.down()
        assert processes_of_home(made.settings.home) == []


@pytest.fixture(autouse=True)
def _clean(client: NexusClient) -> Iterator[None]:
    yield
    node.wait_synced(client.settings, commit_services(client.settings, {}), (), LIMIT_SECONDS)
    wait_until(lambda: (status := client.status()) is not None and not status.services, LIMIT_SECONDS)


def test_it_returns_when_every_engine_has_answered(client: NexusClient, tmp_path: Path) -> None:
    """Two engines that take a while are waited for, each is named meanwhile, and then the gateway answers."""
    texts = {
        name: service_text(name, write_model(tmp_path / name), arguments={"fake-delay-seconds": 1})
        for name in ("m-1", "m-2")
    }
    client.down()
    commit_services(client.settings, texts, ["m-1"])
    said: list[str] = []
    status = client.up(said.append)
    assert [(service.name, service.phase) for service in status.services] == [
        ("m-1", Phase.READY), ("m-2", Phase.READY),
    ]  # fmt: skip
    assert {"m-1: Ready (answers)", "m-2: Ready (answers)"} <= set(said)
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "x"}}]}}'
    assert probe._exchange(client.settings.gateway, "POST", "/v1/chat/completions", body, 10)[0] == 200


def test_an_engine_that_never_answers_is_an_error_with_its_last_words(client: NexusClient, tmp_path: Path) -> None:
    """Within the engine's time limit; the other engine and the node keep running."""
    good, bad = write_model(tmp_path / "good"), write_model(tmp_path / "bad")
    hangs = service_text("m-2", bad, arguments={"fake-never-answers": True}, ready_timeout_seconds=2.0)
    commit_services(client.settings, {"m-1": service_text("m-1", good), "m-2": hangs}, ["m-1"])
    with pytest.raises(NodeError, match=r"m-2: Failed: expected an answer within 2 s") as caught:
        client.up()
    assert "fake engine: --host" in str(caught.value)
    wait_until(lambda: "m-1" in _ready(client))


def test_a_document_that_is_refused_is_an_error_that_names_it(client: NexusClient, tmp_path: Path) -> None:
    """Git wants an engine that is not there; the other engine and the node keep running."""
    good = service_text("m-1", write_model(tmp_path / "good"))
    commit_services(client.settings, {"m-1": good, "m-3": "kind: InferenceService\n"}, ["m-1"])
    with pytest.raises(NodeError, match=r"these are refused(.|\n)*/services/m-3\.yaml:1"):
        client.up()
    assert _ready(client) == ["m-1"]


def test_what_git_no_longer_wants_is_not_waited_for(client: NexusClient, tmp_path: Path) -> None:
    """A release that takes its engine out again while somebody waits for the node holds nobody up."""
    texts = {name: service_text(name, write_model(tmp_path / name)) for name in ("m-1", "m-2")}
    texts["m-2"] = service_text("m-2", tmp_path / "m-2", arguments={"fake-delay-seconds": 600})
    commit_services(client.settings, texts, ["m-1"])
    said: list[str] = []
    done = threading.Event()
    thread = threading.Thread(target=lambda: (client.up(said.append), done.set()))
    thread.start()
    wait_until(lambda: any(text.startswith("waiting for ") and "m-2" in text for text in said), LIMIT_SECONDS)
    assert not done.is_set()
    commit_services(client.settings, {"m-1": texts["m-1"]}, ["m-1"])
    thread.join(LIMIT_SECONDS)
    assert done.is_set()


def _ready(client: NexusClient) -> list[str]:
    status = client.status()
    return [service.name for service in status.services if service.phase is Phase.READY] if status else []
