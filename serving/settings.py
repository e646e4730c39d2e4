"""Process settings of everything but the gateway, read once from the environment (`NEXUS_*`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.contracts.base import Name
from serving.contracts.gateway_variables import GATEWAY_PREFIX, GATEWAY_VARIABLES

_PREFIX: Final = "NEXUS_"
OWN_SETTINGS: Final = frozenset({"api_key"})
"""Settings of the command alone, who asks: no process that it starts is told them."""

_SECRET: Final = ("_url", "_uri")  # may hold a password, so a wrong one is not shown


class SettingsError(Exception):
    """An environment variable that starts with `NEXUS_` names no setting, or holds a wrong value."""


def inherited_environment() -> dict[str, str]:
    """Return what a child inherits of this process's environment: all but the command's own settings."""
    own = {f"{_PREFIX}{name}".upper() for name in OWN_SETTINGS}
    return {name: value for name, value in os.environ.items() if name.upper() not in own}  # noqa: TID251 - as below


def default_home() -> Path:
    """Return the home that this installation lies in (`<home>/envs/core`), wherever the command is called.

    An interpreter that no home holds, as in a container's image, has `.nexus` below the working directory.
    """
    environment = Path(sys.prefix)
    return environment.parent.parent if environment.parent.name == "envs" else Path(".nexus")


class Profile(StrEnum):
    """Where what git says is served."""

    LOCAL = "local"
    CLUSTER = "cluster"


class NexusSettings(BaseSettings):
    """Where this installation keeps things and which ports it offers."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    home: Path = Field(
        default_factory=default_home,
        description="Folder of all state: environments, git, models, logs, spools; "
        "by default the one that this installation lies in.",
    )
    profile: Profile = Field(
        default=Profile.LOCAL,
        description="Who follows the GitOps repository: `local`, this machine's reconciler, or `cluster`, Argo CD.",
    )
    environment: Name = Field(default="local", description="Folder under `envs/` in the GitOps repository.")
    api_key: SecretStr | None = Field(
        default=None, description="API key or token that `nexus chat` presents to the gateway; handed on to no process."
    )
    gateway_port: int = Field(default=8080, ge=1, le=65535, description="Port of the gateway on the loopback address.")
    gateway_admin_port: int = Field(
        default=8081, ge=1, le=65535, description="Port of the gateway's admin API on the loopback address."
    )
    gateway_admin_token: SecretStr | None = Field(
        default=None, description="Credential of the admin API besides keys of scope admin, at least 32 characters."
    )
    gateway_admin_token_file: Path | None = Field(
        default=None, description="File that holds the admin token instead; the local node makes one."
    )
    gateway_redis_url: SecretStr | None = Field(
        default=None, description="Redis of API keys and shared limits; the local node starts its own."
    )
    gateway_provider_socket: Path | None = Field(
        default=None, description="Unix socket of a provider adapter; the local node starts its own."
    )
    gateway_key_pepper: SecretStr | None = Field(
        default=None,
        description="Secret that API keys are hashed with, at least 32 characters; the same everywhere. More may "
        "follow, a line each; see the guide.",
    )
    gateway_key_pepper_file: Path | None = Field(
        default=None, description="File that holds the peppers instead; the local node makes one."
    )
    gitops_url: str | None = Field(default=None, description="GitOps repository; by default a bare one under the home.")
    mlflow_uri: str | None = Field(
        default=None, description="MLflow tracking and registry URI; by default sqlite under the home."
    )
    engine_threads: int = Field(default=1, ge=1, le=256, description="OpenMP threads of one engine on the CPU.")

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            SettingsError: A `NEXUS_*` variable is misspelt (extra ones are never ignored) or holds a wrong value.
        """
        known = {f"{_PREFIX}{name.upper()}" for name in cls.model_fields}
        known |= {f"{GATEWAY_PREFIX}{name}" for name in GATEWAY_VARIABLES}  # handed on to the gateway
        unknown = [
            name
            for name in sorted(os.environ)  # noqa: TID251 - this is the settings module
            if name.startswith(_PREFIX) and name not in known
        ]
        if unknown:
            raise SettingsError(_misspelt(unknown, known))
        try:
            settings = cls()
        except ValidationError as exc:
            raise SettingsError("\n".join(_wrong_value(cls, error) for error in exc.errors())) from exc
        return settings.model_copy(update={name: path.expanduser().resolve() for name, path in settings._paths()})

    def _paths(self) -> Iterator[tuple[str, Path]]:
        """Give what is a path: a process that is started elsewhere must find the same."""
        return ((name, value) for name, value in self if isinstance(value, Path))

    @property
    def gateway(self) -> str:
        """Address of the local profile's gateway."""
        return f"http://127.0.0.1:{self.gateway_port}"

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

    @property
    def secrets_dir(self) -> Path:
        """Secrets that the home makes for itself, readable by its user alone."""
        return self.home / "secrets"

    @property
    def admin_token_file(self) -> Path:
        """File of the admin token, where no setting holds the token itself."""
        return self.gateway_admin_token_file or self.secrets_dir / "gateway-admin.token"

    def environment_dir(self, name: str) -> Path:
        """Virtual environment `core`, `engine` or `autogptq`."""
        return self.home / "envs" / name

    def release_dir(self, release_id: str) -> Path:
        """Record of one release: documents, events, logs, report."""
        return self.home / "releases" / release_id


def _misspelt(unknown: Sequence[str], known: Collection[str]) -> str:
    lines = []
    for name in unknown:
        near = get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]}? Correct" if near else "correct"
        lines.append(f"{name} names no setting: {meant} or unset it")
    return "\n".join([*lines, f"settings: {', '.join(sorted(known))} (see README)"])


def _wrong_value(model: type[NexusSettings], error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    expected = error["msg"].removeprefix("Input should be ")
    meaning = (model.model_fields[name].description or "").rstrip(".")
    got = "another value" if name.endswith(_SECRET) else repr(error["input"])
    return f"{_PREFIX}{name.upper()} ({meaning}): expected {expected}; got {got}: correct or unset it"
