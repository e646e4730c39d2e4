import pytest

from components.analyze_canary import spool as module
from components.analyze_canary.spool import SpoolTail


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def test_lines_are_read_once_as_files_grow_and_appear(folder):
    """Every line is returned once, from files that grow and from files that appear later."""
    tail = SpoolTail(folder, "*.jsonl*")
    assert tail.read() == []
    append(folder / "a.jsonl", '{"n":1}\n{"n":2}\n')
    assert tail.read() == [b'{"n":1}', b'{"n":2}']
    append(folder / "b.jsonl", '{"n":3}\n')
    append(folder / "a.jsonl", '{"n":4}\n')
    assert tail.read() == [b'{"n":4}', b'{"n":3}']
    assert tail.read() == []


def test_rotation_by_renaming_loses_and_repeats_nothing(folder):
    """After a rotation the rest of the renamed file and the whole new one are read, each line once."""
    tail = SpoolTail(folder, "*.jsonl*")
    append(folder / "a.jsonl", '{"n":1}\n')
    tail.read()
    append(folder / "a.jsonl", '{"n":2}\n')
    (folder / "a.jsonl").rename(folder / "a.jsonl.1")
    append(folder / "a.jsonl", '{"n":3}\n')
    assert sorted(tail.read()) == [b'{"n":2}', b'{"n":3}']


def test_a_file_that_was_replaced_by_a_shorter_one_is_read_from_its_start(folder):
    """A file that is shorter than what was read of it is read again from its start."""
    tail = SpoolTail(folder, "*.jsonl")
    append(folder / "a.jsonl", '{"n":1}\n{"n":2}\n')
    tail.read()
    (folder / "a.jsonl").write_text('{"n":9}\n')
    assert tail.read() == [b'{"n":9}']


def test_empty_lines_are_nothing_and_other_text_is_broken(folder):
    """Empty lines pass silently, and lines that are no JSON object are left out and counted."""
    tail = SpoolTail(folder, "*.jsonl")
    append(folder / "a.jsonl", '\n[1]\ntext\n{"n":1\n{"n":1}\n')
    assert tail.read() == [b'{"n":1}']
    assert tail.broken_lines == 3


def test_lines_of_others_are_skipped(folder):
    """Lines without the wanted text are left out, and do not count as broken."""
    tail = SpoolTail(folder, "*.jsonl")
    append(folder / "a.jsonl", '{"r":"mine"}\n{"r":"other"}\n')
    assert tail.read(containing=b"mine") == [b'{"r":"mine"}']
    assert tail.broken_lines == 0


def test_files_longer_than_a_chunk_and_lines_longer_than_one_are_got_over(folder, monkeypatch):
    """A file of several chunks is read whole; only a line longer than a chunk is lost, and counted."""
    monkeypatch.setattr(module, "_CHUNK_BYTES", 16)
    tail = SpoolTail(folder, "*.jsonl")
    append(folder / "a.jsonl", '{"n":1}\n' * 5 + '{"' + "x" * 40 + '"}\n' + '{"n":2}\n')
    assert tail.read() == [b'{"n":1}'] * 5 + [b'{"n":2}']
    assert tail.broken_lines >= 1


def test_a_file_that_cannot_be_read_is_an_error(folder):
    """What cannot be read raises its OSError, and is not passed over."""
    (folder / "a.jsonl").mkdir()
    with pytest.raises(OSError, match="directory"):
        SpoolTail(folder, "*.jsonl").read()
