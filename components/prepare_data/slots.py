"""Slots of the support questions: what can stand in them, and the facts that go with a value.

Long numbers are divided between the sets: one held out for evaluation and live traffic never stands in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

HELD_OUT_EVERY: Final = 5
"""One number in five is held out, chosen by a hash so that no digit is rarer in training than in evaluation."""
_HASH_MULTIPLIER = 2_654_435_761
"""Knuth's multiplicative hash: the prime nearest to 2**32 divided by the golden ratio (TAOCP volume 3, 6.4)."""

Draw = Callable[[Random, bool], str]
"""Draws a value; the flag asks for a held-out one."""

FACTS: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    "card": {
        "debit card": {"fee": "12", "days": "4", "limit": "2000"},
        "credit card": {"fee": "48", "days": "6", "limit": "5000"},
        "virtual card": {"fee": "6", "days": "1", "limit": "800"},
        "business card": {"fee": "96", "days": "8", "limit": "9000"},
        "travel card": {"fee": "24", "days": "5", "limit": "3000"},
    },
    "transfer": {
        "domestic transfer": {"fee": "0", "time": "1 day", "limit": "50000"},
        "foreign transfer": {"fee": "15", "time": "3 days", "limit": "20000"},
        "real-time transfer": {"fee": "1", "time": "10 seconds", "limit": "5000"},
        "paper transfer": {"fee": "4", "time": "2 days", "limit": "8000"},
    },
    "account": {
        "savings account": {"rate": "3", "minimum": "100"},
        "current account": {"rate": "0", "minimum": "10"},
        "youth account": {"rate": "4", "minimum": "5"},
        "joint account": {"rate": "1", "minimum": "50"},
        "pension account": {"rate": "5", "minimum": "500"},
    },
    "loan": {
        "home loan": {"rate": "4", "years": "30"},
        "car loan": {"rate": "6", "years": "7"},
        "student loan": {"rate": "2", "years": "12"},
        "personal loan": {"rate": "9", "years": "5"},
    },
    "exchange": {
        "Seoul": {"hours": "9 to 15", "fee": "3", "settle": "2"},
        "Tokyo": {"hours": "8 to 14", "fee": "5", "settle": "3"},
        "London": {"hours": "17 to 23", "fee": "8", "settle": "1"},
        "Frankfurt": {"hours": "16 to 22", "fee": "7", "settle": "4"},
        "Toronto": {"hours": "19 to 24", "fee": "6", "settle": "5"},
    },
    "currency": {
        "USD": {"fee": "1"},
        "JPY": {"fee": "2"},
        "GBP": {"fee": "3"},
        "CHF": {"fee": "4"},
        "KRW": {"fee": "5"},
    },
    "country": {
        "Japan": {"fee": "1"},
        "France": {"fee": "0"},
        "Canada": {"fee": "2"},
        "Brazil": {"fee": "4"},
        "India": {"fee": "3"},
        "Norway": {"fee": "5"},
    },
    "city": {
        "Busan": {"close": "16"},
        "Incheon": {"close": "17"},
        "Daegu": {"close": "18"},
        "Berlin": {"close": "15"},
        "Madrid": {"close": "19"},
        "Dublin": {"close": "20"},
    },
    "ticker": {
        "NXT": {"month": "March"},
        "KBR": {"month": "May"},
        "SOL": {"month": "June"},
        "HNW": {"month": "April"},
        "ORB": {"month": "August"},
        "TRX": {"month": "October"},
        "VLM": {"month": "July"},
        "QPD": {"month": "January"},
    },
    "language": {name: {} for name in ("English", "Korean", "German", "French", "Spanish", "Japanese")},
    "month": {name: {} for name in ("January", "March", "April", "June", "July", "September", "November", "December")},
    "weekday": {
        "Monday": {"close": "20"},
        "Wednesday": {"close": "19"},
        "Friday": {"close": "18"},
        "Saturday": {"close": "14"},
        "Sunday": {"close": "12"},
    },
}
"""Slots with a fixed list of values, and each value's facts; `{card_fee}` reads the fact `fee` of the slot `card`."""


def _choice(values: tuple[str, ...]) -> Draw:
    return lambda random, _held_out: random.choice(values)


def _number(low: int, high: int, step: int = 1) -> Draw:
    """Draw from `low, low + step, …, high`, on the right side of the division."""

    def draw(random: Random, held_out: bool) -> str:
        while True:
            number = low + step * random.randint(0, (high - low) // step)
            if is_held_out(number) == held_out:
                return str(number)

    return draw


def is_held_out(number: int) -> bool:
    """Tell whether a number belongs to evaluation and live traffic."""
    return (number * _HASH_MULTIPLIER % 2**32) * HELD_OUT_EVERY >> 32 == 0


def _date(random: Random, _held_out: bool) -> str:
    return f"{random.randint(1, 28)} {random.choice(tuple(FACTS['month']))}"


SLOTS: Final[Mapping[str, Draw]] = {
    **{name: _choice(tuple(values)) for name, values in FACTS.items()},
    "order": _number(1_000, 9_999),
    "reference": _number(1_000, 9_999),
    "case": _number(1_000, 9_999),
    "amount": _number(20, 9_990, 10),
    "price": _number(11, 990),
    "shares": _number(2, 400),
    "day": lambda random, _held_out: str(random.randint(1, 28)),
    "year": _choice(("2019", "2020", "2021", "2022", "2023", "2024")),
    "date": _date,
}


def facts_of(values: Mapping[str, str]) -> dict[str, str]:
    """Return the facts of chosen values as `<slot>_<fact>` fields."""
    return {
        f"{slot}_{fact}": text
        for slot, value in values.items()
        if slot in FACTS
        for fact, text in FACTS[slot][value].items()
    }
