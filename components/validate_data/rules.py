"""Rules of a data contract, one list a split: what each expects of which column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from components.validate_data.columns import personal_column
from serving.contracts.data_contract import DataContractBody, Split, SplitRules


class Check(StrEnum):
    """What is asked of a column; each is one class of Great Expectations."""

    ROW_COUNT = "ExpectTableRowCountToBeBetween"
    DISTINCT = "ExpectColumnUniqueValueCountToBeBetween"
    BETWEEN = "ExpectColumnValuesToBeBetween"
    EMPTY = "ExpectColumnValuesToBeNull"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: Name in reports.
        expected: What must hold, in words.
        check: How it is checked.
        column: Column it looks at; None for the whole table.
        minimum: Lower bound, None for none.
        maximum: Upper bound, None for none.
        allowed_fraction: Share of rows that may break it.
    """

    name: str
    expected: str
    check: Check
    column: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    allowed_fraction: float = 0.0


_HELD_OUT: Final = (Split.EVALUATION, Split.LIVE)


def rules_of(contract: DataContractBody, split: Split, rows: int) -> list[Rule]:
    """Return the rules of one split.

    Args:
        contract: Body of the contract.
        split: One that has rules.
        rows: Rows of the split; a number of allowed rows becomes a share of them.
    """
    limits = contract.splits[split]
    return [*_shape_rules(limits), *_content_rules(contract, split, rows)]


def _shape_rules(limits: SplitRules) -> Iterator[Rule]:
    low, high = limits.min_rows, limits.max_rows
    yield Rule("row-count", f"{low} to {high} rows", Check.ROW_COUNT, None, low, high)
    yield Rule("row-format", "every line a row: UTF-8, JSON, its keys and types", Check.EMPTY, "format_fault")
    yield Rule("turns", "user and assistant in turn, ending with user", Check.EMPTY, "turns_fault")
    yield Rule("unique-ids", "every id once", Check.EMPTY, "id_repeats")
    yield Rule("intents", f"at least {limits.min_intents} intents", Check.DISTINCT, "intent", limits.min_intents)
    for what, most in (("prompt", limits.max_prompt_tokens), ("answer", limits.max_answer_tokens)):
        yield Rule(f"{what}-length", f"1 to {most} tokens", Check.BETWEEN, f"{what}_tokens", 1, most)


def _content_rules(contract: DataContractBody, split: Split, rows: int) -> Iterator[Rule]:
    share = contract.max_duplicate_fraction
    yield Rule(
        "duplicates",
        f"at most {share:.2%} of the rows repeat an earlier conversation",
        Check.EMPTY,
        "repeats",
        allowed_fraction=share,
    )
    if split in _HELD_OUT:
        most = contract.max_leaked_rows
        yield Rule(
            "leakage",
            f"at most {most} rows whose conversation is taught by train or calibration",
            Check.EMPTY,
            "leaks_from",
            allowed_fraction=min(1.0, most / rows) if rows else 0.0,
        )
    for kind in contract.forbid_personal_data:
        yield Rule(f"personal-data-{kind}", f"no {kind}", Check.EMPTY, personal_column(kind))
