"""Record that no candidate passed its offline gates: one commit that changes no file, and the conclusion."""

from __future__ import annotations

from serving import release_state
from serving.contracts.benchmark_report import BenchmarkReport
from serving.contracts.conclusion import Conclusion, ReleaseOutcome
from serving.contracts.release_spec import ResolvedRelease
from serving.files import digest_bytes
from serving.gitops import GitOps
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from serving.wording import list_within

STEP = "reject_release"


def reject(
    release: ResolvedRelease, benchmark: BenchmarkReport, *, settings: NexusSettings, record: ReleaseRecord
) -> Conclusion:
    """Write the offline verdict into git and conclude the release.

    Args:
        release: Release that was benchmarked.
        benchmark: Report without a winner.
        settings: Name the repository and environment.
        record: Receives progress and the document `conclusion`.

    Raises:
        ReleaseStateError: The release is deployed, or has ended another way.
    """
    with record.step(STEP) as progress:
        failed = [f"{one.name}: {one.why_not_chosen or one.reason}" for one in benchmark.candidates]
        reason = list_within("no candidate passed the offline gates: ", failed)
        evidence = f"benchmark {digest_bytes(benchmark.model_dump_json().encode())}"
        gitops = GitOps.of(settings)
        commit = release_state.reject(
            gitops, release, environment=settings.environment, reason=reason, evidence=evidence
        )
        rejected = release_state.read_release(gitops, release.release_id, settings.environment).last
        version = release_state.read_version(gitops, release.spec.model, settings.environment)
        conclusion = Conclusion(
            release_id=release.release_id,
            model=release.spec.model,
            outcome=ReleaseOutcome.REJECTED,
            reason=reason,
            commit=commit,
            committed_at=rejected.time if rejected is not None else None,
            evidence=evidence,
            registry_version=None,
            stable_service=version.spec.service if version else None,
        )
        record.publish("conclusion", conclusion)
        progress.summary = reason
    return conclusion
