"""Logs: bounded, kept for a while, and quoted in messages."""

from __future__ import annotations

from pathlib import Path

from serving.local import log_files


def test_fresh_start_keeps_three(tmp_path: Path) -> None:
    """Each run has its own file; the fourth last is gone."""
    path = tmp_path / "a" / "x.log"
    for run in range(6):
        log_files.start_fresh(path)
        path.write_text(f"run {run}\n")
    log_files.start_fresh(path)
    found = {file.name: file.read_text() for file in path.parent.iterdir()}
    assert found == {"x.log.1": "run 5\n", "x.log.2": "run 4\n", "x.log.3": "run 3\n"}


def test_empty_log_is_not_kept(tmp_path: Path) -> None:
    """A process that said nothing pushes nothing out."""
    (tmp_path / "x.log").write_text("")
    log_files.start_fresh(tmp_path / "x.log")
    assert [file.name for file in tmp_path.iterdir()] == ["x.log"]


def test_long_log_is_cut_in_place(tmp_path: Path) -> None:
    """A writer that holds the file open goes on at its start."""
    path = tmp_path / "x.log"
    with path.open("a") as writer:
        writer.write("x" * 200)
        writer.flush()
        (tmp_path / "short.log").write_text("y")
        log_files.bound_size(tmp_path, max_bytes=100)
        writer.write("new\n")
    assert path.read_text() == "new\n"
    assert (tmp_path / "x.log.1").read_text() == "x" * 200
    assert (tmp_path / "short.log").read_text() == "y"


def test_tail(tmp_path: Path) -> None:
    """The last lines that say something, whatever bytes there are; none of a missing file."""
    path = tmp_path / "x.log"
    assert log_files.tail(path) == ()
    path.write_bytes(b"a\n\nb\xff \n" + b"c\n" * 3)
    assert log_files.tail(path, lines=4) == ("b\ufffd", "c", "c", "c")
    path.write_text("x" * 100_000 + "\nlast\n")
    assert log_files.tail(path)[-1] == "last"
    assert str(path) in log_files.with_tail("died", path)
    assert "nothing was logged" in log_files.with_tail("died", tmp_path / "none.log")
