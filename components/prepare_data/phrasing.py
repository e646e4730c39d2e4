"""Shapes of the support questions: intents, their phrasings, and follow-up questions.

A phrasing is a format string over slot names. What slots hold is in `slots.py`; the tables of intents are in
`intents_*.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter

Phrasings = tuple[str, ...]


@dataclass(frozen=True)
class Intent:
    """One thing customers ask, with the one right answer.

    Attributes:
        name: Name in data rows.
        asks: Phrasings of the training and calibration sets.
        held_out: Phrasings of the evaluation and live sets; none of them is in `asks`.
        answer: Right answer; may copy slots and their facts (`{card}`, `{card_fee}`).
        subject: Slot that a follow-up question may leave out, because this turn named it.
    """

    name: str
    asks: Phrasings
    held_out: Phrasings
    answer: str
    subject: str | None = None


@dataclass(frozen=True)
class FollowUp:
    """A question that leaves out the subject of the turn before; its answer is the answer of `intent`.

    Attributes:
        intent: Name of the intent that is asked.
        subject: Slot that the question leaves out.
        asks: Phrasings of the training and calibration sets.
        held_out: Phrasings of the live set.
    """

    intent: str
    subject: str
    asks: Phrasings
    held_out: Phrasings


def slots_of(text: str) -> tuple[str, ...]:
    """Return the names of a format string's fields, each once, in order."""
    return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(text) if name))
