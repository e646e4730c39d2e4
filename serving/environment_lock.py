"""Which lock an environment was really installed from, as the installer's stamp in its folder says.

The engine environment holds vLLM's CPU build or its CUDA build, so the lock beside the code does not tell.
"""

from __future__ import annotations

import json
from typing import Final

from serving.settings import NexusSettings

STAMP: Final = "nexus-environment.json"
"""Written last by `nexus/environments/install.py`, which runs before anything of ours can be imported."""

UNSTAMPED: Final = "unstamped"
"""Stands for the lock of an environment that the installer did not make: nobody can say what it holds."""


class EnvironmentStampError(Exception):
    """A stamp is there and cannot be read."""


def installed_lock(settings: NexusSettings, environment: str) -> str:
    """Name the locks that an environment holds with the installer's digest of each, such as `engine-cuda.txt 3f…`.

    Args:
        settings: Where environments are.
        environment: Folder below `envs/`.

    Returns:
        The locks, joined by commas; `UNSTAMPED` where the environment has no stamp.

    Raises:
        EnvironmentStampError: The stamp is broken.
    """
    path = settings.environment_dir(environment) / STAMP
    try:
        locks = json.loads(path.read_text())["locks"]
        return ", ".join(f"{name} {digest}" for name, digest in sorted(locks.items()))
    except FileNotFoundError:
        return UNSTAMPED
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise EnvironmentStampError(
            f"expected {path} to name locks and their digests; it cannot be read: run `nexus install {environment}`"
        ) from exc
