"""The table of faults says what is tested: every test that it names exists, and every row names one."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.fakes.gateway_guide import GUIDE

TESTS = GUIDE.parents[2] / "tests"
FAULTS = GUIDE.with_name("gateway-faults.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in FAULTS.splitlines()
    if line.startswith("|") and "::" in line
]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", FAULTS)))


@cache
def functions_of(path: str) -> set[str]:
    file = TESTS / (path if "/" in path else f"integration/gateway/{path}")
    return set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    """Whoever renames or removes one has to look at the promise that it proves."""
    assert name in functions_of(path)


def test_every_row_says_fault_deed_invariant_and_test() -> None:
    """No row is without a proof, and the faults' own tests are all in the table."""
    assert len(ROWS) > 60
    assert all(len(row) == 4 and all(row) and "::" in row[3] for row in ROWS)
    rows = [line for line in FAULTS.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    heads = [line for line in rows if line.endswith("| test |")]
    promises = 7  # the six and their head
    assert len(rows) == len(ROWS) + len(heads) + promises
    named = {name for _, name in NAMED}
    for file in ("store", "upstream", "failover", "clock", "audit", "client"):
        assert functions_of(f"test_faults_{file}.py") <= named, file


def test_the_guide_leads_there() -> None:
    """And back."""
    assert "(gateway-faults.md)" in GUIDE.read_text()
    assert "(gateway.md)" in FAULTS
