"""A step's result is found again by its inputs and our code, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.step_cache import StepCache

CODE = ("serving/step_cache.py",)


def _write(text: str):  # type: ignore[no-untyped-def]
    return lambda folder: (folder / "result").write_text(text)


def test_a_result_is_built_once_for_the_same_inputs(tmp_path: Path) -> None:
    """The second run with equal inputs copies the first one's result; other inputs are built."""
    cache, output = StepCache(tmp_path / "cache"), tmp_path / "output"
    assert not cache.run("step", {"a": 1, "b": 2}, CODE, output, _write("first"))
    assert cache.run("step", {"b": 2, "a": 1}, CODE, output, _write("second"))
    assert (output / "result").read_text() == "first"
    assert not cache.run("step", {"a": 2}, CODE, output, _write("third"))
    assert (output / "result").read_text() == "third"


def test_other_code_is_another_result(tmp_path: Path) -> None:
    """The same inputs under other code are built again."""
    cache, output = StepCache(tmp_path / "cache"), tmp_path / "output"
    cache.run("step", {}, CODE, output, _write("first"))
    assert not cache.run("step", {}, ("serving/files.py",), output, _write("second"))
    with pytest.raises(FileNotFoundError, match=r"expected code at 'serving/none\.py'"):
        cache.run("step", {}, ("serving/none.py",), output, _write("third"))


def test_what_is_not_there_is_not_fetched_and_leaves_the_output(tmp_path: Path) -> None:
    """Fetching tells whether the cache has a result, and changes the output only when it has."""
    cache, output = StepCache(tmp_path / "cache"), tmp_path / "output"
    output.mkdir()
    (output / "old").touch()
    assert not cache.fetch("step", {}, CODE, output)
    assert (output / "old").exists()
    cache.store("step", {}, CODE, _write("first"))
    cache.store("step", {}, CODE, _write("late"))
    assert cache.fetch("step", {}, CODE, output)
    assert [path.name for path in output.iterdir()] == ["result"]
    assert (output / "result").read_text() == "first"


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An error while building propagates, and neither the cache nor the output holds a part of the result."""

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError

    cache = StepCache(tmp_path / "cache")
    with pytest.raises(RuntimeError):
        cache.run("step", {}, CODE, tmp_path / "output", fail)
    assert not (tmp_path / "output").exists()
    assert list((tmp_path / "cache" / "step").iterdir()) == []
