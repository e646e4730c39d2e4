"""Round to nearest, stored dense: matrices take `2**bits` values a group but keep their type.

Any engine serves the result. Embeddings and head are rounded as well: no kernel stands in the way. Nothing gets
smaller. It shows what a number of bits costs in quality, and at 2 bits it is a candidate that a quality gate must
refuse.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

INDEX = "model.safetensors.index.json"


def load() -> None:
    """Import the libraries."""
    import safetensors.torch  # noqa: F401, PLC0415 - imported when the first method needs it


def run(arguments: dict[str, Any]) -> None:
    """Round every layer of `arguments["layers"]`, file by file."""
    from safetensors import safe_open  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    base, output = Path(arguments["base"]), Path(arguments["output"])
    layers = {f"{layer}.weight" for layer in arguments["layers"]}
    for file in sorted(base.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no iterator of its own
        for name in layers & tensors.keys():
            tensors[name] = round_to_nearest(tensors[name], arguments["bits"], arguments["group_size"])
        save_file(tensors, output / file.name, metadata={"format": "pt"})
    for name in ("config.json", INDEX):
        if (base / name).exists():
            shutil.copyfile(base / name, output / name)


def round_to_nearest(weight: torch.Tensor, bits: int, group_size: int) -> torch.Tensor:
    """Round to the nearest of `2**bits` evenly spaced values between each group's smallest and largest (0 included).

    Args:
        weight: Shape (outputs, inputs).
        bits: 2 to 16.
        group_size: Columns that share the spacing, dividing the inputs; -1 is a whole row.

    Returns:
        Same shape and type.

    Source:
        Jacob et al. 2018, "Quantization and Training of Neural Networks", equation 1: affine, asymmetric.
    """
    rows, columns = weight.shape
    groups = weight.float().reshape(rows, -1, columns if group_size == -1 else group_size)
    low = groups.amin(-1, keepdim=True).clamp(max=0)
    high = groups.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
    zero = (-low / scale).round()
    levels = ((groups / scale).round() + zero).clamp(0, 2**bits - 1)
    rounded: torch.Tensor = ((levels - zero) * scale).reshape(rows, columns).to(weight.dtype).contiguous()
    return rounded
