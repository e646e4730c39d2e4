"""What a release spec and its data contract must agree on beyond their types; each rule is one function.

A finding is the path of the key that is wrong and one sentence. Pure but for looking whether named folders exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from serving.contracts.data_contract import DataContract, Split
from serving.contracts.release_spec import QuantizeMethod, ReleaseBody
from serving.contracts.strict_yaml import YamlPath
from serving.release_documents import MAX_MODEL_NAME

Finding = tuple[YamlPath, str]

_LABELLED: Final = frozenset({"exact_match", "format_failure", "refusal"})
"""Metrics that need the right answer or a judge; simulated users know it, the gateway does not."""

_STREAMED: Final = frozenset({"ttft_ms", "itl_ms"})
_CALIBRATED: Final = frozenset(
    {
        QuantizeMethod.W8A8_INT8,
        QuantizeMethod.GPTQ_W4A16,
        QuantizeMethod.GPTQMODEL_W4A16,
        QuantizeMethod.AUTO_GPTQ_W4A16,
    }
)
_GROUPED: Final = frozenset(
    {
        QuantizeMethod.GPTQ_W4A16,
        QuantizeMethod.GPTQMODEL_W4A16,
        QuantizeMethod.AUTO_GPTQ_W4A16,
        QuantizeMethod.RTN_DENSE,
    }
)
_MLFLOW_URI = re.compile(r"^models:/[^/@\s]+(@[\w.-]+|/\d+)$")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+@[0-9a-f]{40}$")


def spec_findings(spec: ReleaseBody, *, base: Path) -> list[Finding]:
    """Check the spec alone; `base` is the folder that relative paths start from."""
    rules: list[Callable[[ReleaseBody], Iterator[Finding]]] = [
        _model_name,
        lambda body: _source(body, base),
        _recipes,
        _benchmark,
        _metrics,
        _reachable_steps,
    ]
    return [finding for rule in rules for finding in rule(spec)]


def contract_findings(spec: ReleaseBody, contract: DataContract) -> list[Finding]:
    """Check that the contract has the splits and rows that the spec uses; paths are the spec's."""
    splits = contract.spec.splits
    needed = {Split.EVALUATION: "the benchmark asks held-out questions"}
    if spec.source.train is not None:
        needed[Split.TRAIN] = "the base weights are trained"
    if any(recipe.method in _CALIBRATED for recipe in spec.recipes):
        needed[Split.CALIBRATION] = "a recipe is calibrated"
    if spec.canary.traffic is not None:
        needed[Split.LIVE] = "simulated users ask questions"
    where = ("spec", "data_contract")
    findings: list[Finding] = [
        (where, f"expected the contract {contract.metadata.name!r} to have the split {split.value!r}, for {why}")
        for split, why in needed.items()
        if split not in splits
    ]
    generator = contract.spec.source.generator
    missing = [split.value for split in splits if generator is not None and not generator.rows.get(split)]
    if missing:
        findings.append((where, f"expected its generator to make rows for each split; none for {', '.join(missing)}"))
    rows = (generator.rows.get(Split.EVALUATION) if generator else None) or (
        splits[Split.EVALUATION].max_rows if Split.EVALUATION in splits else None
    )
    if rows is not None and spec.benchmark.quality_rows > rows:
        text = f"expected at most the {rows} rows of the split 'evaluation'; got {spec.benchmark.quality_rows}"
        findings.append((("spec", "benchmark", "quality_rows"), text))
    return findings


def _model_name(spec: ReleaseBody) -> Iterator[Finding]:
    if len(spec.model) > MAX_MODEL_NAME:
        yield (
            ("spec", "model"),
            f"expected at most {MAX_MODEL_NAME} characters, as names are made from it; got {len(spec.model)}",
        )


def _source(spec: ReleaseBody, base: Path) -> Iterator[Finding]:
    source = spec.source
    if source.path is not None and not (base / source.path / "config.json").is_file():
        yield (
            ("spec", "source", "path"),
            f"expected a Hugging Face folder with config.json; {base / source.path} is none",
        )
    if source.mlflow is not None and not _MLFLOW_URI.match(source.mlflow):
        text = f"expected models:/<name>/<version> or models:/<name>@<alias>; got {source.mlflow!r}"
        yield ("spec", "source", "mlflow"), text
    if source.hub is not None and not _HUB_ID.match(source.hub):
        yield ("spec", "source", "hub"), f"expected owner/name@ and a commit of 40 hex digits; got {source.hub!r}"
    train = source.train
    if train is not None and train.hidden_size % (2 * train.heads):
        text = f"expected an even number of channels per head; got {train.hidden_size} channels for {train.heads} heads"
        yield ("spec", "source", "train"), text


def _recipes(spec: ReleaseBody) -> Iterator[Finding]:
    hidden = spec.source.train.hidden_size if spec.source.train else None
    for index, recipe in enumerate(spec.recipes):
        path = ("spec", "recipes", index)
        size = recipe.group_size
        if recipe.method in _GROUPED and (size == 0 or (hidden is not None and size > 0 and hidden % size)):
            yield (*path, "group_size"), f"expected -1 or a divisor of the hidden size {hidden}; got {size}"
        if recipe.method is QuantizeMethod.RTN_DENSE and recipe.bits > 8:
            yield (*path, "bits"), f"expected 2 to 8 bits for {recipe.method.value}; got {recipe.bits}"


def _benchmark(spec: ReleaseBody) -> Iterator[Finding]:
    levels = spec.benchmark.concurrency
    path = ("spec", "benchmark", "concurrency")
    if not levels or min(levels) < 1 or list(levels) != sorted(set(levels)):
        yield path, f"expected at least one level, each at least 1, rising; got {list(levels)}"
    elif max(levels) > spec.benchmark.requests_per_level:
        got = spec.benchmark.requests_per_level
        text = f"expected at least {max(levels)} requests, the highest concurrency; got {got}"
        yield ("spec", "benchmark", "requests_per_level"), text


def _metrics(spec: ReleaseBody) -> Iterator[Finding]:
    traffic = spec.canary.traffic
    if not any(metric.required for metric in spec.canary.metrics):
        yield (
            ("spec", "canary", "metrics"),
            "expected at least one required metric: without one nothing is ever ruled safe",
        )
    for index, metric in enumerate(spec.canary.metrics):
        path = ("spec", "canary", "metrics", index)
        if metric.name in _LABELLED and traffic is None and metric.required:
            text = f"expected `traffic`: only simulated users know the right answer that {metric.name!r} needs"
            yield path, f"{text}; add it or make the metric `required: false`"
        if metric.name in _STREAMED and traffic is not None and traffic.streaming_fraction == 0:
            yield path, f"expected a streaming_fraction above 0: {metric.name!r} exists only for streamed answers"


def _reachable_steps(spec: ReleaseBody) -> Iterator[Finding]:
    """Find steps that cannot be filled; of a Poisson stream a side gets `rate x weight` requests a second."""
    traffic = spec.canary.traffic
    if traffic is None:
        return
    seconds = sum(
        step.min_candidate_requests / (traffic.rate_per_second * step.weight_percent / 100)
        for step in spec.canary.steps
    )
    if seconds > spec.canary.max_seconds:
        text = (
            f"expected steps that {traffic.rate_per_second:g} requests/s can fill within {spec.canary.max_seconds:g} s"
        )
        yield ("spec", "canary", "steps"), f"{text}; they take {seconds:.0f} s: ask for fewer or raise the rate"
