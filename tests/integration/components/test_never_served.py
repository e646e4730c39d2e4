"""A candidate whose engine fails on a real node: reconciler, engine parent and gateway are real, computing is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.analyze_canary.gitops_canary import analyze_in_git
from components.deploy_kserve.logic import deploy
from serving import release_state
from serving.contracts.canary_verdict import Decision
from serving.contracts.registration import Registration
from serving.contracts.release_spec import EngineSettings, ResolvedRelease
from serving.files import digest_folder
from serving.gitops import GitOps
from serving.local import node
from serving.local.errors import NodeError
from serving.local.processes import processes_of_home
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from serving.step_context import StepContext
from tests.fakes.node_home import fake_settings, write_model
from tests.fakes.releases import make_registration, make_release

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusSettings]:
    """A node that serves a stable version; its engines answer."""
    made = fake_settings(tmp_path_factory.mktemp("node") / "home")
    gitops = GitOps.of(made)
    release_state.seed_environment(gitops, made.environment)
    stable = release(1)
    registered = registration(stable, write_model(made.home / "stable"))
    release_state.deploy_candidate(gitops, stable, registered, made.environment)
    release_state.promote(gitops, stable, registered, environment=made.environment, verdict="promote", evidence="x")
    try:
        node.up(made)
        yield made
    finally:
        node.down(made)
        assert processes_of_home(made.home) == []


def release(number: int, **arguments: str | int | float | bool) -> ResolvedRelease:
    made = make_release(number)
    engine = EngineSettings(arguments=arguments, ready_timeout_seconds=5)
    return made.model_copy(update={"spec": made.spec.model_copy(update={"engine": engine})})


def registration(made: ResolvedRelease, folder: Path) -> Registration:
    found = {"storage_uri": f"file://{folder}", "weights_digest": digest_folder(folder)}
    return make_registration(made).model_copy(update=found)


@pytest.mark.parametrize(
    ("number", "arguments", "reason", "words"),
    [
        (2, {"fake-exit-code": 3}, "never served: the engine exited with code 3 before it answered: ", "told to fail"),
        (3, {"fake-never-answers": True}, "never served: expected an answer within 5 s; ", ""),
    ],
)
def test_it_is_rolled_back_for_what_its_engine_did(
    settings: NexusSettings, tmp_path: Path, number: int, arguments: dict[str, int], reason: str, words: str
) -> None:
    """Exit code or time limit, and the engine's last words, while the stable version's clone answers beside it."""
    candidate, record = release(number, **arguments), ReleaseRecord(tmp_path / "record")
    registered = registration(candidate, write_model(tmp_path / "model"))
    deployment = deploy(candidate, registered, settings=settings, record=record)
    verdict = analyze_in_git(StepContext(candidate, settings, record), deployment, tmp_path)
    assert verdict.decision is Decision.ROLL_BACK
    assert verdict.reason.startswith(reason)
    assert words in " ".join(deployment.last_words)
    take_out(settings, candidate)


def test_weights_that_were_lost_are_no_fault_of_the_candidate(settings: NexusSettings, tmp_path: Path) -> None:
    """The file changed after it was registered: an error that says so, and the release stays as it is."""
    candidate = release(4)
    folder = write_model(tmp_path / "model")
    registered = registration(candidate, folder)
    (folder / "model.safetensors").write_bytes(b"w")
    with pytest.raises(NodeError, match=r"model\.safetensors"):
        deploy(candidate, registered, settings=settings, record=ReleaseRecord(tmp_path / "record"))
    assert release_state.read_release(GitOps.of(settings), candidate.release_id, settings.environment).deployed
    take_out(settings, candidate)


def take_out(settings: NexusSettings, made: ResolvedRelease) -> None:
    gitops, environment = GitOps.of(settings), settings.environment
    release_state.abandon(gitops, made.release_id, model=made.spec.model, environment=environment, reason="end of test")
