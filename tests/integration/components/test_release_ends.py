"""Registration, deployment and conclusion on real git and real MLflow, with faults; nothing is served."""

import shutil
from pathlib import Path

import pytest

from components.analyze_canary.gitops_canary import analyze_in_git
from components.conclude_release.logic import abandon, conclude, finish
from components.deploy_kserve.logic import deploy
from components.register_model.figures import Reports
from components.register_model.logic import register
from components.reject_release.logic import reject
from serving import layout, release_state
from serving.contracts.canary_verdict import Decision
from serving.contracts.conclusion import Conclusion, ReleaseOutcome
from serving.contracts.registration import Deployment, Registration
from serving.files import digest_folder
from serving.gitops import GitOps
from serving.local.errors import NodeError
from serving.record import ReleaseRecord
from serving.registry import Registry, RegistryError
from serving.release_history import NotDeployedError, ReleaseStateError, holder_at
from serving.settings import NexusSettings, Profile
from serving.step_context import StepContext
from serving.sync import ProfileError
from tests.fakes.releases import MODEL, make_reports, make_verdict, write_weights
from tests.fakes.spine import (
    RELEASE,
    STABLE,
    FakeSyncer,
    baseline_fails,
    candidate_fails,
    node_is_down,
    prepare_home,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow 3.17's own
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    assert Registry(prepare_home(home))._client is not None
    return home


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> NexusSettings:
    return NexusSettings(home=shutil.copytree(template, tmp_path / "home"))


@pytest.fixture
def record(settings: NexusSettings) -> ReleaseRecord:
    return ReleaseRecord(settings.release_dir(RELEASE.release_id))


@pytest.fixture
def registration(settings: NexusSettings, record: ReleaseRecord) -> Registration:
    candidates = settings.home / "candidates"
    reports = Reports(*make_reports(digest_folder(candidates / "bf16")))
    return register(RELEASE, candidates, reports, settings=settings, record=record)


def aliases(settings: NexusSettings) -> dict[str, int]:
    return dict(Registry(settings)._client.get_registered_model(MODEL).aliases)


def version_tags(settings: NexusSettings) -> dict[str, str]:
    return Registry(settings)._client.get_model_version(MODEL, "1").tags


def test_version_holds_weights_figures_and_documents(
    settings: NexusSettings, record: ReleaseRecord, registration: Registration
) -> None:
    """What was benchmarked can be loaded, and everything that was measured can be read, from the registry alone."""
    run = Registry(settings)._client.get_run(registration.run_id)
    folder = Path(registration.storage_uri.removeprefix("file://"))
    assert digest_folder(folder) == registration.weights_digest
    assert {path.name for path in folder.parent.iterdir()} == {
        "model",
        "data.json",
        "training.json",
        "quantization.json",
        "benchmark.json",
    }
    assert run.data.metrics["quality.exact_match"] == 0.9
    assert run.data.tags["nexus.spec_digest"] == RELEASE.spec_digest
    assert run.info.status == "FINISHED"
    assert aliases(settings) == {"candidate": 1}
    assert record.read("registration", Registration) == registration


def test_same_content_is_registered_once(settings: NexusSettings, record: ReleaseRecord, registration) -> None:
    """The second time nothing is added, and the step says that it was there."""
    reports = Reports(*make_reports(registration.weights_digest))
    again = register(RELEASE, settings.home / "candidates", reports, settings=settings, record=record)
    assert again == registration.model_copy(update={"already_registered": True})


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_weights_are_not_registered(settings: NexusSettings, record: ReleaseRecord, damage: str) -> None:
    """Weights that are not the benchmarked ones are refused before a version exists."""
    candidates = settings.home / "candidates"
    reports = Reports(*make_reports(digest_folder(candidates / "bf16")))
    if damage == "missing":
        shutil.rmtree(candidates / "bf16")
    else:
        (candidates / "bf16" / "model.safetensors").write_bytes(b"w" * 100)
    with pytest.raises(RegistryError, match=r"truncated or changed|folder is missing"):
        register(RELEASE, candidates, reports, settings=settings, record=record)
    assert not Registry(settings)._client.search_model_versions(f"name = '{MODEL}'")


def test_fetch_copies_whole_versions_only(settings: NexusSettings, registration: Registration, tmp_path: Path) -> None:
    """By number and by alias; an unknown alias, a malformed URI and damaged artifacts leave no folder behind."""
    registry = Registry(settings)
    assert registry.fetch("models:/support-assistant/1", tmp_path / "a").version == "1"
    assert digest_folder(tmp_path / "a") == registration.weights_digest
    registry.fetch("models:/support-assistant@candidate", tmp_path / "b")
    for uri in (
        "models:/support-assistant@none",
        "models:/support-assistant/7",
        "runs:/x",
        "models:/support-assistant",
    ):
        with pytest.raises(RegistryError):
            registry.fetch(uri, tmp_path / "c")
    stored = Path(registration.storage_uri.removeprefix("file://")) / "model.safetensors"
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(RegistryError, match="truncated"):
        registry.fetch("models:/support-assistant/1", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_deployment_waits_for_candidate_and_its_clone(
    settings: NexusSettings, record: ReleaseRecord, registration: Registration
) -> None:
    """Both engines of the comparison must answer before the first user comes."""
    syncer = FakeSyncer()
    deployment = deploy(RELEASE, registration, settings=settings, record=record, syncer=syncer)
    assert deployment.committed_at == commit_time(settings, deployment.commit)
    assert deployment.baseline_service == f"{deployment.stable_service}-b{deployment.baseline_service[-4:]}"
    assert syncer.asked == [("ready", (deployment.candidate_service, deployment.baseline_service))]
    again = deploy(RELEASE, registration, settings=settings, record=record, syncer=FakeSyncer())
    assert again.model_copy(update={"ready_seconds": 0}) == deployment.model_copy(update={"ready_seconds": 0})
    assert record.read("deployment", Deployment) is not None


def end(settings: NexusSettings, record: ReleaseRecord, registration: Registration, deployment: Deployment):
    """Judge and conclude a deployment, as the pipeline does; no user is simulated."""
    verdict = analyze_in_git(StepContext(RELEASE, settings, record), deployment, settings.home)
    return conclude(RELEASE, registration, verdict, settings=settings, record=record, syncer=FakeSyncer())


def test_candidate_that_never_answers_is_rolled_back_by_one_commit(settings, record, registration) -> None:
    """A verdict, not an error: git, registry and record give the engine's exit code and last words."""
    gitops = GitOps.of(settings)
    before = gitops.head()
    syncer = candidate_fails()
    deployment = deploy(RELEASE, registration, settings=settings, record=record, syncer=syncer)
    assert syncer.asked[-1] == ("ready", (deployment.baseline_service,))
    conclusion = end(settings, record, registration, deployment)
    assert [c.trailers["Nexus-Step"] for c in gitops.log()[:2]] == ["rolled-back", "deployed"]
    after, newest = gitops.head(), gitops.log()[0]
    assert {path: after.read(path) for path in after.paths()} == {path: before.read(path) for path in before.paths()}
    reason = "never served: the engine exited with code 3: ValueError: last words"
    assert (conclusion.outcome, conclusion.reason, conclusion.commit) == ("rolled-back", reason, newest.sha)
    assert reason in newest.trailers["Nexus-Evidence"]
    assert reason in newest.subject
    assert aliases(settings) == {}
    assert version_tags(settings)["nexus.verdict_reason"] == reason
    assert record.read("conclusion", Conclusion) == conclusion
    assert holder_at(gitops.head(), MODEL, "local") is None
    assert finish(RELEASE, settings=settings, record=record, syncer=FakeSyncer()) == conclusion


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (node_is_down(), "no reconciler"),
        (baseline_fails(), "nothing can be said of the candidate"),
        (FakeSyncer(broken=lambda name: "-b" in name.removeprefix(MODEL)), "nothing can be said of the candidate"),
    ],
    ids=["node", "both", "baseline"],
)
def test_what_is_no_fault_of_the_candidate_is_an_error(settings, record, registration, broken, words: str) -> None:
    """Nothing is taken out, no verdict is spoken, and the release can be run again."""
    with pytest.raises(NodeError, match=words):
        deploy(RELEASE, registration, settings=settings, record=record, syncer=broken)
    assert release_state.read_release(GitOps.of(settings), RELEASE.release_id, settings.environment).deployed
    assert record.read("deployment", Deployment) is None
    assert aliases(settings) == {"candidate": 1}
    assert deploy(RELEASE, registration, settings=settings, record=record, syncer=FakeSyncer()).failure is None


