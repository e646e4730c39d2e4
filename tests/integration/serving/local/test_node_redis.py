"""The node's Redis and what hangs on it: API keys with no setup, over every kind of death."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from nexus.admin import AdminClient, open_admin
from serving.contracts.admin_api import IssueKey
from serving.gitops import GitOps
from serving.layout import route_path
from serving.local import node, probe
from serving.local.processes import ProcessId, command_line, processes_of_home
from serving.local.reconciler_client import reconciler_runs
from serving.local.redis_process import redis_socket
from serving.settings import NexusSettings
from tests.fakes.node_home import fake_settings
from tests.fakes.redis_process import RedisProcess
from tests.fakes.running_node import found_within, running, status_within

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
LIMIT_SECONDS = 60.0
ORDER = IssueKey(tenant="demo", name="laptop")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusSettings]:
    yield from running(fake_settings(tmp_path_factory.mktemp("node") / "home"))


eventually = partial(found_within, LIMIT_SECONDS)
status_of = partial(status_within, LIMIT_SECONDS)


def redis_pid(settings: NexusSettings) -> int | None:
    """Return the Redis that answers; None while there is none."""
    redis = status_of(settings).redis
    assert redis is not None
    return redis.pid if redis.ready else None


def key_ids(settings: NexusSettings) -> set[str]:
    return {key.id for key in open_admin(settings).keys()}  # noqa: SIM118 - a call, no dictionary


def servers(settings: NexusSettings) -> list[list[str]]:
    lines = [command_line(process.pid) for process in processes_of_home(settings.home)]
    return [line for line in lines if line and Path(line[0]).name == "redis-server"]


def ready_again(settings: NexusSettings, but: int | None) -> int:
    found: int = eventually(lambda: (pid := redis_pid(settings)) != but and pid)
    return found


def issued(client: AdminClient) -> str:
    return client.issue(ORDER).key.id


def test_keys_can_be_issued_as_soon_as_up_returns(tmp_path: Path) -> None:
    """A fresh home, `up`, and a key: no setting, no file to write, and its secrets are its user's alone."""
    for made in running(fake_settings(tmp_path / "home")):
        assert issued(open_admin(made)) in key_ids(made)
        assert {path.stat().st_mode & 0o777 for path in made.secrets_dir.iterdir()} == {0o600}
        assert redis_socket(made).stat().st_mode & 0o777 == 0o700
        assert "6379" not in " ".join(servers(made)[0])


def test_a_killed_redis_is_started_again_with_all_keys(settings: NexusSettings) -> None:
    """kill -9 of Redis right behind a key: the key is there, and the next one can be issued."""
    key, pid = issued(open_admin(settings)), redis_pid(settings)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    ready_again(settings, pid)
    assert key in key_ids(settings)
    assert issued(open_admin(settings)) in key_ids(settings)
    assert len(servers(settings)) == 1


def test_a_redis_that_stands_still_stops_nobody(settings: NexusSettings) -> None:
    """While Redis hangs, requests without a key are answered as before and the node stays up."""
    pid = redis_pid(settings)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: redis_pid(settings) is None)
        code, _ = probe.get(f"http://127.0.0.1:{settings.gateway_port}", "/v1/models", 5)
        assert code == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ready_again(settings, None) == pid


def test_redis_outlives_its_reconciler(settings: NexusSettings) -> None:
    """kill -9 of the reconciler: its successor takes Redis and gateway over and starts none."""
    before, keys = redis_pid(settings), key_ids(settings)
    gateway = sorted(process.pid for process in processes_of_home(settings.home))
    running = status_of(settings).reconciler_pid
    os.kill(running, signal.SIGKILL)
    eventually(lambda: reconciler_runs(settings) != running)
    node.up(settings)
    assert status_of(settings).reconciler_pid != running
    assert ready_again(settings, None) == before
    assert set(gateway) - {running} <= {process.pid for process in processes_of_home(settings.home)}
    assert key_ids(settings) == keys


def test_keys_outlive_the_node(settings: NexusSettings) -> None:
    """`down` ends Redis and leaves no socket; after the next `up` every key is as it was."""
    key, pid = issued(open_admin(settings)), redis_pid(settings)
    assert pid is not None
    node.down(settings)
    assert ProcessId.of(pid) is None
    assert not redis_socket(settings).exists()
    node.up(settings)
    assert key in key_ids(settings)


def test_a_home_with_a_long_path_has_a_redis(tmp_path: Path) -> None:
    """A socket below it could not be listened on: it lies in the home's temporary folder, which `down` removes."""
    for made in running(fake_settings(tmp_path / ("h" * 60) / ("o" * 60))):
        assert len(bytes(made.run_dir / "redis.sock")) > 107
        assert issued(open_admin(made)) in key_ids(made)
        folder = redis_socket(made).parent
    assert not folder.exists()


def test_another_redis_is_used_where_it_is_named(tmp_path: Path) -> None:
    """With NEXUS_GATEWAY_REDIS_URL the node starts none, and keys go there."""
    with RedisProcess() as redis:
        plain = fake_settings(tmp_path / "home")
        named = plain.model_copy(update={"gateway_redis_url": SecretStr(redis.url)})
        for made in running(named):
            assert status_of(made).redis is None
            assert servers(made) == []
            key = issued(open_admin(made))
            assert any(key.encode() in redis.client.dump(name) for name in redis.client.keys("{nexus}:*"))


def test_a_redis_that_cannot_start_is_told_and_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its folder taken by a file, `up` returns a gateway that answers, and says what is wrong with Redis."""
    monkeypatch.setattr(node, "_REDIS_SECONDS", 1.0)
    home = fake_settings(tmp_path / "home")
    (home.home / "redis").write_text("")
    for made in running(home):
        status = status_of(made)
        assert status.gateway_revision is not None
        assert [text for text in status.problems if text.startswith("redis: ") and "redis" in text]
        assert probe.get(f"http://127.0.0.1:{made.gateway_port}", "/v1/models", 5)[0] == 200
        (made.home / "redis").unlink()
        ready_again(made, None)
        eventually(lambda made=made: not status_of(made).problems)


def test_a_route_to_a_provider_needs_no_service(settings: NexusSettings) -> None:
    """An external model's route is no dangling one: the node says what its adapter waits for."""
    text = (
        "kind: Route\nmetadata: {name: claude}\nspec:\n  model: claude\n  endpoints:\n"
        "    - {service: anthropic, side: stable, weight_percent: 100, provider_model: anthropic/claude-sonnet-4}\n"
    )
    commit = GitOps.of(settings).commit(lambda _: {route_path("claude", "local"): text}, "provider", {})
    assert commit is not None
    status = node.wait_synced(settings, commit, (), LIMIT_SECONDS)
    assert not [problem for problem in status.problems if "InferenceService" in problem]
    assert any(problem.startswith("adapter: expected the providers") for problem in status.problems)
    assert status.adapter is None
