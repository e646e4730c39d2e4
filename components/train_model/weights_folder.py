"""Check that a folder is a whole Hugging Face model before anything is built on it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


class WeightsError(Exception):
    """A model folder lacks a part, or a part of it is damaged."""


def check_model_folder(folder: Path) -> int:
    """Check config, every weights file and the tokenizer of a model folder.

    Returns:
        Number of parameters that the weights files hold.

    Raises:
        WeightsError: A part is missing, truncated or unreadable; the message names the file.
    """
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise WeightsError(f"expected a Hugging Face model folder at {folder}; got {got}: correct the source's path")
    config = _read_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise WeightsError(
            f"expected `model_type` in {folder / 'config.json'}; it is missing: this is no Hugging Face model"
        )
    parameters = sum(_count_parameters(folder, name, tensors) for name, tensors in _weights_files(folder).items())
    _check_tokenizer(folder)
    return parameters


def _weights_files(folder: Path) -> dict[str, set[str] | None]:
    """Map weights files to the tensors that the index says they hold; None where there is no index."""
    if (folder / _INDEX).exists():
        weight_map = _read_json(folder / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise WeightsError(f"expected `weight_map` in {folder / _INDEX}; it is missing or empty: copy it again")
        files: dict[str, set[str] | None] = {}
        for tensor, name in weight_map.items():
            held = files.setdefault(str(name), set())
            assert held is not None
            held.add(tensor)
        return files
    if (folder / _SINGLE).exists():
        return {_SINGLE: None}
    others = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".gguf"})
    got = ", ".join(others) or "no weights at all"
    raise WeightsError(f"expected {_SINGLE} or {_INDEX} in {folder}; got {got}: convert the weights to safetensors")


def _count_parameters(folder: Path, name: str, tensors: set[str] | None) -> int:
    """Open one file and count its numbers; the header knows the size, so a cut file is found without reading it."""
    path = folder / name
    if Path(name).name != name:
        raise WeightsError(f"expected a file name in {folder / _INDEX}; got {name!r}: the index is damaged")
    try:
        with safe_open(path, framework="numpy") as file:
            present = set(file.keys())
            count = sum(int(math.prod(file.get_slice(key).get_shape())) for key in present)
    except FileNotFoundError as exc:
        raise WeightsError(f"expected the weights file {path}, which the index names; it is missing: copy it") from exc
    except (SafetensorError, OSError) as exc:
        raise WeightsError(
            f"expected whole safetensors in {path}; it is truncated or damaged ({exc}): copy or download it again"
        ) from exc
    missing = (tensors or set()) - present
    if missing:
        raise WeightsError(f"expected tensor {min(missing)!r} in {path}, as the index says; it is not there")
    return count


def _check_tokenizer(folder: Path) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import, and cheaper checks come first

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tokenizer("10 EUR")
    except Exception as exc:  # tokenizers raises plain Exception for a damaged file
        reason = str(exc).strip().splitlines()[0][:300] if str(exc).strip() else type(exc).__name__
        raise WeightsError(f"expected a tokenizer in {folder}; it cannot be loaded ({reason}): copy its files") from exc


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise WeightsError(f"expected {path}; it is missing: name a whole Hugging Face model folder") from exc
    except (OSError, ValueError) as exc:
        raise WeightsError(f"expected a JSON object in {path}; it cannot be read ({exc}): copy it again") from exc
    if not isinstance(content, dict):
        raise WeightsError(f"expected a JSON object in {path}; got {type(content).__name__}: copy it again")
    return content
