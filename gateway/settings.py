"""Process settings of the gateway, read once from the environment (`NEXUS_GATEWAY_*`). Behaviour is policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "NEXUS_GATEWAY_"


class UnknownSettingError(Exception):
    """An environment variable starts with `NEXUS_GATEWAY_` but names no setting."""


class GatewaySettings(BaseSettings):
    """Where the gateway listens, reads its policy and writes observations, and the bounds of one process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on.")
    reuse_port: bool = Field(default=False, description="Let several worker processes share the port (SO_REUSEPORT).")
    policy_dir: Path = Field(description="Folder with policy.yaml, routes/*.yaml and REVISION; may be a symlink.")
    endpoints_file: Path | None = Field(
        default=None, description="JSON of service to address; without it the policy's template makes addresses."
    )
    spool_dir: Path = Field(description="Folder of observation files and of the key that hides user names.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Lowest level logged.")

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

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            UnknownSettingError: A `NEXUS_GATEWAY_*` variable is misspelt; extra variables are never ignored.
            pydantic.ValidationError: A value is missing or out of range.
        """
        known = {f"{PREFIX}{name.upper()}" for name in cls.model_fields}
        present = (name for name in os.environ if name.upper().startswith(PREFIX))  # noqa: TID251 - settings module
        unknown = sorted(name for name in present if name.upper() not in known)
        if unknown:
            raise UnknownSettingError(
                f"expected only {', '.join(sorted(known))}; got {', '.join(unknown)}: correct or unset it"
            )
        return cls()  # type: ignore[call-arg]  # the environment gives what has no default
