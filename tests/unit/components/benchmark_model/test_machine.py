"""A machine is named by what decides an engine's speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.benchmark_model.machine import describe_machine, identify_machine


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with one graphics card."""
    gpu = tmp_path / "proc" / "driver" / "nvidia" / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t NVIDIA H100\nIRQ: 1\n")
    (tmp_path / "proc" / "cpuinfo").write_text(
        "model name\t: Fast CPU\nflags\t: fpu avx2 avx512f\n\nmodel name\t: Fast CPU\n"
    )
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       8388608 kB\n")
    return tmp_path


def test_description_names_processor_memory_and_graphics_card(root: Path) -> None:
    """In one line a person reads."""
    text = describe_machine(root)
    assert text.startswith("Fast CPU, ")
    assert text.endswith("avx512f, 8.6 GB, NVIDIA H100")


@pytest.mark.parametrize("change", ["Fast CPU->Slow CPU", "avx2->avx"])
def test_another_processor_is_another_machine(root: Path, change: str) -> None:
    """Figures are not used again on it."""
    before = identify_machine(root)
    assert identify_machine(root) == before
    file = root / "proc" / "cpuinfo"
    file.write_text(file.read_text().replace(*change.split("->")))
    assert identify_machine(root) != before


def test_another_installation_is_another_machine(root: Path) -> None:
    """The same kind of processor elsewhere may share its cores with others."""
    before = identify_machine(root)
    (root / "etc").mkdir()
    (root / "etc" / "machine-id").write_text("abc\n")
    assert identify_machine(root) != before
