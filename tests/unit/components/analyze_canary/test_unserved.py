"""The verdict on a candidate whose engine never answered."""

import pytest

from components.analyze_canary.logic import analyze
from components.analyze_canary.unserved import unserved_verdict
from components.conclude_release.evidence import summarise
from serving.contracts.canary_verdict import CanaryVerdict, Decision
from serving.contracts.registration import Deployment
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.releases import MODEL, make_release

RELEASE = make_release(1)
WORDS = ("loading weights", "  ValueError: head size 17 is not supported")


def deployment(**changes) -> Deployment:
    fields = {
        "model": MODEL,
        "release_id": RELEASE.release_id,
        "candidate_service": "candidate",
        "stable_service": "stable",
        "baseline_service": "stable-b1",
        "commit": "c" * 40,
        "ready_seconds": 7,
        "failure": "the engine exited with code 1 before it answered",
        "last_words": WORDS,
    }
    return Deployment(**{**fields, **changes})


def test_it_is_rolled_back_for_the_true_reason_before_any_user_came(tmp_path) -> None:
    """No route is shifted and no traffic starts; reason and evidence give exit code and last words."""

    def shift(weight: int) -> str:
        raise AssertionError(f"shifted to {weight}")

    record = ReleaseRecord(tmp_path / "record")
    verdict = analyze(
        RELEASE,
        deployment(),
        settings=NexusSettings(home=tmp_path),
        record=record,
        shift=shift,
        data=tmp_path / "none",
        gateway_url="http://127.0.0.1:1",
    )
    assert verdict.decision is Decision.ROLL_BACK
    assert verdict.reason == (
        "never served: the engine exited with code 1 before it answered: ValueError: head size 17 is not supported"
    )
    assert (verdict.users_total, verdict.max_weight_percent, verdict.steps) == (0, 0, ())
    assert verdict.notes == tuple(f"engine: {line}" for line in WORDS)
    assert record.read("verdict", CanaryVerdict) == verdict
    assert verdict.reason in summarise(verdict)


@pytest.mark.parametrize(("stable", "first"), [("stable", False), (None, True)])
def test_a_first_release_can_fail_to_be_served_too(stable: str | None, first: bool) -> None:
    """It is said whether users had a stable version to go on with; without last words the reason stands alone."""
    failed = deployment(stable_service=stable, last_words=())
    verdict = unserved_verdict(RELEASE, failed, "expected an answer within 60 s")
    assert verdict.first_release is first
    assert verdict.reason == "never served: expected an answer within 60 s"
