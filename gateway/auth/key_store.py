"""KeyStore: keeps the key ring as Redis has it, through outages and losses, and writes changes.

Failure policy. Redis does not answer: the last known keys stay in force. Redis has lost data (its version went back, or
it holds another data set): the last known keys stay in force and nothing is written until `restore`. Both are logged,
counted, shown by /health/ready, and end by themselves when Redis is as it was. Keys that were never loaded make the
gateway not ready: a credential that cannot be judged is answered with 503, never with 401.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, Literal, NamedTuple

from gateway.auth.key_record import BrokenRecordError, KeyRecord
from gateway.auth.key_ring import KeyRing
from gateway.auth.key_scripts import CHANNEL, KEYS, PAGE, READ, WRITE
from gateway.errors import InvalidRequestError, NotReadyError
from gateway.redis_connection import RedisConnection, RedisUnavailableError
from gateway.telemetry.metrics import GatewayMetrics

_LOOK_SECONDS: Final = 0.3
"""Between two looks at the version. Changes are announced at once; this bounds what a lost announcement costs."""

_LOST: Final = (
    "Redis holds other or older API keys than this gateway has seen: the last known ones stay in force; "
    "restore Redis, or write them back with `nexus keys restore`"
)
_DOWN: Final = "Redis does not answer: the last known API keys stay in force"
_PEPPER: Final = "the API keys in Redis were made with another NEXUS_GATEWAY_KEY_PEPPER: set that one"
_VOID: Final = (
    "{count} API keys are refused, for the NEXUS_GATEWAY_KEY_PEPPER that they were made with is gone, or may be: set "
    "it again, after the first, or revoke them (`nexus keys list` shows them)"
)

log = logging.getLogger(__name__)


class Change(NamedTuple):
    """One record to write. `old` is what Redis must hold now, empty when it must not know the key."""

    old: bytes
    new: KeyRecord


class WriteConflictError(Exception):
    """A record was changed by somebody else since it was read."""


class KeyStore:
    """Follows and changes the keys in Redis.

    Args:
        redis: Where they are.
        ring: Where this process holds them.
        metrics: Counters of failures.
    """

    def __init__(self, redis: RedisConnection, ring: KeyRing, metrics: GatewayMetrics) -> None:
        self.ring = ring
        self.loaded = False
        self._redis = redis
        self._metrics = metrics
        self._epoch = ""
        self._version = 0
        self._peppers: list[str] = []
        self._problem: str | None = None
        self._broken: set[bytes] = set()
        self._refreshing = asyncio.Lock()
        metrics.watch_keys(lambda: len(ring), lambda: len(ring.outdated(time.time())))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is not as it should be, for people."""
        out: list[str] = []
        if self._problem is not None:
            out.append(self._problem if self.loaded else f"API keys were never loaded: {self._problem}")
        elif not self.loaded:
            out.append("API keys were never loaded: Redis has not been asked yet")
        if self._broken:
            out.append(f"{len(self._broken)} API keys in Redis cannot be read: see the log")
        here = self.ring.fingerprints
        is_one_gone = not set(self._peppers).issubset(here)
        void = sum(
            record.pepper not in here if record.pepper else is_one_gone for record in self.ring.outdated(time.time())
        )
        if void:
            out.append(_VOID.format(count=void))
        return tuple(out)

    async def start(self) -> None:
        """Load the keys if Redis answers; if not, `run` goes on trying."""
        try:
            await self.refresh()
        except RedisUnavailableError as exc:
            self._unanswered(exc)

    async def run(self) -> None:
        """Follow Redis, until cancelled."""
        while True:
            try:
                async with self._redis.subscribed(CHANNEL) as wait:
                    while True:
                        await self.refresh()
                        await self._renew()
                        await wait(_LOOK_SECONDS)
            except RedisUnavailableError as exc:
                self._unanswered(exc)
            await asyncio.sleep(_LOOK_SECONDS * random.uniform(0.5, 1.0))

    async def refresh(self) -> None:
        """Take in what has changed.

        Raises:
            RedisUnavailableError: Redis did not answer, or is no primary any more.
        """
        async with self._refreshing:
            await self._redis.expect_primary()
            after = self._version
            while True:
                epoch_raw, version_raw, peppers, last, ids, records = await self._redis.run(READ, KEYS, (after, PAGE))
                epoch, version = epoch_raw.decode(), int(version_raw)
                self._peppers = [part for part in peppers.decode().split(",") if part]
                problem = self._distrust(epoch, version)
                self._note(problem)
                if problem is not None:
                    return
                self.ring.follow(self._peppers)
                if epoch != self._epoch:
                    self._epoch = epoch
                    if after:  # restored, or joined by another data set: versions may be lower than what was seen
                        after = 0
                        continue
                read = [self._parsed(key_id, raw) for key_id, raw in zip(ids, records, strict=True)]
                self.ring.put(record for record in read if record is not None)
                after = int(last)
                if after >= version or not ids:
                    self._version, self.loaded = version, True
                    return
                self._version = max(self._version, after)
                await asyncio.sleep(0)  # requests go between two pages

    def _distrust(self, epoch: str, version: int) -> str | None:
        if self._peppers and self._peppers[-1] not in self.ring.fingerprints:
            return _PEPPER
        own = {part for part in self._epoch.split(",") if part}
        return _LOST if version < self._version or not own.issubset(epoch.split(",")) else None

    def _parsed(self, key_id: bytes, raw: bytes | None) -> KeyRecord | None:
        """Read what Redis holds of a key; what is no record is told once and passed over."""
        try:
            record = KeyRecord.parse(raw or b"")
        except BrokenRecordError as exc:
            if key_id not in self._broken:
                fields = {"key_id": key_id.decode(errors="replace")[:64], "reason": str(exc)}
                log.error("an API key in Redis cannot be read", extra={"fields": fields})  # noqa: TRY400 - says it all
            self._broken.add(key_id)
            return None
        self._broken.discard(key_id)
        return record

    def _unanswered(self, exc: RedisUnavailableError) -> None:
        self._metrics.key_refresh_failures.inc()
        self._note(_DOWN, str(exc))

    def _note(self, problem: str | None, detail: str = "") -> None:
        if problem != self._problem:
            fields = {"keys": len(self.ring), "reason": problem, "detail": detail}
            if problem is None:
                log.warning("API keys follow Redis again", extra={"fields": fields})
            else:
                log.error("API keys do not follow Redis", extra={"fields": fields})
        self._problem = problem

    async def raw(self, key_id: str) -> bytes | None:
        """Return a key's record as Redis holds it.

        Raises:
            NotReadyError: Redis does not answer.
        """
        return (await self._held([key_id]))[0]

    async def _held(self, key_ids: Sequence[str]) -> list[bytes | None]:
        try:
            found: list[bytes | None] = await self._redis.command("HMGET", KEYS[0], *key_ids)
        except RedisUnavailableError as exc:
            raise _unavailable(exc) from exc
        return found

    async def write(self, changes: Sequence[Change], mode: Literal["strict", "restore"] = "strict") -> None:
        """Write records all at once or not at all, tell every gateway, and take them in here.

        Raises:
            WriteConflictError: One of them is not what `Change.old` says.
            InvalidRequestError: The keys in Redis were made with another pepper.
            NotReadyError: Redis does not answer (whether it was written is not known), or knows less than this process.
        """
        parts: list[str | bytes] = []
        for change in changes:
            parts += [change.new.key_id, change.old, change.new.dump()]
        own = (self._epoch, mode, self._version, secrets.token_hex(8), ",".join(self.ring.fingerprints), CHANNEL)
        try:
            result = (await self._redis.run(WRITE, KEYS, (*own, *parts))).decode()
        except RedisUnavailableError as exc:
            raise _unavailable(exc) from exc
        if result == "conflict":
            raise WriteConflictError
        if result == "pepper":
            raise InvalidRequestError(_PEPPER)
        if result != "ok":
            raise NotReadyError(f"expected to change API keys; {_LOST}")
        await self._follow()

    async def _follow(self) -> None:
        try:
            await self.refresh()
        except RedisUnavailableError as exc:
            raise _unavailable(exc) from exc

    async def _renew(self) -> None:
        """Write keys that were right under an older pepper with the newest one's digest; what fails is tried again."""
        ring = self.ring
        pending, pepper = dict(islice(ring.renewals.items(), PAGE)), ring.pepper
        is_new = bool(self._peppers) and ring.fingerprints[0] not in self._peppers
        if self._problem is not None or not (pending or is_new):
            return
        try:
            changes: list[Change] = []
            for key_id, raw in zip(pending, await self._held(list(pending)) if pending else [], strict=True):
                record = None if raw is None else self._parsed(key_id.encode(), raw)
                if raw is not None and record is not None and record.pepper != pepper:
                    changes.append(Change(raw, replace(record, digest=pending[key_id], pepper=pepper)))
            if changes or is_new:  # without changes, too: all gateways learn of the new pepper
                await self.write(changes)
        except (WriteConflictError, NotReadyError, InvalidRequestError) as exc:
            fields = {"keys": len(pending), "reason": str(exc) or type(exc).__name__}
            log.warning("API keys keep their older pepper for now", extra={"fields": fields})

    async def restore(self) -> int:
        """Write what this process knows into a Redis that has lost it; whatever ended a key on either side ends it.

        Returns:
            Number of records that Redis did not hold so.

        Raises:
            NotReadyError: Redis does not answer, or this process never loaded any keys itself.
        """
        await self._follow()  # so that nothing older than what Redis holds is written back
        if not self.loaded:
            raise NotReadyError("expected this gateway to know API keys; it never loaded any: ask one that did")
        changes: list[Change] = []
        known = list(self.ring)
        for start in range(0, len(known), PAGE):
            page = known[start : start + PAGE]
            for record, old in zip(page, await self._held([record.key_id for record in page]), strict=True):
                new = record.merged(KeyRecord.parse(old)) if old else record
                if new.dump() != old:
                    changes.append(Change(old or b"", new))
        await self.write(changes, "restore")
        return len(changes)


def _unavailable(exc: RedisUnavailableError) -> NotReadyError:
    return NotReadyError(
        f"expected Redis to hold API keys; it does not answer ({exc}): try again", retry_after_seconds=1
    )
