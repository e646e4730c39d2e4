"""Deploy a registered candidate by one commit and wait until its engine has answered a real completion."""

from __future__ import annotations

import time

from serving import release_state
from serving.contracts.conclusion import Conclusion, ReleaseOutcome
from serving.contracts.registration import Deployment, Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import GitOps
from serving.local.errors import EngineError
from serving.record import ReleaseRecord
from serving.registry import CANDIDATE_ALIAS
from serving.registry_host import open_registry
from serving.release_documents import baseline_name, service_name
from serving.settings import NexusSettings
from serving.sync import LocalSyncer, Syncer

STEP = "deploy_kserve"
_SYNC_SECONDS = 30.0
"""On top of the engines' own time: the reconciler's round, pruning, and a gateway that has to be started."""


class NeverReadyError(Exception):
    """The candidate or the baseline never answered and was taken out again; the message ends with its last words."""


def deploy(
    release: ResolvedRelease,
    registration: Registration,
    *,
    settings: NexusSettings,
    record: ReleaseRecord,
    syncer: Syncer | None = None,
) -> Deployment:
    """Commit candidate and baseline at 0 % and wait for their engines.

    Args:
        release: Release to deploy.
        registration: Its registered weights.
        settings: Name the repository and environment.
        record: Receives progress and the document `deployment`.
        syncer: Who makes the cluster follow git; the local node by default.

    Raises:
        NeverReadyError: An engine never answered; one commit has taken both out again.
        ReleaseHeldError: Another release of the model is not judged yet.
        ReleaseEndedError: This release was judged already.
        NodeError: The node does not run; nothing is taken out, run the release again.
    """
    gitops = GitOps.of(settings)
    with record.step(STEP) as progress:
        started = time.monotonic()
        state = release_state.deploy_candidate(gitops, release, registration, settings.environment)
        release_state.require_unjudged(state)
        deployment = _deployment(gitops, release, registration, settings)
        services = [name for name in (deployment.candidate_service, deployment.baseline_service) if name]
        progress.say(f"waiting for {' and '.join(services)}")
        try:
            timeout = _ready_seconds(gitops, release, settings)
            head = gitops.head().commit or deployment.commit
            (syncer or LocalSyncer(settings)).wait_ready(head, services, timeout, progress.say)
        except EngineError as exc:
            _take_out(gitops, release, registration, settings=settings, record=record, reason=str(exc))
            raise NeverReadyError(f"never ready, taken out again by one commit: {exc}") from exc
        deployment = deployment.model_copy(update={"ready_seconds": time.monotonic() - started})
        record.publish("deployment", deployment)
        progress.summary = f"{', '.join(services)} ready after {deployment.ready_seconds:.1f} s"
    return deployment


def _deployment(
    gitops: GitOps, release: ResolvedRelease, registration: Registration, settings: NexusSettings
) -> Deployment:
    state = release_state.read_release(gitops, release.release_id)
    version = release_state.read_version(gitops, release.spec.model, settings.environment)
    commit = state.commit(release_state.Step.DEPLOYED)
    assert commit is not None
    stable = version.spec.service if version else None
    return Deployment(
        model=release.spec.model,
        release_id=release.release_id,
        candidate_service=service_name(release, registration.weights_digest),
        stable_service=stable,
        baseline_service=baseline_name(stable, release.release_id) if stable else None,
        commit=commit,
        ready_seconds=0,
    )


def _ready_seconds(gitops: GitOps, release: ResolvedRelease, settings: NexusSettings) -> float:
    """Bound the wait: on a small machine the two engines start one after the other, each within its own limit."""
    version = release_state.read_version(gitops, release.spec.model, settings.environment)
    engines = [release.spec.engine, *([version.spec.engine] if version else [])]
    return sum(engine.ready_timeout_seconds for engine in engines) + _SYNC_SECONDS


def _take_out(
    gitops: GitOps,
    release: ResolvedRelease,
    registration: Registration,
    *,
    settings: NexusSettings,
    record: ReleaseRecord,
    reason: str,
) -> None:
    model = release.spec.model
    evidence = f"engine never answered a completion within its {release.spec.engine.ready_timeout_seconds:g} s"
    commit = release_state.roll_back(
        gitops,
        release.release_id,
        model=model,
        environment=settings.environment,
        reason="never ready",
        verdict="never-ready",
        evidence=evidence,
    )
    registry = open_registry(settings)
    registry.tag(model, registration.version, {"nexus.verdict": "never-ready", "nexus.commit": commit})
    registry.drop_alias(model, CANDIDATE_ALIAS, registration.version)
    version = release_state.read_version(gitops, model, settings.environment)
    conclusion = Conclusion(
        release_id=release.release_id,
        model=model,
        outcome=ReleaseOutcome.ROLLED_BACK,
        reason=f"never ready: {reason}",
        commit=commit,
        evidence=evidence,
        registry_version=registration.version,
        stable_service=version.spec.service if version else None,
    )
    record.publish("conclusion", conclusion)
