from __future__ import annotations

import math
from itertools import pairwise

import pytest

from gateway.resilience.concurrency import ConcurrencyLimit
from serving.contracts.resilience import Overload

POLICY = Overload(initial_concurrency=16, min_concurrency=4, max_concurrency=200, target_queue_ms=100)


class Drive:
    """Feeds first tokens of prompts of one length, 0.1 s at best; each entered after the last change, and after one
    more that used the limit up."""

    def __init__(self) -> None:
        self.limit = ConcurrencyLimit(POLICY)
        self.now = 100.0
        self.step = 0.3
        self.first(0.0, running=1, count=8)  # what the best is

    @property
    def value(self) -> float:
        return self.limit.limit

    def first(self, delay: float, *, running: int | None = None, count: int = 16) -> None:
        for _ in range(count):
            self.now += self.step + delay
            at = math.ceil(self.value) if running is None else running
            if at >= int(self.value) and not self.limit._filled:
                self.limit.first_token(1000, entered=self.now - 0.1 - delay, running=at, now=self.now)
                self.now += self.step + delay
            self.limit.first_token(1000, entered=self.now - 0.1 - delay, running=at, now=self.now)


def test_it_grows_fast_until_a_queue_is_seen_and_slowly_from_then_on() -> None:
    """From 16 it passes 100 in five rounds without delay; after one queue a round adds a twentieth."""
    drive = Drive()
    drive.first(0.0, count=5 * 16)
    assert drive.value > 100
    drive.limit.limit = 50.0
    drive.first(0.0, count=4)  # ends the round that has begun
    drive.first(1.5, count=8)
    fallen = drive.value
    assert fallen < 75
    drive.first(0.0)
    assert fallen < drive.value <= 1.051 * fallen


def test_it_does_not_grow_while_it_is_not_in_use() -> None:
    """Short of four fifths of the limit in use, no number of quick answers raises it."""
    drive = Drive()
    drive.first(0.0, running=10, count=200)
    assert drive.value == 16


def test_a_queue_lowers_it_by_as_many_as_wait_and_never_below_the_minimum() -> None:
    """A delay of 2 s where a first token comes every 2.3 s means that one waits; refusals stop at min_concurrency."""
    drive = Drive()
    drive.first(2.0, count=8)
    assert drive.value == pytest.approx(15.1, abs=0.1)
    for _ in range(20):
        drive.now += 1
        drive.limit.refused(entered=drive.now, running=16, now=drive.now)
    assert drive.value == 4


def test_a_little_delay_lowers_it_slowly() -> None:
    """Between a tenth of the target and the target, above what was measured without a queue, the limit falls by what
    waits, and by no more than a twentieth a round: nobody shall wait inside, whatever the noise."""
    drive = Drive()
    drive.limit._no_queue = 0.0
    drive.first(0.08, count=8)  # 0.07 s above a tenth of the target, a first token each 0.38 s
    assert drive.value == pytest.approx(16 - 0.07 / 0.38, abs=0.01)
    before, now = drive.value, drive.now + 1
    drive.limit.first_token(1000, entered=now - 0.5, running=16, now=now - 0.4)
    for at in range(8):  # a hundred a second
        drive.limit.first_token(1000, entered=now + 0.01 * at, running=16, now=now + 0.01 * at + 0.18)
    assert drive.value == pytest.approx(0.95 * before, abs=0.01)


def test_a_queue_that_the_step_back_shortens_is_no_pace() -> None:
    """A delay that falls by what those who left took was a queue: the limit stays without it and grows slowly."""
    drive = Drive()
    drive.step = 0.1
    drive.first(0.25, count=8)
    assert drive.value == 12  # stepped back by four
    drive.first(0.0, count=8)  # 0.25 s less, a first token each 0.1 s: of the four, two and a half were a queue
    assert drive.value == pytest.approx(13.5, abs=0.01)
    drive.first(0.0, count=8)
    assert drive.value == pytest.approx(14.5, abs=0.01)


def test_first_tokens_from_before_it_is_used_up_do_not_count() -> None:
    """While a raised limit fills up, first tokens come at once: only those of requests that entered later raise it."""
    limit = ConcurrencyLimit(POLICY)
    for _ in range(100):
        limit.first_token(1000, entered=100.0, running=16, now=100.1)
    assert limit.limit == 16
    for _ in range(8):
        limit.first_token(1000, entered=100.2, running=16, now=100.3)
    assert limit.limit == 24


