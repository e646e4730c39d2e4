from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.telemetry.user_hash import KEY_FILE, UserHasher, UserHashKeyError, load_key


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    """The key has 32 bytes and mode 0600, is the same the next time, and leaves no other file."""
    folder = tmp_path / "spool"
    key = load_key(folder)
    assert load_key(folder) == key
    assert len(key) == 32
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def test_workers_that_start_together_agree_on_a_key(tmp_path: Path) -> None:
    """Sixteen loads from eight threads at once return one key."""
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(load_key, [tmp_path] * 16))) == 1


def test_installations_hash_differently(tmp_path: Path) -> None:
    """One key gives a user one hash that does not hold the name; another key gives another hash."""
    first, second = (UserHasher(load_key(tmp_path / name)) for name in "ab")
    assert first(b"alice") == first(b"alice") != first(b"bob")
    assert first(b"alice") != second(b"alice")
    assert "alice" not in first(b"alice")


def test_what_is_remembered_is_bounded() -> None:
    """However many users there are and however long their names, few are remembered, and hashes stay the same."""
    hasher, users = UserHasher(b"k" * 32, size=3), [b"%d" % number for number in range(8)] + [b"x" * 10_000]
    assert [hasher(user) for user in users] == [hasher(user) for user in users]
    assert len(hasher._known) <= 3
    assert users[-1] not in hasher._known


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"x" * 32, 0o644), (b"", 0o600)])
def test_a_key_that_is_broken_or_readable_by_others_is_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    """A short, empty or world-readable key is refused, and the message asks for mode 0600."""
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(UserHashKeyError, match="mode 0600"):
        load_key(tmp_path)
