"""Lean imports hide, put off and restore; whoever imports the same packages later gets the real ones."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from components.validate_data import lean_import

BOTH = "lean_import_example"


@pytest.fixture(autouse=True)
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is optional, another that is late, and a third that uses both as Great Expectations does."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{BOTH}_optional.py").write_text("x = 1")
    (tmp_path / f"{BOTH}_late.py").write_text("x = 2")
    text = f"try:\n    import {BOTH}_optional as a\nexcept ImportError:\n    a = None\nimport {BOTH}_late as b\n"
    (tmp_path / f"{BOTH}.py").write_text(text)
    monkeypatch.setattr(lean_import, "_OPTIONAL", (f"{BOTH}_optional",))
    monkeypatch.setattr(lean_import, "_LATE", (f"{BOTH}_late",))
    for name in (BOTH, f"{BOTH}_optional", f"{BOTH}_late"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_optional_packages_are_absent_and_late_ones_wait_for_their_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module sees no optional package, and a stand-in of the late one that turns into the real one when used."""
    with lean_import.lean_imports():
        user = __import__(BOTH)
        assert not gc.isenabled()
    assert gc.isenabled()
    assert user.a is None
    assert not {f"{BOTH}_optional", f"{BOTH}_late"} & set(sys.modules)
    assert user.b.x == 2
    assert sys.modules[f"{BOTH}_late"].x == 2
    assert __import__(f"{BOTH}_optional").x == 1
    monkeypatch.delitem(sys.modules, f"{BOTH}_late")


def test_what_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that somebody imported before are neither hidden nor put off."""
    known = [__import__(f"{BOTH}_{kind}") for kind in ("optional", "late")]
    with lean_import.lean_imports():
        user = __import__(BOTH)
    assert [user.a, user.b] == known


def test_a_failing_import_restores_too() -> None:
    """An error inside the block leaves no stand-in behind."""
    with pytest.raises(ZeroDivisionError), lean_import.lean_imports():
        raise ZeroDivisionError
    assert f"{BOTH}_optional" not in sys.modules
    assert gc.isenabled()
