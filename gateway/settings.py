"""Process settings of the gateway, read once from the environment (`NEXUS_GATEWAY_*`). Behaviour is policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "NEXUS_GATEWAY_"

_MIN_SECRET_CHARACTERS = 32
"""128 bits in hex: too many to try."""


class UnknownSettingError(Exception):
    """An environment variable starts with a program's prefix but names no setting of it."""


def refuse_unknown(settings: type[BaseSettings]) -> None:
    """Let no variable with the settings' prefix pass that names none of them.

    Raises:
        UnknownSettingError: One is misspelt; extra variables are never ignored.
    """
    prefix = settings.model_config.get("env_prefix", "")
    known = {f"{prefix}{name.upper()}" for name in settings.model_fields}
    present = (name for name in os.environ if name.upper().startswith(prefix))  # noqa: TID251 - settings module
    unknown = sorted(name for name in present if name.upper() not in known)
    if unknown:
        raise UnknownSettingError(
            f"expected only {', '.join(sorted(known))}; got {', '.join(unknown)}: correct or unset it"
        )


def read_secret(name: str, value: SecretStr | None, file: Path | None) -> SecretStr | None:
    """Return a secret that is set directly or as a file's content, stripped; messages never hold it.

    Raises:
        ValueError: Both are set, the file cannot be read, or the secret is shorter than 32 characters.
    """
    if value is not None and file is not None:
        raise ValueError(f"expected one of {PREFIX}{name} and {PREFIX}{name}_FILE; got both: unset one")
    if file is not None:
        try:
            value = SecretStr(file.read_text().strip())
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "text that is not UTF-8"
            raise ValueError(f"expected {PREFIX}{name}_FILE to name a readable file; got {file}: {reason}") from None
    if value is not None and len(value.get_secret_value()) < _MIN_SECRET_CHARACTERS:
        raise ValueError(
            f"expected {PREFIX}{name} to have at least {_MIN_SECRET_CHARACTERS} characters; got "
            f"{len(value.get_secret_value())}: make one with `openssl rand -hex 32`"
        )
    return value


class GatewaySettings(BaseSettings):
    """Where the gateway listens, reads its policy and writes observations, and the bounds of one process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on.")
    workers: int = Field(default=1, ge=1, le=256, description="Processes that share the port (SO_REUSEPORT).")
    policy_dir: Path = Field(description="Folder with policy.yaml, routes/*.yaml and REVISION; may be a symlink.")
    endpoints_file: Path | None = Field(
        default=None, description="JSON of service to address; without it the policy's template makes addresses."
    )
    provider_socket: Path | None = Field(
        default=None, description="Unix socket of the provider adapter; without it external models have no endpoint."
    )
    spool_dir: Path = Field(description="Folder of observation files and of the key that hides user names.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Lowest level logged.")

    redis_url: SecretStr | None = Field(
        default=None, description="Redis of API keys and shared limits; without it there are none."
    )
    redis_timeout_seconds: float = Field(
        default=0.5, gt=0, le=60, description="Time to connect to Redis, and for a command that no request waits for."
    )
    limits_timeout_seconds: float = Field(
        default=0.1, gt=0, le=10, description="How long a request waits for the limits in Redis."
    )
    key_pepper: SecretStr | None = Field(
        default=None,
        description="Secret that API keys are hashed with, at least 32 characters; the same everywhere. More may "
        "follow, a line each; see the guide.",
    )
    key_pepper_file: Path | None = Field(default=None, description="File that holds the peppers instead.")
    admin_host: str = Field(default="127.0.0.1", description="Address of the admin API.")
    admin_port: int | None = Field(default=None, ge=1, le=65535, description="Port of the admin API; none without it.")
    admin_token: SecretStr | None = Field(
        default=None, description="Credential of the admin API besides keys of scope admin, at least 32 characters."
    )
    admin_token_file: Path | None = Field(default=None, description="File that holds the admin token instead.")

    watch_interval_seconds: float = Field(default=0.1, gt=0, le=10, description="How often documents are looked at.")
    shutdown_grace_seconds: int = Field(default=30, ge=0, description="How long requests in flight may finish.")
    max_headers: int = Field(default=100, ge=10, description="Headers of one request.")
    max_header_bytes: int = Field(default=32_768, ge=4096, description="Size of a request's head.")
    head_timeout_seconds: float = Field(default=10.0, gt=0, description="Time for a request's head to arrive.")
    keep_alive_seconds: int = Field(default=75, ge=1, description="How long an idle client connection stays open.")
    upstream_idle_seconds: float = Field(
        default=4.0, gt=0, description="How long an idle engine connection is kept; below the engine's own 5 s."
    )
    max_answer_bytes: int = Field(default=33_554_432, ge=65_536, description="Largest answer that is not streamed.")
    max_event_bytes: int = Field(default=1_048_576, ge=4096, description="Largest single event of a stream.")

    spool_queue_bytes: int = Field(default=16_777_216, ge=4096, description="Observations held in memory at most.")
    spool_file_bytes: int = Field(default=67_108_864, ge=4096, description="Size at which a new file is started.")
    spool_flush_seconds: float = Field(default=0.1, gt=0, le=10, description="Longest time between two batches.")

    @property
    def stop_seconds(self) -> float:
        """How long a worker may take to end: its requests' grace, and what it has to write afterwards."""
        return self.shutdown_grace_seconds + 5.0

    @model_validator(mode="after")
    def _secrets(self) -> Self:
        self.read_key_peppers()
        self.read_admin_token()
        return self

    def read_key_peppers(self) -> tuple[SecretStr, ...]:
        """Return the peppers from wherever they are set, the one for new keys first; empty when there is none.

        Raises:
            ValueError: Both places are set, the file cannot be read, or one of them is too short.
        """
        text = read_secret("KEY_PEPPER", self.key_pepper, self.key_pepper_file)
        lines = [] if text is None else text.get_secret_value().splitlines()
        peppers = [read_secret("KEY_PEPPER", SecretStr(line.strip()), None) for line in lines]
        return tuple(pepper for pepper in peppers if pepper is not None)

    def read_admin_token(self) -> SecretStr | None:
        """Return the admin token from wherever it is set; None when it is not.

        Raises:
            ValueError: Both places are set, the file cannot be read, or it is too short.
        """
        return read_secret("ADMIN_TOKEN", self.admin_token, self.admin_token_file)

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            UnknownSettingError: A `NEXUS_GATEWAY_*` variable is misspelt; extra variables are never ignored.
            pydantic.ValidationError: A value is missing or out of range.
        """
        refuse_unknown(cls)
        return cls()  # type: ignore[call-arg]  # the environment gives what has no default
