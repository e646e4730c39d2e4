"""Whether a Hugging Face weights folder is whole, and what it holds: read from headers, before anybody loads a tensor.

The one check for every step and for the local node. It needs neither torch nor transformers, whose import alone costs
more than the check of a large model; contents are what the weights digest is for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from serving.safetensors_header import BITS, TensorInfo, read_header

INDEX: Final = "model.safetensors.index.json"
_SINGLE: Final = "model.safetensors"
_TEKKEN: Final = "tekken.json"
_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", _TEKKEN)
_EMBEDDINGS: Final = ("embed", "lm_head", "wte", "wpe")
_PACKED: Final = ("weight_packed", "qweight")
_QUANTIZERS: Final = ("_scale", "_scale_inv", "_zero_point", "_g_idx", "_shape", ".scales", ".qzeros", ".g_idx")
"""How names of tensors end that say how weights are packed, in compressed-tensors, fp8 and GPTQ checkpoints."""
_AGAIN: Final = "copy or build the weights again"


class WeightsFolderError(Exception):
    """A weights folder lacks a part, or a part of it is damaged; the message lists all of them."""


@dataclass(frozen=True)
class Weights:
    """A folder of whole safetensors files, the content of its config.json, and the tensors that a loader reads."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    @property
    def files(self) -> list[str]:
        """Names of the weights files, sorted."""
        return sorted({info.file for info in self.tensors.values()})

    @cached_property
    def size_bytes(self) -> int:
        """Length of all weights files."""
        return sum((self.folder / name).stat().st_size for name in self.files)

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

    @cached_property
    def parameters(self) -> int:
        """Number of values that the weights stand for.

        Packed weights count unpacked: by the shape that compressed-tensors stores beside them, else by config.json's
        bits. Scales, zero points and group indices do not count. A format that says neither (bitsandbytes, MXFP4)
        counts as stored, and so does a tied weight that is stored twice.
        """
        quantization = self.config.get("quantization_config")
        if not isinstance(quantization, dict):
            return sum(math.prod(info.shape) for info in self.tensors.values())
        bits = _packed_bits(quantization)
        return sum(self._values(name, bits) for name in self.tensors if not name.endswith(_QUANTIZERS))

    def _values(self, name: str, bits: int | None) -> int:
        info = self.tensors[name]
        if not name.endswith(_PACKED):
            return math.prod(info.shape)
        shape = self.tensors.get(name.removesuffix("weight_packed") + "weight_shape")
        if shape is not None and shape.dtype in ("I32", "I64"):
            width = BITS[shape.dtype] // 8
            with (self.folder / shape.file).open("rb") as stream:
                stream.seek(shape.start)
                raw = stream.read(width * math.prod(shape.shape))
            return math.prod(int.from_bytes(raw[at : at + width], "little") for at in range(0, len(raw), width))
        return math.prod(info.shape) * (BITS[info.dtype] // bits if bits and info.dtype in BITS else 1)


def check_folder(folder: Path) -> Weights:
    """Check that an engine or a trainer can use a folder: config, weights and tokenizer.

    Raises:
        WeightsFolderError: Parts are missing, truncated or unreadable; all of them are listed.
    """
    with _listed(folder) as problems:
        weights = _read(folder, problems)
        _find_tokenizer_problems(folder, problems)
    return weights


def read_weights(folder: Path) -> Weights:
    """Check config and weights files alone: every header, every length, and that the index's tensors are there.

    Raises:
        WeightsFolderError: Parts are missing, truncated or unreadable; all of them are listed.
    """
    with _listed(folder) as problems:
        return _read(folder, problems)


def check_tokenizer(folder: Path) -> None:
    """Load the tokenizer as far as that needs no model library; tokenizer.model and its like are left to the engine.

    Raises:
        WeightsFolderError: There is no tokenizer, or it cannot be read.
    """
    with _listed(folder) as problems:
        _find_tokenizer_problems(folder, problems)


@contextmanager
def _listed(folder: Path) -> Iterator[list[str]]:
    """Give a list for problems and refuse the folder when it is not empty."""
    problems: list[str] = []
    try:
        if not folder.is_dir():
            got = "a file" if folder.exists() else "nothing"
            raise WeightsFolderError(f"expected a Hugging Face model folder at {folder}; got {got}: correct the path")
        yield problems
    except OSError as exc:
        got = f"{exc.strerror}: correct the path or its permissions"
        raise WeightsFolderError(f"expected a readable Hugging Face model folder at {folder}; got {got}") from exc
    if problems:
        raise WeightsFolderError(
            "\n".join([f"expected a whole Hugging Face model in {folder}; got", *(f"  {line}" for line in problems)])
        )


def _read(folder: Path, problems: list[str]) -> Weights:
    config = _read_json(folder / "config.json", problems)
    if config is not None:
        lacking = [key for key in ("architectures", "model_type") if not config.get(key)]
        action = "name a folder with a Hugging Face model"
        problems += [f"config.json: expected `{key}`; got {config.get(key)!r}: {action}" for key in lacking]
    wanted = _wanted(folder, problems)
    headers: dict[str, dict[str, TensorInfo]] = {}
    for name in sorted({*wanted, *(file.name for file in folder.glob("*.safetensors"))}):
        try:
            headers[name] = read_header(folder / name)
        except OSError as exc:
            problems.append(f"{name}: expected a readable file; got {exc.strerror}: {_AGAIN}")
        except ValueError as exc:
            problems.append(f"{exc}: {_AGAIN}")
    tensors: dict[str, TensorInfo] = {}
    for name in sorted(wanted.keys() & headers.keys()):
        tensors |= headers[name]
        missing = sorted(wanted[name] - headers[name].keys())
        if missing:
            problems.append(
                f"{name}: expected tensor {missing[0]!r} as {INDEX} says; got a file without it "
                f"({len(missing)} of {len(wanted[name])} tensors are missing): {_AGAIN}"
            )
    if wanted and not tensors and wanted.keys() <= headers.keys():
        problems.append(f"{', '.join(wanted)}: expected tensors; got none: {_AGAIN}")
    return Weights(folder, config or {}, tensors)


def _wanted(folder: Path, problems: list[str]) -> dict[str, set[str]]:
    """Map each file that a loader opens to the tensors that the index promises of it."""
    if (folder / INDEX).exists():
        index = _read_json(folder / INDEX, problems)
        weight_map = index.get("weight_map") if index is not None else None
        if index is not None and (not isinstance(weight_map, dict) or not weight_map):
            problems.append(f"{INDEX}: expected `weight_map` with tensors; got {weight_map!r}: {_AGAIN}")
        files: dict[str, set[str]] = {}
        for tensor, name in weight_map.items() if isinstance(weight_map, dict) else ():
            files.setdefault(str(name), set()).add(tensor)
        for name in [name for name in files if Path(name).name != name or not name.endswith(".safetensors")]:
            problems.append(f"{INDEX}: expected names of *.safetensors in this folder; got {name!r}: {_AGAIN}")
            del files[name]
        return files
    if (folder / _SINGLE).exists():
        return {_SINGLE: set()}
    suffixes = {".safetensors", ".bin", ".pt", ".pth", ".gguf"}
    got = ", ".join(sorted(path.name for path in folder.iterdir() if path.suffix in suffixes)) or "no weights at all"
    problems.append(f"expected {_SINGLE}, or *.safetensors with {INDEX}; got {got}: save the model as safetensors")
    return {}


def _packed_bits(quantization: dict[str, Any]) -> int | None:
    """Return the bits of packed weights; None where config.json names none, or several."""
    groups = quantization.get("config_groups")
    listed = list(groups.values()) if isinstance(groups, dict) else []
    schemes = [group.get("weights") for group in listed if isinstance(group, dict)]
    named = [quantization.get("bits"), *(scheme.get("num_bits") for scheme in schemes if isinstance(scheme, dict))]
    bits = {number for number in named if isinstance(number, int) and number > 0}
    return bits.pop() if len(bits) == 1 else None


def _find_tokenizer_problems(folder: Path, problems: list[str]) -> None:
    from tokenizers import Tokenizer  # noqa: PLC0415 - costs 0.1 s that a caller of the contract alone should not pay

    found = [name for name in _TOKENIZERS if (folder / name).exists()]
    if not found:
        problems.append(f"expected one of {', '.join(_TOKENIZERS)}; got no tokenizer: copy the tokenizer's files")
    if any(name != _TEKKEN for name in found):  # Mistral's own format has no other file
        _read_json(folder / "tokenizer_config.json", problems)
    if "tokenizer.json" in found:
        try:
            Tokenizer.from_file(str(folder / "tokenizer.json")).encode("10 EUR")
        except Exception as exc:  # noqa: BLE001 - the library raises plain Exception for every damage
            got = f"{str(exc)[:300]!r}: copy the tokenizer's files again"
            problems.append(f"tokenizer.json: expected a readable tokenizer; got {got}")


def _read_json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except OSError as exc:
        problems.append(f"{path.name}: expected a readable file; got {exc.strerror}: {_AGAIN}")
    except (ValueError, RecursionError) as exc:
        problems.append(f"{path.name}: expected JSON; got {str(exc)[:200]!r}: {_AGAIN}")
    else:
        if isinstance(content, dict):
            return content
        problems.append(f"{path.name}: expected a JSON object; got {type(content).__name__}: {_AGAIN}")
    return None
