"""Register the winning candidate as a model version, once per content."""

from __future__ import annotations

import json
from pathlib import Path

from components.register_model.figures import Reports, metrics, params, tags
from serving.contracts.benchmark_report import CandidateResult
from serving.contracts.quantization_report import Candidate
from serving.contracts.registration import Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.files import digest_bytes
from serving.record import ReleaseRecord
from serving.registry import VersionContent
from serving.registry_host import open_registry
from serving.settings import NexusSettings

STEP = "register_model"


class NoWinnerError(Exception):
    """Registration was asked for without a winner that was built."""


def register(
    release: ResolvedRelease, candidates: Path, reports: Reports, *, settings: NexusSettings, record: ReleaseRecord
) -> Registration:
    """Register the benchmark's winner and point the alias `candidate` at it.

    The same weights, engine settings and data are one version, however often and from however many releases they come.

    Args:
        release: Release that built it.
        candidates: Folder with one Hugging Face folder a candidate.
        reports: What the steps before found.
        settings: Name the registry.
        record: Receives progress and the document `registration`.

    Raises:
        NoWinnerError: The benchmark has no winner, or quantization did not build it.
        RegistryError: The weights are not the ones that were benchmarked.
    """
    with record.step(STEP) as progress:
        winner, result = _winner(reports)
        digest = winner.weights_digest
        assert digest is not None
        engine = release.spec.engine.model_dump(mode="json")
        identity = json.dumps([digest, engine, reports.data.data_digest], sort_keys=True)
        progress.say(f"registering {winner.name}")
        version = open_registry(settings).register(
            VersionContent(
                model=release.spec.model,
                folder=candidates / winner.name,
                weights_digest=digest,
                content_digest=digest_bytes(identity.encode()),
                params=params(release, reports, winner),
                metrics=metrics(reports, winner, result),
                tags=tags(release, reports, winner, settings),
                documents=reports.documents(),
            )
        )
        registration = Registration(
            model=release.spec.model,
            version=version.version,
            run_id=version.run_id,
            storage_uri=version.storage_uri,
            weights_digest=digest,
            data_digest=reports.data.data_digest,
            candidate=winner.name,
            already_registered=version.already_registered,
        )
        record.publish("registration", registration)
        if version.already_registered:
            progress.cached(f"this content is version {version.version} already")
        progress.summary = f"{winner.name} is version {version.version} of {release.spec.model}"
    return registration


def _winner(reports: Reports) -> tuple[Candidate, CandidateResult]:
    name = reports.benchmark.winner
    built = {candidate.name: candidate for candidate in reports.quantization.candidates if candidate.weights_digest}
    measured = {result.name: result for result in reports.benchmark.candidates}
    if name is None or name not in built or name not in measured:
        raise NoWinnerError(
            f"expected a winner among the built candidates {sorted(built)}; got {name!r}: run the benchmark again"
        )
    return built[name], measured[name]
