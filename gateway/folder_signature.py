"""Whether a policy document has changed: what a look at the disk tells without reading anything."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from serving.contracts.policy_folder import REFUSED_FILE, REVISION_FILE, ROUTES_FOLDER

_YOUNG_SECONDS: Final = 0.05
"""A file this young may change again without changing its timestamp (ticks of 4 to 10 ms)."""


class Signature(NamedTuple):
    """Changes when a document does: the real path, and identity, size and times of each file in it.

    `young` says that something changed just now and may be changing still.
    """

    real: str
    files: tuple[tuple[str, int, int, int, int], ...]
    young: bool

    def same_as(self, other: Signature | None) -> bool:
        """Tell whether nothing has changed, as far as can be seen."""
        return other is not None and self[:2] == other[:2]


def signature_of(path: Path) -> Signature:
    """Look at a file, or at a policy folder's documents, without reading them."""
    real = os.path.realpath(path)
    files: list[tuple[str, int, int, int, int]] = []
    newest = 0.0
    for name, stat in _stats(real):
        files.append((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        newest = max(newest, stat.st_mtime, stat.st_ctime)
    return Signature(real, tuple(files), young=abs(time.time() - newest) < _YOUNG_SECONDS)


def _stats(real: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        yield real, os.stat(real)  # noqa: PTH116 - paths stay text here: of 10,000 routes each is one, ten times a second
        if not os.path.isdir(real):  # noqa: PTH112
            return
        for folder in (real, os.path.join(real, ROUTES_FOLDER)):  # noqa: PTH118
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.endswith(".yaml") or entry.name in {REVISION_FILE, REFUSED_FILE, ROUTES_FOLDER}:
                        yield entry.path, entry.stat()
    except OSError:
        return
