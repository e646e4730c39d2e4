"""The canary of a real release: weights are commits of the GitOps repository, users come through the node's gateway."""

from __future__ import annotations

from pathlib import Path

from components.analyze_canary.logic import analyze
from serving import release_state
from serving.contracts.canary_verdict import CanaryVerdict
from serving.contracts.registration import Deployment
from serving.step_context import StepContext
from serving.sync import require_local


def analyze_in_git(step: StepContext, deployment: Deployment, data: Path) -> CanaryVerdict:
    """Judge a deployed candidate; a weight that git has already is where a killed analysis goes on.

    Args:
        step: Release, settings and record.
        deployment: Services of the release.
        data: Folder with `live.jsonl`.

    Raises:
        ProfileError: No gateway can be asked outside the local profile.
        ReleaseEndedError: The release was judged or abandoned meanwhile.
    """
    require_local(step.settings)
    gitops, release = step.gitops, step.release
    state = release_state.read_release(gitops, release.release_id, step.settings.environment)

    def shift(weight: int) -> str:
        return release_state.shift_weight(
            gitops,
            release.release_id,
            model=release.spec.model,
            environment=step.settings.environment,
            weight=weight,
        )

    return analyze(
        release,
        deployment,
        settings=step.settings,
        record=step.record,
        shift=shift,
        data=data,
        gateway_url=step.settings.gateway,
        resume_weight=state.weight_percent,
    )
