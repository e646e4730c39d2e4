"""W4A16 with GPTQModel, in an environment of its own. Runs without our packages: standard library and tool only."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

_KEEP = ("bits", "group_size", "desc_act", "sym", "lm_head", "quant_method", "checkpoint_format", "pack_dtype")
_BATCH_ROWS = 8


def load() -> None:
    """Import the tool with a thread pool it accepts.

    With up to two cores GPTQModel 7.6.0 gives its CPU pool one worker and then asks it for the two of its loader.
    """
    os.environ["GPTQMODEL_CPU_WORKERS"] = str(max(2, (os.cpu_count() or 2) // 2))  # noqa: TID251 - the tool's own switch
    import gptqmodel  # noqa: F401, PLC0415


def run(arguments: dict[str, Any]) -> None:
    """Quantize with calibration and keep what describes the weights, not the run (its log and temporary paths)."""
    from gptqmodel import GPTQModel, QuantizeConfig  # noqa: PLC0415

    rows = json.loads(Path(arguments["tokens"]).read_text())
    output = Path(arguments["output"])
    with tempfile.TemporaryDirectory(dir=output.parent, prefix="gptqmodel-") as folder:
        config = QuantizeConfig(
            bits=4, group_size=arguments["group_size"], offload_to_disk_path=str(Path(folder) / "offload")
        )
        model = GPTQModel.load(arguments["base"], config)
        model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows], batch_size=_BATCH_ROWS)
        saved = Path(folder) / "saved"
        model.save(str(saved))
        described = json.loads((saved / "config.json").read_text())
        quantization = described["quantization_config"]
        described["quantization_config"] = {key: quantization[key] for key in _KEEP if key in quantization}
        (output / "config.json").write_text(json.dumps(described, indent=2) + "\n")
        for file in sorted(saved.glob("*.safetensors*")):
            shutil.move(file, output / file.name)
