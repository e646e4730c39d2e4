"""How a release's end is read from its record."""

from pathlib import Path

import pytest

from nexus.outcome import EXIT_CODES, ReleaseResult, read_outcome
from serving.contracts.conclusion import Conclusion
from serving.contracts.conclusion import ReleaseOutcome as Ending
from serving.contracts.data_contract import BrokenRule, DataReport, Split
from serving.contracts.progress import EventKind
from serving.record import ReleaseRecord

DIGEST = "sha256:" + "0" * 64


def outcome(record: ReleaseRecord, exit_code: int = 0):
    return read_outcome(record, release_id="m-0123456789ab", name="m", seconds=1.0, exit_code=exit_code)


def conclude(record: ReleaseRecord, ending: Ending) -> None:
    record.publish(
        "conclusion",
        Conclusion(
            release_id="m-0123456789ab",
            model="m",
            outcome=ending,
            reason="because",
            commit="c" * 40,
            evidence="e",
            registry_version="1",
            stable_service=None,
        ),
    )


@pytest.mark.parametrize(
    ("ending", "result", "code"),
    [
        (Ending.PROMOTED, ReleaseResult.PROMOTED, 0),
        (Ending.ROLLED_BACK, ReleaseResult.ROLLED_BACK, 3),
        (Ending.REJECTED, ReleaseResult.REJECTED, 3),
        (Ending.HELD, ReleaseResult.INCONCLUSIVE, 4),
    ],
)
def test_each_ending_has_its_result_and_exit_code(tmp_path: Path, ending, result, code) -> None:
    """The conclusion decides about result and exit code."""
    record = ReleaseRecord(tmp_path)
    conclude(record, ending)
    got = outcome(record)
    assert (got.result, EXIT_CODES[got.result], got.reason) == (result, code, "because")


def test_a_conclusion_does_not_hide_a_failed_run(tmp_path: Path) -> None:
    """A pipeline that exits with an error has failed, whatever an earlier run concluded."""
    record = ReleaseRecord(tmp_path)
    conclude(record, Ending.PROMOTED)
    assert outcome(record, exit_code=1).result is ReleaseResult.FAILED


def test_broken_data_rejects_even_though_the_pipeline_failed(tmp_path: Path) -> None:
    """Broken data is a verdict on the data, not a failure of the pipeline; every rule and example row is named."""
    record = ReleaseRecord(tmp_path)
    rules = tuple(
        BrokenRule(
            split=Split.TRAIN, rule=f"rule-{n}", expected="0", found="3", example_rows=(f"train.jsonl:{n}: bad",)
        )
        for n in range(9)
    )
    record.publish(
        "data",
        DataReport(
            contract="c",
            contract_version="1.0.0",
            data_digest=DIGEST,
            rows={Split.TRAIN: 3},
            rules_checked=1,
            broken=rules,
            seconds=1,
        ),
    )
    got = outcome(record, exit_code=1)
    assert got.result is ReleaseResult.REJECTED
    assert "the data breaks 9 rule(s)" in got.reason
    for n in range(9):
        assert f"train/rule-{n}: expected 0; found 3\n    train.jsonl:{n}: bad" in got.reason


def test_a_failed_step_is_named_with_its_message(tmp_path: Path) -> None:
    """A pipeline that broke tells which step said what."""
    record = ReleaseRecord(tmp_path)
    record.emit("train_model", EventKind.FAILED, "OSError: no space left")
    got = outcome(record, exit_code=1)
    assert got.result is ReleaseResult.FAILED
    assert "train_model failed: OSError: no space left" in got.reason


def test_an_earlier_runs_failure_is_not_this_ones(tmp_path: Path) -> None:
    """A run that broke without a word does not quote what an earlier run said."""
    record = ReleaseRecord(tmp_path)
    record.emit("train_model", EventKind.FAILED, "OSError: no space left")
    got = read_outcome(record, release_id="m-0123456789ab", name="m", seconds=1.0, exit_code=1, since=1)
    assert "no space left" not in got.reason


def test_a_clean_exit_without_a_conclusion_is_a_failure(tmp_path: Path) -> None:
    """Success is never assumed: no conclusion, no promotion."""
    assert outcome(ReleaseRecord(tmp_path)).result is ReleaseResult.FAILED


def test_every_result_has_an_exit_code() -> None:
    """No result ends without an exit code."""
    assert set(EXIT_CODES) == set(ReleaseResult)
