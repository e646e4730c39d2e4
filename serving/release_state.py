"""A release as a state machine in git: every transition is one commit with trailers.

Each change is a function of the head it is applied to, so it is redone whole when another push wins, and a transition
that is already done returns its commit. What git says about a release is read by `release_history`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving import layout
from serving import release_documents as documents
from serving import release_guards as guards
from serving import release_history as history
from serving.contracts.registration import Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.environment_seed import seed_environment
from serving.gitops import Change, GitOps, Snapshot
from serving.release_changes import add_candidate, keep_one, weighted_route
from serving.release_guards import require_free, require_unjudged
from serving.release_history import (
    NotDeployedError,
    ReleaseEndedError,
    ReleaseHeldError,
    ReleaseState,
    ReleaseStateError,
    Step,
    read_release,
    read_version,
)
from serving.wording import shorten

__all__ = [
    "NotDeployedError",
    "ReleaseEndedError",
    "ReleaseHeldError",
    "ReleaseState",
    "ReleaseStateError",
    "Step",
    "abandon",
    "deploy_candidate",
    "hold",
    "promote",
    "read_release",
    "read_version",
    "reject",
    "require_free",
    "require_unjudged",
    "roll_back",
    "seed_environment",
    "shift_weight",
]


def deploy_candidate(
    gitops: GitOps, release: ResolvedRelease, registration: Registration, environment: str
) -> ReleaseState:
    """Add the candidate's service and the stable version's same-age clone; the candidate gets 0 % of the users.

    On a first release there is no clone and no route: nothing answers for the model until it is promoted.

    Raises:
        ReleaseHeldError: Another release of the model is not judged yet.
        NotDeployedError: The environment has no gateway policy.
        ReleaseStateError: The release is deployed with another candidate.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        state = history.release_at(head, release.release_id, environment)
        if state.transitions:
            guards.require_same(head, state, release, registration, environment)
            return None
        guards.require_free_at(head, release.release_id, release.spec.model, environment)
        if head.read(layout.policy_path(environment)) is None:
            raise NotDeployedError(
                f"expected a gateway policy at {layout.policy_path(environment)}; there is none: run `nexus up` first"
            )
        return add_candidate(head, release, registration, environment)

    subject = f"Deploy {release.release_id} ({release.name}) at 0 %"
    return _transition(gitops, release.release_id, environment, Step.DEPLOYED, change, subject)


def shift_weight(gitops: GitOps, release_id: str, *, model: str, environment: str, weight: int) -> str:
    """Give the candidate and the baseline `weight` percent of the users each; return the commit that did.

    A first release has one step, 100 percent, for nobody else answers.

    Raises:
        ReleaseEndedError: The release was judged already.
        NotDeployedError: The release is not deployed.
        ValueError: The weight is outside 0 to 50, or not 100 on a first release.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        require_unjudged(history.release_at(head, release_id, environment))
        return weighted_route(head, release_id, model=model, environment=environment, weight=weight)

    extra = {history.WEIGHT_TRAILER: str(weight)}
    subject = f"Shift {release_id} to {weight} %"
    state = _transition(gitops, release_id, environment, Step.CANARY, change, subject, extra)
    commit = state.commit(Step.CANARY, weight) or state.commit(Step.DEPLOYED)
    assert commit is not None
    return commit


def promote(
    gitops: GitOps,
    release: ResolvedRelease,
    registration: Registration,
    *,
    environment: str,
    verdict: str,
    evidence: str,
) -> str:
    """Make the candidate the stable version at 100 %, remove every other service; return the commit.

    Raises:
        ReleaseEndedError: The release was rolled back or rejected.
        NotDeployedError: It was never deployed.
    """
    version = documents.version_document(release, registration)

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        if guards.has_ended_as(history.release_at(head, release.release_id, environment), Step.PROMOTED):
            return None
        path = layout.version_path(release.spec.model, environment)
        return {**keep_one(head, release.spec.model, environment, version), path: documents.to_yaml(version)}

    subject = f"Promote {release.release_id} ({release.name})"
    judged = _Judged(Step.PROMOTED, verdict, evidence)
    return _conclude(gitops, release.release_id, environment, judged, change, subject)


def roll_back(
    gitops: GitOps, release_id: str, *, model: str, environment: str, reason: str, verdict: str, evidence: str
) -> str:
    """Take candidate and baseline out again, all users back to stable; return the commit.

    Raises:
        ReleaseEndedError: The release was promoted or rejected.
        NotDeployedError: It was never deployed.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        if guards.has_ended_as(history.release_at(head, release_id, environment), Step.ROLLED_BACK):
            return None
        return keep_one(head, model, environment, history.version_at(head, model, environment))

    judged = _Judged(Step.ROLLED_BACK, verdict, evidence)
    return _conclude(gitops, release_id, environment, judged, change, f"Roll back {release_id}: {reason}")


