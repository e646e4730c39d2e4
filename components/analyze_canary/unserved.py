"""The verdict on a candidate whose own engine never answered: no user can meet it, so no test is needed."""

from __future__ import annotations

from serving.contracts.canary_verdict import CanaryVerdict, Decision
from serving.contracts.registration import Deployment
from serving.contracts.release_spec import ResolvedRelease
from serving.wording import shorten


def unserved_verdict(release: ResolvedRelease, deployment: Deployment, failure: str) -> CanaryVerdict:
    """Roll back, because of how the engine failed; its last log lines are the verdict's notes.

    Args:
        release: Release that was deployed.
        deployment: Its services, and the engine's last words.
        failure: How the engine failed.
    """
    words = deployment.last_words
    return CanaryVerdict(
        release_id=release.release_id,
        decision=Decision.ROLL_BACK,
        reason=shorten(f"never served: {failure}" + (f": {words[-1].strip()}" if words else "")),
        first_release=deployment.stable_service is None,
        alpha=release.spec.canary.alpha,
        metrics=(),
        steps=(),
        candidate_requests=0,
        baseline_requests=0,
        total_requests=0,
        users_total=0,
        users_on_candidate=0,
        max_weight_percent=0,
        seconds=deployment.ready_seconds,
        notes=tuple(f"engine: {line}" for line in words),
    )
