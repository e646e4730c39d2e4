"""Secrets of a home: made once, for its user alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.local.home_secrets import ensure_secret


def test_a_secret_is_long_and_private(tmp_path: Path) -> None:
    """File and folder are readable by their user alone, and nothing else is left in the folder."""
    path = ensure_secret(tmp_path / "secrets" / "pepper")
    assert len(bytes.fromhex(path.read_text().strip())) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    """Another pepper would end every key, so what is there stays, whatever it is."""
    path = tmp_path / "pepper"
    path.write_text("mine\n")
    assert ensure_secret(path).read_text() == "mine\n"


def test_all_who_make_a_secret_at_once_get_the_same(tmp_path: Path) -> None:
    """Whoever read it first must not see it replaced."""
    path = tmp_path / "pepper"
    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: ensure_secret(path).read_text(), range(16)))
    assert seen == {path.read_text()}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A file in the folder's place is told, not worked around."""
    (tmp_path / "secrets").write_text("")
    with pytest.raises(OSError, match="secrets"):
        ensure_secret(tmp_path / "secrets" / "pepper")
