"""Columns say what is wrong with a row and name the row, without showing what is personal."""

from __future__ import annotations

from pathlib import Path

from components.validate_data.columns import Seen, SplitColumns, compute_columns, count_tokens
from serving.contracts.data_contract import DataRow, Message, Split
from serving.data_rows import split_file
from tests.fakes.data_sets import make_row, write_splits


def _columns(folder: Path, split: Split, rows: list[DataRow], seen: Seen | None = None) -> SplitColumns:
    write_splits(folder, {split: rows})
    return compute_columns(folder, split, seen or Seen())


def _talk(*texts: str, answer: str = "Yes.") -> DataRow:
    roles = ("user", "assistant") * len(texts)
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]
    return DataRow(id=f"talk-{texts[0]}", intent="talk", messages=messages, answer=answer)


def test_tokens_are_words_digits_and_signs() -> None:
    """A word, a digit and a sign count as one token each, and an empty text has none."""
    assert count_tokens("Pay 12.50 EUR, now!") == 10
    assert count_tokens("") == 0


def test_a_good_row_has_no_fault(tmp_path: Path) -> None:
    """A good row leaves every column of faults empty and is named by file and line."""
    columns = _columns(tmp_path, Split.TRAIN, [make_row(1)])
    empty = {name for name, values in columns.values.items() if values == [None]}
    assert empty == {
        "format_fault", "turns_fault", "id_repeats", "repeats", "leaks_from",
        "korean_resident_registration_number", "card_number", "phone_number", "email_address",
    }  # fmt: skip
    assert columns.values["row"] == ["train.jsonl:1"]


def test_repeated_ids_and_conversations_name_their_first_row(tmp_path: Path) -> None:
    """A repeated id or conversation, whatever its case and spacing, names the row that it repeats."""
    columns = _columns(
        tmp_path, Split.TRAIN, [make_row(1), make_row(2), make_row(1), make_row(3, "WHAT about topic  number 2?")]
    )
    assert columns.values["id_repeats"] == [None, None, "train.jsonl:1", None]
    assert columns.values["repeats"] == [None, None, "train.jsonl:1", "train.jsonl:2"]


def test_a_question_inside_a_training_conversation_leaks_too(tmp_path: Path) -> None:
    """A row leaks from an earlier split's row that equals or begins with it; a later turn alone does not leak."""
    seen = Seen()
    _columns(tmp_path, Split.TRAIN, [_talk("First?", "One.", "Second?")], seen)
    _columns(tmp_path, Split.CALIBRATION, [make_row(5, "Third?")], seen)
    asked = [make_row(1, "first?"), _talk("First?", "One.", "Second?"), make_row(2, "Second?"), make_row(3, "Third?")]
    columns = _columns(tmp_path, Split.EVALUATION, asked, seen)
    assert columns.values["leaks_from"] == ["train.jsonl:1", "train.jsonl:1", None, "calibration.jsonl:1"]


def test_a_conversation_must_take_turns_and_end_with_the_user(tmp_path: Path) -> None:
    """A conversation that ends with the assistant is a fault that lists its roles; one ending with the user is none."""
    columns = _columns(tmp_path, Split.TRAIN, [_talk("A?", "B."), _talk("A?", "B.", "C?")])
    fault, none = columns.values["turns_fault"]
    assert "ending with user; got user, assistant" in str(fault)
    assert none is None


def test_a_line_that_is_no_row_keeps_its_place_and_hides_personal_data(tmp_path: Path) -> None:
    """A broken line counts as a row with a fault and a beginning, and its personal data stands nowhere."""
    write_splits(tmp_path, {Split.TRAIN: [make_row(1)]})
    number = "010-1234-5678"
    with split_file(tmp_path, Split.TRAIN).open("a") as file:
        file.write(f'{{"id": 5, "{number} {"x" * 300}": 1}}\n{{"question": "{number}"\n{number} ' + "\\u0030" * 2000)
    columns = compute_columns(tmp_path, Split.TRAIN, Seen())
    assert columns.rows == 4
    assert "1234-5678" not in f"{columns.values} {columns.excerpts}"
    assert [fault is not None for fault in columns.values["format_fault"]] == [False, True, True, True]
    assert columns.values["turns_fault"] == [None] * 4
    assert columns.excerpts["train.jsonl:3"] == '{"question": "***-****-****"'
    assert max(len(str(value)) for value in (*columns.values["format_fault"], *columns.excerpts.values())) <= 160


def test_personal_data_is_found_in_every_text_and_shown_masked(tmp_path: Path) -> None:
    """Personal data in question, answer, earlier turn or id is put in its kind's column, masked."""
    rows = [
        make_row(1, "My number is 010-1234-5678"),
        make_row(2, answer="Write to kim@bank.com."),
        _talk("A?", "Card 4111 1111 1111 1111", "C?"),
        DataRow(id="900101-1234567", intent="a", messages=(Message(role="user", content="A?"),), answer="B."),
    ]
    columns = _columns(tmp_path, Split.TRAIN, rows)
    assert columns.values["phone_number"] == ["***-****-****", None, None, None]
    assert columns.values["email_address"] == [None, "***@****.***", None, None]
    assert columns.values["card_number"] == [None, None, "**** **** **** ****", None]
    assert columns.values["korean_resident_registration_number"] == [None, None, None, "******-*******"]
    assert columns.excerpts["train.jsonl:1"] == "My number is ***-****-****"
