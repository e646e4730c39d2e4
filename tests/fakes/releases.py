"""Small whole documents of a release, and a writer of weights, for tests that need some."""

from __future__ import annotations

import json
from pathlib import Path

from serving.contracts.benchmark_report import BenchmarkReport, CandidateResult, Estimate, Quality, SpeedLevel
from serving.contracts.canary_verdict import CanaryVerdict, Decision, MetricEvidence, MetricState, WeightStep
from serving.contracts.data_contract import DataContract, DataReport, Split
from serving.contracts.quantization_report import Candidate, CandidateStatus, QuantizationReport
from serving.contracts.registration import Registration
from serving.contracts.release_spec import CanaryMetric, MetricKind, QuantizeMethod, ReleaseBody, ResolvedRelease
from serving.contracts.training import StopReason, TrainingReport
from serving.files import digest_folder

MODEL = "support-assistant"
DATA_DIGEST = "sha256:" + "d" * 64


def make_release(number: int = 1, *, arguments: dict[str, str | int | float | bool] | None = None) -> ResolvedRelease:
    """A release whose id ends in its number."""
    return ResolvedRelease(
        release_id=f"{MODEL}-{number:012x}",
        attempt=1,
        git_revision="unversioned",
        spec_digest="sha256:" + f"{number:064x}",
        base_path="/nowhere",
        name=f"release-{number}",
        spec=ReleaseBody.model_validate(
            {
                "model": MODEL,
                "source": {"path": "weights"},
                "data_contract": "data-contract.yaml",
                "recipes": [{"name": "bf16", "method": "none"}],
                "engine": {"arguments": arguments or {"max-num-seqs": number}},
                "canary": {
                    "steps": [{"weight_percent": weight, "min_candidate_requests": 1} for weight in (5, 25, 50)],
                    "metrics": [{"name": "error", "kind": "rate", "margin": 0.05}],
                    "traffic": {"rate_per_second": 10, "users": 100},
                },
            }
        ),
        contract=DataContract.model_validate(
            {
                "kind": "DataContract",
                "metadata": {"name": "questions"},
                "spec": {
                    "version": "1.0.0",
                    "owner": "team",
                    "description": "questions",
                    "source": {"path": "data"},
                    "splits": {"evaluation": {"min_rows": 1, "max_rows": 9}},
                },
            }
        ),
    )


def make_registration(release: ResolvedRelease, version: str = "1") -> Registration:
    """A registration with weights of the release's own."""
    return Registration(
        model=MODEL,
        version=version,
        run_id=f"run-{version}",
        storage_uri=f"file:///models/{version}",
        weights_digest=f"sha256:{int(release.release_id[-12:], 16):064x}",
        data_digest=DATA_DIGEST,
        candidate="bf16",
        already_registered=False,
    )


def make_verdict(release: ResolvedRelease, decision: Decision, reason: str = "because") -> CanaryVerdict:
    """A verdict on one metric."""
    metric = CanaryMetric(name="error", kind=MetricKind.RATE, margin=0.05)
    evidence = MetricEvidence(
        metric=metric,
        state=MetricState.SAFE,
        n_baseline=100,
        n_candidate=110,
        baseline=0.01,
        candidate=None,
        log10_e_harm=-1.0,
        log10_e_safe=2.0,
        log10_harm_threshold=1.3,
        log10_safe_threshold=1.3,
    )
    return CanaryVerdict(
        release_id=release.release_id,
        decision=decision,
        reason=reason,
        first_release=False,
        alpha=0.05,
        metrics=(evidence,),
        steps=(WeightStep(weight_percent=5, commit="c" * 40, started_at=1.0),),
        candidate_requests=110,
        baseline_requests=100,
        total_requests=400,
        users_total=90,
        users_on_candidate=5,
        max_weight_percent=50,
        seconds=12.0,
    )


def write_weights(folder: Path, content: bytes = b"w" * 4096) -> str:
    """Write a folder that stands for weights; return its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "model.safetensors").write_bytes(content)
    return digest_folder(folder)


def make_reports(weights_digest: str) -> tuple[DataReport, TrainingReport, QuantizationReport, BenchmarkReport]:
    """Documents of the steps before registration, for one candidate `bf16` that wins."""
    level = SpeedLevel(
        concurrency=4,
        requests=8,
        errors=0,
        ttft_p50_ms=10,
        ttft_p90_ms=20,
        itl_p50_ms=2,
        itl_p90_ms=3,
        e2e_p50_ms=90,
        e2e_p90_ms=99,
        output_tokens_per_second=640,
    )
    quality = Quality(
        exact_match=Estimate(value=0.9, low=0.87, high=0.93, n=300),
        perplexity=Estimate(value=1.1, low=1.0, high=1.2, n=300),
    )
    winner = CandidateResult(name="bf16", served=True, ready_seconds=4.7, quality=quality, speed=(level,), passed=True)
    return (
        DataReport(
            contract="questions",
            contract_version="1.0.0",
            data_digest=DATA_DIGEST,
            rows={Split.EVALUATION: 9},
            rules_checked=3,
            seconds=1,
        ),
        TrainingReport(
            stop_reason=StopReason.SKIPPED,
            steps=0,
            seconds=0,
            parameters=770_000,
            weights_digest=weights_digest,
            origin="weights",
        ),
        QuantizationReport(
            base_weights_digest=weights_digest,
            base_size_bytes=4096,
            calibration_rows=0,
            candidates=(
                Candidate(
                    name="bf16",
                    method=QuantizeMethod.NONE,
                    required=True,
                    status=CandidateStatus.BUILT,
                    weights_digest=weights_digest,
                    size_bytes=4096,
                    seconds=0.1,
                    tool="copy",
                ),
            ),
        ),
        BenchmarkReport(passed=True, winner="bf16", candidates=(winner,), machine="test", seconds=1),
    )
