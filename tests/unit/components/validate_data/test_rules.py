"""A contract's numbers become bounds of rules."""

from __future__ import annotations

from components.validate_data.rules import Check, Rule, rules_of
from serving.contracts.data_contract import Split
from tests.fakes.data_sets import make_contract


def _by_name(split: Split, rows: int = 200, **body: object) -> dict[str, Rule]:
    return {rule.name: rule for rule in rules_of(make_contract(**body).spec, split, rows)}


def test_every_kind_of_rule_is_there() -> None:
    """A held-out split of the default contract has every kind of rule, and no other."""
    assert set(_by_name(Split.EVALUATION)) == {
        "row-count", "row-format", "turns", "unique-ids", "intents", "prompt-length", "answer-length",
        "duplicates", "leakage",
        "personal-data-korean-resident-registration-number", "personal-data-card-number",
        "personal-data-phone-number", "personal-data-email-address",
    }  # fmt: skip


def test_only_held_out_splits_can_leak() -> None:
    """The training split has no rule about leakage."""
    assert "leakage" not in _by_name(Split.TRAIN)


def test_bounds_come_from_the_split() -> None:
    """A split's limits become the bounds of its rules on rows, intents and lengths."""
    splits = {
        "train": {"min_rows": 2, "max_rows": 7, "min_intents": 3, "max_prompt_tokens": 11, "max_answer_tokens": 5}
    }
    rules = _by_name(Split.TRAIN, splits=splits)
    assert (rules["row-count"].minimum, rules["row-count"].maximum) == (2, 7)
    assert (rules["intents"].check, rules["intents"].minimum, rules["intents"].maximum) == (Check.DISTINCT, 3, None)
    assert (rules["prompt-length"].maximum, rules["answer-length"].maximum) == (11, 5)


def test_allowed_leaks_become_a_share_of_the_rows() -> None:
    """Allowed leaks are a fraction of the rows, at most 1, and 0 when there are no rows."""
    assert _by_name(Split.EVALUATION, rows=200, max_leaked_rows=3)["leakage"].allowed_fraction == 3 / 200
    assert _by_name(Split.EVALUATION, rows=0, max_leaked_rows=3)["leakage"].allowed_fraction == 0.0
    assert _by_name(Split.EVALUATION, rows=2, max_leaked_rows=3)["leakage"].allowed_fraction == 1.0


def test_only_forbidden_kinds_are_rules() -> None:
    """A contract that forbids one kind of personal data has a rule for that kind alone."""
    names = _by_name(Split.TRAIN, forbid_personal_data=["card-number"])
    assert [name for name in names if name.startswith("personal")] == ["personal-data-card-number"]
