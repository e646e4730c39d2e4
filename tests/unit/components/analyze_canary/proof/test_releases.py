from pathlib import Path

import numpy as np
import pytest

from components.analyze_canary.proof.releases import ACTS, play, table
from serving.contracts.canary_verdict import Decision
from serving.contracts.load import load_document
from serving.contracts.release_spec import CanaryPlan, CanaryStep, ReleaseSpec

SPEC = Path(__file__).parents[5] / "manifests/models/support-assistant/base.yaml"


@pytest.fixture(scope="module")
def plan() -> CanaryPlan:
    return load_document(SPEC, ReleaseSpec).spec.canary


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_every_act_ends_in_its_right_verdict_by_the_shipped_plan(plan, act):
    """Each act of the demo ends in its verdict, and only a promoted candidate reaches 50 %."""
    played = play(plan, act, np.random.default_rng(1))
    assert played.decision is act.right
    assert played.max_weight_percent == 50 or act.right is Decision.ROLL_BACK
    assert played.max_weight_percent < 50 or act.right is Decision.PROMOTE


def test_too_little_time_is_undecided(plan):
    """A canary of five seconds is inconclusive, though its candidate is good."""
    hurried = plan.model_copy(update={"max_seconds": 5.0})
    assert play(hurried, ACTS[0], np.random.default_rng(1)).decision is Decision.INCONCLUSIVE


def test_the_table_has_a_row_for_every_act(plan):
    """The table has a header, a rule and one row an act, all with the same number of columns."""
    quick = plan.model_copy(
        update={"max_seconds": 2.0, "steps": (CanaryStep(weight_percent=50, min_candidate_requests=1),)}
    )
    rows = table(quick, runs=1, seed=1)
    assert len(rows) == len(ACTS) + 2
    assert {row.count("|") for row in rows} == {8}
