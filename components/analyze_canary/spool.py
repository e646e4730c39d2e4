"""Follows append-only JSON-lines files through growth, rotation, and writers killed in the middle of a line."""

from __future__ import annotations

import os
from pathlib import Path

_CHUNK_BYTES = 1 << 22


class SpoolTail:
    """Reads whole new lines of all files in a folder whose names match a pattern.

    A file is known by its inode, so renaming it on rotation neither loses nor repeats a line. A last line without a
    line feed is left until the rest of it is there. A file that became shorter was replaced and is read from its start.
    """

    def __init__(self, folder: Path, pattern: str) -> None:
        self.broken_lines = 0
        self._folder = folder
        self._pattern = pattern
        self._offsets: dict[tuple[int, int], int] = {}

    def read(self, *, containing: bytes = b"") -> list[bytes]:
        """Return new whole lines, files in the order of their names; lines without `containing` are skipped unread.

        A line that is no JSON object is counted in `broken_lines` and left out.

        Raises:
            OSError: A file exists and cannot be read.
        """
        lines: list[bytes] = []
        for path in sorted(self._folder.glob(self._pattern)):
            try:
                lines.extend(self._read_file(path, containing))
            except FileNotFoundError:  # rotated away between listing and opening; found again under its new name
                continue
        return lines

    def _read_file(self, path: Path, containing: bytes) -> list[bytes]:
        lines: list[bytes] = []
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            key = (status.st_dev, status.st_ino)
            offset = self._offsets.get(key, 0)
            if status.st_size < offset:
                offset = 0
            file.seek(offset)
            while chunk := file.read(_CHUNK_BYTES):
                whole = chunk[: chunk.rfind(b"\n") + 1]
                if not whole and len(chunk) < _CHUNK_BYTES:
                    break
                if not whole:  # no line is this long: skip the garbage, its end will be counted as broken
                    whole = chunk
                offset += len(whole)
                file.seek(offset)
                lines.extend(self._keep(whole, containing))
            self._offsets[key] = offset
        return lines

    def _keep(self, block: bytes, containing: bytes) -> list[bytes]:
        kept = []
        for raw in block.splitlines():
            line = raw.strip()
            if not line:
                continue
            if not (line.startswith(b"{") and line.endswith(b"}")):
                self.broken_lines += 1
            elif containing in line:
                kept.append(line)
        return kept
