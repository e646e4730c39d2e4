"""Generator of support questions: what a broker's and bank's customers ask, each with the one right answer.

Everything is drawn from a seed: the same arguments give the same rows on every machine. Training and calibration use
one list of phrasings and most numbers; evaluation and live use phrasings and numbers that training never saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from components.prepare_data import (
    intents_accounts,
    intents_cards,
    intents_exchanges,
    intents_payments,
    intents_service,
    intents_trading,
)
from components.prepare_data.phrasing import FollowUp, Intent, slots_of
from components.prepare_data.slots import SLOTS, facts_of
from serving.contracts.data_contract import DataRow, Message, Split

_TABLES = (
    intents_cards,
    intents_payments,
    intents_accounts,
    intents_trading,
    intents_exchanges,
    intents_service,
)
INTENTS: Final[Mapping[str, Intent]] = {intent.name: intent for table in _TABLES for intent in table.INTENTS}
FOLLOW_UPS: Final[tuple[FollowUp, ...]] = tuple(follow for table in _TABLES for follow in table.FOLLOW_UPS)

HELD_OUT_SPLITS: Final = frozenset({Split.EVALUATION, Split.LIVE})
MULTI_TURN_FRACTION: Final[Mapping[Split, float]] = {
    Split.TRAIN: 0.5,
    Split.CALIBRATION: 0.5,
    Split.EVALUATION: 0.0,
    Split.LIVE: 0.5,
}
_THREE_TURNS_FRACTION = 0.35
_FOLLOW_UP_FRACTION = 0.6

_OPENERS = ("", "", "", "Hi, ", "Hello, ", "Good morning, ", "Quick question: ")
_CLOSERS = ("", "", "", " Thanks.", " Thank you!")
_MAX_MISSES = 10_000
"""Draws in a row that may repeat earlier rows before the tables count as used up."""


class TooManyRowsError(Exception):
    """More distinct rows were asked for than the tables can make."""


@dataclass(frozen=True)
class _Turn:
    """One question with its answer, and the slots it named."""

    intent: Intent
    question: str
    answer: str
    values: Mapping[str, str]


def generate(split: Split, rows: int, seed: int) -> list[DataRow]:
    """Draw the rows of one split; no conversation comes twice.

    Args:
        split: Decides phrasings, numbers and the share of conversations with several turns.
        rows: How many.
        seed: Of the whole data set; every split has a stream of its own.

    Raises:
        TooManyRowsError: The tables hold fewer distinct conversations.
    """
    random = Random(f"{seed}/{split}")
    seen: set[tuple[str, ...]] = set()
    found: list[DataRow] = []
    intents = _endless(random)
    misses = 0
    while len(found) < rows:
        turns = _conversation(random, next(intents), split)
        key = tuple(turn.question for turn in turns)
        if key in seen:
            misses += 1
            if misses > _MAX_MISSES:
                raise TooManyRowsError(
                    f"expected {rows} distinct rows for {split}; the generator holds about {len(found)}: ask for fewer"
                )
            continue
        misses = 0
        seen.add(key)
        found.append(_row(f"{split}-{len(found):06d}", turns))
    return found


def _endless(random: Random) -> Iterator[Intent]:
    """Yield all intents in a new random order again and again, so that every one gets its share."""
    names = list(INTENTS)
    while True:
        random.shuffle(names)
        yield from (INTENTS[name] for name in names)


def _conversation(random: Random, first: Intent, split: Split) -> list[_Turn]:
    held_out = split in HELD_OUT_SPLITS
    turns = [_ask(random, first, first.held_out if held_out else first.asks, {}, held_out=held_out)]
    if random.random() >= MULTI_TURN_FRACTION[split]:
        return turns
    for _ in range(2 if random.random() < _THREE_TURNS_FRACTION else 1):
        turns.append(_next_turn(random, turns, held_out=held_out))
    return turns


def _next_turn(random: Random, turns: list[_Turn], *, held_out: bool) -> _Turn:
    """Follow up on the subject of the turn before, or ask something else."""
    last = turns[-1]
    asked = {turn.intent.name for turn in turns}
    follow_ups = [f for f in FOLLOW_UPS if f.subject == last.intent.subject and f.intent not in asked]
    if follow_ups and random.random() < _FOLLOW_UP_FRACTION:
        follow = random.choice(follow_ups)
        known = {follow.subject: last.values[follow.subject]}
        phrasings = follow.held_out if held_out else follow.asks
        return _ask(random, INTENTS[follow.intent], phrasings, known, held_out=held_out)
    intent = random.choice([intent for name, intent in INTENTS.items() if name not in asked])
    return _ask(random, intent, intent.held_out if held_out else intent.asks, {}, held_out=held_out)


def _ask(
    random: Random, intent: Intent, phrasings: tuple[str, ...], known: Mapping[str, str], *, held_out: bool
) -> _Turn:
    phrasing = random.choice(phrasings)
    values = {**known, **{slot: SLOTS[slot](random, held_out) for slot in slots_of(phrasing)}}
    question = _dress(random, phrasing.format(**values))
    return _Turn(intent, question, intent.answer.format(**values, **facts_of(values)), values)


def _dress(random: Random, text: str) -> str:
    """Add a greeting, an end mark and thanks as people do."""
    opener, closer = random.choice(_OPENERS), random.choice(_CLOSERS)
    if opener and not text.startswith("I "):
        text = text[0].lower() + text[1:]
    if text[-1] != "?" and (closer or random.random() < 0.5):
        text += "."
    return f"{opener}{text}{closer}"


def _row(row_id: str, turns: list[_Turn]) -> DataRow:
    messages: list[Message] = []
    for turn in turns:
        messages.append(Message(role="user", content=turn.question))
        messages.append(Message(role="assistant", content=turn.answer))
    return DataRow(id=row_id, intent=turns[-1].intent.name, messages=tuple(messages[:-1]), answer=turns[-1].answer)
