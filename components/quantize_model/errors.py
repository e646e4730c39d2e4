"""Errors of the quantization step.

QuantizeModelError
├── QuantizationError      a required recipe failed; the report is published and names the reason
├── BrokenWeightsError     a weights folder cannot be used: missing, truncated, or its tokenizer is unreadable
├── StorageFullError       the disk is full; nothing half-written stays
└── RecipeError            one recipe failed; it becomes that candidate's reason and never leaves the step
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
FULL_WORDS = ("No space left on device", "Disk quota exceeded", "os error 28")
"""What a full disk says where a library passes the text on and drops the number (shutil.Error, safetensors)."""


class QuantizeModelError(Exception):
    """Base of this step's errors."""


class QuantizationError(QuantizeModelError):
    """A recipe that the spec requires could not be built."""


class BrokenWeightsError(QuantizeModelError):
    """A weights folder cannot be used."""


class StorageFullError(QuantizeModelError):
    """The disk is full."""


class RecipeError(QuantizeModelError):
    """One recipe failed."""


def is_storage_full(error: OSError) -> bool:
    """Tell whether an operating system error means a full disk or quota."""
    return error.errno in _FULL or any(words in str(error) for words in FULL_WORDS)


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk below `folder` into `StorageFullError`; every other error passes."""
    try:
        yield
    except OSError as exc:
        if not is_storage_full(exc):
            raise
        raise StorageFullError(
            f"expected space for the candidates under {folder}; the disk is full: free some and run the release again"
        ) from exc
