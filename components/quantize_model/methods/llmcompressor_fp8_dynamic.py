"""FP8: e4m3 weights, one scale a row; e4m3 activations, one scale a token, found at run time. Needs no data."""

from __future__ import annotations

from typing import Any

from components.quantize_model.llm_compressor import compress, load

__all__ = ["load", "run"]


def run(arguments: dict[str, Any]) -> None:
    """Quantize without calibration."""
    from llmcompressor.modifiers.quantization import QuantizationModifier  # noqa: PLC0415 - after load()

    compress(arguments, QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=["lm_head"]))