def test_first_candidate_that_never_answers_leaves_nothing(template: Path, tmp_path: Path) -> None:
    """Without a stable version there is no control; the verdict is the same and nothing is served."""
    settings = prepare_home(tmp_path / "first", stable=False)
    record = ReleaseRecord(settings.release_dir(RELEASE.release_id))
    reports = Reports(*make_reports(digest_folder(settings.home / "candidates" / "bf16")))
    registration = register(RELEASE, settings.home / "candidates", reports, settings=settings, record=record)
    deployment = deploy(RELEASE, registration, settings=settings, record=record, syncer=candidate_fails())
    conclusion = end(settings, record, registration, deployment)
    assert (conclusion.outcome, conclusion.stable_service) == ("rolled-back", None)
    assert not GitOps.of(settings).head().paths(layout.services_folder(MODEL, "local"))


def test_cluster_profile_is_refused_before_anything_changes(settings, record, registration) -> None:
    """What waits for engines or asks the gateway has no way to do so there yet; git stays as it is."""
    cluster = settings.model_copy(update={"profile": Profile.CLUSTER})
    head = GitOps.of(settings).head().commit
    with pytest.raises(ProfileError, match="NEXUS_PROFILE=local"):
        deploy(RELEASE, registration, settings=cluster, record=record)
    assert GitOps.of(settings).head().commit == head
    deployment = deploy(RELEASE, registration, settings=settings, record=record, syncer=FakeSyncer())
    head = GitOps.of(settings).head().commit
    with pytest.raises(ProfileError):
        analyze_in_git(StepContext(RELEASE, cluster, record), deployment, settings.home)
    with pytest.raises(ProfileError):
        conclude(RELEASE, registration, make_verdict(RELEASE, Decision.PROMOTE), settings=cluster, record=record)
    assert GitOps.of(settings).head().commit == head


