"""Rules that tell a card, phone or resident number from any other digits."""

from __future__ import annotations

import re
from calendar import monthrange

from components.validate_data.digit_groups import Window

_RRN_LAYOUTS = {(13,), (6, 7), (6, 1, 6), (2, 2, 2, 7), (2, 2, 2, 1, 6)}
_RRN_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
_CENTURY = {"1": 1900, "2": 1900, "5": 1900, "6": 1900, "3": 2000, "4": 2000, "7": 2000, "8": 2000}
"""Seventh digit: sex and century of residents (1 to 4) and of foreigners (5 to 8)."""

_CARD_PREFIX = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}"  # Visa: 13, 16 or 19 digits
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"  # American Express; Diners Club
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|62\d{14,17}|35(?:2[89]|[3-8]\d)\d{12,15}"  # Discover; UnionPay; JCB
    r"|9[0-9]\d{14})"  # Korean cards for use at home
)
"""Ranges of ISO/IEC 7812 issuers with their lengths."""
_CARD_LAYOUTS = {(4, 6, 5), (4, 6, 4)}

_MOBILE = re.compile(r"01[016789]\d{7,8}")
_ABROAD = re.compile(r"(?:00)?82(?:0?1[016789]\d{7,8}|0?(?:2|[3-6][1-5])\d{7,8})")
_LANDLINE = re.compile(r"(?:02|0[3-6][1-5]|070|050\d?)\d{7,8}")
_NORTH_AMERICA = re.compile(r"1?[2-9]\d\d[2-9]\d{6}")


def is_resident_number(window: Window) -> bool:
    """Tell whether a window is a Korean resident registration number.

    Birth date and seventh digit must fit. Unusual groupings count only with a valid checksum.
    """
    digits = window.digits
    if len(digits) != 13 or digits[6] not in _CENTURY or not _is_date(digits):
        return False
    if window.layout in _RRN_LAYOUTS or window.is_loose:
        return True
    return window.is_whole_run and _has_rrn_checksum(digits)


def is_card_number(window: Window) -> bool:
    """Tell whether a window is a payment card number: issuer's range, its length, Luhn's checksum, a usual grouping."""
    if not _CARD_PREFIX.fullmatch(window.digits) or not luhn_holds(window.digits):
        return False
    usual = len(window.layout) == 1 or window.layout in _CARD_LAYOUTS or window.is_even or window.is_loose
    return usual or (window.is_whole_run and not window.has_date and "," not in "".join(window.separators))


def is_phone_number(window: Window) -> bool:
    """Tell whether a window is a phone number: international with a plus, Korean, or North American."""
    if any("," in separator for separator in window.separators):
        return False
    return any(rule(window) for rule in (_is_international, _is_mobile, _is_abroad, _is_landline, _is_north_american))


def luhn_holds(digits: str) -> bool:
    """Check the last digit by Luhn's formula (ISO/IEC 7812-1, annex B)."""
    doubled = (int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _is_international(window: Window) -> bool:
    """A plus and 9 to 15 digits (ITU-T E.164); fewer than 11 only where nothing follows, as amounts have signs too."""
    if not window.before.rstrip(" (").endswith("+") or window.digits[0] == "0":
        return False
    return 9 <= len(window.digits) <= 15 and (window.is_whole_run or len(window.digits) >= 11)


def _is_mobile(window: Window) -> bool:
    if not _MOBILE.fullmatch(window.digits):
        return False
    if window.layout[0] == 2:
        return window.is_even and window.is_whole_run
    return _is_phone_layout(window, head=3) or (window.is_whole_run and not window.has_date)


def _is_abroad(window: Window) -> bool:
    """Korea's country code without a plus."""
    if not _ABROAD.fullmatch(window.digits):
        return False
    return window.layout[0] in {1, 2, 4, len(window.digits)} and window.layout[-1] in {1, 4, len(window.digits)}


def _is_landline(window: Window) -> bool:
    if not _LANDLINE.fullmatch(window.digits):
        return False
    head = 2 if window.digits.startswith("02") else 3 + (len(window.digits) == 12)
    spaced = any(" " in separator for separator in window.separators)
    return _is_phone_layout(window, head=head) and not (spaced and _looks_like_year(window))


def _is_phone_layout(window: Window, head: int) -> bool:
    """Area code, three or four digits, four digits; or all in one; or all one by one."""
    total = len(window.digits)
    usual = {(head, total - head - 4, 4), (head, total - head), (total - 4, 4), (total,)}
    return window.layout in usual or window.is_loose


def _looks_like_year(window: Window) -> bool:
    middle = window.digits[window.layout[0] :][:4]
    return len(window.layout) == 3 and window.layout[1] == 4 and middle[:2] in {"19", "20"}


def _is_north_american(window: Window) -> bool:
    if not _NORTH_AMERICA.fullmatch(window.digits) or window.layout[-3:] != (3, 3, 4):
        return False
    first, second = window.separators[-2:]
    return second in {"-", "."} and (first == second or first.startswith(")"))


def _is_date(digits: str) -> bool:
    year = _CENTURY[digits[6]] + int(digits[:2])
    month, day = int(digits[2:4]), int(digits[4:6])
    return 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]


def _has_rrn_checksum(digits: str) -> bool:
    """Check the last digit; foreigners' numbers add 2 (Ministry of the Interior's formula, used until October 2020)."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, _RRN_WEIGHTS, strict=False))
    shift = 2 if digits[6] in "5678" else 0
    return (11 - total % 11 + shift) % 10 == int(digits[12])
