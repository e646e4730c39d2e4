"""Files that are whole or absent, and digests of what they hold."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file in one step; a reader sees the old content or the new, a kill leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode() if isinstance(data, str) else data
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name, then rename it; a kill leaves no half-written folder at `path`.

    When `path` came to exist meanwhile (another process made the same content), that one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield work
        try:
            work.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def digest_bytes(data: bytes) -> str:
    """Return `sha256:<hex>` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_file(path: Path) -> str:
    """Return `sha256:<hex>` of a file's content."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    return f"sha256:{state.hexdigest()}"


def digest_folder(path: Path) -> str:
    """Return `sha256:<hex>` of a folder: relative names and contents of all its files, in sorted order."""
    state = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        state.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode())
    return f"sha256:{state.hexdigest()}"
