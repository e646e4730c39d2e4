import pytest

from components.analyze_canary.answers import check_answer

KNOWN = "The gold card costs 30 EUR a year."


@pytest.mark.parametrize(
    ("answer", "exact", "format_failure", "refusal"),
    [
        (KNOWN, True, False, False),
        (f"  {KNOWN}\n", True, False, False),
        ("The gold card costs 40 EUR a year.", False, False, False),
        (KNOWN.lower(), False, False, False),
        ("", False, True, False),
        ("   \n", False, True, False),
        ("The gold card costs 30 EUR", False, True, False),
        (f"{KNOWN}\n{KNOWN}", False, True, False),
        (f"{KNOWN}<|end|>.", False, True, False),
        ("word " * 100 + ".", False, True, False),
        ("caf\ufffd.", False, True, False),
        ("I\u2019m sorry, but I cannot help with that.", False, False, True),
    ],
)
def test_answers_are_checked(answer, exact, format_failure, refusal):
    """An answer is exact, malformed, a refusal or none of them, whatever white space stands around it."""
    check = check_answer(answer, KNOWN)
    assert (check.exact_match, check.format_failure, check.refusal) == (exact, format_failure, refusal)


def test_an_answer_ends_like_a_sentence_only_where_the_known_one_does():
    """A missing full stop is a format failure only when the known answer has one."""
    assert not check_answer("42", "42").format_failure
    assert check_answer("42", "42.").format_failure
