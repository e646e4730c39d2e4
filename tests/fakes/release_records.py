"""Realistic release records, as the steps leave them: a promotion, a roll-back, a first release, and early ends."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from serving.contracts.benchmark_report import BenchmarkReport
from serving.contracts.canary_verdict import CanaryVerdict
from serving.contracts.conclusion import Conclusion
from serving.contracts.data_contract import DataContract, DataReport
from serving.contracts.load import load_document
from serving.contracts.quantization_report import QuantizationReport
from serving.contracts.registration import Deployment, Registration
from serving.contracts.release_spec import ReleaseSpec, ResolvedRelease
from serving.contracts.training import TrainingReport
from serving.record import ReleaseRecord

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests/models/support-assistant"
START = 1_772_323_200.0
RELEASE_ID = "support-assistant-3f9c1a7b20de"
RECIPES: Sequence[tuple[str, str, float, float, float]] = (
    # name, method, share of the base's size, error of a layer, exact match
    ("bf16", "none", 1.0, 0.0, 0.913),
    ("w8a8", "llmcompressor-w8a8-int8", 0.58, 0.006, 0.910),
    ("fp8", "llmcompressor-fp8-dynamic", 0.58, 0.021, 0.907),
    ("w4a16", "llmcompressor-gptq-w4a16", 0.41, 0.083, 0.903),
    ("rtn-2bit", "round-to-nearest-dense", 1.0, 0.41, 0.742),
)


def sha(seed: str) -> str:
    """Return a made-up digest that looks like one."""
    return "sha256:" + "".join(random.Random(seed).choices("0123456789abcdef", k=64))


class Writer:
    """Writes documents and events into one record; the clock is its own."""

    def __init__(self, folder: Path) -> None:
        self.record = ReleaseRecord(folder)
        self.now = START
        folder.mkdir(parents=True, exist_ok=True)

    def event(self, step: str, kind: str, message: str = "") -> None:
        """Append one event at the writer's clock."""
        line = {"ts": self.now, "step": step, "kind": kind, "message": message, "fraction": None}
        with (self.record.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def step(self, step: str, seconds: float, message: str, *, end: str = "finished", cached: bool = False) -> None:
        """Let a step take its time and end."""
        self.event(step, "started")
        if cached:
            self.event(step, "cached", "the same content was made before")
        self.now += seconds
        if end != "killed":
            self.event(step, end, message)
        self.now += 0.15

    def publish(self, name: str, model: type[BaseModel], data: dict[str, Any]) -> None:
        """Publish one document."""
        self.record.publish(name, model.model_validate(data))


def release(attempt: int = 1) -> ResolvedRelease:
    """Return a resolved release of the repository's own spec and contract, with all recipes."""
    spec = load_document(MANIFESTS / "base.yaml", ReleaseSpec).spec.model_dump(mode="json")
    spec["recipes"] = [
        {"name": name, "method": method, "bits": 2 if "2bit" in name else 8} for name, method, *_ in RECIPES
    ]
    spec["gates"]["quality"]["min_exact_match"] = 0.85
    return ResolvedRelease.model_validate(
        {
            "release_id": RELEASE_ID,
            "attempt": attempt,
            "git_revision": sha("git")[7:47],
            "spec_digest": sha("spec"),
            "base_path": "manifests/models/support-assistant",
            "name": "support-assistant-int8",
            "spec": spec,
            "contract": load_document(MANIFESTS / "data-contract.yaml", DataContract),
        }
    )


def data_report(broken: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return a data report."""
    return {
        "contract": "support-questions",
        "contract_version": "1.0.0",
        "data_digest": sha("data"),
        "rows": {"train": 6000, "calibration": 256, "evaluation": 600, "live": 2000},
        "rules_checked": 46,
        "broken": list(broken),
        "data_docs": "data_docs/index.html",
        "seconds": 11.8,
    }


def training_report() -> dict[str, Any]:
    """Return a training report with a curve that flattens."""
    chance = random.Random(5)
    curve = []
    for index in range(1, 15):
        seconds = index * 7.4
        match = 0.93 / (1 + math.exp(-(seconds - 48) / 13)) + chance.uniform(-0.012, 0.012)
        curve.append((seconds, 3.4 * math.exp(-seconds / 26) + 0.07 + chance.uniform(0, 0.03), max(0.0, match)))
    return {
        "stop_reason": "target-reached",
        "steps": 3480,
        "seconds": 103.6,
        "parameters": 773_504,
        "exact_match": 0.913,
        "tokens_per_second": 10_430.0,
        "weights_digest": sha("base"),
        "origin": "train",
        "curve": curve,
    }


def quantization_report(failed: bool = False) -> dict[str, Any]:
    """Return a quantization report; one recipe fails on request."""
    chance = random.Random(9)
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    layers = [
        f"model.layers.{layer}.{'self_attn' if 'gate' not in kind else 'mlp'}.{kind}"
        for layer in range(3)
        for kind in kinds
    ]
    candidates: list[dict[str, Any]] = []
    for name, method, share, error, _ in RECIPES:
        errors = {layer: error * math.exp(chance.gauss(0, 0.35)) for layer in layers} if error else {}
        candidates.append(
            {
                "name": name,
                "method": method,
                "required": name in {"bf16", "w8a8"},
                "status": "built",
                "weights_digest": sha(name),
                "size_bytes": int(1_610_000 * share),
                "seconds": 0.4 if error == 0 else chance.uniform(8, 13),
                "tool": "torch 2.13.0" if method in {"none", "round-to-nearest-dense"} else "llmcompressor 0.14.0.1",
                "layer_errors": errors,
            }
        )
    if failed:
        candidates[3] |= {
            "status": "failed",
            "reason": "RuntimeError: expected the Hessian of model.layers.2.mlp.down_proj to be positive definite",
            "size_bytes": None,
            "weights_digest": None,
            "layer_errors": {},
        }
    return {
        "base_weights_digest": sha("base"),
        "base_size_bytes": 1_610_000,
        "calibration_rows": 256,
        "candidates": candidates,
    }


def _estimate(value: float, width: float, n: int = 300) -> dict[str, float]:
    return {
        "value": value,
        "low": value - width,
        "high": min(1.0, value + width) if value <= 1 else value + width,
        "n": n,
    }


def _result(name: str, match: float, speed: float, *, stable: float | None) -> dict[str, Any]:
    levels = []
    for concurrency, gain in ((1, 1.0), (4, 2.9), (16, 6.4 * speed)):
        ttft = 21.0 * concurrency**0.65 / speed
        itl = 5.1 * concurrency**0.4 / speed
        levels.append(
            {
                "concurrency": concurrency,
                "requests": 64,
                "errors": 0,
                "ttft_p50_ms": ttft,
                "ttft_p90_ms": ttft * 1.45,
                "itl_p50_ms": itl,
                "itl_p90_ms": itl * 1.3,
                "e2e_p50_ms": ttft + 18 * itl,
                "e2e_p90_ms": ttft * 1.4 + 21 * itl,
                "output_tokens_per_second": 152 * gain / (1.1 if speed > 1 and concurrency == 1 else 1),
                "output_tokens_per_second_rounds": [150 * gain, 154 * gain],
            }
        )
    quality: dict[str, Any] = {
        "exact_match": _estimate(match, 0.031),
        "perplexity": _estimate(1.062 + (0.913 - match) * 0.9, 0.011),
    }
    if stable is not None:
        quality["exact_match_loss"] = {
            "value": stable - match,
            "low": stable - match - 0.011,
            "high": stable - match + 0.012,
            "n": 300,
        }
        ratio = quality["perplexity"]["value"] / 1.062
        quality["perplexity_ratio"] = {"value": ratio, "low": ratio - 0.01, "high": ratio + 0.01, "n": 300}
    return {"name": name, "served": True, "ready_seconds": 5.2, "quality": quality, "speed": levels, "passed": True}


def _gates(match: float, loss: float, ratio: float) -> list[dict[str, Any]]:
    rows = [
        ("exact_match", match >= 0.85, match, 0.85, f"exact match {match:.3f}, at least 0.85"),
        ("exact_match_loss", loss <= 0.02, loss, 0.02, f"loses {loss:.3f}, at most 0.02"),
        ("throughput_ratio", ratio >= 0.9, ratio, 0.9, f"{ratio:.2f} times the stable model's tokens/s, at least 0.9"),
    ]
    return [{"gate": g, "passed": p, "measured": m, "limit": limit, "reason": r} for g, p, m, limit, r in rows]


def benchmark_report(passed: bool = True) -> dict[str, Any]:
    """Return a benchmark of all recipes against a stable model; with `passed` false none is good enough."""
    speeds = {"bf16": 1.0, "w8a8": 1.32, "fp8": 0.82, "rtn-2bit": 1.0}
    lost = 0.0 if passed else 0.2
    candidates = []
    for name, _, _, _, match in RECIPES:
        if name == "w4a16":
            reason = "engine died on its first completion: _C has no attribute cpu_gemm_wna16"
            candidates.append(
                {"name": name, "served": False, "reason": reason, "passed": False, "why_not_chosen": reason}
            )
            continue
        result = _result(name, match - lost, speeds[name], stable=0.913)
        result["gates"] = _gates(match - lost, 0.913 + 0.012 - match + lost, speeds[name])
        result["passed"] = all(gate["passed"] for gate in result["gates"])
        failed = next((gate["reason"] for gate in result["gates"] if not gate["passed"]), None)
        result["why_not_chosen"] = failed or (
            None if name == "w8a8" else "passes, but w8a8 gives 1.32 times its tokens/s"
        )
        candidates.append(result)
    return {
        "passed": passed,
        "winner": "w8a8" if passed else None,
        "stable": _result("stable", 0.913, 1.0, stable=None),
        "candidates": candidates,
        "reason": "w8a8 passes every gate and is the fastest." if passed else "No candidate passes every gate.",
        "machine": "2 x86-64 cores (AVX2), 24 GB",
        "measured_at": START + 190,
        "seconds": 68.3,
    }


REGISTRATION = {
    "model": "support-assistant",
    "version": "2",
    "run_id": "8c1f0f6e0b7a4b3f9f5e2c7d1a9b4e60",
    "storage_uri": f"file:models/{sha('w8a8')[7:19]}",
    "weights_digest": sha("w8a8"),
    "data_digest": sha("data"),
    "candidate": "w8a8",
    "already_registered": False,
}
DEPLOYMENT = {
    "model": "support-assistant",
    "release_id": RELEASE_ID,
    "candidate_service": "support-assistant-9d41c07a",
    "stable_service": "support-assistant-1b22e8f0",
    "baseline_service": "support-assistant-1b22e8f0-b3f9c",
    "commit": sha("deploy")[7:47],
    "committed_at": START + 280,
    "ready_seconds": 11.4,
}


def _evidence(
    metric: dict[str, Any], harm: bool, values: tuple[float, float], end: int, *, stop: int | None = None
) -> dict[str, Any]:
    chance = random.Random(repr(metric))
    limit, up, down = 1.9, 0.0, 0.0
    trail = []
    for n in range(0, end + 1, max(1, end // 90)):
        share = n / (stop or end)
        up = 2.6 * share**1.4 if harm else min(0.6, up * 0.97 + chance.gauss(-0.012, 0.05))
        down = min(0.3, down + chance.gauss(-0.02, 0.04)) if harm else 3.4 * share**1.3 + chance.gauss(0, 0.05)
        weight = 5 if n < 15 else 25 if n < 75 else 50
        trail.append({"candidate_requests": n, "weight_percent": weight, "log10_e_harm": up, "log10_e_safe": down})
    state = "harm" if up >= limit else "safe" if down >= limit else "open"
    return {
        "metric": metric,
        "state": state,
        "n_baseline": end + 3,
        "n_candidate": end,
        "baseline": values[0],
        "candidate": values[1],
        "log10_e_harm": up,
        "log10_e_safe": down,
        "log10_harm_threshold": limit,
        "log10_safe_threshold": 1.3,
        "trail": trail,
    }


def verdict(decision: str = "promote", *, first: bool = False) -> dict[str, Any]:
    """Return a canary verdict: promoted, rolled back for wrong answers, or undecided."""
    harm = decision == "roll-back"
    end = {"promote": 284, "roll-back": 68, "inconclusive": 190}[decision]
    rate, quantile = {"kind": "rate"}, {"kind": "quantile"}
    rows = [
        ({"name": "error", **rate, "margin": 0.05}, False, (0.0, 0.0)),
        ({"name": "exact_match", **rate, "margin": 0.1}, harm, (0.902, 0.632 if harm else 0.898)),
        ({"name": "format_failure", **rate, "margin": 0.05}, False, (0.004, 0.007)),
        ({"name": "ttft_ms", **quantile, "quantile": 0.5, "max_ratio": 1.5}, False, (64.1, 51.7)),
        ({"name": "itl_ms", **quantile, "quantile": 0.5, "max_ratio": 1.5}, False, (7.9, 6.8)),
        ({"name": "ttft_ms", **quantile, "quantile": 0.9, "max_ratio": 2.5, "required": False}, False, (140.0, 118.0)),
    ]
    scale = 2.6 if decision != "promote" else 1.0
    metrics = [_evidence(m, h, v, end, stop=None if h else int(end * scale)) for m, h, v in rows]
    if first:
        metrics = [
            m
            | {"judged": m["metric"]["name"] == "error", "trail": m["trail"] if m["metric"]["name"] == "error" else []}
            for m in metrics
        ]
    weights = [5, 25] if harm else [5, 25, 50]
    starts = [0.0, 31.0, 72.0]
    reasons = {
        "promote": "Every required metric is ruled safe at 50 % of the traffic.",
        "roll-back": "exact_match is harmed beyond its margin of 0.1: e-value 398 after 68 candidate requests.",
        "inconclusive": "420 s passed before every required metric was decided; the weight holds.",
    }
    return {
        "release_id": RELEASE_ID,
        "decision": decision,
        "reason": reasons[decision],
        "first_release": first,
        "alpha": 0.05,
        "metrics": metrics,
        "steps": [
            {"weight_percent": weight, "commit": sha(f"w{weight}")[7:47], "started_at": START + 300 + starts[index]}
            for index, weight in enumerate(weights)
        ],
        "candidate_requests": end,
        "baseline_requests": end + 3,
        "total_requests": int(end * 2.7),
        "users_total": 2000,
        "users_on_candidate": 117 if harm else 311,
        "max_weight_percent": weights[-1],
        "seconds": 52.0 if harm else 131.0,
        "notes": ["3 requests without a label yet"],
    }


def conclusion(outcome: str, reason: str) -> dict[str, Any]:
    """Return a conclusion."""
    rejected = outcome == "rejected"
    return {
        "release_id": RELEASE_ID,
        "model": "support-assistant",
        "outcome": outcome,
        "reason": reason,
        "commit": sha(outcome)[7:47],
        "committed_at": START + 500,
        "evidence": "none" if rejected else "exact_match safe e=2.1e+03 n=284; error safe e=1.9e+03 n=284",
        "registry_version": None if rejected else "2",
        "stable_service": DEPLOYMENT["candidate_service" if outcome == "promoted" else "stable_service"],
    }


def _until_data(w: Writer) -> None:
    w.record.publish("release", release())
    w.step("prepare_data", 1.2, "rows: train 6000, calibration 256, evaluation 600, live 2000")


def _until_benchmark(w: Writer, *, failed_recipe: bool = False, passed: bool = True) -> None:
    _until_data(w)
    w.step("validate_data", 11.8, "46 rules hold on 8 856 rows")
    w.publish("data", DataReport, data_report())
    w.step("train_model", 104.0, "held-out exact match 0.913 after 3 480 steps")
    w.publish("training", TrainingReport, training_report())
    w.step("quantize_model", 48.0, "5 of 5 recipes built")
    w.publish("quantization", QuantizationReport, quantization_report(failed_recipe))
    w.step(
        "benchmark_model",
        68.3,
        "w8a8 wins: 1.32 times the stable model's tokens/s" if passed else "no candidate passes",
    )
    w.publish("benchmark", BenchmarkReport, benchmark_report(passed))


def promoted(folder: Path, *, first: bool = False) -> ReleaseRecord:
    """Write a release that went all the way, killed and resumed once during its canary."""
    w = Writer(folder)
    _until_benchmark(w)
    w.step("register_model", 3.1, "support-assistant version 2")
    w.publish("registration", Registration, REGISTRATION)
    w.step("deploy_kserve", 12.6, "candidate and baseline ready")
    w.publish("deployment", Deployment, DEPLOYMENT)
    w.step("analyze_canary", 40.0, "", end="killed")
    w.now += 6
    w.step("register_model", 0.2, "already registered", cached=True)
    w.step("analyze_canary", 92.0, "every required metric is safe")
    w.publish("verdict", CanaryVerdict, verdict(first=first))
    w.step("conclude_release", 1.4, "promoted")
    w.publish("conclusion", Conclusion, conclusion("promoted", verdict()["reason"]))
    return w.record


def rolled_back(folder: Path) -> ReleaseRecord:
    """Write a release that the canary stopped at 25 %."""
    w = Writer(folder)
    _until_benchmark(w)
    w.step("register_model", 3.1, "support-assistant version 3")
    w.publish("registration", Registration, REGISTRATION)
    w.step("deploy_kserve", 12.6, "candidate and baseline ready")
    w.publish("deployment", Deployment, DEPLOYMENT)
    w.step("analyze_canary", 52.0, "exact match is harmed")
    w.publish("verdict", CanaryVerdict, verdict("roll-back"))
    w.step("conclude_release", 1.1, "rolled back")
    w.publish("conclusion", Conclusion, conclusion("rolled-back", verdict("roll-back")["reason"]))
    return w.record


def inconclusive(folder: Path) -> ReleaseRecord:
    """Write a release whose canary ran out of time."""
    w = Writer(folder)
    _until_benchmark(w, failed_recipe=True)
    w.step("register_model", 3.1, "support-assistant version 2")
    w.publish("registration", Registration, REGISTRATION)
    w.step("deploy_kserve", 12.6, "candidate and baseline ready")
    w.publish("deployment", Deployment, DEPLOYMENT)
    w.step("analyze_canary", 420.0, "out of time")
    w.publish("verdict", CanaryVerdict, verdict("inconclusive"))
    w.step("conclude_release", 0.9, "held")
    w.publish("conclusion", Conclusion, conclusion("held", verdict("inconclusive")["reason"]))
    return w.record


def rejected_offline(folder: Path) -> ReleaseRecord:
    """Write a release none of whose candidates passed the gates."""
    w = Writer(folder)
    _until_benchmark(w, passed=False)
    w.step("reject_release", 0.6, "no candidate passes")
    w.publish("conclusion", Conclusion, conclusion("rejected", "No candidate passes every gate."))
    return w.record


def rejected_data(folder: Path) -> ReleaseRecord:
    """Write a release whose data broke its contract."""
    w = Writer(folder)
    _until_data(w)
    broken = [
        {
            "split": "train",
            "rule": "no card-number",
            "expected": "0 rows",
            "found": "2 rows",
            "example_rows": ["train-00412: card **** **** **** 4242"],
        },
        {
            "split": "evaluation",
            "rule": "max_leaked_rows",
            "expected": "at most 0",
            "found": "7",
            "example_rows": ["evaluation-00031", "evaluation-00107"],
        },
    ]
    w.publish("data", DataReport, data_report(broken))
    w.step("validate_data", 10.9, "BrokenDataError: the data breaks 2 rules of its contract", end="failed")
    return w.record


def failed(folder: Path, message: str = "") -> ReleaseRecord:
    """Write a release that an infrastructure error stopped while quantizing."""
    w = Writer(folder)
    _until_data(w)
    w.step("validate_data", 0.3, "46 rules hold on 8 856 rows", cached=True)
    w.publish("data", DataReport, data_report())
    w.step("train_model", 0.2, "the same recipe and data were trained before", cached=True)
    w.publish("training", TrainingReport, training_report())
    tail = "OSError: [Errno 28] No space left on device: expected 3.2 MB for w8a8\nfree some space and run it again"
    w.step("quantize_model", 17.0, message or tail, end="failed")
    return w.record
