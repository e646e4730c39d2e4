from components.conclude_release.evidence import summarise
from serving.contracts.canary_verdict import Decision
from tests.fakes.releases import make_release, make_verdict


def test_evidence_is_one_line_with_both_sides_and_the_digest() -> None:
    """An auditor reads counts, each metric with candidate before baseline, and what to compare the document with."""
    text = summarise(make_verdict(make_release(), Decision.PROMOTE))
    assert "\n" not in text
    assert "110 candidate and 100 baseline requests" in text
    assert "error safe (no data vs 0.01, log10 e harm -1.00 safe 2.00)" in text
    assert "verdict sha256:" in text


def test_evidence_changes_with_the_verdict() -> None:
    """Two verdicts never share a digest."""
    one = make_verdict(make_release(), Decision.PROMOTE, reason="a")
    other = make_verdict(make_release(), Decision.PROMOTE, reason="b")
    assert summarise(one) != summarise(other)
