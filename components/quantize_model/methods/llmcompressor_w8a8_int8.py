"""W8A8: int8 weights, one scale a row, rounded with GPTQ; int8 activations, one scale a token, found at run time."""

from __future__ import annotations

from typing import Any

from components.quantize_model.llm_compressor import compress, load

__all__ = ["load", "run"]


def run(arguments: dict[str, Any]) -> None:
    """Quantize with calibration."""
    from llmcompressor.modifiers.gptq import GPTQModifier  # noqa: PLC0415 - after load()

    compress(arguments, GPTQModifier(targets="Linear", scheme="W8A8", ignore=["lm_head"]))
