import pytest

from serving.wording import REASON_CHARACTERS, list_within, shorten


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("a\n  b", "a b"),
        ("x" * REASON_CHARACTERS, "x" * REASON_CHARACTERS),
        ("x" * (REASON_CHARACTERS + 1), "x" * (REASON_CHARACTERS - 1) + "…"),
    ],
)
def test_text_becomes_one_bounded_line(text: str, line: str) -> None:
    """White space is folded; only what is too long is cut, and shows it."""
    assert shorten(text) == line


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ([], "head: "),
        (["a"], "head: a"),
        (["a" * 10, "b" * 10], f"head: {'a' * 10}; {'b' * 10}"),
        (["a" * 10, "b" * 10, "c"], f"head: {'a' * 10}; 2 more"),
        (["a" * 40, "b"], f"head: {'a' * 23}…"),
    ],
)
def test_parts_are_listed_whole_as_far_as_they_fit(parts: list[str], line: str) -> None:
    """What has no room is counted; a first part that is too long by itself is cut."""
    assert list_within("head: ", parts, 30).strip() == line.strip()
    assert len(list_within("head: ", parts, 30)) <= 30
