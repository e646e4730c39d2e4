"""Personal data is found however it is spaced, and numbers of other kinds are left alone."""

from __future__ import annotations

import datetime
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from components.validate_data.number_rules import luhn_holds
from components.validate_data.personal_data import find_personal_data, mask, normalise
from serving.contracts.data_contract import PersonalDataKind

RRN, CARD = PersonalDataKind.KOREAN_RRN, PersonalDataKind.CARD_NUMBER
PHONE, EMAIL = PersonalDataKind.PHONE_NUMBER, PersonalDataKind.EMAIL

FOUND = [
    (RRN, "900101-1234567"),
    (RRN, "900101 1234567"),
    (RRN, "9001011234567"),
    (RRN, "9 0 0 1 0 1 - 1 2 3 4 5 6 7"),
    (RRN, "90.01.01-1234567"),
    (RRN, "９００１０１－１２３４５６７"),  # noqa: RUF001 - full-width digits are the case
    (RRN, "201104-3123456"),
    (RRN, "850312-5123456"),
    (CARD, "4111 1111 1111 1111"),
    (CARD, "4111-1111-1111-1111"),
    (CARD, "card4111111111111111!"),
    (CARD, "3782 822463 10005"),
    (CARD, "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    (CARD, "41 11 11 11 11 11 11 11"),
    (CARD, "4111 11111111 1111"),
    (CARD, "order 4821 and card 5555 5555 5555 4444 please"),
    (PHONE, "010-1234-5678"),
    (PHONE, "010 1234 5678"),
    (PHONE, "01012345678"),
    (PHONE, "0 1 0 1 2 3 4 5 6 7 8"),
    (PHONE, "010.1234.5678"),
    (PHONE, "010 12345678"),
    (PHONE, "+82 10-1234-5678"),
    (PHONE, "0082-10-1234-5678"),
    (PHONE, "02-123-4567"),
    (PHONE, "(02) 1234-5678"),
    (PHONE, "031-123-4567"),
    (PHONE, "070-1234-5678"),
    (PHONE, "공일공 일이삼사 오육칠팔"),
    (PHONE, "\u0660\u0661\u0660-\u0661\u0662\u0663\u0664-\u0665\u0666\u0667\u0668"),
    (PHONE, "0\u200b10\u20131234\u20135678"),
    (PHONE, "212-555-0123"),
    (PHONE, "(212) 555-0123"),
    (PHONE, "+44 20 7946 0958"),
    (EMAIL, "kim.lee+x@sub.bank.io"),
    (EMAIL, "write to kim@bank.co.kr."),
    (EMAIL, "kim @ bank . co . kr"),
    (EMAIL, "kim(at)bank(dot)com"),
    (EMAIL, "kim [at] bank [dot] com"),
    (EMAIL, "kim at bank dot com"),
]

LEFT_ALONE = [
    "order 482137 of 12 March 2024",
    "order 1234567890",
    "1,250,000 KRW",
    "amount 20 000 000",
    "2024-03-12 482137",
    "12.03.2024 48213",
    "2026.03.12 14.30.15",
    "from 2024-01-02 to 2024-03-04",
    "10:30 12.04.2026 5000 EUR",
    "02 2024 1234",
    "buy 10 @ 12.50",
    "5 @ market. Please confirm",
    "limit 10 at 50. Thanks",
    "4111 1111 1111 1112",
    "1700000000000",
    "990230-1234567",
    "901301-1234567",
    "900101-9234567",
    "900101-1******",
    "1 2 3 4 5 6 7 8 9 10 11 12 13",
    "shares 100 200 300 400 500 600",
    "gain of +12,500,000 KRW",
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_personal_data_is_found(kind: PersonalDataKind, text: str) -> None:
    """Each example is found as its kind, however it is spaced, written or spelt out."""
    assert kind in {finding.kind for finding in find_personal_data(normalise(text))}


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_masking_leaves_nothing_to_find(kind: PersonalDataKind, text: str) -> None:
    """Nothing personal is found in the masked form of any example."""
    assert find_personal_data(mask(text)) == []


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_other_numbers_are_left_alone(text: str) -> None:
    """Orders, amounts, dates and invalid numbers are neither found nor masked."""
    assert find_personal_data(normalise(text)) == []
    assert mask(text) == normalise(text)


def _luhn_completed(digits: str) -> str:
    return next(digits + last for last in "0123456789" if luhn_holds(digits + last))


REPEATABLE = settings(max_examples=40, deadline=None, database=None, derandomize=True)
SEPARATOR = st.sampled_from(["", " ", "-", "\u2013", ".", "\u00a0"])


@REPEATABLE
@given(st.from_regex(r"4[0-9]{14}|5[1-5][0-9]{13}", fullmatch=True), SEPARATOR)
def test_every_card_number_in_fours_is_found(digits: str, separator: str) -> None:
    """Any card number with a valid checksum is found in groups of four, whatever separates them."""
    number = _luhn_completed(digits)
    text = separator.join(number[at : at + 4] for at in range(0, 16, 4))
    assert CARD in {finding.kind for finding in find_personal_data(normalise(f"pay {text} now"))}


@REPEATABLE
@given(st.from_regex(r"4[0-9]{15}", fullmatch=True))
def test_no_number_with_a_wrong_checksum_is_a_card(number: str) -> None:
    """Sixteen digits that begin with 4 and fail the checksum are no card number."""
    assume(not luhn_holds(number))
    assert CARD not in {finding.kind for finding in find_personal_data(number)}


@REPEATABLE
@given(st.dates(), st.sampled_from("1234"), st.from_regex(r"[0-9]{6}", fullmatch=True), SEPARATOR)
def test_every_resident_number_is_found_whatever_its_checksum(
    date: datetime.date, sex: str, rest: str, separator: str
) -> None:
    """Any resident number with a date that exists is found, whatever separates its two parts."""
    year = (1900 if sex in "12" else 2000) + date.year % 100
    assume(not (date.month == 2 and date.day == 29 and (year % 4 or (year % 100 == 0 and year % 400))))
    text = f"{year % 100:02d}{date.month:02d}{date.day:02d}{separator}{sex}{rest}"
    assert RRN in {finding.kind for finding in find_personal_data(normalise(f"number {text}."))}


@REPEATABLE
@given(st.sampled_from("016789"), st.from_regex(r"[0-9]{8}", fullmatch=True), SEPARATOR)
def test_every_korean_mobile_number_is_found(third: str, rest: str, separator: str) -> None:
    """Any Korean mobile number is found in its three groups, whatever separates them."""
    text = separator.join([f"01{third}", rest[:4], rest[4:]])
    assert PHONE in {finding.kind for finding in find_personal_data(normalise(f"call {text}"))}


@REPEATABLE
@given(st.integers(0, 99_999_999), st.integers(2015, 2035), st.integers(1, 12), st.integers(1, 28))
def test_order_numbers_and_dates_are_never_personal(order: int, year: int, month: int, day: int) -> None:
    """An order's number, its dates and its amount are never found as personal data."""
    text = f"order {order} of {year}-{month:02d}-{day:02d}, amount {order % 100_000}.50 EUR, {day}.{month}.{year}"
    assert find_personal_data(normalise(text)) == []


@REPEATABLE
@given(st.text(max_size=200))
def test_any_text_can_be_searched_and_masking_changes_no_length(text: str) -> None:
    """In any normalised text findings lie within it, masking keeps its length, and no format character is left."""
    plain = normalise(text)
    for finding in find_personal_data(plain):
        assert 0 <= finding.start < finding.end <= len(plain)
    assert len(mask(text)) == len(plain)
    assert not any(unicodedata.category(char) == "Cf" for char in plain)


@pytest.mark.parametrize("text", ["1 " * 2000, "a@" * 2000, "a at " * 800 + "@", "a." * 2000 + "@", "(" * 4000])
def test_hostile_text_takes_no_time_to_speak_of(text: str) -> None:
    """A backtracking pattern would run into the test's time limit here."""
    find_personal_data(normalise(text[:4000]))


def _rrn(valid: bool) -> str:
    """A resident number by the formula that numbers had until October 2020: weights 2 to 9, then 2 to 5, modulo 11."""
    first = "900101123456"
    total = sum(int(digit) * weight for digit, weight in zip(first, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True))
    last = (11 - total % 11) % 10
    return first + str(last if valid else (last + 1) % 10)


@pytest.mark.parametrize(("valid", "after", "found"), [(True, "", True), (False, "", False), (True, " 77", False)])
def test_an_odd_grouping_needs_the_checksum_and_nothing_else_beside_it(valid: bool, after: str, found: bool) -> None:
    """A resident number in fours and five is found only with its checksum and no further number after it."""
    number = _rrn(valid)
    text = f"{number[:4]} {number[4:8]} {number[8:]}{after}"
    assert (RRN in {finding.kind for finding in find_personal_data(text)}) == found


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_text_is_normalised_as_any_other(text: str) -> None:
    """The short way for ASCII gives what the long way gives, which a letter beyond it forces."""
    assert normalise(text) == normalise(f"{text}é")[:-1]
