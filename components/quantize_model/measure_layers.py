"""Program of the worker: how far a candidate's weights are from the base's, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.quantize_model.dequantize import Checkpoint, UnknownFormatError


def run(arguments: dict[str, Any]) -> dict[str, float]:
    """Map each of `layers` to the relative Frobenius error of `candidate` against `base`, without unit."""
    base, candidate = Checkpoint(Path(arguments["base"])), Checkpoint(Path(arguments["candidate"]))
    return {layer: _error(base, candidate, layer) for layer in arguments["layers"]}


def _error(base: Checkpoint, candidate: Checkpoint, layer: str) -> float:
    right, found = base.dense(layer).double(), candidate.dense(layer).double()
    if right.shape != found.shape:
        raise UnknownFormatError(f"expected shape {tuple(right.shape)} of {layer}; got {tuple(found.shape)}")
    norm, distance = float(right.norm()), float((right - found).norm())
    error = distance / norm if norm else distance
    if error != error or error == float("inf"):  # noqa: PLR0124 - NaN differs from itself
        raise ValueError(f"expected finite weights in {layer}; got NaN or infinity")
    return error
