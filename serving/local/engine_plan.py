"""A start of one engine, decided but not done: port, command line, files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from serving.contracts.release_spec import EngineSettings
from serving.engines.base import EngineArgumentError, EngineCommand, EngineSpec
from serving.engines.registry import build_command
from serving.local import ports
from serving.local.engine_host import engine_host, scratch_folder, starts_warm
from serving.local.errors import EngineError
from serving.settings import NexusSettings


@dataclass(frozen=True)
class EnginePlan:
    """A start that is decided but not done: what a record keeps, so that a killed reconciler finds the engine again.

    Attributes:
        token: Names this start at the parent; planning it once and starting it twice gives one process.
        port: TCP port on the loopback address.
        command: Argument vector and variables.
        warm: Forked from the parent's imports.
        log_path: File for its output.
        identity_path: File in which the engine says its process number.
        scratch: Folder for its temporary files.
    """

    token: str
    port: int
    command: EngineCommand
    warm: bool
    log_path: Path
    identity_path: Path
    scratch: Path

    @property
    def url(self) -> str:
        """Base address it will answer at."""
        return f"http://127.0.0.1:{self.port}"


def plan_engine(
    settings: NexusSettings,
    *,
    engine: EngineSettings,
    model_path: Path,
    served_name: str,
    log_path: Path,
    token: str | None = None,
    port: int | None = None,
) -> EnginePlan:
    """Decide port, command line and files of one engine; starts nothing.

    Args:
        settings: Settings of this home.
        engine: Engine and its arguments.
        model_path: Hugging Face folder; see `check_folder`.
        served_name: Model name that clients ask for.
        log_path: File for its output.
        token: Name of the start; by default a new one.
        port: Port; by default a free one.

    Raises:
        EngineError: The engine environment is missing, or an argument was refused.
    """
    host = engine_host(settings)
    token = token or uuid4().hex[:12]
    port = port or ports.free_port()
    spec = EngineSpec(engine.name, model_path, served_name, port, engine.arguments, engine.env)
    try:
        command = build_command(spec, host)
    except EngineArgumentError as exc:
        raise EngineError(str(exc)) from exc
    return EnginePlan(
        token=token,
        port=port,
        command=command,
        warm=starts_warm(settings, engine.name),
        log_path=log_path,
        identity_path=settings.run_dir / "engines" / f"{token}.json",
        scratch=scratch_folder(settings) / token,
    )
