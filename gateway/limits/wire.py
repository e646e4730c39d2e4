"""The bytes that travel to and from batch.lua: one packed argument a batch, one packed answer a batch.

A batch, little-endian and without padding (numbers are doubles unless a width is given)::

    head      flags (8 bits), number, lease in microseconds, counts of counters, settled, reserved (16 bits each)
    counter   limits of the counter whose Redis key stands at the same place: `Counter.packed`
    settled   kind (8 bits), id (8 bytes), requests, reserved tokens and nano-USD, prompt and output tokens, nano-USD,
              day, month, label of spend (16 bits, 0 for none), n (8 bits), n counters (16 bits), n bytes `counted`,
              n receipts (two numbers each) if the kind says that something was reserved
    reserved  id (8 bytes), tokens, nano-USD, length of the record (16 bits), n (8 bits), n counters (16 bits),
              n bytes `counted`, record

The answer: status (8 bits); lost, then the last number that was carried out; or time, day and month, then for each
reservation an `Answer`, followed by how many more of its kind there is room for and n receipts if it was granted.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.limits.redis_link import pack
from gateway.limits.verdict import Answer

if TYPE_CHECKING:
    from gateway.limits.plan import LimitPlan

SWEEP: Final = 1
"""Say that this process lives, and give back what lost ones hold."""
BYE: Final = 2
"""The process ends."""

REFUND: Final = 1
RESERVED: Final = 2

OK: Final = 0
LOST: Final = 1

_HEAD: Final = struct.Struct("<BddHHH")
_SETTLED: Final = struct.Struct("<B8s8dHB")
_RESERVED: Final = struct.Struct("<8s2dHB")
_REPLY: Final = struct.Struct("<B3d")
_LOST: Final = struct.Struct("<Bd")
_ANSWER: Final = struct.Struct("<6B5d")
_SLOTS: Final = tuple(struct.Struct(f"<{n}H") for n in range(256))
_SPARE: Final = struct.Struct("<d")
RECEIPT_BYTES: Final = 16
SPARE_BYTES: Final = _SPARE.size

ANSWER_BYTES: Final = _ANSWER.size
REPLY_BYTES: Final = _REPLY.size


class Reply(NamedTuple):
    """The head of an answer. `last` counts when the batch was refused as lost."""

    lost: bool
    last: int
    now: float
    day: int
    month: int


class BatchWriter:
    """Collects one batch."""

    __slots__ = ("_chunks", "_counters", "_index", "_keys", "_labels", "_plans", "reserved", "settled")

    def __init__(self) -> None:
        self.settled = 0
        self.reserved = 0
        self._chunks: list[bytes] = []
        self._keys: list[bytes] = []
        self._counters: list[bytes] = []
        self._index: dict[bytes, int] = {}
        self._labels: dict[bytes, int] = {}
        self._plans: dict[LimitPlan, bytes] = {}

    def _slots(self, plan: LimitPlan) -> bytes:
        slots = self._plans.get(plan)
        if slots is None:
            index = self._index
            places = []
            for counter in plan.counters:
                place = index.get(counter.key)
                if place is None:
                    place = index[counter.key] = len(self._keys) + 1
                    self._keys.append(counter.key)
                    self._counters.append(counter.packed)
                else:
                    self._counters[place - 1] = counter.packed  # of two policies' limits the later plan's count
                places.append(place)
            slots = self._plans[plan] = _SLOTS[plan.count].pack(*places) + plan.counted
        return slots

    def settle(
        self,
        plan: LimitPlan,
        kind: int,
        number: bytes,
        reserved: tuple[int, int],
        used: tuple[int, int, int, int],
        stamp: tuple[int, int],
        receipt: bytes,
    ) -> None:
        """Add a settlement: `used` is requests, prompt tokens, output tokens, nano-USD; `stamp` is day and month."""
        label = self._labels.setdefault(plan.label, len(self._labels) + 1)
        requests, prompt, output, nano = used
        self.settled += 1
        head = _SETTLED.pack(kind, number, requests, *reserved, prompt, output, nano, *stamp, label, plan.count)
        self._chunks += (head, self._slots(plan), receipt)

    def reserve(self, plan: LimitPlan, number: bytes, tokens: int, nano: int) -> None:
        """Add a reservation; all settlements stand before the first one."""
        self.reserved += 1
        record = plan.record
        head = _RESERVED.pack(number, tokens, nano, len(record), plan.count)
        self._chunks += (head, self._slots(plan), record)

    def payload(self, flags: int, number: int, lease_us: float) -> bytes:
        """Return the packed argument."""
        head = _HEAD.pack(flags, number, lease_us, len(self._keys), self.settled, self.reserved)
        return b"".join((head, *self._counters, *self._chunks))

    def arguments(self, process_keys: tuple[bytes, bytes, bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return keys and labels."""
        return (*process_keys, *self._keys), tuple(self._labels)


def command(script: tuple[bytes, bytes], keys: tuple[bytes, ...], payload: bytes, labels: tuple[bytes, ...]) -> bytes:
    """Pack a call of the script: `script` is EVALSHA and its digest, or EVAL and its text."""
    return pack(*script, len(keys), *keys, payload, *labels)


def read_reply(reply: bytes) -> Reply:
    """Read the head of an answer."""
    if reply[0] == LOST:
        return Reply(True, int(_LOST.unpack(reply)[1]), 0.0, 0, 0)
    _, now, day, month = _REPLY.unpack_from(reply)
    return Reply(False, 0, now, int(day), int(month))


def read_answer(reply: bytes, at: int) -> Answer:
    """Read one reservation's answer."""
    answer: Answer = _ANSWER.unpack_from(reply, at)
    return answer


def read_spare(reply: bytes, at: int) -> float:
    """Read how many more requests like one that was granted there is room for."""
    spare: float = _SPARE.unpack_from(reply, at)[0]
    return spare