@pytest.mark.parametrize(
    ("decision", "outcome", "expected_aliases", "kept"),
    [
        (Decision.PROMOTE, ReleaseOutcome.PROMOTED, {"stable": 1}, "candidate"),
        (Decision.ROLL_BACK, ReleaseOutcome.ROLLED_BACK, {}, "stable"),
        (Decision.INCONCLUSIVE, ReleaseOutcome.HELD, {"candidate": 1}, None),
    ],
)
def test_verdict_reaches_git_registry_and_node(
    settings, record, registration, decision: Decision, outcome: ReleaseOutcome, expected_aliases, kept: str | None
) -> None:
    """Aliases, tags and the services that are waited for follow the verdict; a held release waits for nothing."""
    deployment = deploy(RELEASE, registration, settings=settings, record=record, syncer=FakeSyncer())
    syncer = FakeSyncer()
    verdict = make_verdict(RELEASE, decision)
    conclusion = conclude(RELEASE, registration, verdict, settings=settings, record=record, syncer=syncer)
    service = {"candidate": deployment.candidate_service, "stable": deployment.stable_service}.get(kept)
    assert conclusion.outcome is outcome
    assert conclusion.committed_at == commit_time(settings, conclusion.commit)
    assert conclusion.stable_service == (service or deployment.stable_service)
    assert syncer.asked == ([("ready", (service,)), ("gone", (service,))] if service else [])
    assert aliases(settings) == expected_aliases
    tags = version_tags(settings)
    assert (tags["nexus.commit"], tags["nexus.evidence"]) == (conclusion.commit, conclusion.evidence)
    artifacts = Path(registration.storage_uri.removeprefix("file://")).parent
    assert (artifacts / f"verdict-{RELEASE.release_id}.json").exists()


