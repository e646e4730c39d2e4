"""What a Hugging Face weights folder holds, read from file headers alone: no tensor is loaded, no library is needed."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.quantize_model.errors import BrokenWeightsError

INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit on a header
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_EMBEDDINGS = ("embed", "lm_head", "wte", "wpe")
_AGAIN = "obtain the base weights again"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its file's name, safetensors type name, and shape (rows are outputs, columns inputs)."""

    file: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """A folder of whole safetensors files."""

    folder: Path
    tensors: Mapping[str, TensorInfo]
    size_bytes: int

    @property
    def files(self) -> list[str]:
        """Names of the weights files, sorted."""
        return sorted({info.file for info in self.tensors.values()})

    def layers(self, *, embeddings: bool) -> dict[str, tuple[int, int]]:
        """Map each layer with a weight matrix to its shape (outputs, inputs).

        Args:
            embeddings: Include embeddings and the head, which most methods leave as they are.
        """
        return {
            name.removesuffix(".weight"): (info.shape[0], info.shape[1])
            for name, info in sorted(self.tensors.items())
            if name.endswith(".weight")
            and len(info.shape) == 2
            and (embeddings or not any(word in name for word in _EMBEDDINGS))
        }


def read_weights(folder: Path) -> Weights:
    """Read every header and check that each file is as long as its header says.

    Raises:
        BrokenWeightsError: config.json or a weights file is missing, truncated or no such file at all.
    """
    read_json(folder / "config.json")
    tensors: dict[str, TensorInfo] = {}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BrokenWeightsError(f"expected *.safetensors in {folder}; got none: {_AGAIN}")
    for file in files:
        tensors |= _read_header(file)
    if not tensors:
        raise BrokenWeightsError(f"expected tensors in {folder}; its files hold none: {_AGAIN}")
    if (folder / INDEX).exists():
        wanted = read_json(folder / INDEX).get("weight_map", {})
        missing = sorted(name for name, file in wanted.items() if name not in tensors or tensors[name].file != file)
        if missing:
            raise BrokenWeightsError(
                f"expected {missing[0]} in {wanted[missing[0]]} as {folder / INDEX} says; it is missing "
                f"({len(missing)} of {len(wanted)} tensors are): {_AGAIN}"
            )
    return Weights(folder, tensors, sum(file.stat().st_size for file in files))


def check_tokenizer(folder: Path) -> None:
    """Load the tokenizer's files as far as that needs no model library.

    Raises:
        BrokenWeightsError: There is no tokenizer, or it cannot be read.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - costs 0.1 s that a failed step should not pay

    if not any((folder / name).exists() for name in _TOKENIZER_FILES):
        raise BrokenWeightsError(f"expected one of {', '.join(_TOKENIZER_FILES)} in {folder}; got none: {_AGAIN}")
    read_json(folder / "tokenizer_config.json")
    if (folder / "tokenizer.json").exists():
        try:
            Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as exc:  # the library raises plain Exception for every fault of the file
            raise BrokenWeightsError(
                f"expected a readable tokenizer in {folder / 'tokenizer.json'}; got {str(exc)[:300]!r}: {_AGAIN}"
            ) from exc


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BrokenWeightsError: The file is missing, unreadable or no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as exc:
        raise BrokenWeightsError(f"expected {path}; it cannot be read ({exc.strerror or exc}): {_AGAIN}") from exc
    except ValueError as exc:
        raise BrokenWeightsError(f"expected JSON in {path}; got {str(exc)[:200]!r}: {_AGAIN}") from exc
    if not isinstance(value, dict):
        raise BrokenWeightsError(f"expected a JSON object in {path}; got {type(value).__name__}: {_AGAIN}")
    return value


def _read_header(file: Path) -> dict[str, TensorInfo]:
    """Read one file's header.

    Source:
        safetensors' README, section Format: 8 bytes little-endian header length, JSON header, tensor bytes.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
            if not 0 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                raise BrokenWeightsError(
                    f"expected a whole safetensors header in {file}; got a file of {size} bytes: {_AGAIN}"
                )
            header = json.loads(stream.read(length))
        entries = {
            name: (TensorInfo(file.name, entry["dtype"], tuple(entry["shape"])), entry["data_offsets"][1])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except OSError as exc:
        raise BrokenWeightsError(f"expected {file} to be readable; got {exc.strerror or exc}: {_AGAIN}") from exc
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
        raise BrokenWeightsError(f"expected a safetensors header in {file}; got {str(exc)[:200]!r}: {_AGAIN}") from exc
    expected = 8 + length + max((end for _, end in entries.values()), default=0)
    if size != expected:
        raise BrokenWeightsError(
            f"expected {expected} bytes in {file} as its header says; got {size}: the file is truncated or damaged, "
            f"{_AGAIN}"
        )
    return {name: info for name, (info, _) in entries.items()}
