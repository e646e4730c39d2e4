"""W4A16: symmetric int4 weights with one scale for each group of columns, rounded with GPTQ; activations stay."""

from __future__ import annotations

from typing import Any

from components.quantize_model.llm_compressor import compress, load

__all__ = ["load", "run"]


def run(arguments: dict[str, Any]) -> None:
    """Quantize with calibration."""
    from llmcompressor.modifiers.gptq import GPTQModifier  # noqa: PLC0415 - after load()

    size = arguments["group_size"]
    scale = {"strategy": "channel"} if size == -1 else {"strategy": "group", "group_size": size}
    weights = {"num_bits": 4, "type": "int", "symmetric": True, **scale}
    group = {"targets": ["Linear"], "weights": weights}
    compress(arguments, GPTQModifier(config_groups={"group_0": group}, ignore=["lm_head"]))
