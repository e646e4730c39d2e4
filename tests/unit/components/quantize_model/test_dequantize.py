"""Stored layers read back as the dense weights that an engine would see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.quantize_model import measure_layers
from components.quantize_model.dequantize import Checkpoint, UnknownFormatError, unpack
from components.quantize_model.methods.round_to_nearest_dense import round_to_nearest

ROWS, COLUMNS, GROUP = 16, 32, 8


def pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack unsigned values into int32 words along the last dimension, one by one."""
    words = values.long().reshape(values.shape[0], -1, 32 // bits)
    total = sum(words[..., i] << (bits * i) for i in range(32 // bits))
    return torch.as_tensor(total).to(torch.int64).to(torch.int32)


def save(folder: Path, tensors: Mapping[str, torch.Tensor], quantization: object = None) -> Path:
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization} if quantization else {}))
    return folder


@pytest.fixture
def levels() -> torch.Tensor:
    return torch.randint(0, 16, (ROWS, COLUMNS), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def scales() -> torch.Tensor:
    return torch.rand(ROWS, COLUMNS // GROUP, generator=torch.Generator().manual_seed(2)) + 0.5


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_unpacking_undoes_packing(bits: int) -> None:
    """All values of a width come back, the largest too, whose word is negative."""
    values = torch.arange(2**bits).repeat(32)[: 32 * 32 // bits].reshape(4, -1)
    assert torch.equal(unpack(pack(values, bits), bits), values.int())


def test_unpacking_refuses_widths_that_straddle_words() -> None:
    """Three bits do not divide a word; a wrong reading would look like a bad quantizer."""
    with pytest.raises(UnknownFormatError, match="divide 32"):
        unpack(torch.zeros(1, 3, dtype=torch.int32), 3)


def test_int8_and_fp8_rows_are_scaled(tmp_path: Path) -> None:
    """compressed-tensors' quantized formats: value times the row's scale."""
    weight = torch.tensor([[1, -2], [3, 4]], dtype=torch.int8)
    scale = torch.tensor([[0.5], [2.0]])
    tensors = {"a.weight": weight, "a.weight_scale": scale}
    tensors |= {"b.weight": weight.float().to(torch.float8_e4m3fn), "b.weight_scale": scale.clone()}
    checkpoint = Checkpoint(save(tmp_path / "w", tensors, {"format": "int-quantized"}))
    right = torch.tensor([[0.5, -1.0], [6.0, 8.0]])
    assert torch.equal(checkpoint.dense("a"), right)
    assert torch.equal(checkpoint.dense("b"), right)


def test_packed_groups_are_scaled(tmp_path: Path, levels: torch.Tensor, scales: torch.Tensor) -> None:
    """compressed-tensors' packed format: values offset by 8, a scale for each group of columns."""
    tensors = {
        "a.weight_packed": pack(levels, 4),
        "a.weight_scale": scales,
        "a.weight_shape": torch.tensor([ROWS, COLUMNS]),
    }
    quantization = {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}}
    found = Checkpoint(save(tmp_path / "w", tensors, quantization)).dense("a")
    assert torch.allclose(found, (levels - 8) * scales.repeat_interleave(GROUP, 1))


def test_packed_columns_in_another_order_find_their_scale(
    tmp_path: Path, levels: torch.Tensor, scales: torch.Tensor
) -> None:
    """With activation order the group of each column is stored."""
    order = torch.arange(COLUMNS).flip(0) // GROUP
    tensors = {
        "a.weight_packed": pack(levels, 4),
        "a.weight_scale": scales,
        "a.weight_shape": torch.tensor([ROWS, COLUMNS]),
        "a.weight_g_idx": order.int(),
    }
    quantization = {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}}
    found = Checkpoint(save(tmp_path / "w", tensors, quantization)).dense("a")
    assert torch.allclose(found, (levels - 8) * scales[:, order])


@pytest.mark.parametrize(("stored", "offset"), [("gptq", 1), ("gptq_v2", 0)])
def test_gptq_zero_points(tmp_path: Path, levels: torch.Tensor, scales: torch.Tensor, stored: str, offset: int) -> None:
    """GPTQ packs along inputs; its first format stores zero points minus one, its second as they are."""
    zeros = torch.randint(1, 16, (COLUMNS // GROUP, ROWS), generator=torch.Generator().manual_seed(3))
    group = torch.arange(COLUMNS) // GROUP
    tensors = {
        "a.qweight": pack(levels, 4).T,
        "a.qzeros": pack(zeros - offset, 4),
        "a.scales": scales.T,
        "a.g_idx": group.int(),
    }
    found = Checkpoint(save(tmp_path / "w", tensors, {"bits": 4, "checkpoint_format": stored})).dense("a")
    assert torch.allclose(found, (levels - zeros[group].T) * scales.repeat_interleave(GROUP, 1))


def test_unknown_storage_is_refused(tmp_path: Path) -> None:
    """A layer that is missing or stored in a newer GPTQ format is an error, not a zero."""
    tensors = {"a.qweight": torch.zeros(1, 1, dtype=torch.int32)}
    checkpoint = Checkpoint(save(tmp_path / "w", tensors, {"bits": 4, "checkpoint_format": "gptq_v9"}))
    with pytest.raises(UnknownFormatError, match="gptq_v9"):
        checkpoint.dense("a")
    with pytest.raises(UnknownFormatError, match="no tensor of it"):
        checkpoint.dense("b")


def measure(base: Path, candidate: Path) -> float:
    arguments = {"base": str(base), "candidate": str(candidate), "layers": ["a"]}
    return measure_layers.run(arguments)["a"]


def test_error_is_relative_to_the_base(tmp_path: Path) -> None:
    """Frobenius distance over the base's norm: not over the candidate's."""
    base = save(tmp_path / "base", {"a.weight": torch.full((2, 2), 2.0)})
    candidate = save(tmp_path / "candidate", {"a.weight": torch.full((2, 2), 3.0)})
    assert measure(base, candidate) == pytest.approx(0.5)
    assert measure(candidate, base) == pytest.approx(1 / 3)


def test_broken_numbers_are_refused(tmp_path: Path) -> None:
    """NaN in a candidate is a failure of the recipe, and so is another shape."""
    base = save(tmp_path / "base", {"a.weight": torch.ones(2, 2)})
    with pytest.raises(ValueError, match="finite"):
        measure(base, save(tmp_path / "nan", {"a.weight": torch.full((2, 2), float("nan"))}))
    with pytest.raises(UnknownFormatError, match="shape"):
        measure(base, save(tmp_path / "shape", {"a.weight": torch.ones(2, 3)}))


@pytest.mark.parametrize("group_size", [4, -1])
def test_rounding_takes_few_values_and_fewer_bits_lose_more(group_size: int) -> None:
    """Each group holds at most 2**bits values, zero stays zero, and the error grows as bits fall."""
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(4)).to(torch.bfloat16)
    weight[0] = 0
    errors = []
    for bits in (2, 3, 4, 8):
        rounded = round_to_nearest(weight, bits, group_size)
        assert rounded.dtype == weight.dtype
        groups = rounded.reshape(-1, 16 if group_size == -1 else group_size)
        assert max(len(row.unique()) for row in groups) <= 2**bits
        assert not rounded[0].any()
        errors.append(float((rounded - weight).norm()))
    assert errors == sorted(errors, reverse=True)
