"""What the methods made with LLM Compressor share: load the model, compress it once, save it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def load() -> None:
    """Import the tool (10 to 25 s, once a worker)."""
    import llmcompressor.modifiers.gptq  # noqa: PLC0415 - imported when the first method needs it
    import llmcompressor.modifiers.quantization  # noqa: F401, PLC0415


def compress(arguments: Mapping[str, Any], modifier: object) -> None:
    """Apply one modifier to the base weights and save them in compressed-tensors format.

    Args:
        arguments: `base`, `output`, and `tokens` (a JSON file of token lists) where the modifier calibrates.
        modifier: LLM Compressor modifier.
    """
    import torch  # noqa: PLC0415
    from datasets import Dataset  # noqa: PLC0415
    from llmcompressor import oneshot  # noqa: PLC0415
    from llmcompressor.core import reset_session  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    torch.manual_seed(0)
    reset_session()
    model = AutoModelForCausalLM.from_pretrained(arguments["base"], dtype="auto", local_files_only=True)
    options: dict[str, Any] = {}
    if arguments["tokens"]:
        rows = json.loads(Path(arguments["tokens"]).read_text())
        options["dataset"] = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
        options["num_calibration_samples"] = len(rows)
        options["max_seq_length"] = max(len(row) for row in rows)
        options["shuffle_calibration_samples"] = False
    oneshot(model=model, recipe=modifier, **options)
    model.save_pretrained(arguments["output"], save_compressed=True)
    (Path(arguments["output"]) / "recipe.yaml").unlink(missing_ok=True)  # YAML with Python tags that no engine reads
