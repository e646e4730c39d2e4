"""Files that are whole or absent, locks that die with their holder, and digests of what files hold.

Standard library only: the engine parent imports this under the engine's environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

_UNFINISHED = ".unfinished"
_NEW_SECONDS = 10.0  # from its creation to its lock a folder needs microseconds


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

    When `path` came to exist meanwhile (another process made the same content), that one stays. What killed processes
    left unfinished beside it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_unfinished(path.parent)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED))
    owned = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(owned, fcntl.LOCK_EX)
        yield work
        try:
            work.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(owned)


def _drop_unfinished(folder: Path) -> None:
    """Remove folders whose maker is dead: the kernel has freed their lock, and they are no longer brand new."""
    for left in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError), file_lock(left, wait=False, make=False):
            if time.time() - left.stat().st_ctime > _NEW_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def file_lock(path: Path, *, wait: bool = True, make: bool = True) -> Iterator[int]:
    """Hold a lock that threads, processes and forks share out among themselves; the kernel frees it with its holder.

    Args:
        path: Its file; a folder can be locked too.
        wait: Wait for another holder.
        make: Make the file, and its folder, where they are missing.

    Yields:
        The file's descriptor.

    Raises:
        BlockingIOError: Somebody holds it, and `wait` is false.
    """
    flags = os.O_RDONLY
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield descriptor
    finally:
        os.close(descriptor)


def local_path(uri: str) -> Path | None:
    """Return the path that a `file://` URI or an absolute path names on this machine; None for any other place."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(uri) if uri.startswith("/") else None


def digest_bytes(data: bytes) -> str:
    """Return `sha256:<hex>` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_file(path: Path) -> str:
    """Return `sha256:<hex>` of a file's content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def digest_folder(path: Path) -> str:
    """Return `sha256:<hex>` of a folder: relative names and contents of all its files, in sorted order."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return digest_named({file.relative_to(path).as_posix(): digest_file(file) for file in files})


def digest_named(digests: Mapping[str, str]) -> str:
    """Return the digest that a folder has whose files have these relative names and digests, in this order."""
    return digest_bytes("".join(f"{name}\0{digest}\n" for name, digest in digests.items()).encode())
