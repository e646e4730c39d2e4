"""Flight: one batch on its way to Redis, kept until it is known what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.limits.plan import LimitPlan
from gateway.limits.reservation import Reservation, Used
from gateway.limits.wire import REFUND, RESERVED, BatchWriter, command

Ended = tuple[Reservation, Used, bool]
"""A held reservation, what it used, and whether its request is given back."""

Debts = dict[tuple[LimitPlan, int], list[int]]
"""What was used without a reservation in Redis: sums of `Used` by plan and day."""

_NO_NUMBER = bytes(8)


@dataclass(frozen=True, slots=True)
class BatchHead:
    """What a batch says of itself.

    Attributes:
        number: Counted from 1 for each name of the process.
        flags: Of the batch.
        lease_us: After which silence, in microseconds, a process is given up.
        process_keys: Redis keys of the process, of all processes, and of when Redis was away.
    """

    number: int
    flags: int
    lease_us: float
    process_keys: tuple[bytes, bytes, bytes]


@dataclass(slots=True)
class Flight:
    """A batch: everything in it, and its bytes."""

    head: BatchHead
    reserved: list[Reservation]
    ended: list[Ended]
    debts: Debts
    keys: tuple[bytes, ...]
    labels: tuple[bytes, ...]
    payload: bytes

    def command(self, script: tuple[bytes, bytes]) -> bytes:
        """Return the packed command."""
        return command(script, self.keys, self.payload, self.labels)


def build(
    head: BatchHead, *, reserved: list[Reservation], ended: list[Ended], debts: Debts, months: Mapping[int, int]
) -> Flight:
    """Write a batch.

    Args:
        head: Its number, flags and process.
        reserved: Requests that begin.
        ended: Requests that have ended.
        debts: What was used without a reservation.
        months: Months of the days in `debts`.
    """
    writer = BatchWriter()
    for reservation, used, refund in ended:
        writer.settle(
            reservation.plan,
            RESERVED | REFUND if refund else RESERVED,
            reservation.number,
            (reservation.tokens, reservation.nano),
            used,
            (reservation.day, reservation.month),
            reservation.receipt,
        )
    for (plan, day), (requests, prompt, output, nano) in debts.items():
        writer.settle(plan, 0, _NO_NUMBER, (0, 0), (requests, prompt, output, nano), (day, months[day]), b"")
    for reservation in reserved:
        writer.reserve(reservation.plan, reservation.number, reservation.tokens, reservation.nano)
    keys, labels = writer.arguments(head.process_keys)
    return Flight(head, reserved, ended, debts, keys, labels, writer.payload(head.flags, head.number, head.lease_us))
