"""Drains: services that operators have taken out of service, here and in every gateway of the same Redis.

Redis keeps 1 or 0 for each service that was ever drained. A service that it does not know stays as this process has it,
so lost data never brings a drained service back.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.errors import NotFoundError, NotReadyError
from gateway.redis_connection import KEY_PREFIX, RedisConnection, RedisUnavailableError
from gateway.resilience.endpoint import EndpointRegistry

_HASH: Final = f"{KEY_PREFIX}drains"
_LOOK_SECONDS: Final = 0.5

log = logging.getLogger(__name__)


class Drains:
    """Follows and changes what is drained.

    Args:
        registry: States of endpoints, which the hot path asks.
        redis: Where it is shared; None to keep it in this process.
    """

    def __init__(self, registry: EndpointRegistry, redis: RedisConnection | None) -> None:
        self._registry = registry
        self._redis = redis
        self._drained: set[str] = set()
        self._answering = True

    @property
    def shared(self) -> bool:
        """Whether other gateways follow."""
        return self._redis is not None

    async def set(self, service: str, *, drained: bool) -> None:
        """Take a service out of service, or back.

        Raises:
            NotFoundError: No route names this service.
            NotReadyError: Redis does not answer; nothing is changed here.
        """
        if not self._registry.of_service(service):
            raise NotFoundError(f"expected a service of a route, see GET /admin/v1/snapshot; got {service[:64]!r}")
        if self._redis is not None:
            try:
                await self._redis.command("HSET", _HASH, service, int(drained))
            except RedisUnavailableError as exc:
                raise NotReadyError(f"expected Redis to share it; got {exc}: try again", retry_after_seconds=1) from exc
        self._apply(service, drained)

    async def refresh(self) -> None:
        """Take in what others have changed, and apply it to endpoints that are new.

        Raises:
            RedisUnavailableError: Redis did not answer; what is drained stays so.
        """
        if self._redis is not None:
            await self._redis.expect_primary()
            found: dict[bytes, bytes] = await self._redis.command("HGETALL", _HASH)
            for name, value in found.items():
                self._apply(name.decode(), value == b"1")
        for service in self._drained:
            self._apply(service, True)

    async def run(self) -> None:
        """Follow, until cancelled."""
        while True:
            try:
                await self.refresh()
            except RedisUnavailableError as exc:
                if self._answering:
                    log.warning("drained services stay as they are", extra={"fields": {"reason": str(exc)}})
                self._answering = False
            else:
                self._answering = True
            await asyncio.sleep(_LOOK_SECONDS)

    def _apply(self, service: str, drained: bool) -> None:
        if drained:
            self._drained = self._drained | {service}
        else:
            self._drained = self._drained - {service}
        for state in self._registry.of_service(service):
            if state.drained != drained:
                state.drain(drained)
