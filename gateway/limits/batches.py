"""Batches: what waits for Redis, and what its answers mean; the connection is `SharedCounters`' business.

One batch is under way at a time; what comes meanwhile makes the next one. So batches grow with load by themselves, keep
their order, and after a lost answer it is one batch whose fate is unknown. That batch is sent again, unchanged, before
any other: batch.lua tells whether it was carried out, so nothing is counted twice and nothing is lost. If Redis has
lost what it knew of this process (restarted empty, failed over behind, or it gave the process up), the process begins
anew under another name; what its requests use is then booked without touching reservations that Redis no longer holds.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import count
from typing import Final, TypeVar

from gateway.limits.calendar import day_of, month_of
from gateway.limits.flight import BatchHead, Debts, Ended, Flight, build
from gateway.limits.plan import LimitPlan
from gateway.limits.reservation import Place, Reservation, Used
from gateway.limits.verdict import Answer, Status
from gateway.limits.wire import (
    ANSWER_BYTES,
    BYE,
    RECEIPT_BYTES,
    REPLY_BYTES,
    SPARE_BYTES,
    SWEEP,
    read_answer,
    read_reply,
    read_spare,
)
from gateway.redis_connection import KEY_PREFIX
from gateway.telemetry.metrics import GatewayMetrics

_BATCH: Final = 256
"""Reservations in one batch at most, and settlements, and debts: about 10 ms of Redis."""

_SETTLE_SECONDS: Final = 0.002
"""How long settlements, and reservations that nobody waits for, wait for a batch to ride in."""

_MAX_DEBTS: Final = 65_536

ItemT = TypeVar("ItemT")
log = logging.getLogger(__name__)


class Batches(ABC):
    """Queues of reservations and settlements, and the batch that is under way.

    Args:
        lease_seconds: After which silence a process' reservations are given back.
        metrics: Counters of failures.

    Attributes:
        up: Whether Redis serves limits; while it does not, nothing may be reserved.
        epoch: Name of this process in Redis; what was reserved under another is not held there any more.
    """

    def __init__(self, lease_seconds: float, metrics: GatewayMetrics) -> None:
        self.up = False
        self._lease = lease_seconds
        self._metrics = metrics
        self._flight: Flight | None = None
        self._delayed: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._closing: asyncio.Future[None] | None = None
        self._queue: list[Reservation] = []
        self._ahead: list[Reservation] = []
        self._ended: list[Ended] = []
        self._debts: Debts = {}
        self._months: dict[int, int] = {}
        self._numbers = count(1)
        self._offset_us = (time.time() - time.monotonic()) * 1e6
        self._begin()

    def _begin(self) -> None:
        self.epoch = secrets.token_hex(8).encode()
        prefix = KEY_PREFIX.encode()
        self._keys = (prefix + b"limit-process:" + self.epoch, prefix + b"limit-processes", prefix + b"limit-away")
        self._batches = 0
        self._sweep = True

    @abstractmethod
    def _send(self, flight: Flight) -> None:
        """Make it the batch under way; its answer goes to `_take_in`."""

    def now_us(self) -> float:
        """Return Redis' time in microseconds, as far as it is known: jumps of this machine's clock do not count."""
        return time.monotonic() * 1e6 + self._offset_us

    def reserve(self, reservation: Reservation) -> asyncio.Future[Answer | None]:
        """Queue a request; its future gives the answer, or None when Redis did not give one in time."""
        loop = asyncio.get_running_loop()
        reservation.number = next(self._numbers).to_bytes(8, "little")
        reservation.place = Place.QUEUED
        reservation.future = future = loop.create_future()
        self._queue.append(reservation)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return future

    def reserve_ahead(self, reservation: Reservation) -> None:
        """Queue a reservation that nobody waits for; its shelf gets it."""
        reservation.number = next(self._numbers).to_bytes(8, "little")
        reservation.place = Place.QUEUED
        self._ahead.append(reservation)
        self._soon()

    def settle(self, reservation: Reservation, used: Used, *, refund: bool) -> None:
        """Book what a request used, whatever has become of its reservation."""
        place = reservation.place
        if place is Place.SENT:
            reservation.final = (used, refund)
            return
        if place is Place.HELD:
            self._ended.append((reservation, used, refund))
            self._soon()
            return
        reservation.place = Place.NOWHERE
        self._owe(reservation.plan, used)

    def _owe(self, plan: LimitPlan, used: Iterable[int], day: int | None = None) -> None:
        amounts = list(used)
        if not any(amounts):
            return
        if day is None:
            day = day_of(self.now_us())
        if day not in self._months:
            self._months = {known: month_of(known) for known in (day - 1, day, day + 1)} | self._months
        debt = self._debts.get((plan, day))
        if debt is not None:
            for place, amount in enumerate(amounts):
                debt[place] += amount
        elif len(self._debts) < _MAX_DEBTS:
            self._debts[plan, day] = amounts
        else:
            self._metrics.limits_unsettled.inc()
        self._soon()

    def _soon(self) -> None:
        if self._delayed is None and not self._scheduled:
            self._delayed = asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None
        if self._flight is not None or not self.up:
            return
        self._queue = [one for one in self._queue if one.place is Place.QUEUED]  # others were cancelled
        waiting = _cut(self._queue, _BATCH)
        # Who waits comes last: where a batch holds plans of two policies, the later one's limits count.
        reserved = self._still_wanted(_cut(self._ahead, _BATCH - len(waiting))) + waiting
        ended = self._of_this_epoch(_cut(self._ended, _BATCH))
        debts = dict(self._debts.popitem() for _ in range(min(len(self._debts), _BATCH)))
        bye = self._closing is not None and not (reserved or ended or debts)
        if not (reserved or ended or debts or self._sweep or bye):
            return
        self._launch(reserved, ended, debts, bye=bye)

    def _launch(self, reserved: list[Reservation], ended: list[Ended], debts: Debts, *, bye: bool = False) -> None:
        self._batches += 1
        flags = (SWEEP if self._sweep or bye else 0) | (BYE if bye else 0)
        self._sweep = False
        for reservation in reserved:
            reservation.place = Place.SENT
        head = BatchHead(self._batches, flags, self._lease * 1e6, self._keys)
        self._send(build(head, reserved=reserved, ended=ended, debts=debts, months=self._months))

    def _still_wanted(self, ahead: list[Reservation]) -> list[Reservation]:
        """Leave out what a shelf has ordered that was closed since, for one because of another policy."""
        wanted = []
        for reservation in ahead:
            if reservation.shelf is not None and reservation.shelf.open:
                wanted.append(reservation)
            else:
                reservation.place = Place.NOWHERE
                tell(reservation, None)
        return wanted

    def _of_this_epoch(self, ended: list[Ended]) -> list[Ended]:
        """Leave out reservations that Redis no longer holds: what they used becomes a debt."""
        epoch = self.epoch
        if all(entry[0].epoch is epoch for entry in ended):
            return ended
        for reservation, used, _ in ended:
            if reservation.epoch is not epoch:
                self._owe(reservation.plan, used, reservation.day)
        return [entry for entry in ended if entry[0].epoch is epoch]

    def _take_in(self, flight: Flight, reply: bytes) -> None:
        head = read_reply(reply)
        if head.lost:
            self._begin_anew(flight, carried_out=head.last >= flight.head.number)
            return
        self._offset_us = head.now - time.monotonic() * 1e6
        at = REPLY_BYTES
        epoch, day, month = self.epoch, head.day, head.month
        for reservation in flight.reserved:
            answer = read_answer(reply, at)
            at += ANSWER_BYTES
            if answer[0] == Status.GRANTED:
                reservation.answer, reservation.spare = answer, read_spare(reply, at)
                at += SPARE_BYTES
                size = RECEIPT_BYTES * reservation.plan.count
                reservation.place, reservation.epoch = Place.HELD, epoch
                reservation.receipt, reservation.day, reservation.month = reply[at : at + size], day, month
                at += size
                if reservation.final is not None:
                    self._ended.append((reservation, *reservation.final))
            else:
                self._drop(reservation)
            tell(reservation, answer)

    def _drop(self, reservation: Reservation) -> None:
        reservation.place = Place.NOWHERE
        if reservation.final is not None:
            self._owe(reservation.plan, reservation.final[0])

    def _begin_anew(self, flight: Flight, *, carried_out: bool) -> None:
        """Redis does not know this process as it is: nothing of it is held there, or it is given back already."""
        log.warning("limits begin anew: Redis has lost this process' reservations, or had given it up")
        self._metrics.limits_begun_anew.inc()
        self._begin()
        if not carried_out:
            for reservation, used, _ in flight.ended:
                self._owe(reservation.plan, used, reservation.day)
            for (plan, day), amounts in flight.debts.items():
                self._owe(plan, amounts, day)
        waiting = []
        for reservation in flight.reserved:
            if reservation.future is not None and not reservation.future.done():
                reservation.place = Place.QUEUED
                waiting.append(reservation)
            else:
                self._drop(reservation)
                tell(reservation, None)
        self._queue[:0] = waiting


def tell(reservation: Reservation, answer: Answer | None) -> None:
    """Tell who waits for a reservation what became of it; None when it could not be asked for."""
    if reservation.shelf is not None:
        shelf, reservation.shelf = reservation.shelf, None
        shelf.arrived(reservation)
    elif reservation.future is not None and not reservation.future.done():
        reservation.future.set_result(answer)


def _cut(items: list[ItemT], most: int) -> list[ItemT]:
    taken = items[:most]
    del items[:most]
    return taken
