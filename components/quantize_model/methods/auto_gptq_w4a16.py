"""W4A16 with AutoGPTQ, in an environment of its own. Runs without our packages: standard library and tool only.

AutoGPTQ's algorithm runs on any device, but its entry point refuses a machine without CUDA and pins layers to cuda:0.
Without a GPU the model is therefore loaded by transformers, and the module's device constant points to the CPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_BATCH_ROWS = 8
_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def load() -> None:
    """Import the tool."""
    import auto_gptq  # noqa: F401, PLC0415 - imported when the method runs


def run(arguments: dict[str, Any]) -> None:
    """Quantize with calibration and save in the base's own layout."""
    base, output = Path(arguments["base"]), Path(arguments["output"])
    rows = json.loads(Path(arguments["tokens"]).read_text())
    model = _model(base, arguments["group_size"])
    model.quantize(
        [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows],
        batch_size=_BATCH_ROWS,
        cache_examples_on_gpu=False,
    )
    config = json.loads((base / "config.json").read_text())
    _save(model.model, output, set(arguments["tensors"]), config.get("dtype") or config.get("torch_dtype"))
    config["quantization_config"] = {
        "bits": 4,
        "group_size": arguments["group_size"],
        "desc_act": False,
        "sym": True,
        "lm_head": False,
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
    }
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _model(base: Path, group_size: int) -> Any:
    import torch  # noqa: PLC0415
    from auto_gptq import BaseQuantizeConfig  # noqa: PLC0415
    from auto_gptq.modeling import _base  # noqa: PLC0415
    from auto_gptq.modeling.auto import GPTQ_CAUSAL_LM_MODEL_MAP  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    settings = BaseQuantizeConfig(bits=4, group_size=group_size, desc_act=False, sym=True)
    model = AutoModelForCausalLM.from_pretrained(
        base, torch_dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    kind = model.config.model_type
    if kind not in GPTQ_CAUSAL_LM_MODEL_MAP:
        raise ValueError(
            f"expected a model type of AutoGPTQ ({', '.join(sorted(GPTQ_CAUSAL_LM_MODEL_MAP))}); got {kind!r}"
        )
    if not torch.cuda.is_available():
        _base.CUDA_0 = torch.device("cpu")
        torch.cuda.synchronize = lambda *_, **__: None
    return GPTQ_CAUSAL_LM_MODEL_MAP[kind](model, False, settings)


def _save(model: Any, output: Path, base_tensors: set[str], dtype: str | None) -> None:
    """Save quantized layers and the base's other tensors; AutoGPTQ adds zero biases and unties the head."""
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    kept = {}
    for name, tensor in model.state_dict().items():
        value = tensor.detach().cpu().contiguous()
        if name.endswith((".qweight", ".qzeros", ".g_idx")):
            kept[name] = value
        elif name.endswith(".scales"):
            kept[name] = value.half()
        elif name in base_tensors:
            kept[name] = value.to(getattr(torch, dtype)) if dtype in _TYPES else value
    save_file(kept, output / "model.safetensors", metadata={"format": "pt"})
