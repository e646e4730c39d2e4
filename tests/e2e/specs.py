"""The demo's documents made small: the same steps on fewer rows, with limits that no chance can cross."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MODEL = "support-assistant"
MANIFESTS = Path(__file__).resolve().parents[2] / "manifests" / "models" / MODEL
WEIGHTS = (10, 25, 50)
MIN_REQUESTS = (8, 25, 60)  # 20 s of answers; while the candidate has no engine, none of them passes

_ROWS = {"train": 3000, "calibration": 64, "evaluation": 80, "live": 300}
_TRAIN = {"target_exact_match": 0.99, "max_seconds": 15}  # ends by time, and what it learned does not matter
_BENCHMARK = {"quality_rows": 24, "concurrency": [1, 4], "requests_per_level": 8, "rounds": 1}
_GATES = {"quality": {"min_exact_match": 0.0, "max_exact_match_loss": 1.0, "max_perplexity_ratio": 10.0}}
# Two or three requests fail while a dead engine is not noticed yet. A margin of 0.6 allows that and is shown to hold
# within 20 requests of either side; the ratio is far beyond what a busy machine can do to one side alone.
_METRICS = [
    {"name": "error", "kind": "rate", "margin": 0.6},
    {"name": "exact_match", "kind": "rate", "margin": 0.6},
    {"name": "ttft_ms", "kind": "quantile", "quantile": 0.5, "max_ratio": 20.0},
]
_TRAFFIC = {"rate_per_second": 12, "users": 2000, "streaming_fraction": 0.7, "multi_turn_fraction": 0.4}


def write_specs(folder: Path) -> tuple[Path, Path]:
    """Write the specs of a first release and of its quantized successor; return their paths."""
    contract = _read("data-contract.yaml")
    contract["spec"]["source"]["generator"]["rows"] = _ROWS
    for rules in contract["spec"]["splits"].values():
        rules.update({"min_rows": 16, "min_intents": 10})
    _write(folder / "data-contract.yaml", contract)
    return (
        _write(folder / "base.yaml", _release("base.yaml", {"name": "bf16", "method": "none"})),
        _write(
            folder / "release.yaml", _release("release.yaml", {"name": "w8a8", "method": "llmcompressor-w8a8-int8"})
        ),
    )


def write_bad_spec(folder: Path) -> Path:
    """Write a spec with an unknown key, a value of the wrong type, and a data contract that does not exist."""
    spec = _read("base.yaml")
    spec["spec"]["recipez"] = []
    spec["spec"]["canary"]["alpha"] = "much"
    spec["spec"]["data_contract"] = "absent.yaml"
    return _write(folder / "bad.yaml", spec)


def line_of(path: Path, text: str) -> int:
    """Return the number, from 1, of the only line that holds a text."""
    [number] = [number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line]
    return number


def _release(name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    document = _read(name)
    spec = document["spec"]
    steps = zip(WEIGHTS, MIN_REQUESTS, strict=True)
    spec |= {
        "source": {"train": _TRAIN},
        "recipes": [{**recipe, "required": True}],
        "benchmark": _BENCHMARK,
        "gates": _GATES,
        "canary": {
            "alpha": 0.05,
            "max_seconds": 300,
            "steps": [{"weight_percent": weight, "min_candidate_requests": least} for weight, least in steps],
            "metrics": _METRICS,
            "traffic": _TRAFFIC,
        },
    }
    return document


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((MANIFESTS / name).read_text())
    return document


def _write(path: Path, document: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False))
    return path
