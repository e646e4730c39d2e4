"""Desired state read from git: good documents, broken ones, and what stands in for them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.gitops import GitOps
from serving.layout import policy_path, route_path, service_path
from serving.local.desired_state import DesiredState, read_desired
from serving.local.head_watcher import HeadWatcher
from tests.fakes.node_home import route_text, service_text

pytestmark = pytest.mark.integration
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def repository(tmp_path: Path) -> GitOps:
    made = GitOps(str(tmp_path / "g.git"), tmp_path / "g.git")
    made.ensure()
    return made


def put(repository: GitOps, files: Mapping[str, str | None]) -> DesiredState:
    assert repository.commit(lambda _: files, "x", {})
    return read_desired(repository.head(), "local")


def document(name: str) -> str:
    return service_text(name, Path("/w"), digest=DIGEST)


def at(name: str) -> str:
    return service_path("m", "local", name)


def test_empty_repository(repository: GitOps) -> None:
    """Before the first commit there is nothing to serve, and a policy of defaults."""
    desired = read_desired(repository.head(), "local")
    assert (desired.commit, dict(desired.services), desired.problems) == (None, {}, ())
    assert "GatewayPolicy" in desired.gateway_files["policy.yaml"]


def test_good_documents(repository: GitOps) -> None:
    """Services and routes of this environment are read, those of another are not."""
    files = {
        at("a"): document("a"),
        service_path("m", "prod", "b"): document("b"),
        route_path("m", "local"): route_text("a"),
    }
    desired = put(repository, files)
    assert set(desired.services) == {"a"}
    assert set(desired.gateway_files) == {"policy.yaml", "routes/m.yaml"}
    assert desired.problems == ()


def test_broken_service_keeps_its_last_good_version(repository: GitOps) -> None:
    """Found in the history, so a fresh process does the same; other services are not touched."""
    put(repository, {at("a"): document("a")})
    put(repository, {at("a"): "nonsense: ["})
    desired = put(repository, {at("a"): "kind: Nothing\n", at("b"): document("b")})
    assert set(desired.services) == {"a", "b"}
    assert desired.services["a"].weights_digest == DIGEST
    assert all(problem.startswith(at("a")) for problem in desired.problems)
    assert all("its last good version stays in force" in problem for problem in desired.problems)
    assert desired.problems


def test_service_that_never_was_good_is_absent(repository: GitOps) -> None:
    """There is nothing that could stand in."""
    desired = put(repository, {at("a"): "kind: Nothing\n"})
    assert dict(desired.services) == {}
    assert desired.problems
    assert all("nothing of it is in force" in problem for problem in desired.problems)


def test_file_named_after_another_service_is_refused(repository: GitOps) -> None:
    """One service, one file."""
    desired = put(repository, {at("a"): document("a"), at("b"): document("a")})
    assert set(desired.services) == {"a"}
    assert any(at("b") in problem for problem in desired.problems)


def test_same_service_twice_is_refused(repository: GitOps) -> None:
    """Two models cannot both have a service of one name."""
    desired = put(repository, {at("a"): document("a"), service_path("n", "local", "a"): document("a")})
    assert set(desired.services) == {"a"}
    assert any("another file" in problem for problem in desired.problems)


def test_dangling_route_is_refused(repository: GitOps) -> None:
    """A route to a service that is not there keeps the last one that was whole."""
    put(repository, {at("a"): document("a"), route_path("m", "local"): route_text("a")})
    desired = put(repository, {route_path("m", "local"): route_text("gone")})
    assert '"a"' in desired.gateway_files["routes/m.yaml"]
    assert any("'gone' is none" in problem for problem in desired.problems)


def test_route_of_another_model_is_refused(repository: GitOps) -> None:
    """A route's services must serve its model."""
    desired = put(
        repository,
        {
            at("a"): document("a").replace("--served-model-name=m", "--served-model-name=n"),
            route_path("m", "local"): route_text("a"),
        },
    )
    assert "routes/m.yaml" not in desired.gateway_files
    assert any("serves 'n'" in problem for problem in desired.problems)


def test_broken_policy_keeps_the_last_good_one(repository: GitOps) -> None:
    """The gateway is never shown a policy that it would refuse."""
    good = "apiVersion: nexus/v1alpha1\nkind: GatewayPolicy\nmetadata: {name: p}\nspec: {}\n"
    put(repository, {policy_path("local"): good})
    desired = put(repository, {policy_path("local"): good.replace("{}", "{limits: 3}")})
    assert desired.gateway_files["policy.yaml"] == good
    assert any("limits" in problem for problem in desired.problems)


def test_new_commit_is_noticed_at_once(repository: GitOps) -> None:
    """The watcher asks git only when the branch has moved."""
    with ThreadPoolExecutor(1) as pool:
        watcher = HeadWatcher(repository, pool)
        empty = watcher.poll()
        assert empty is not None
        assert empty.commit is None
        put(repository, {at("a"): document("a")})
        first = watcher.poll()
        assert first == repository.head()
        assert watcher.poll() is first
        put(repository, {at("b"): document("b")})
        assert watcher.poll() == repository.head() != first


def test_unreadable_repository_keeps_the_last_head(repository: GitOps) -> None:
    """The reason is told for as long as it lasts, and what was known stays."""
    put(repository, {at("a"): document("a")})
    with ThreadPoolExecutor(1) as pool:
        watcher = HeadWatcher(repository, pool)
        first = watcher.poll()
        moved = repository.mirror.rename(repository.mirror.with_name("moved"))
        for _ in range(2):
            assert watcher.poll() is first
            assert "cannot be read" in str(watcher.problem)
        moved.rename(repository.mirror)
        assert watcher.poll() == first
        assert watcher.problem is None


def test_remote_repository_is_asked_in_the_background(repository: GitOps, tmp_path: Path) -> None:
    """A server that does not answer holds up nothing; what it says is seen by a later look."""
    put(repository, {at("a"): document("a")})
    clone = GitOps(f"file://{repository.mirror}", tmp_path / "mirror.git")
    clone.ensure()
    with ThreadPoolExecutor(1) as pool:
        watcher = HeadWatcher(clone, pool)
        while watcher.poll() is None:
            assert watcher.problem is None
        found = watcher.poll()
        assert found is not None
        assert found.commit == repository.head().commit
        assert set(read_desired(found, "local").services) == {"a"}


def test_a_providers_model_is_noticed(repository: GitOps) -> None:
    """The node learns that a route names an external provider, and that none does any more."""
    files: dict[str, str | None] = {at("a"): document("a"), route_path("m", "local"): route_text("a")}
    assert not put(repository, files).names_provider
    endpoint = "{service: x, side: stable, weight_percent: 100, provider_model: anthropic/x}"
    text = f"kind: Route\nmetadata: {{name: x}}\nspec: {{model: x, endpoints: [{endpoint}]}}\n"
    desired = put(repository, {route_path("x", "local"): text})
    assert desired.names_provider
    assert desired.problems == ()
    assert not put(repository, {route_path("x", "local"): None}).names_provider
