"""Build one candidate: check the recipe against the weights, run its tool, complete the folder, measure it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from components.quantize_model.errors import BrokenWeightsError, QuantizeModelError, RecipeError, StorageFullError
from components.quantize_model.methods import Method
from components.quantize_model.tools import CORE, versions
from components.quantize_model.workshop import Workshop
from serving.contracts.base import Digest, StrictModel
from serving.contracts.data_contract import DataRow
from serving.contracts.quantization_report import Candidate, CandidateStatus
from serving.contracts.release_spec import QuantizeMethod, QuantizeRecipe
from serving.environment_lock import installed_lock
from serving.files import digest_bytes, digest_file, digest_folder
from serving.settings import NexusSettings
from serving.step_cache import StepCache
from serving.weights_folder import INDEX, Weights, WeightsFolderError, read_weights

MAX_CALIBRATION_ROWS = 512  # LLM Compressor's own default
MAX_CALIBRATION_TOKENS = 2048  # length of calibration rows in LLM Compressor's examples
STEP = "quantize_model"
_CODE = ("components/quantize_model", "serving/weights_folder.py", "serving/safetensors_header.py")
_MEASURING_SECONDS = 1800.0
_PROGRAMS = Path(__file__).parent


class _Outcome(StrictModel):
    """What the cache keeps beside a candidate's folder."""

    weights_digest: Digest
    size_bytes: int
    seconds: float
    lock: str
    layer_errors: dict[str, float]


@dataclass(frozen=True)
class Bench:
    """What all recipes of one step share. `scratch` and `output` lie on one file system; folders move by renaming."""

    settings: NexusSettings
    base: Weights
    base_digest: str
    rows: tuple[DataRow, ...]
    workshop: Workshop
    cache: StepCache
    scratch: Path
    output: Path
    methods: Mapping[QuantizeMethod, Method]
    say: Callable[[str], None]

    @cached_property
    def rows_digest(self) -> str:
        """Digest of the calibration rows in use."""
        return digest_bytes("".join(row.model_dump_json() + "\n" for row in self.rows).encode())

    @cached_property
    def tokens(self) -> Path:
        """Render the calibration rows once, for every tool.

        Raises:
            BrokenWeightsError: The tokenizer cannot do it.
        """
        source, target = self.scratch / "rows.json", self.scratch / "tokens.json"
        source.write_text(json.dumps([_conversation(row) for row in self.rows]))
        config = self.base.config
        limit = min(int(config.get("max_position_embeddings") or MAX_CALIBRATION_TOKENS), MAX_CALIBRATION_TOKENS)
        arguments = {
            "base": str(self.base.folder.resolve()),
            "rows": str(source),
            "output": str(target),
            "max_tokens": limit,
            "vocabulary_size": int(config["vocab_size"]),
        }
        what = f"rendering {len(self.rows)} calibration rows with the base's chat template"
        self.say(what)
        try:
            program = _PROGRAMS / "render_calibration.py"
            self.workshop.run(
                None, program, arguments, max_seconds=_MEASURING_SECONDS, say=lambda told: self.say(f"{what}: {told}")
            )
        except RecipeError as exc:
            raise BrokenWeightsError(
                f"expected the tokenizer in {self.base.folder} to render calibration rows; it cannot: {exc}"
            ) from exc
        return target


def build_candidate(bench: Bench, recipe: QuantizeRecipe, say: Callable[[str], None]) -> tuple[Candidate, bool]:
    """Build one recipe's candidate, or find it in the cache.

    Returns:
        The candidate, built or failed, and whether the cache had it.

    Raises:
        BrokenWeightsError: The base's tokenizer cannot be used.
        StorageFullError: The disk is full.
    """
    method = bench.methods[recipe.method]
    started = time.monotonic()
    tool = method.packages[0]
    try:
        found = versions(bench.settings, method.environment, method.packages)
        tool = f"{tool} {found[tool]}"
        _check_groups(bench.base, recipe, method)
        hit, outcome = _obtain(bench, recipe, found, say)
    except RecipeError as exc:
        failed = Candidate(
            name=recipe.name, method=recipe.method, required=recipe.required, tool=tool,
            status=CandidateStatus.FAILED, reason=str(exc), seconds=time.monotonic() - started,
        )  # fmt: skip
        return failed, False
    built = Candidate(
        name=recipe.name, method=recipe.method, required=recipe.required, tool=tool,
        status=CandidateStatus.BUILT, **outcome.model_dump(),
    )  # fmt: skip
    return built, hit


def _obtain(
    bench: Bench, recipe: QuantizeRecipe, found: dict[str, str], say: Callable[[str], None]
) -> tuple[bool, _Outcome]:
    """Fill the candidate's folder below the output from the cache or by building it."""
    method = bench.methods[recipe.method]
    inputs = {
        "base": bench.base_digest,
        "method": recipe.method,
        "calibration": bench.rows_digest if method.calibrated else None,
        "tools": found,
        **{field: getattr(recipe, field) for field in method.reads},
    }
    entry = bench.scratch / f"entry-{recipe.name}"
    hit = bench.cache.run(STEP, inputs, _CODE, entry, lambda folder: _build(bench, recipe, folder, say))
    outcome = _Outcome.model_validate_json((entry / "outcome.json").read_bytes())
    (entry / "weights").rename(bench.output / recipe.name)
    shutil.rmtree(entry)
    return hit, outcome