def test_a_busy_engines_own_pace_is_not_taken_for_a_queue() -> None:
    """A delay above the target that stays when the limit steps back is taken off, and the limit goes on growing."""
    drive = Drive()
    drive.first(0.15, count=160)
    assert drive.value > 20


def test_a_queue_is_seen_above_the_engines_own_pace() -> None:
    """Once 0.15 s is known to be no queue, 1.15 s are one."""
    drive = Drive()
    drive.first(0.15, count=160)
    grown = drive.value
    drive.first(1.15, count=32)
    assert drive.value < grown


def test_one_quick_first_token_shows_that_there_is_no_queue() -> None:
    """Prompts that were not cached look late; as long as one of a round came at once the limit does not fall."""
    drive = Drive()
    for _ in range(10):
        drive.first(0.7, count=3)
        drive.first(0.0, count=1)
    assert drive.value >= 16


def test_requests_from_before_a_change_do_not_count_twice() -> None:
    """A hundred late first tokens of requests that entered before the limit fell lower it no further."""
    drive = Drive()
    for _ in range(100):
        drive.limit.first_token(1000, entered=drive.now + 1.0, running=16, now=drive.now + 1.3)
    assert drive.value >= 16 * 0.7


def test_a_queue_that_forms_while_it_steps_back_is_not_taken_for_the_engines_pace() -> None:
    """A delay of 2 s in the round in which the limit has stepped back lowers it further."""
    drive = Drive()
    drive.first(0.15, count=8)
    assert drive.value == 12
    drive.first(2.0, count=8)
    assert drive.value < 12


def test_each_minute_it_steps_back_for_a_round() -> None:
    """A limit that is in use falls by a quarter once a minute, and is back the round after."""
    drive = Drive()
    drive.limit.limit = 100.0
    drive.limit._no_queue = 0.0
    limits = []
    for _ in range(300):
        drive.first(0.02, count=1)
        limits.append(drive.value)
    [low] = [after for before, after in pairwise(limits) if after < 0.8 * before]
    assert limits.count(low) == 16
    assert min(limits[-60:]) >= 90.0


def test_a_refusal_of_the_endpoint_lowers_it_once_a_round() -> None:
    """Ten refusals of requests that entered together lower it once."""
    drive = Drive()
    for _ in range(10):
        drive.limit.refused(entered=drive.now, running=16, now=drive.now + 1)
    assert drive.value == pytest.approx(16 * 0.7)


def answer_whole(limit: ConcurrencyLimit, seconds: float, *, capacity: float, at: float = 0.0) -> None:
    """Answer whole requests at the pace of an engine that has room for so many, each in a second, all of it in use."""
    now, end = max(at, limit._changed_at) + 1.0, at + seconds
    while now < end:
        now += 1.0 / min(limit.limit, capacity)
        limit.whole_answer(entered=now - 1e-6, running=math.ceil(limit.limit), now=now)


def test_answers_that_are_not_streamed_raise_it_while_that_raises_their_number() -> None:
    """With room for fifty, the limit rises from 16 to at most a step above fifty, and rests a step lower."""
    limit = ConcurrencyLimit(POLICY)
    answer_whole(limit, 30, capacity=50)
    assert limit.limit == 16 * 1.5**3
    with_room = ConcurrencyLimit(POLICY)
    answer_whole(with_room, 60, capacity=1000)
    assert with_room.limit == 200


def test_a_limit_on_whole_answers_follows_an_engine_that_has_become_slower() -> None:
    """After its rest it is tried whether fewer do as well: with room for twenty left, the limit comes down."""
    limit = ConcurrencyLimit(POLICY)
    answer_whole(limit, 30, capacity=50)
    answer_whole(limit, 300, capacity=20, at=30)
    assert limit.limit <= 36


def test_whole_answers_say_nothing_where_others_are_streamed_or_the_limit_is_not_used_up() -> None:
    """Within ten seconds of a first token, and while fewer are under way than may be, any number changes nothing."""
    drive = Drive()
    silent = ConcurrencyLimit(POLICY)
    for at in range(200):
        drive.limit.whole_answer(entered=drive.now, running=16, now=drive.now + 1)
        silent.whole_answer(entered=200.0 + at, running=15, now=201.0 + at)
    assert drive.value == silent.limit == 16


def test_long_generations_do_not_lower_it() -> None:
    """Answers that take ten minutes each, with first tokens in time, leave the limit growing."""
    drive = Drive()
    for _ in range(10):
        drive.now += 600
        drive.first(0.0, count=64)
    assert drive.value > 50
