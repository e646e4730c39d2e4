"""Conclude a release: one commit that promotes, rolls back or holds, then registry and node are brought to agree.

Git decides. Everything after the commit can be done again, so a kill anywhere ends in the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from components.conclude_release.evidence import summarise
from serving import release_documents as documents
from serving import release_state
from serving.contracts.canary_verdict import CanaryVerdict, Decision
from serving.contracts.conclusion import Conclusion, ReleaseOutcome
from serving.contracts.registration import Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import GitOps
from serving.record import Progress, ReleaseRecord
from serving.registry import CANDIDATE_ALIAS, STABLE_ALIAS
from serving.registry_host import RegistryCalls, open_registry
from serving.release_history import ReleaseState, ReleaseStateError, Step
from serving.settings import NexusSettings
from serving.sync import Syncer, open_syncer

STEP: Final = "conclude_release"
_SYNC_SECONDS: Final = 120.0
"""The gateway drains the losing side (60 s, KServe's grace) and its engine stops before the node is in sync."""

_OUTCOMES: Final = {
    Step.PROMOTED: ReleaseOutcome.PROMOTED,
    Step.ROLLED_BACK: ReleaseOutcome.ROLLED_BACK,
    Step.HELD: ReleaseOutcome.HELD,
    Step.REJECTED: ReleaseOutcome.REJECTED,
}


@dataclass(frozen=True)
class _Ending:
    """A release whose verdict stands in git, and what is known of it."""

    release: ResolvedRelease
    state: ReleaseState
    reason: str
    registration: Registration | None


def conclude(
    release: ResolvedRelease,
    registration: Registration,
    verdict: CanaryVerdict,
    *,
    settings: NexusSettings,
    record: ReleaseRecord,
    syncer: Syncer | None = None,
) -> Conclusion:
    """Carry out the canary's verdict.

    Args:
        release: Release that was judged.
        registration: Its model version.
        verdict: What the canary decided.
        settings: Name the repository, environment and registry.
        record: Receives progress and the document `conclusion`.
        syncer: Who makes the cluster follow git; that of the settings' profile by default.

    Raises:
        ProfileError: The profile has no syncer.
        ReleaseEndedError: The release has ended another way.
        NodeError: The node did not follow the commit in time; the verdict stands, run the release again.
    """
    if verdict.release_id != release.release_id:
        raise ReleaseStateError(
            f"expected the verdict on {release.release_id}; got the one on {verdict.release_id}: judge it again"
        )
    with record.step(STEP) as progress:
        syncer = syncer or open_syncer(settings)
        gitops = GitOps.of(settings)
        _decide(gitops, release, registration, verdict, environment=settings.environment)
        state = release_state.read_release(gitops, release.release_id, settings.environment)
        ending = _Ending(release, state, verdict.reason, registration)
        _sync(gitops, ending, settings=settings, progress=progress, syncer=syncer)
        _settle(open_registry(settings), ending, verdict)
        return _publish(gitops, ending, settings=settings, record=record, progress=progress)


def finish(
    release: ResolvedRelease, *, settings: NexusSettings, record: ReleaseRecord, syncer: Syncer | None = None
) -> Conclusion:
    """Bring registry, node and record to agree with an ending that stands in git already.

    Args:
        release: Release that has ended.
        settings: Name the repository, environment and registry.
        record: Receives progress and the document `conclusion`.
        syncer: Who makes the cluster follow git; that of the settings' profile by default.

    Raises:
        ReleaseStateError: The release has not ended.
        NodeError: The node did not follow the commit in time; run the release again.
    """
    with record.step(STEP) as progress:
        syncer = syncer or open_syncer(settings)
        gitops = GitOps.of(settings)
        state = release_state.read_release(gitops, release.release_id, settings.environment)
        if not state.finished or state.last is None:
            raise ReleaseStateError(f"expected {release.release_id} to have ended; it has not: run it again")
        verdict = record.read("verdict", CanaryVerdict)
        verdict = verdict if verdict and _STEPS[verdict.decision] is state.last.step else None
        registration = record.read("registration", Registration)
        reason = verdict.reason if verdict else (state.last.evidence or state.last.step.value)
        ending = _Ending(release, state, reason, registration)
        _sync(gitops, ending, settings=settings, progress=progress, syncer=syncer)
        if registration is not None:
            _settle(open_registry(settings), ending, verdict)
        return _publish(gitops, ending, settings=settings, record=record, progress=progress)


def abandon(
    release: ResolvedRelease,
    *,
    reason: str,
    settings: NexusSettings,
    record: ReleaseRecord,
    syncer: Syncer | None = None,
) -> Conclusion:
    """Take an unjudged release out again, because a person says so.

    Args:
        release: Release to take out.
        reason: Why; stands in the commit.
        settings: Name the repository, environment and registry.
        record: Receives progress and the document `conclusion`.
        syncer: Who makes the cluster follow git; that of the settings' profile by default.

    Raises:
        NotDeployedError: The release was never deployed; there is nothing to take out.
        ReleaseEndedError: The release was promoted or rejected.
    """
    model, environment = release.spec.model, settings.environment
    release_state.abandon(GitOps.of(settings), release.release_id, model=model, environment=environment, reason=reason)
    return finish(release, settings=settings, record=record, syncer=syncer)


def _decide(
    gitops: GitOps, release: ResolvedRelease, registration: Registration, verdict: CanaryVerdict, *, environment: str
) -> None:
    evidence = summarise(verdict)
    if verdict.decision is Decision.PROMOTE:
        release_state.promote(
            gitops,
            release,
            registration,
            environment=environment,
            verdict=verdict.decision.value,
            evidence=evidence,
        )
    elif verdict.decision is Decision.ROLL_BACK:
        release_state.roll_back(
            gitops,
            release.release_id,
            model=release.spec.model,
            environment=environment,
            reason=verdict.reason,
            verdict=verdict.decision.value,
            evidence=evidence,
        )
    else:
        release_state.hold(
            gitops, release.release_id, environment=environment, reason=verdict.reason, evidence=evidence
        )


_STEPS: Final = {
    Decision.PROMOTE: Step.PROMOTED,
    Decision.ROLL_BACK: Step.ROLLED_BACK,
    Decision.INCONCLUSIVE: Step.HELD,
}


def _sync(gitops: GitOps, ending: _Ending, *, settings: NexusSettings, progress: Progress, syncer: Syncer) -> None:
    """Wait until the node follows the ending: the winner answers, the losers are drained and gone."""
    if not ending.state.finished:
        return
    head = gitops.head()
    version = release_state.read_version(gitops, ending.release.spec.model, settings.environment)
    assert head.commit is not None
    kept = [version.spec.service] if version else []
    model = ending.release.spec.model
    syncer.wait_ready(head.commit, kept, _SYNC_SECONDS, progress.say)
    syncer.wait_gone(lambda service: documents.serves(model, service), kept, _SYNC_SECONDS, progress.say)


def _settle(registry: RegistryCalls, ending: _Ending, verdict: CanaryVerdict | None) -> None:
    """Tell the registry; every call sets a value, so doing it twice changes nothing."""
    registration, last, model = ending.registration, ending.state.last, ending.release.spec.model
    assert registration is not None
    assert last is not None
    if verdict is not None:
        name = f"verdict-{ending.release.release_id}.json"
        registry.log_document(registration.run_id, name, verdict.model_dump_json(indent=2))
    found = {
        "nexus.verdict": last.verdict or last.step.value,
        "nexus.verdict_reason": ending.reason,
        "nexus.evidence": last.evidence or "",
        "nexus.commit": last.commit,
    }
    registry.tag(model, registration.version, found)
    if last.step is Step.PROMOTED:
        registry.set_alias(model, STABLE_ALIAS, registration.version)
    if ending.state.finished:
        registry.drop_alias(model, CANDIDATE_ALIAS, registration.version)


def _publish(
    gitops: GitOps, ending: _Ending, *, settings: NexusSettings, record: ReleaseRecord, progress: Progress
) -> Conclusion:
    release, last = ending.release, ending.state.last
    assert last is not None
    version = release_state.read_version(gitops, release.spec.model, settings.environment)
    conclusion = Conclusion(
        release_id=release.release_id,
        model=release.spec.model,
        outcome=_OUTCOMES[last.step],
        reason=ending.reason,
        commit=last.commit,
        committed_at=last.time,
        evidence=last.evidence or "",
        registry_version=ending.registration.version if ending.registration else None,
        stable_service=version.spec.service if version else None,
    )
    record.publish("conclusion", conclusion)
    progress.summary = f"{conclusion.outcome} by commit {last.commit[:12]}"
    return conclusion
