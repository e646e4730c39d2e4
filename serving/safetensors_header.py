"""The header of a safetensors file: which tensors it holds, and whether the file is as long as it says."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of a value by safetensors type name (safetensors 0.7, `Dtype::bitsize`); a newer type is left to the engine."""
_MAX_HEADER_BYTES: Final = 100_000_000  # safetensors' own limit, `MAX_HEADER_SIZE`


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: file name, safetensors type name, shape (rows are outputs, columns inputs), its first byte."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Read one file's header and compare the file's length with it.

    Raises:
        ValueError: The file is truncated, too long, or no safetensors; the message begins with its name.
        OSError: It cannot be read.

    Source:
        safetensors' README, section Format: 8 bytes little-endian header length, JSON header, tensors without gaps.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            got = f"{size} bytes, truncated or no safetensors"
            raise ValueError(f"{file.name}: expected a whole safetensors header; got {got}")
        raw = stream.read(length)
    try:
        tensors, end = _parse(file.name, json.loads(raw), 8 + length)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        got = f"a damaged one ({str(exc)[:200]})"
        raise ValueError(f"{file.name}: expected a safetensors header; got {got}") from exc
    if size != end:
        got = f"{size}, truncated or damaged"
        raise ValueError(f"{file.name}: expected {end} bytes as its header says; got {got}")
    return tensors


def _parse(file: str, header: dict[str, Any], start: int) -> tuple[dict[str, TensorInfo], int]:
    """Return the tensors and where the last one ends; `start` is the first byte behind the header.

    Raises:
        ValueError: Tensors overlap, leave a gap, or do not fit their shape.
    """
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    tensors: dict[str, TensorInfo] = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        first, last = entry["data_offsets"]
        info = TensorInfo(file, entry["dtype"], tuple(entry["shape"]), start + first)
        bits = BITS.get(info.dtype)
        if first != end or (bits is not None and math.prod(info.shape) * bits != 8 * (last - first)):
            raise ValueError(f"bytes {first} to {last} for {name} of shape {list(info.shape)}")
        tensors[name], end = info, last
    return tensors, start + end
