"""A release as a state machine in git: every transition is one commit with trailers.

Each change is a function of the head it is applied to, so it is redone whole when another push wins, and a transition
that is already done returns its commit. What git says about a release is read by `release_history`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from serving import layout
from serving import release_documents as documents
from serving import release_history as history
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.load import parse_document
from serving.contracts.registration import Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import Change, GitOps, Snapshot
from serving.release_changes import add_candidate, keep_one, weighted_route
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

_REPOSITORY = Path(__file__).resolve().parent.parent


def seed_environment(gitops: GitOps, environment: str, policy_text: str | None = None) -> str | None:
    """Write the gateway policy into an environment that has none.

    Args:
        gitops: Repository; must exist (`ensure`).
        environment: Folder under `envs/`.
        policy_text: Policy document; by default the one this installation ships for the environment.

    Returns:
        The commit, or None when there was a policy.

    Raises:
        DocumentError: The policy is wrong.
        FileNotFoundError: This installation ships none for the environment.
    """
    path = layout.policy_path(environment)
    if gitops.head().read(path) is not None:
        return None
    text = (_REPOSITORY / path).read_text() if policy_text is None else policy_text
    parse_document(text, GatewayPolicy, source=path)

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        return {path: text} if head.read(path) is None else None

    return gitops.commit(change, f"Seed environment {environment}", {history.STEP_TRAILER: "seeded"})


def require_free(gitops: GitOps, release: ResolvedRelease, environment: str) -> None:
    """Refuse a release while another one of its model is between states.

    Raises:
        ReleaseHeldError: Names the other one and the commands that end it.
    """
    _require_free(gitops.head(), release.release_id, release.spec.model, environment)


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
        state = history.release_at(head, release.release_id)
        if state.transitions:
            _require_same(head, state, release, registration, environment)
            return None
        _require_free(head, release.release_id, release.spec.model, environment)
        if head.read(layout.policy_path(environment)) is None:
            raise NotDeployedError(
                f"expected a gateway policy at {layout.policy_path(environment)}; there is none: run `nexus up` first"
            )
        return add_candidate(head, release, registration, environment)

    subject = f"Deploy {release.release_id} ({release.name}) at 0 %"
    return _transition(gitops, release.release_id, Step.DEPLOYED, change, subject=subject)


def shift_weight(gitops: GitOps, release_id: str, *, model: str, environment: str, weight: int) -> str:
    """Give the candidate and the baseline `weight` percent of the users each; return the commit that did.

    A first release has one step, 100 percent, for nobody else answers.

    Raises:
        ReleaseEndedError: The release was judged already.
        NotDeployedError: The release is not deployed.
        ValueError: The weight is outside 0 to 50, or not 100 on a first release.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        require_unjudged(history.release_at(head, release_id))
        return weighted_route(head, release_id, model=model, environment=environment, weight=weight)

    extra = {history.WEIGHT_TRAILER: str(weight)}
    subject = f"Shift {release_id} to {weight} %"
    state = _transition(gitops, release_id, Step.CANARY, change, subject=subject, extra=extra)
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
        if _already(history.release_at(head, release.release_id), Step.PROMOTED):
            return None
        path = layout.version_path(release.spec.model, environment)
        return {**keep_one(head, release.spec.model, environment, version), path: documents.to_yaml(version)}

    trailers = {history.VERDICT_TRAILER: verdict, history.EVIDENCE_TRAILER: evidence}
    subject = f"Promote {release.release_id} ({release.name})"
    state = _transition(gitops, release.release_id, Step.PROMOTED, change, subject=subject, extra=trailers)
    return _commit_of(state, Step.PROMOTED)


def roll_back(
    gitops: GitOps, release_id: str, *, model: str, environment: str, reason: str, verdict: str, evidence: str
) -> str:
    """Take candidate and baseline out again, all users back to stable; return the commit.

    Raises:
        ReleaseEndedError: The release was promoted or rejected.
        NotDeployedError: It was never deployed.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        if _already(history.release_at(head, release_id), Step.ROLLED_BACK):
            return None
        return keep_one(head, model, environment, history.version_at(head, model, environment))

    trailers = {history.VERDICT_TRAILER: verdict, history.EVIDENCE_TRAILER: evidence}
    subject = f"Roll back {release_id}: {reason}"[:160]
    state = _transition(gitops, release_id, Step.ROLLED_BACK, change, subject=subject, extra=trailers)
    return _commit_of(state, Step.ROLLED_BACK)


def hold(gitops: GitOps, release_id: str, *, reason: str, evidence: str) -> str:
    """Record that the test could not decide; weights stay and running the release again carries on.

    Raises:
        ReleaseEndedError: The release was judged already.
        NotDeployedError: It was never deployed.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        state = history.release_at(head, release_id)
        require_unjudged(state)
        last = state.last
        return None if last and (last.step, last.evidence) == (Step.HELD, evidence) else {}

    trailers = {history.VERDICT_TRAILER: "inconclusive", history.EVIDENCE_TRAILER: evidence}
    subject = f"Hold {release_id}: {reason}"[:160]
    return _commit_of(_transition(gitops, release_id, Step.HELD, change, subject=subject, extra=trailers), Step.HELD)


