"""Deploy a registered candidate by one commit and wait until its engine has answered a real completion."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving import release_state
from serving.contracts.registration import Deployment, Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import GitOps
from serving.local.errors import NodeError
from serving.record import ReleaseRecord
from serving.release_documents import baseline_name, service_name
from serving.settings import NexusSettings
from serving.sync import EngineFailure, NotServedError, Syncer, open_syncer

STEP = "deploy_kserve"
_SYNC_SECONDS = 30.0
"""On top of the engines' own time: the reconciler's round, pruning, and a gateway that has to be started."""


def deploy(
    release: ResolvedRelease,
    registration: Registration,
    *,
    settings: NexusSettings,
    record: ReleaseRecord,
    syncer: Syncer | None = None,
) -> Deployment:
    """Commit candidate and baseline at 0 % and wait for their engines.

    A candidate whose own engine never answers is part of the result (`Deployment.failure`): the judge rolls it back. It
    is believed only once the baseline, which runs on the same machine, answers.

    Args:
        release: Release to deploy.
        registration: Its registered weights.
        settings: Name the repository and environment.
        record: Receives progress and the document `deployment`.
        syncer: Who makes the cluster follow git; that of the settings' profile by default.

    Raises:
        ProfileError: The profile has no syncer.
        NodeError: The node does not run, the baseline does not answer, or weights or disk are at fault; nothing is
            taken out, run the release again.
        ReleaseHeldError: Another release of the model is not judged yet.
        ReleaseEndedError: This release was judged already.
    """
    with record.step(STEP) as progress:
        follower = syncer or open_syncer(settings)
        gitops = GitOps.of(settings)
        started = time.monotonic()
        state = release_state.deploy_candidate(gitops, release, registration, settings.environment)
        release_state.require_unjudged(state)
        deployment = _deployment(gitops, release, registration, settings)
        head = gitops.head().commit or deployment.commit
        timeout = _ready_seconds(gitops, release, settings)

        def wait(*services: str) -> None:
            progress.say(f"waiting for {' and '.join(services)}")
            follower.wait_ready(head, services, timeout, progress.say)

        failure = _candidate_failure(deployment, wait)
        seconds = time.monotonic() - started
        deployment = deployment.model_copy(update={"ready_seconds": seconds, **_told(failure)})
        record.publish("deployment", deployment)
        outcome = f"never answered: {failure.reason}" if failure else f"ready after {seconds:.1f} s"
        progress.summary = f"{deployment.candidate_service} {outcome}"
    return deployment


def _candidate_failure(deployment: Deployment, wait: Callable[..., None]) -> EngineFailure | None:
    """Wait for the engines; return how the candidate's own one failed, None when all answer.

    Raises:
        NodeError: Anything else is at fault.
    """
    candidate, baseline = deployment.candidate_service, deployment.baseline_service
    try:
        wait(*(name for name in (candidate, baseline) if name))
    except NotServedError as exc:
        failure = exc.failures.get(candidate)
        if failure is None or baseline in exc.failures:
            raise _not_its_fault(baseline, exc) from exc
        if baseline is not None:
            try:
                wait(baseline)
            except NodeError as other:
                raise _not_its_fault(baseline, other) from other
        return failure
    return None


def _not_its_fault(baseline: str | None, exc: NodeError) -> NodeError:
    return NodeError(
        f"expected {baseline}, the clone of the stable version, to answer on this machine; it does not, so nothing can "
        f"be said of the candidate: mend what follows and run the release again\n{exc}"
    )


def _told(failure: EngineFailure | None) -> dict[str, object]:
    return {"failure": failure.reason, "last_words": failure.last_words} if failure else {}


def _deployment(
    gitops: GitOps, release: ResolvedRelease, registration: Registration, settings: NexusSettings
) -> Deployment:
    state = release_state.read_release(gitops, release.release_id, settings.environment)
    version = release_state.read_version(gitops, release.spec.model, settings.environment)
    deployed = state.newest(release_state.Step.DEPLOYED)
    assert deployed is not None
    stable = version.spec.service if version else None
    return Deployment(
        model=release.spec.model,
        release_id=release.release_id,
        candidate_service=service_name(release, registration.weights_digest),
        stable_service=stable,
        baseline_service=baseline_name(stable, release.release_id) if stable else None,
        commit=deployed.commit,
        committed_at=deployed.time,
        ready_seconds=0,
    )


def _ready_seconds(gitops: GitOps, release: ResolvedRelease, settings: NexusSettings) -> float:
    """Bound the wait: on a small machine the two engines start one after the other, each within its own limit."""
    version = release_state.read_version(gitops, release.spec.model, settings.environment)
    engines = [release.spec.engine, *([version.spec.engine] if version else [])]
    return sum(engine.ready_timeout_seconds for engine in engines) + _SYNC_SECONDS
