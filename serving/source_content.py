"""Content behind the paths that a release names: a release is the bytes of its data and weights, not their place."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from serving.contracts.data_contract import Split
from serving.data_rows import split_file
from serving.files import digest_file, digest_named

LEFT_OUT: Final = frozenset({".git", ".cache"})
"""Files and folders below a weights folder that are no part of the model: where it was cloned or downloaded from."""


class ChangedSourceError(Exception):
    """The files behind a path are not those that the release was resolved with."""


def digest_data(folder: Path, splits: Iterable[Split]) -> str:
    """Digest the files of some splits, as `digest_folder` does in a folder that holds no others.

    Raises:
        OSError: A file is missing or cannot be read.
    """
    return _digest(folder, sorted(split_file(folder, split) for split in splits))


def digest_weights(folder: Path) -> str:
    """Digest a weights folder, as `digest_folder` does a copy of it that lacks what is `LEFT_OUT`.

    Raises:
        OSError: A file cannot be read.
    """
    files: list[Path] = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        files += [Path(root, name) for name in names if name not in LEFT_OUT]
    return _digest(folder, sorted(file for file in files if file.is_file()))


def require_unchanged(source: Path, *, got: str, expected: str | None) -> None:
    """Hold the digest of a source, or of a copy of it, against an earlier one; None is a release without one.

    Raises:
        ChangedSourceError: The source changed in between.
    """
    if expected not in (None, got):
        raise ChangedSourceError(
            f"expected {source} to hold {expected} as when the release was resolved; got {got}: release the spec again"
        )


def _digest(folder: Path, files: Iterable[Path]) -> str:
    return digest_named({file.relative_to(folder).as_posix(): _digest_unchanged(file) for file in files})


def _digest_unchanged(file: Path) -> str:
    """Digest a file, once while it stays the same: a spec is resolved again for each of its attempts."""
    stat = file.stat()
    return _digest_once(file, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=4096)
def _digest_once(file: Path, _identity: tuple[int, ...]) -> str:
    return digest_file(file)
