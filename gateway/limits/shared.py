"""SharedCounters: the counters that all gateway processes share in Redis: the connection, its failure and recovery.

Requests wait for one answer, and that for a short time only. From then on `up` is False and callers decide without
Redis at once, until a connection has been made again and has carried out a batch.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from hashlib import sha1
from pathlib import Path
from typing import Final

from gateway.limits.batches import Batches, tell
from gateway.limits.flight import Flight
from gateway.limits.redis_link import RedisAddress, RedisAnswerError, RedisLink
from gateway.limits.reservation import Place
from gateway.limits.wire import BYE
from gateway.redis_server import NotPrimaryError, RedisClusterError
from gateway.telemetry.metrics import GatewayMetrics

SCRIPT: Final = Path(__file__).with_name("batch.lua").read_bytes()

_BACKOFF_SECONDS: Final = (0.05, 1.0)

log = logging.getLogger(__name__)


class SharedCounters(Batches):
    """Counters in Redis.

    Args:
        address: Where Redis is.
        timeout_seconds: For the answer to a batch, and to connect.
        lease_seconds: After which silence a process' reservations are given back.
        metrics: Counters of failures.
        script: batch.lua.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        timeout_seconds: float,
        lease_seconds: float,
        metrics: GatewayMetrics,
        script: bytes = SCRIPT,
    ) -> None:
        super().__init__(lease_seconds, metrics)
        self._address = address
        self._timeout = timeout_seconds
        self._script = script
        self._by_digest = (b"EVALSHA", sha1(script, usedforsecurity=False).hexdigest().encode())
        self._link: RedisLink | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._changed = asyncio.Event()
        self._probe: asyncio.Future[None] | None = None

    def _send(self, flight: Flight) -> None:
        assert self._link is not None
        self._flight = flight
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self._timed_out)
        self._link.send(flight.command(self._by_digest), self._answered)

    def _timed_out(self) -> None:
        self._fail(f"no answer within {self._timeout:g} s")

    def _answered(self, reply: object) -> None:
        flight = self._flight
        assert flight is not None
        if not isinstance(reply, bytes):
            if str(reply).startswith("NOSCRIPT") and self._link is not None:
                self._link.send(flight.command((b"EVAL", self._script)), self._answered)
                return
            self._fail(str(reply))
            return
        assert self._timer is not None
        self._timer.cancel()
        self._flight = None
        self.up = True
        self._take_in(flight, reply)
        if self._probe is not None and not self._probe.done():
            self._probe.set_result(None)
        if flight.head.flags & BYE and self._closing is not None and not self._closing.done():
            self._closing.set_result(None)
        elif self._queue or self._closing is not None:
            self._flush()
        elif self._ahead or self._ended or self._debts or self._sweep:
            self._soon()

    def _fail(self, reason: str) -> None:
        """Let all waiting requests be decided without Redis, and everything else wait for it."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._timer is not None:
            self._timer.cancel()
        self._metrics.limits_redis_failures.inc()
        if not self._failing:
            log.error("limits cannot be shared: Redis does not serve them", extra={"fields": {"reason": reason[:300]}})
        self._failing, self.up = True, False
        queued = self._queue + self._ahead
        self._queue, self._ahead = [], []
        for reservation in queued:
            reservation.place = Place.NOWHERE
            tell(reservation, None)
        for reservation in self._flight.reserved if self._flight is not None else ():
            if reservation.shelf is None:  # what is to be held ahead is told about when it is known
                tell(reservation, None)
        for future in (self._probe, self._closing):
            if future is not None and not future.done():
                future.set_result(None)
        self._changed.set()

    async def connect(self, *, starting: bool = False) -> bool:
        """Try once to connect and to carry out a batch; tells whether it worked, and logs when that changes.

        Raises:
            RedisClusterError: Only if `starting`: nobody should have to find that out from a log.
        """
        try:
            async with asyncio.timeout(self._timeout):
                link = await RedisLink.open(self._address, self._fail)
                self._link = link
                await link.ask("SCRIPT", "LOAD", self._script)
        except (OSError, TimeoutError, RedisAnswerError, NotPrimaryError, RedisClusterError) as exc:
            self._fail(str(exc) or type(exc).__name__)
            if starting and isinstance(exc, RedisClusterError):
                raise
            return False
        if self._link is not link:
            return False  # it ended in the same read as the answer came, and that has been told
        self._probe = asyncio.get_running_loop().create_future()
        if self._flight is not None:
            self._send(self._flight)
        else:
            self._sweep = True
            self._launch([], [], {})
        await self._probe
        self._probe = None
        if self.up and self._failing:
            self._failing = False
            log.warning("limits are shared again")
        return self.up

    async def run(self) -> None:
        """Keep connected, and keep saying that this process lives, until cancelled."""
        pause, longest = _BACKOFF_SECONDS
        while True:
            self._changed.clear()
            if self.up or await self.connect():
                pause = _BACKOFF_SECONDS[0]
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._lease / 4):
                        await self._changed.wait()
                self._sweep = True
                self._soon()
            else:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, longest)

    async def close(self) -> None:
        """Send what is left, say good-bye, and disconnect; what cannot be sent is logged and counted."""
        if self.up:
            self._closing = asyncio.get_running_loop().create_future()
            self._flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * self._timeout):
                    await self._closing
        ended, left = list(self._ended), len(self._debts)
        if self._flight is not None:
            ended += self._flight.ended
            left += len(self._flight.debts)
        left += sum(any(used) for _, used, _ in ended)
        if left:
            self._metrics.limits_unsettled.inc(left)
            log.error("use of limits is lost: it could not be sent to Redis", extra={"fields": {"entries": left}})
        if self._link is not None:
            self._link.close()
            self._link = None
        self.up = False
