"""Check a model folder before an engine spends a minute on finding out: a second even for large models.

Only headers and lengths are read; contents are what the weights digest is for.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from serving.local.errors import WeightsError

_MAX_HEADER_BYTES = 100_000_000  # the format's own bound, safetensors `MAX_HEADER_SIZE`


def check_weights(folder: Path) -> None:
    """Check that a Hugging Face folder can be served.

    Raises:
        WeightsError: config.json, weights or tokenizer are missing, truncated or unreadable; all problems are listed.
    """
    if not folder.is_dir():
        raise WeightsError(f"expected a model folder at {folder}; got {'a file' if folder.exists() else 'nothing'}")
    problems = []
    for check in (_check_config, _check_tensors, _check_tokenizer):
        try:
            check(folder)
        except WeightsError as exc:
            problems.append(str(exc))
    if problems:
        raise WeightsError("\n".join([f"{folder} cannot be served:", *(f"  {problem}" for problem in problems)]))


def _check_config(folder: Path) -> None:
    config = _read_json(folder / "config.json")
    if not isinstance(config, dict) or not config.get("architectures"):
        raise WeightsError("config.json: expected a mapping with `architectures`; got something else")


def _check_tensors(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        content = _read_json(index)
        names = sorted(set(content.get("weight_map", {}).values())) if isinstance(content, dict) else []
        files = [folder / str(name) for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WeightsError("expected *.safetensors; got none: save the model with safetensors")
    problems = [problem for file in files if (problem := _tensor_file_problem(file))]
    if problems:
        raise WeightsError("; ".join(problems))


def _tensor_file_problem(file: Path) -> str | None:
    """Compare a file's length with what its header says; the format is 8 bytes length, JSON header, data."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                return f"{file.name}: expected a safetensors header; the file is truncated or no safetensors"
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except OSError as exc:
        return f"{file.name}: cannot be read: {exc.strerror}"
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return f"{file.name}: its safetensors header is damaged: copy or build the weights again"
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        return f"{file.name}: expected {expected} bytes; got {size}: it is truncated or damaged, copy it again"
    return None


def _check_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    if not file.exists():
        if any((folder / name).exists() for name in ("tokenizer.model", "vocab.json", "tekken.json")):
            return
        raise WeightsError("expected tokenizer.json (or tokenizer.model, vocab.json, tekken.json); got none")
    if (folder / "tokenizer_config.json").exists():
        _read_json(folder / "tokenizer_config.json")
    try:
        Tokenizer.from_file(str(file))
    except Exception as exc:  # the library raises plain Exception for every damage
        raise WeightsError(f"tokenizer.json cannot be read: {str(exc)[:200]}") from exc


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as exc:
        raise WeightsError(f"{path.name} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise WeightsError(f"{path.name} is no JSON: {str(exc)[:200]}") from exc
