"""Secrets that a home makes for itself, once: the pepper of its API keys and the credential of the admin API."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path


def ensure_secret(path: Path) -> Path:
    """Make a file of 256 random bits as hex, readable by this user alone; one that is there stays as it is.

    Returns:
        The path.

    Raises:
        OSError: It cannot be written.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{secrets.token_hex(32)}\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process was first, and has perhaps used it
                path.hardlink_to(name)
        finally:
            Path(name).unlink(missing_ok=True)
    return path
