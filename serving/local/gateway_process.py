"""The gateway of a home: how it is started, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from serving.local import ports, probe
from serving.local.adapter_process import adapter_socket
from serving.local.daemons import core_env
from serving.local.errors import NodeError
from serving.local.gateway_config import GatewayConfig
from serving.local.home_secrets import ensure_secret
from serving.local.processes import ProcessId, environment_of
from serving.local.redis_process import redis_url
from serving.local.supervised import Supervised
from serving.settings import NexusSettings

PORT_TAKEN: Final = "expected port"  # how the problem of a taken port begins

_ANSWER_SECONDS: Final = 5.0
_WATCH_SECONDS: Final = 0.5  # the gateway looks at its files every 0.1 s, up to three times at one just written
_PREFIX: Final = "NEXUS_GATEWAY_"


@dataclass(frozen=True)
class GatewayHealth:
    """What `/health/ready` says."""

    ready: bool
    revision: str | None
    reasons: tuple[str, ...]


class GatewayProcess(Supervised[GatewayHealth]):
    """The gateway of one home. It does not wait for Redis: it answers whom it can without."""

    def __init__(self, settings: NexusSettings, argv: Sequence[str], executor: Executor) -> None:
        super().__init__(settings, settings.log_dir / "gateway.log", executor)
        self._argv = list(argv)

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return f"http://127.0.0.1:{self.settings.gateway_port}"

    @property
    def revision(self) -> str | None:
        """Commit whose documents it answers by; None while it does not answer."""
        return self.answer.revision if self.answer is not None else None

    def has_read(self, revision: str | None, changed_at: float) -> bool:
        """Return whether it answers by a revision and by endpoints that changed at a time of the monotonic clock."""
        seen = self.asked_at > changed_at + _WATCH_SECONDS
        return self.answer is not None and seen and self.answer.revision == revision

    @property
    def problems(self) -> list[str]:
        """Why it is not as it should be."""
        own = [self.problem] if self.problem else []
        return [f"gateway: {reason}" for reason in (*own, *(self.answer.reasons if self.answer else ()))]

    def argv(self) -> Sequence[str]:
        """Return the command."""
        return self._argv

    def env(self) -> Mapping[str, str]:
        """Return this node's settings and files; secrets that the settings do not name are made."""
        settings = self.settings
        config = GatewayConfig(settings.run_dir)
        own = {
            "POLICY_DIR": config.current,
            "ENDPOINTS_FILE": config.endpoints_file,
            "SPOOL_DIR": settings.spool_dir / "observations",
        }
        if settings.gateway_provider_socket is None:
            own["PROVIDER_SOCKET"] = adapter_socket(settings)
        if settings.gateway_key_pepper is None and settings.gateway_key_pepper_file is None:
            own["KEY_PEPPER_FILE"] = ensure_secret(settings.secrets_dir / "gateway-key.pepper")
        if settings.gateway_admin_token is None and settings.gateway_admin_token_file is None:
            own["ADMIN_TOKEN_FILE"] = ensure_secret(settings.admin_token_file)
        made = {f"{_PREFIX}{name}": str(path) for name, path in own.items()}
        if settings.gateway_redis_url is None:
            made[f"{_PREFIX}REDIS_URL"] = redis_url(settings)
        return core_env(settings, **made)

    def is_mine(self, command: Sequence[str]) -> bool:
        """Tell whether it is a gateway, and none of its workers, which end with it."""
        return list(command) == self._argv

    def is_current(self, process: ProcessId) -> bool:
        """Tell whether it runs with the settings of this process."""
        return _of_gateway(environment_of(process.pid)) == _of_gateway(self.env())

    def check_start(self) -> None:
        """Refuse a start while somebody has one of its ports."""
        for name, port in {"PORT": self.settings.gateway_port, "ADMIN_PORT": self.settings.gateway_admin_port}.items():
            if not ports.is_free(port):
                owner = ports.owner(port)
                raise NodeError(f"{PORT_TAKEN} {port} free; {owner} has it: stop that, or set {_PREFIX}{name}")

    def ask(self) -> GatewayHealth | None:
        """Ask for its readiness."""
        status, text = probe.get(self.url, "/health/ready", _ANSWER_SECONDS)
        if status not in (200, 503):
            return None
        try:
            answer = json.loads(text)
            reasons = tuple(str(reason) for reason in answer.get("reasons") or ())
            return GatewayHealth(bool(answer["ready"]), answer.get("revision"), reasons)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _of_gateway(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_PREFIX)}