def test_node_that_does_not_follow_leaves_the_verdict_and_is_retried(settings, record, registration) -> None:
    """The commit stands; the next run brings registry and record to agree with it."""
    deploy(RELEASE, registration, settings=settings, record=record, syncer=FakeSyncer())
    verdict = make_verdict(RELEASE, Decision.PROMOTE)
    record.publish("verdict", verdict)
    with pytest.raises(NodeError):
        conclude(RELEASE, registration, verdict, settings=settings, record=record, syncer=node_is_down())
    assert release_state.read_release(GitOps.of(settings), RELEASE.release_id, settings.environment).finished
    assert record.read("conclusion", Conclusion) is None
    finish(RELEASE, settings=settings, record=record, syncer=FakeSyncer())
    assert aliases(settings) == {"stable": 1}
    assert record.read("conclusion", Conclusion).reason == verdict.reason


def test_verdict_on_another_release_is_refused(settings, record, registration) -> None:
    """Documents of two releases are never mixed."""
    with pytest.raises(ReleaseStateError, match=STABLE.release_id):
        conclude(
            RELEASE,
            registration,
            make_verdict(STABLE, Decision.PROMOTE),
            settings=settings,
            record=record,
            syncer=FakeSyncer(),
        )


def test_unfinished_release_cannot_be_finished(settings, record, registration) -> None:
    """Finishing needs an ending in git."""
    deploy(RELEASE, registration, settings=settings, record=record, syncer=FakeSyncer())
    with pytest.raises(ReleaseStateError, match="to have ended"):
        finish(RELEASE, settings=settings, record=record, syncer=FakeSyncer())


def test_abandoning_is_a_rollback_with_a_reason(settings, record, registration) -> None:
    """Everything is taken out, the alias goes, and the conclusion gives the person's words."""
    with pytest.raises(NotDeployedError):
        abandon(RELEASE, reason="no time", settings=settings, record=record, syncer=FakeSyncer())
    deploy(RELEASE, registration, settings=settings, record=record, syncer=FakeSyncer())
    conclusion = abandon(RELEASE, reason="no time", settings=settings, record=record, syncer=FakeSyncer())
    assert (conclusion.outcome, conclusion.reason) == (ReleaseOutcome.ROLLED_BACK, "no time")
    assert aliases(settings) == {}
    assert version_tags(settings)["nexus.verdict"] == "abandoned"


def test_rejection_touches_neither_registry_nor_files(settings: NexusSettings, record: ReleaseRecord) -> None:
    """It says which candidate failed which gate, and does so once."""
    benchmark = make_reports(write_weights(settings.home / "w"))[3]
    loser = benchmark.candidates[0].model_copy(update={"passed": False, "why_not_chosen": "exact match 0.5 below 0.75"})
    report = benchmark.model_copy(update={"passed": False, "winner": None, "candidates": (loser,)})
    first = reject(RELEASE, report, settings=settings, record=record)
    assert reject(RELEASE, report, settings=settings, record=record) == first
    assert "exact match 0.5 below 0.75" in first.reason
    assert first.committed_at == commit_time(settings, first.commit)
    assert not Registry(settings)._client.search_registered_models()


def commit_time(settings: NexusSettings, commit: str) -> int:
    """Ask git."""
    return int(GitOps.of(settings).git("show", "--no-patch", "--format=%ct", commit))
