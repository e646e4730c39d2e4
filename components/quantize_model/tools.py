"""Interpreters and versions of the tools, each in the step's own environment or one that is installed by itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

from components.quantize_model.errors import RecipeError
from serving.settings import NexusSettings

CORE: Final = "core"
"""Environment that the step itself runs in."""


def interpreter(settings: NexusSettings, environment: str | None) -> Path:
    """Return the Python of an environment; None is the one that runs this.

    Raises:
        RecipeError: The environment is not installed.
    """
    if environment is None:
        return Path(sys.executable)
    python = settings.environment_dir(environment) / "bin" / "python"
    if not python.exists():
        raise RecipeError(
            f"expected the environment {environment!r} in {settings.environment_dir(environment)}; it is not "
            f"installed: run `nexus install {environment}` and the release again"
        )
    return python


def versions(settings: NexusSettings, environment: str | None, packages: Iterable[str]) -> dict[str, str]:
    """Map packages to their versions, read from the environment's metadata without starting it.

    Raises:
        RecipeError: The environment or one of the packages is not installed.
    """
    interpreter(settings, environment)
    path = sys.path
    if environment is not None:
        path = [str(folder) for folder in settings.environment_dir(environment).glob("lib/python*/site-packages")]
    found: dict[str, str] = {}
    for package in packages:
        distribution = next(iter(metadata.distributions(name=package, path=path)), None)
        if distribution is None:
            name = environment or CORE
            raise RecipeError(
                f"expected the package {package} in the environment {name!r}; it is not there: "
                f"run `nexus install {name}` and the release again"
            )
        found[package] = distribution.version
    return found
