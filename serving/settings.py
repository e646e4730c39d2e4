"""Process settings of everything but the gateway, read once from the environment (`NEXUS_*`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.contracts.base import Name


class UnknownSettingError(Exception):
    """An environment variable starts with `NEXUS_` but names no setting."""


class NexusSettings(BaseSettings):
    """Where this installation keeps things and which ports it offers."""

    model_config = SettingsConfigDict(env_prefix="NEXUS_", frozen=True)

    home: Path = Field(
        default=Path(".nexus"), description="Folder of all state: environments, git, models, logs, spools."
    )
    environment: Name = Field(default="local", description="Folder under `envs/` in the GitOps repository.")
    gateway_port: int = Field(default=8080, ge=1, le=65535, description="Port of the gateway on the loopback address.")
    gitops_url: str | None = Field(default=None, description="GitOps repository; by default a bare one under the home.")
    mlflow_uri: str | None = Field(
        default=None, description="MLflow tracking and registry URI; by default sqlite under the home."
    )
    engine_threads: int = Field(default=1, ge=1, le=256, description="OpenMP threads of one engine on the CPU.")

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            UnknownSettingError: A `NEXUS_*` variable is misspelt; extra variables are never ignored.
        """
        known = {f"NEXUS_{name.upper()}" for name in cls.model_fields}
        unknown = sorted(
            name
            for name in os.environ  # noqa: TID251 - this is the settings module
            if name.startswith("NEXUS_")
            and not name.startswith(("NEXUS_GATEWAY_", "NEXUS_BENCH_"))
            and name not in known
        )
        if unknown:
            raise UnknownSettingError(
                f"expected only {', '.join(sorted(known))}; got {', '.join(unknown)}: correct or unset it"
            )
        settings = cls()
        return settings.model_copy(update={"home": settings.home.expanduser().resolve()})

    @property
    def gitops(self) -> str:
        """URL of the GitOps repository."""
        return self.gitops_url or str(self.home / "gitops.git")

    @property
    def mlflow(self) -> str:
        """MLflow tracking and registry URI."""
        return self.mlflow_uri or f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"

    @property
    def run_dir(self) -> Path:
        """Sockets, process records, status."""
        return self.home / "run"

    @property
    def log_dir(self) -> Path:
        """Logs, one file a process."""
        return self.home / "logs"

    @property
    def spool_dir(self) -> Path:
        """Observations and labels."""
        return self.home / "spool"

    def environment_dir(self, name: str) -> Path:
        """Virtual environment `core`, `engine` or `autogptq`."""
        return self.home / "envs" / name

    def release_dir(self, release_id: str) -> Path:
        """Record of one release: documents, events, logs, report."""
        return self.home / "releases" / release_id
