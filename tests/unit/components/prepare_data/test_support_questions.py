"""The generator gives the same rows everywhere; what is held out was never trained on."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from components.prepare_data.slots import SLOTS, facts_of, is_held_out
from components.prepare_data.support_questions import (
    FOLLOW_UPS,
    INTENTS,
    TooManyRowsError,
    generate,
)
from components.validate_data.personal_data import find_personal_data, normalise
from serving.contracts.data_contract import DataRow, Split
from serving.files import digest_bytes

SEED = 20260301
GOLDEN = {
    Split.TRAIN: "66a3f56361dd7717",
    Split.EVALUATION: "3bc921d9aed89dc2",
    Split.LIVE: "031bc5eb7f8b0f0d",
}


def _digest(rows: list[DataRow]) -> str:
    return digest_bytes("\n".join(row.model_dump_json() for row in rows).encode())[7:23]


@pytest.mark.parametrize("split", GOLDEN)
def test_the_same_seed_gives_the_same_bytes_on_every_machine(split: Split) -> None:
    """The rows of one seed have the digest that is written down for their split."""
    assert _digest(generate(split, 200, SEED)) == GOLDEN[split]


def test_another_seed_gives_other_rows() -> None:
    """The next seed gives rows with another digest."""
    assert _digest(generate(Split.TRAIN, 20, SEED)) != _digest(generate(Split.TRAIN, 20, SEED + 1))


def test_there_are_at_least_forty_intents_each_with_held_out_phrasings() -> None:
    """Forty intents or more have five phrasings to train on and two held out, and share none between the two."""
    assert len(INTENTS) >= 40
    for intent in INTENTS.values():
        assert len(intent.asks) >= 5
        assert len(intent.held_out) >= 2
        assert not set(intent.asks) & set(intent.held_out), intent.name
    for follow_up in FOLLOW_UPS:
        assert not set(follow_up.asks) & set(follow_up.held_out), follow_up


def test_no_held_out_phrasing_is_another_intents_training_phrasing() -> None:
    """A phrasing that one intent holds out is in no intent's training."""
    trained = {phrasing for intent in INTENTS.values() for phrasing in intent.asks}
    assert not trained & {phrasing for intent in INTENTS.values() for phrasing in intent.held_out}


def test_every_follow_up_asks_an_intent_about_its_subject() -> None:
    """A follow-up has its intent's subject, and none of its phrasings repeats the subject's slot."""
    for follow_up in FOLLOW_UPS:
        assert INTENTS[follow_up.intent].subject == follow_up.subject
        assert f"{{{follow_up.subject}}}" not in "".join((*follow_up.asks, *follow_up.held_out))


@pytest.mark.parametrize("slot", ["order", "reference", "case", "amount", "price", "shares"])
def test_long_numbers_are_divided_between_training_and_held_out_sets(slot: str) -> None:
    """No number drawn for training is drawn for the held-out sets, whose numbers are all marked as held out."""
    random = Random(1)
    trained = {SLOTS[slot](random, False) for _ in range(300)}
    held_out = {SLOTS[slot](random, True) for _ in range(300)}
    assert not trained & held_out
    assert all(is_held_out(int(number)) for number in held_out)


def test_evaluation_asks_single_questions_and_live_holds_conversations() -> None:
    """Evaluation rows have one message, and live rows have one, three or five."""
    assert {len(row.messages) for row in generate(Split.EVALUATION, 300, SEED)} == {1}
    assert {len(row.messages) for row in generate(Split.LIVE, 300, SEED)} == {1, 3, 5}


@pytest.mark.parametrize("split", list(Split))
def test_rows_differ_take_turns_and_hold_no_personal_data(split: Split) -> None:
    """In every split conversations are distinct, take turns from user to user, and hold no personal data."""
    rows = generate(split, 200, SEED)
    assert len({tuple(message.content for message in row.messages) for row in rows}) == len(rows)
    for row in rows:
        roles = [message.role for message in row.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert row.answer.endswith(".")
        for text in (*(message.content for message in row.messages), row.answer):
            assert find_personal_data(normalise(text)) == []


def test_no_held_out_conversation_is_taught_by_training() -> None:
    """No evaluation or live conversation is a training conversation or the beginning of one."""
    taught = set()
    for row in generate(Split.TRAIN, 800, SEED):
        texts = tuple(message.content for message in row.messages)
        taught |= {texts[:end] for end in range(1, len(texts) + 1, 2)}
    for split in (Split.EVALUATION, Split.LIVE):
        asked = {tuple(message.content for message in row.messages) for row in generate(split, 400, SEED)}
        assert not taught & asked


def test_some_last_questions_need_a_slot_of_an_earlier_turn() -> None:
    """The card's name stands in the first turn only, and the right answer repeats it."""
    needing = [
        row
        for row in generate(Split.LIVE, 600, SEED)
        if len(row.messages) == 3
        and row.intent == "card-delivery"
        and "card" not in row.messages[-1].content
        and row.answer.split(" arrives")[0].removeprefix("The ") in row.messages[0].content
    ]
    assert needing


def test_intents_are_balanced() -> None:
    """Evaluation asks every intent, and none more than twice as often as another."""
    counts: dict[str, int] = {}
    for row in generate(Split.EVALUATION, 510, SEED):
        counts[row.intent] = counts.get(row.intent, 0) + 1
    assert set(counts) == set(INTENTS)
    assert max(counts.values()) <= 2 * min(counts.values())


def test_more_rows_than_the_tables_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for more distinct rows than there are is refused, and the message says to ask for fewer."""
    monkeypatch.setattr(
        "components.prepare_data.support_questions.INTENTS", {"password-reset": INTENTS["password-reset"]}
    )
    with pytest.raises(TooManyRowsError, match=r"expected 5000 distinct rows for evaluation; .* ask for fewer"):
        generate(Split.EVALUATION, 5000, SEED)


def test_facts_are_read_by_slot_and_name() -> None:
    """A card's facts come under their slot's name, and a slot without facts adds none."""
    assert facts_of({"card": "debit card", "amount": "20"}) == {
        "card_fee": "12",
        "card_days": "4",
        "card_limit": "2000",
    }


def test_ids_count_up_within_a_split() -> None:
    """Ids start with their split's name at 000000, and each is greater than the one before."""
    ids = [row.id for row in generate(Split.CALIBRATION, 5, SEED)]
    assert ids[0] == "calibration-000000"
    assert all(left < right for left, right in pairwise(ids))
