"""What must hold before a transition: model free, release deployed and unjudged, weights the same.

Each guard looks at one head and raises an error that names the next action.
"""

from __future__ import annotations

from serving import release_documents as documents
from serving import release_history as history
from serving.contracts.registration import Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import GitOps, Snapshot
from serving.release_history import (
    NotDeployedError,
    ReleaseEndedError,
    ReleaseHeldError,
    ReleaseState,
    ReleaseStateError,
    Step,
)


def require_free(gitops: GitOps, release: ResolvedRelease, environment: str) -> None:
    """Refuse a release while another one of its model is between states.

    Raises:
        ReleaseHeldError: Names the other one and the commands that end it.
    """
    require_free_at(gitops.head(), release.release_id, release.spec.model, environment)


def require_free_at(head: Snapshot, release_id: str, model: str, environment: str) -> None:
    """Refuse as `require_free` does, as of one commit."""
    holder = history.holder_at(head, model, environment)
    if holder is not None and holder != release_id:
        raise ReleaseHeldError(release_id, model, holder)


def require_same(
    head: Snapshot, state: ReleaseState, release: ResolvedRelease, registration: Registration, environment: str
) -> None:
    """Refuse to go on with other weights than those that are deployed: they were never judged.

    Raises:
        ReleaseStateError: Names the deployed candidate and the way out.
    """
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


def has_ended_as(state: ReleaseState, end: Step) -> bool:
    """Tell whether the release ended this way; another way is an error, and so is never having been deployed.

    Raises:
        NotDeployedError: It was never deployed.
        ReleaseEndedError: It ended another way.
    """
    if state.last is not None and state.last.step is end:
        return True
    require_unjudged(state)
    return False
