"""Find personal data in text: Korean resident registration numbers, card numbers, phone numbers, e-mail addresses.

Numbers are read as people hide them: with odd spaces, dashes of any script, full-width or Arabic digits, digits one by
one. What tells them from order numbers, amounts and dates is their inner structure: prefixes, dates, lengths, the
grouping of digits. A checksum decides for card numbers; for resident numbers it only helps, because numbers issued
since October 2020 have none. All positions count in `normalise(text)`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from components.validate_data.digit_groups import Window, runs_of, windows_of
from components.validate_data.number_rules import is_card_number, is_phone_number, is_resident_number
from serving.contracts.data_contract import PersonalDataKind

_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE58, 0x30FC, 0xFF70], "-")
"""Hyphens and dashes of all lengths, the minus sign, and the Japanese long-vowel mark that people type for a dash."""
_ASCII_SPACES = {code: " " for code in range(128) if chr(code).isspace()}
_HANGUL_DIGITS = str.maketrans("공영일이삼사오육칠팔구", "00123456789")
_SPOKEN_NUMBER = re.compile(r"[공영](?:[ \-.,]{0,3}[공영일이삼사오육칠팔구]){8,12}(?![가-힣])")

_LOCAL = r"[A-Za-z0-9](?:[A-Za-z0-9._%+\-]{0,62}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"{_LOCAL}@(?:[A-Za-z0-9\-]{{1,63}}\.){{1,5}}[A-Za-z]{{2,24}}(?![A-Za-z])")
_COMMON_ENDS = r"(?:com|net|org|info|io|kr|jp|cn|de|fr|uk|eu|us|edu|gov)"
_AT = r"\s{0,3}(?:@|\(\s?at\s?\)|\[\s?at\s?\]|\sat\s)\s{0,3}"
_DOT = r"\s{0,3}(?:\.|\(\s?dot\s?\)|\[\s?dot\s?\]|\sdot\s)\s{0,3}"
_HIDDEN_EMAIL = re.compile(
    rf"{_LOCAL}{_AT}[A-Za-z0-9\-]{{1,63}}(?:{_DOT}[A-Za-z0-9\-]{{1,63}}){{0,3}}?{_DOT}{_COMMON_ENDS}(?![A-Za-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Finding:
    """Personal data from `start` to `end` (exclusive) of the normalised text."""

    kind: PersonalDataKind
    start: int
    end: int


def normalise(text: str) -> str:
    """Bring text to the form that is searched: plain digits, dashes and spaces, nothing invisible."""
    if text.isascii():  # where all that follows does is to turn white space into spaces
        return text.translate(_ASCII_SPACES)
    plain = unicodedata.normalize("NFKC", text).translate(_DASHES)
    plain = "".join(_plain(char) for char in plain if unicodedata.category(char) != "Cf")
    return _SPOKEN_NUMBER.sub(lambda match: match.group().translate(_HANGUL_DIGITS), plain)


def find_personal_data(text: str) -> list[Finding]:
    """Return everything found in a text, by position; pass it through `normalise` first."""
    return sorted(_findings(text), key=lambda finding: (finding.start, finding.end, finding.kind))


def mask(text: str) -> str:
    """Return the normalised text with every letter and digit of personal data as an asterisk."""
    plain = normalise(text)
    masked = list(plain)
    for finding in _findings(plain):
        for index in range(finding.start, finding.end):
            if masked[index].isalnum():
                masked[index] = "*"
    return "".join(masked)


def _plain(char: str) -> str:
    if char.isspace():
        return " "
    return str(unicodedata.decimal(char)) if char.isdecimal() else char


_NUMBERS: Final[Mapping[PersonalDataKind, Callable[[Window], bool]]] = {
    PersonalDataKind.KOREAN_RRN: is_resident_number,
    PersonalDataKind.CARD_NUMBER: is_card_number,
    PersonalDataKind.PHONE_NUMBER: is_phone_number,
}


def _findings(text: str) -> Iterator[Finding]:
    if "@" in text or " dot " in text or "dot)" in text or "dot]" in text or "at)" in text or "at]" in text:
        for pattern in (_EMAIL, _HIDDEN_EMAIL):
            for match in pattern.finditer(text):
                yield Finding(PersonalDataKind.EMAIL, *match.span())
    for run in runs_of(text):
        for window in windows_of(run):
            for kind, holds in _NUMBERS.items():
                if holds(window):
                    yield Finding(kind, window.start, window.end)
