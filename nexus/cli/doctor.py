"""Command that checks whether this machine can do the job, and says what to do where it cannot."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import psutil
import typer
from rich.markup import escape
from rich.table import Table

from nexus.cli.output import EXIT_FAILURE, JsonOption, out, print_home, print_json
from serving.contracts.base import StrictModel
from serving.local import node
from serving.settings import NexusSettings, inherited_environment

MIN_DISK_BYTES = 8_000_000_000
"""Environments 7 GB (torch's CUDA build is 4.5 of it), and room for models and logs."""
MIN_MEMORY_BYTES = 6_000_000_000


ENVIRONMENTS = ("core", "engine", "provider", "autogptq", "gptqmodel")
"""The first two are needed; `nexus install` adds the others."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(StrictModel):
    """One check's result; `action` says what to do unless all is well."""

    check: str
    level: Level
    found: str
    action: str = ""


def check_python(_: NexusSettings) -> Finding:
    """Python 3.11 runs us."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = sys.version_info[:2] == (3, 11)
    return Finding(
        check="python",
        level=Level.OK if good else Level.FAILURE,
        found=version,
        action="" if good else "install Python 3.11",
    )


def check_git(_: NexusSettings) -> Finding:
    """A git that can push with a lease is on PATH."""
    path = shutil.which("git")
    if path is None:
        return Finding(check="git", level=Level.FAILURE, found="not on PATH", action="install git")
    found = subprocess.run(
        [path, "--version"], capture_output=True, text=True, check=False, timeout=10, env=inherited_environment()
    ).stdout.strip()
    return Finding(check="git", level=Level.OK, found=found)


def check_disk(settings: NexusSettings) -> Finding:
    """There is room for environments and models."""
    folder = settings.home if settings.home.exists() else settings.home.parent
    free = shutil.disk_usage(folder).free
    installed = (settings.environment_dir("engine") / "bin" / "python").exists()
    good = installed or free >= MIN_DISK_BYTES
    action = "" if good else f"free at least {MIN_DISK_BYTES / 1e9:.0f} GB, or set NEXUS_HOME to a larger disk"
    return Finding(
        check="disk", level=Level.OK if good else Level.FAILURE, found=f"{free / 1e9:.0f} GB free", action=action
    )


def check_memory(_: NexusSettings) -> Finding:
    """Four engines and the tools fit."""
    total = psutil.virtual_memory().total
    good = total >= MIN_MEMORY_BYTES
    action = "" if good else "engines take about 1 GB each: expect the system to swap"
    return Finding(
        check="memory", level=Level.OK if good else Level.WARNING, found=f"{total / 1e9:.0f} GB", action=action
    )


def check_cpu(_: NexusSettings) -> Finding:
    """The CPU has the instructions vLLM's CPU build needs; AVX-512 adds W4A16."""
    flags = set(_cpu_flags())
    if "avx2" not in flags:
        return Finding(
            check="cpu", level=Level.FAILURE, found="no AVX2", action="use an x86-64 CPU with AVX2, or a GPU"
        )
    found = "AVX-512" if "avx512f" in flags else "AVX2 (W4A16 candidates cannot be served)"
    return Finding(check="cpu", level=Level.OK, found=f"{psutil.cpu_count()} cores, {found}")


def check_environments(settings: NexusSettings) -> Finding:
    """Core and engine environments are installed."""
    missing = [name for name in ENVIRONMENTS[:2] if not (settings.environment_dir(name) / "bin" / "python").exists()]
    if missing:
        return Finding(
            check="environments",
            level=Level.FAILURE,
            found=f"missing: {', '.join(missing)}",
            action="run `make install`",
        )
    installed = [name for name in ENVIRONMENTS if (settings.environment_dir(name) / "bin" / "python").exists()]
    return Finding(check="environments", level=Level.OK, found=", ".join(installed))


def check_port(settings: NexusSettings) -> Finding:
    """The gateway's ports are free, or ours."""
    numbers = {"PORT": settings.gateway_port, "ADMIN_PORT": settings.gateway_admin_port}
    current = node.read_status(settings)
    if current is not None and current.gateway_url is not None:
        return Finding(check="port", level=Level.OK, found=f"our gateway listens at {current.gateway_url}")
    for name, port in numbers.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as exc:
                action = f"stop what listens there, or set NEXUS_GATEWAY_{name}"
                return Finding(check="port", level=Level.FAILURE, found=f"{port}: {exc.strerror}", action=action)
    return Finding(check="port", level=Level.OK, found=f"{' and '.join(map(str, numbers.values()))} are free")


CHECKS: tuple[Callable[[NexusSettings], Finding], ...] = (
    check_python,
    check_git,
    check_cpu,
    check_memory,
    check_disk,
    check_environments,
    check_port,
)


def doctor(json: JsonOption = False) -> None:
    """Check this machine: tools, CPU, memory, disk, environments, port. Exit code 1 when something must be mended."""
    settings = NexusSettings.load()
    findings = [check(settings) for check in CHECKS]
    failed = any(finding.level is Level.FAILURE for finding in findings)
    if json:
        shown = [finding.model_dump(mode="json") for finding in findings]
        print_json({"home": str(settings.home), "healthy": not failed, "findings": shown})
    else:
        print_home(settings)
        out.print(_table(findings))
    raise typer.Exit(EXIT_FAILURE if failed else 0)


def _table(findings: list[Finding]) -> Table:
    marks = {Level.OK: "[green]✔[/]", Level.WARNING: "[yellow]![/]", Level.FAILURE: "[red]✘[/]"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        table.add_row(marks[finding.level], finding.check, escape(finding.found), f"[bold]{escape(finding.action)}[/]")
    return table


def _cpu_flags() -> list[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return line.split()
    return []
