"""Where the registry of one machine keeps its database and weights: whole or absent, whoever is killed or comes second.

Knows nothing of models and versions; `serving.registry` does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.files import atomic_folder, digest_folder, file_lock, local_path


class RegistryError(Exception):
    """The registry cannot do what was asked; the message says what it holds instead."""


def create_database(path: Path, client: Callable[..., Any]) -> None:
    """Create a sqlite database under another name and rename it; one process does, others wait for it.

    Args:
        path: The database; nothing happens when it exists.
        client: MLflow's client class, whose first call migrates an empty database.
    """
    if path.exists():
        return
    with file_lock(path.parent / "create.lock"):
        if path.exists():
            return
        work = path.parent / ".new-database"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        uri = f"sqlite:///{work / path.name}"
        client(tracking_uri=uri, registry_uri=uri).search_registered_models(max_results=1)
        (work / path.name).rename(path)
        shutil.rmtree(work)


def is_stored(uri: str, digest: str) -> bool:
    """Tell whether weights lie whole at a URI; a remote store keeps what it was given."""
    folder = local_path(uri)
    return folder is None or (folder.is_dir() and digest_folder(folder) == digest)


def store_folder(source: Path, target: Path, digest: str) -> None:
    """Copy weights to a folder of this machine, in place of what is damaged there or was left by a kill.

    Raises:
        RegistryError: The copy has not the digest.
    """
    for left in (target, *target.parent.glob(f".{target.name}.*")):
        shutil.rmtree(left, ignore_errors=True)
    with atomic_folder(target) as work:
        shutil.copytree(source, work, dirs_exist_ok=True)
        check_digest(work, digest, f"copy of {source}")


def check_digest(folder: Path, expected: str, what: str) -> None:
    """Refuse a folder that is missing or holds something else.

    Raises:
        RegistryError: Says which, and what to do.
    """
    if not folder.is_dir():
        raise RegistryError(f"expected {what}; the folder is missing: run the release again to build it anew")
    found = digest_folder(folder)
    if found != expected:
        raise RegistryError(
            f"expected {what} with digest {expected}; got {found}: a file is truncated or changed: release again"
        )
