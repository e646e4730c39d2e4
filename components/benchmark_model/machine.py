"""Which machine the figures were measured on: in words for the report, and as an identity for using them again."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from serving.wording import size

_VECTOR_FLAGS = ("amx_tile", "avx512_bf16", "avx512_vnni", "avx512f", "avx2", "asimd")
"""Instruction sets that decide which kernels an engine on the CPU has, most capable first."""


def describe_machine(root: Path = Path("/")) -> str:
    """Describe this machine: processor, usable cores, vector instructions, memory, GPUs.

    Args:
        root: Folder that holds `proc`; another one in tests.
    """
    info = _cpu_info(root)
    flags = (info.get("flags") or info.get("Features") or "").split()
    vector = next((flag for flag in _VECTOR_FLAGS if flag in flags), "no vector extension")
    parts = [
        info.get("model name") or platform.machine(),
        f"{len(os.sched_getaffinity(0))} cores",
        vector,
        size(_memory_bytes(root)),
        *_gpus(root),
    ]
    return ", ".join(parts)


def identify_machine(root: Path = Path("/")) -> str:
    """Return a digest that two measurements share only when their times can be compared.

    Args:
        root: As in `describe_machine`.
    """
    info = _cpu_info(root)
    exact = [info.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping", "flags", "Features")]
    machine_id = root / "etc" / "machine-id"
    installed = machine_id.read_text().strip() if machine_id.exists() else ""
    text = "\0".join([describe_machine(root), installed, platform.release(), *exact])
    return hashlib.sha256(text.encode()).hexdigest()


def _cpu_info(root: Path) -> dict[str, str]:
    """Return the first processor's lines of `/proc/cpuinfo`."""
    first = (root / "proc" / "cpuinfo").read_text().strip().split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _memory_bytes(root: Path) -> int:
    for line in (root / "proc" / "meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _gpus(root: Path) -> list[str]:
    """Return the model names that NVIDIA's driver lists, none where it is not loaded."""
    names = []
    for file in sorted((root / "proc" / "driver" / "nvidia" / "gpus").glob("*/information")):
        lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        names.append(lines.get("Model", "NVIDIA GPU").strip())
    return names
