"""What a newcomer reads first is short, and true."""

from __future__ import annotations

import re
from pathlib import Path

from nexus.cli.main import EXIT_INTERRUPTED
from nexus.cli.output import EXIT_BUSY, EXIT_FAILURE, EXIT_USAGE
from nexus.outcome import EXIT_CODES
from tests.fakes.gateway_guide import blocks, unknown_commands

README = Path(__file__).resolve().parents[2] / "README.md"
MAX_LINES = 150


def test_it_is_short() -> None:
    """It has at most 150 lines; detail stands in the guides."""
    assert len(README.read_text().splitlines()) <= MAX_LINES


def test_every_command_is_there() -> None:
    """Each command with its options, each target of make and each path in an example exists."""
    assert unknown_commands(README) == []
    shell = "".join(block.text for block in blocks(README) if block.language == "bash")
    targets = set(re.findall(r"^([a-z-]+):", (README.parent / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", shell, re.MULTILINE)) <= targets
    paths = set(re.findall(r"(?<![\w./])(?:manifests|docs|tests)/[\w./-]+", README.read_text()))
    assert {path for path in paths if not (README.parent / path).exists()} == set()


def test_exit_codes_are_those_of_the_command() -> None:
    """The sentence about exit codes names all of them, and no other."""
    sentence = " ".join(README.read_text().split()).split("Exit codes: ")[1].split(". ")[0]
    codes = {int(code) for code in re.findall(r"(?:^|, )(\d+) ", sentence)}
    assert codes == {*EXIT_CODES.values(), EXIT_FAILURE, EXIT_USAGE, EXIT_BUSY, EXIT_INTERRUPTED}