def hold(gitops: GitOps, release_id: str, *, environment: str, reason: str, evidence: str) -> str:
    """Record that the test could not decide; weights stay and running the release again carries on.

    Raises:
        ReleaseEndedError: The release was judged already.
        NotDeployedError: It was never deployed.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        state = history.release_at(head, release_id, environment)
        require_unjudged(state)
        last = state.last
        return None if last and (last.step, last.evidence) == (Step.HELD, evidence) else {}

    judged = _Judged(Step.HELD, "inconclusive", evidence)
    return _conclude(gitops, release_id, environment, judged, change, f"Hold {release_id}: {reason}")


def reject(gitops: GitOps, release: ResolvedRelease, *, environment: str, reason: str, evidence: str) -> str:
    """Record that no candidate passed its offline gates; nothing was deployed and nothing changes.

    Raises:
        ReleaseStateError: The release is deployed or has ended another way.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        state = history.release_at(head, release.release_id, environment)
        if state.deployed:
            raise ReleaseStateError(
                f"expected {release.release_id} not to be deployed when it is rejected; it is: abandon it instead"
            )
        return None if state.transitions and guards.has_ended_as(state, Step.REJECTED) else {}

    subject = f"Reject {release.release_id} ({release.name}): {reason}"
    judged = _Judged(Step.REJECTED, "rejected", evidence)
    return _conclude(gitops, release.release_id, environment, judged, change, subject)


def abandon(gitops: GitOps, release_id: str, *, model: str, environment: str, reason: str) -> str:
    """Roll back a release that nobody will judge; return the commit.

    Raises:
        ReleaseEndedError: The release was promoted or rejected.
        NotDeployedError: It was never deployed, so there is nothing to take out.
    """
    return roll_back(
        gitops, release_id, model=model, environment=environment, reason=reason, verdict="abandoned", evidence=reason
    )


@dataclass(frozen=True)
class _Judged:
    """A transition that is a verdict."""

    step: Step
    verdict: str
    evidence: str


def _conclude(gitops: GitOps, release_id: str, environment: str, judged: _Judged, change: Change, subject: str) -> str:
    extra = {history.VERDICT_TRAILER: judged.verdict, history.EVIDENCE_TRAILER: judged.evidence}
    state = _transition(gitops, release_id, environment, judged.step, change, shorten(subject), extra)
    commit = state.commit(judged.step)
    if commit is None:
        raise ReleaseStateError(
            f"expected a commit with step {judged.step.value!r} of {release_id} in {environment!r}; git has none: its "
            "history was rewritten, restore it"
        )
    return commit


def _transition(
    gitops: GitOps,
    release_id: str,
    environment: str,
    step: Step,
    change: Change,
    subject: str,
    extra: Mapping[str, str] | None = None,
) -> ReleaseState:
    trailers = {
        history.RELEASE_TRAILER: release_id,
        history.ENVIRONMENT_TRAILER: environment,
        history.STEP_TRAILER: step.value,
    }
    gitops.commit(change, subject, {**trailers, **(extra or {})})
    return read_release(gitops, release_id, environment)
