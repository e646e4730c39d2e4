"""Dense weights of a saved checkpoint, whatever format its layers are stored in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

_INT32_BITS = 32


class UnknownFormatError(Exception):
    """A layer is stored in a way this module does not read."""


class Checkpoint:
    """Lazily read tensors of a folder: dense, compressed-tensors (int8, fp8, packed int) or GPTQ."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        for file in sorted(folder.glob("*.safetensors")):
            stream = safe_open(file, framework="pt")
            names: list[str] = stream.keys()  # type: ignore[no-untyped-call]
            self._files |= dict.fromkeys(names, stream)
        self._config = json.loads((folder / "config.json").read_text()).get("quantization_config") or {}

    def dense(self, layer: str) -> torch.Tensor:
        """Return a layer's weight as the engine would see it.

        Returns:
            float32, shape (outputs, inputs).

        Raises:
            UnknownFormatError: The layer is missing or stored in another format.
        """
        if f"{layer}.qweight" in self._files:
            return self._gptq(layer)
        if f"{layer}.weight_packed" in self._files:
            return self._packed(layer)
        if f"{layer}.weight" not in self._files:
            raise UnknownFormatError(f"expected layer {layer} in {self._folder}; no tensor of it is stored")
        weight = self._get(f"{layer}.weight").float()
        if f"{layer}.weight_scale" not in self._files:
            return weight
        if f"{layer}.weight_zero_point" in self._files:
            weight = weight - self._get(f"{layer}.weight_zero_point").float()
        return _scaled(weight, self._get(f"{layer}.weight_scale").float())

    def _get(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor

    def _packed(self, layer: str) -> torch.Tensor:
        """Read compressed-tensors' pack-quantized format.

        Source:
            compressed-tensors 0.19, compressors/pack_quantized: values offset by 2**(bits-1), packed along columns.
        """
        groups = self._config["config_groups"].values()
        bits = {group["weights"]["num_bits"] for group in groups}
        if len(bits) != 1 or f"{layer}.weight_zero_point" in self._files:
            raise UnknownFormatError(f"expected one symmetric group of bits in {self._folder}; got {sorted(bits)}")
        width = bits.pop()
        rows, columns = (int(size) for size in self._get(f"{layer}.weight_shape"))
        values: torch.Tensor = unpack(self._get(f"{layer}.weight_packed"), width)[:, :columns] - 2 ** (width - 1)
        scale = self._get(f"{layer}.weight_scale").float()
        if f"{layer}.weight_g_idx" in self._files:
            scale = scale[:, self._get(f"{layer}.weight_g_idx").long()]
        return _scaled(values.float().reshape(rows, columns), scale)

    def _gptq(self, layer: str) -> torch.Tensor:
        """Read GPTQ's format.

        Source:
            AutoGPTQ 0.7.1, nn_modules/qlinear: packed along inputs; format `gptq` stores zero points minus one.
        """
        bits = int(self._config["bits"])
        stored = str(self._config.get("checkpoint_format", "gptq"))
        if stored not in ("gptq", "gptq_v2"):
            raise UnknownFormatError(f"expected checkpoint_format gptq or gptq_v2 in {self._folder}; got {stored!r}")
        levels = unpack(self._get(f"{layer}.qweight").T.contiguous(), bits).T
        zeros = unpack(self._get(f"{layer}.qzeros"), bits)
        if stored == "gptq":
            zeros = (zeros + 1) & (2**bits - 1)
        scales = self._get(f"{layer}.scales").float()
        group = self._get(f"{layer}.g_idx").long()
        weight: torch.Tensor = (scales[group] * (levels - zeros[group]).float()).T.contiguous()
        return weight


def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Unpack unsigned values from int32 words along the last dimension, lowest bits first.

    Returns:
        int32, shape (rows, words * 32 / bits).

    Raises:
        UnknownFormatError: `bits` does not divide a word.
    """
    if _INT32_BITS % bits:
        raise UnknownFormatError(f"expected bits that divide {_INT32_BITS}; got {bits}")
    shifts = torch.arange(0, _INT32_BITS, bits, dtype=torch.int32)
    values: torch.Tensor = ((packed.unsqueeze(-1) >> shifts) & (2**bits - 1)).flatten(-2)
    return values


def _scaled(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Multiply by a scale for the whole weight, each row, or each group of columns."""
    if scale.dim() < 2 or scale.shape[1] == 1:
        return weight * scale
    return weight * scale.repeat_interleave(weight.shape[1] // scale.shape[1], dim=1)