def reject(gitops: GitOps, release: ResolvedRelease, *, reason: str, evidence: str) -> str:
    """Record that no candidate passed its offline gates; nothing was deployed and nothing changes.

    Raises:
        ReleaseStateError: The release is deployed or has ended another way.
    """

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        state = history.release_at(head, release.release_id)
        if state.deployed:
            raise ReleaseStateError(
                f"expected {release.release_id} not to be deployed when it is rejected; it is: abandon it instead"
            )
        return None if state.transitions and _already(state, Step.REJECTED) else {}

    trailers = {history.VERDICT_TRAILER: "rejected", history.EVIDENCE_TRAILER: evidence}
    subject = f"Reject {release.release_id} ({release.name}): {reason}"[:160]
    return _commit_of(
        _transition(gitops, release.release_id, Step.REJECTED, change, subject=subject, extra=trailers), Step.REJECTED
    )


def abandon(gitops: GitOps, release_id: str, *, model: str, environment: str, reason: str) -> str:
    """Roll back a release that nobody will judge; return the commit.

    Raises:
        ReleaseEndedError: The release was promoted or rejected.
        NotDeployedError: It was never deployed, so there is nothing to take out.
    """
    return roll_back(
        gitops, release_id, model=model, environment=environment, reason=reason, verdict="abandoned", evidence=reason
    )


def _transition(
    gitops: GitOps, release_id: str, step: Step, change: Change, *, subject: str, extra: Mapping[str, str] | None = None
) -> ReleaseState:
    trailers = {history.RELEASE_TRAILER: release_id, history.STEP_TRAILER: step.value, **(extra or {})}
    gitops.commit(change, subject, trailers)
    return read_release(gitops, release_id)


def _commit_of(state: ReleaseState, step: Step) -> str:
    commit = state.commit(step)
    if commit is None:
        raise ReleaseStateError(
            f"expected a commit with step {step.value!r} of {state.release_id}; git has none: its history was rewritten"
        )
    return commit


def _require_free(head: Snapshot, release_id: str, model: str, environment: str) -> None:
    holder = history.holder_at(head, model, environment)
    if holder is not None and holder != release_id:
        raise ReleaseHeldError(release_id, model, holder)


def _require_same(
    head: Snapshot, state: ReleaseState, release: ResolvedRelease, registration: Registration, environment: str
) -> None:
    """Refuse to go on with other weights than those that are deployed: they were never judged."""
    service = documents.service_name(release, registration.weights_digest)
    deployed = history.services_at(head, release.spec.model, environment)
    if state.deployed and service not in deployed:
        raise ReleaseStateError(
            f"expected the candidate that {release.release_id} is deployed with, one of {deployed}; this run built "
            f"{service}, for the cache is gone or the code has changed: take the release out with `nexus release "
            "--abandon` and its spec, then release again with `--again`"
        )


def require_unjudged(state: ReleaseState) -> None:
    """Refuse a release that is not deployed, or has been judged.

    Raises:
        NotDeployedError: It was never deployed.
        ReleaseEndedError: It was promoted, rolled back or rejected.
    """
    if not state.transitions:
        raise NotDeployedError(f"expected {state.release_id} to be deployed; git has no commit of it: deploy it first")
    if state.finished:
        assert state.last is not None
        raise ReleaseEndedError(
            f"expected {state.release_id} to be running; it was {state.last.step} by {state.last.commit[:12]}"
        )


def _already(state: ReleaseState, end: Step) -> bool:
    """Tell whether the release ended this way; another way is an error, and so is never having been deployed."""
    if state.last is not None and state.last.step is end:
        return True
    require_unjudged(state)
    return False
