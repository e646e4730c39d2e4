"""Shift the traffic step by step, as fast as the judge's evidence allows, and decide.

Nothing here touches the serving cluster: `shift` commits a route, observations come back through the gateway's spool.
The state is the steps taken (release record) and the spools; a killed analysis that starts again reads both and goes
on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from components.analyze_canary.analysis import Analysis, Canary, Shift
from components.analyze_canary.judge import Judge
from components.analyze_canary.step_log import Clock
from components.analyze_canary.traffic import Traffic, simulated_users
from components.analyze_canary.unserved import unserved_verdict
from serving.contracts.canary_verdict import CanaryVerdict, Decision
from serving.contracts.registration import Deployment
from serving.contracts.release_spec import ResolvedRelease
from serving.record import ReleaseRecord
from serving.settings import NexusSettings

STEP: Final = "analyze_canary"
DOCUMENT: Final = "verdict"


class CanaryPlanError(Exception):
    """The plan could never promote anything; found before the first request."""


def analyze(  # noqa: PLR0913 - wiring passes each of them by name; they are not one thing
    release: ResolvedRelease,
    deployment: Deployment,
    *,
    settings: NexusSettings,
    record: ReleaseRecord,
    shift: Shift,
    data: Path,
    gateway_url: str,
    clock: Clock | None = None,
    resume_weight: int | None = None,
) -> CanaryVerdict:
    """Judge a deployed candidate on live traffic.

    A verdict to promote or roll back that was published earlier is returned as it is; an inconclusive one is taken up
    again with all its evidence, which an anytime-valid test allows. A candidate whose engine never answered is rolled
    back without a request.

    Args:
        release: Plan, gates and model.
        deployment: Services of the release; without a stable one it is judged by absolute gates.
        settings: Where spools, labels and logs lie.
        record: Receives progress, the steps taken and the document `verdict`.
        shift: Commits a route.
        data: Folder with `live.jsonl`, read only when the plan simulates users.
        gateway_url: Where simulated users send their requests.
        clock: Time source; the system's by default.
        resume_weight: Weight of the candidate in the GitOps repository, in percent; None takes the record's word.

    Returns:
        The verdict: roll back at the first evidence of harm, promote once every required metric is safe at the last
        step, inconclusive after `max_seconds` of this run, with the weight left as it is.

    Raises:
        CanaryPlanError: No required metric could ever become safe.
        TrafficError: The simulated users ended early.
        OSError: A spool cannot be read.
    """
    canary = Canary(release, deployment, settings, record, shift, clock or Clock())
    earlier = record.read(DOCUMENT, CanaryVerdict)
    with record.step(STEP) as progress:
        if earlier and earlier.release_id == release.release_id and earlier.decision is not Decision.INCONCLUSIVE:
            progress.cached(f"judged already: {earlier.decision}")
            progress.summary = f"{earlier.decision}: {earlier.reason}"
            return earlier
        if deployment.failure is not None:
            verdict = unserved_verdict(release, deployment, deployment.failure)
        else:
            judge = _make_judge(canary)
            with _traffic(canary, data, gateway_url) as traffic:
                verdict = Analysis(canary, judge, traffic, progress).run(resume_weight)
        record.publish(DOCUMENT, verdict)
        progress.summary = f"{verdict.decision}: {verdict.reason}"
    return verdict


def _make_judge(canary: Canary) -> Judge:
    """Build the judge and refuse a plan under which nothing could ever be promoted."""
    plan = canary.release.spec.canary
    judge = Judge(plan, first_release=canary.release.spec.gates if canary.first_release else None)
    if not judge.unsettled:
        kind = "rate metric with an absolute limit" if canary.first_release else "metric"
        raise CanaryPlanError(f"expected at least one required {kind} in spec.canary.metrics; got none: add one")
    if not canary.first_release and canary.deployment.baseline_service is None:
        raise CanaryPlanError(
            f"expected a same-age clone of {canary.deployment.stable_service} in the deployment; got none: deploy again"
        )
    return judge


@contextmanager
def _traffic(canary: Canary, data: Path, gateway_url: str) -> Iterator[Traffic | None]:
    plan = canary.release.spec.canary.traffic
    with (
        nullcontext()
        if plan is None
        else simulated_users(canary.release, plan, data, settings=canary.settings, gateway_url=gateway_url)
    ) as traffic:
        yield traffic