def _build(bench: Bench, recipe: QuantizeRecipe, folder: Path, say: Callable[[str], None]) -> None:
    """Fill a cache entry: `weights/` and `outcome.json`."""
    method = bench.methods[recipe.method]
    weights = folder / "weights"
    weights.mkdir()
    layers = sorted(bench.base.layers(embeddings=True))
    arguments: dict[str, object] = {
        "base": str(bench.base.folder.resolve()),
        "output": str(weights.resolve()),
        "tokens": str(bench.tokens.resolve()) if method.calibrated else None,
        "bits": recipe.bits,
        "group_size": recipe.group_size,
        "layers": layers,
        "tensors": sorted(bench.base.tensors),
    }
    started = time.monotonic()
    answer = bench.workshop.run(method.environment, method.program, arguments, max_seconds=recipe.max_seconds, say=say)
    seconds = time.monotonic() - started
    if answer.loading_seconds >= 1:
        ran = seconds - answer.loading_seconds
        say(f"{method.packages[0]} loaded in {answer.loading_seconds:.1f} s, ran for {ran:.1f} s")
    built = _complete(bench.base, weights)
    outcome = _Outcome(
        weights_digest=digest_folder(weights),
        size_bytes=built.size_bytes,
        seconds=seconds,
        lock=installed_lock(bench.settings, method.environment or CORE),
        layer_errors=_measure(bench, built, lambda told: say(f"comparing layers: {told}")),
    )
    (folder / "outcome.json").write_text(outcome.model_dump_json())


def _complete(base: Weights, folder: Path) -> Weights:
    """Add the base's tokenizer and generation files, the same bytes in every candidate, and check the folder.

    Raises:
        RecipeError: The tool left no whole Hugging Face folder.
    """
    for file in sorted(base.folder.iterdir()):
        belongs_to_weights = file.name in ("config.json", INDEX) or file.suffix in (".safetensors", ".bin", ".pt")
        if file.is_file() and not belongs_to_weights:
            shutil.copyfile(file, folder / file.name)
    for file in folder.iterdir():
        file.chmod(0o644)
    try:
        return read_weights(folder)
    except WeightsFolderError as exc:
        raise RecipeError(f"the tool reported success, but its result cannot be used: {exc}") from exc


def _measure(bench: Bench, built: Weights, say: Callable[[str], None]) -> dict[str, float]:
    """Compare every layer with the base's; equal files need no reading of tensors."""
    layers = sorted(bench.base.layers(embeddings=True))
    if _file_digests(built) == _file_digests(bench.base):
        return dict.fromkeys(layers, 0.0)
    arguments = {"base": str(bench.base.folder.resolve()), "candidate": str(built.folder.resolve()), "layers": layers}
    try:
        answer = bench.workshop.run(
            None, _PROGRAMS / "measure_layers.py", arguments, max_seconds=_MEASURING_SECONDS, say=say
        )
    except StorageFullError:
        raise
    except QuantizeModelError as exc:
        raise RecipeError(
            f"the tool reported success, but its weights cannot be compared with the base's: {exc}"
        ) from exc
    return {str(layer): float(error) for layer, error in answer.result.items()}


def _check_groups(base: Weights, recipe: QuantizeRecipe, method: Method) -> None:
    """Refuse a group size that does not divide every layer's inputs, before a tool runs for minutes.

    Raises:
        RecipeError: A layer cannot be grouped.
    """
    size = recipe.group_size
    if not method.grouped or size == -1:
        return
    if size == 0:
        raise RecipeError("expected a group_size of at least 1, or -1 for a whole row; got 0: correct the recipe")
    shapes = base.layers(embeddings=method.embeddings)
    odd = {layer: inputs for layer, (_, inputs) in shapes.items() if inputs % size}
    if odd:
        layer, inputs = next(iter(odd.items()))
        fitting = [g for g in (128, 64, 32, 16, 8) if not any(inputs % g for _, inputs in shapes.values())]
        advice = f"use {', '.join(map(str, fitting))} or -1 (a whole row)" if fitting else "use -1 (a whole row)"
        raise RecipeError(
            f"expected every layer's inputs to be a multiple of group_size {size}; got {inputs} in {layer} and "
            f"{len(odd) - 1} other layers: {advice}"
        )


def _file_digests(weights: Weights) -> dict[str, str]:
    return {name: digest_file(weights.folder / name) for name in weights.files}


def _conversation(row: DataRow) -> list[dict[str, str]]:
    """Messages with the answer as the last turn."""
    turns = [{"role": str(message.role), "content": message.content} for message in row.messages]
    return [*turns, {"role": "assistant", "content": row.answer}]
