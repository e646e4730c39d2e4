import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.analyze_canary.judge import Judge, absolute_limit, answered
from components.analyze_canary.samples import METRIC_NAMES
from serving.contracts.canary_verdict import MetricState
from serving.contracts.observation import Outcome, Side
from serving.contracts.release_spec import CanaryMetric, CanaryPlan, Gates, QualityGate
from tests.fakes.canary_traffic import arrivals, label, observation

ERROR = {"name": "error", "kind": "rate", "margin": 0.05}
EXACT = {"name": "exact_match", "kind": "rate", "margin": 0.1}
TTFT = {"name": "ttft_ms", "kind": "quantile", "quantile": 0.5, "max_ratio": 1.5}
SIDES = (Side.BASELINE, Side.CANDIDATE)


def plan(*metrics: dict[str, object]) -> CanaryPlan:
    return CanaryPlan.model_validate(
        {"steps": [{"weight_percent": 50, "min_candidate_requests": 1}], "metrics": metrics or (ERROR, EXACT, TTFT)}
    )


def feed(
    judge: Judge, pairs: int, *, start: int = 0, swap: bool = False, candidate_right=lambda n: True, **changes
) -> Judge:
    """Feed pairs of requests; `changes` hold for the candidate, or for the baseline when swapped."""
    for number in range(start, start + 2 * pairs):
        side = SIDES[number % 2]
        changed = (side is Side.CANDIDATE) is not swap
        request = observation(number, side, **(changes if changed else {}))
        right = candidate_right(number) if changed else True
        known = label(request, exact_match=right) if request.outcome is Outcome.OK else None
        for arrival in arrivals(request, number // 2, known):
            judge.feed(arrival, 25)
    return judge


def states(judge: Judge) -> dict[str, MetricState]:
    return {one.metric.name: one.state for one in judge.state()}


def test_without_data_nothing_is_promoted_widened_or_harmed():
    """A judge that has seen nothing promotes, widens and blames nothing, and has no value for any metric."""
    judge = Judge(plan())
    assert not judge.may_promote
    assert not judge.may_widen(to_last=False)
    assert judge.harmed == []
    assert [one.candidate for one in judge.state()] == [None, None, None]


def test_equal_sides_are_promoted_once_every_required_metric_is_safe():
    """Equal sides are not promoted on 20 pairs, and are on 140, when every metric is safe."""
    judge = feed(Judge(plan()), 20)
    assert not judge.may_promote
    feed(judge, 120, start=40)
    assert judge.may_promote
    assert judge.may_widen(to_last=True)
    assert set(states(judge).values()) == {MetricState.SAFE}


def test_wrong_answers_are_harm_and_swapped_inputs_are_not():
    """Wrong answers of the candidate are harm to quality alone, and the baseline's make the candidate safe."""
    wrong = {"candidate_right": lambda number: number % 4 == 1}
    judge = feed(Judge(plan()), 100, **wrong)
    assert [metric.name for metric in judge.harmed] == ["exact_match"]
    assert not judge.may_promote
    swapped = feed(Judge(plan()), 100, swap=True, candidate_right=lambda number: number % 4 == 0)
    assert swapped.harmed == []
    assert states(swapped)["exact_match"] is MetricState.SAFE


def test_harm_stays_harm_after_the_candidate_recovers():
    """A metric that showed harm keeps it through 400 good pairs, and the candidate is not promoted."""
    judge = feed(Judge(plan()), 60, candidate_right=lambda number: False)
    feed(judge, 400, start=120)
    assert states(judge)["exact_match"] is MetricState.HARM
    assert not judge.may_promote


def test_a_request_without_an_answer_is_an_error_and_nothing_else():
    """Failed requests are harm by the error rate, and count for neither quality nor latency."""
    judge = feed(Judge(plan()), 60, outcome=Outcome.UPSTREAM_ERROR, status=502)
    evidence = {one.metric.name: one for one in judge.state()}
    assert evidence["error"].state is MetricState.HARM
    assert evidence["error"].candidate == 1
    assert evidence["exact_match"].n_candidate == 0
    assert evidence["ttft_ms"].n_candidate == 0


def test_answers_without_labels_never_make_quality_safe():
    """Four hundred answers without labels leave quality open, so nothing is promoted or widened."""
    judge = Judge(plan(EXACT))
    for number in range(400):
        for arrival in arrivals(observation(number, SIDES[number % 2])):
            judge.feed(arrival, 50)
    assert not judge.may_promote
    assert not judge.may_widen(to_last=False)
    assert states(judge)["exact_match"] is MetricState.OPEN


def test_latencies_count_only_for_streamed_answers():
    """An answer that was not streamed adds no time to first token to its side."""
    judge = feed(Judge(plan(TTFT)), 50, streamed=False)
    assert judge.state()[0].n_candidate == 0
    assert judge.state()[0].n_baseline == 50


def test_a_metric_that_is_not_required_can_stop_and_cannot_hold_back():
    """An optional metric without data does not delay a promotion, and with harm it prevents it."""
    tail = {**TTFT, "required": False}
    calm = feed(Judge(plan(ERROR, tail)), 90, streamed=False)
    assert calm.may_promote
    assert calm.may_widen(to_last=True)
    slow = feed(Judge(plan(ERROR, tail)), 90, ttft_ms=900.0)
    assert [metric.name for metric in slow.harmed] == ["ttft_ms"]
    assert not slow.may_promote


def test_the_error_of_stopping_is_split_over_the_metrics_and_that_of_promoting_is_not():
    """With three metrics the harm threshold is 3 over alpha, and the safe one stays at 1 over alpha."""
    evidence = Judge(plan()).state()
    assert {one.log10_harm_threshold for one in evidence} == {math.log10(3 / 0.05)}
    assert {one.log10_safe_threshold for one in evidence} == {math.log10(1 / 0.05)}


def test_a_candidate_whose_requests_go_missing_is_not_promoted_until_they_turn_up():
    """A promotion is withheld while the candidate lacks requests that the baseline has, and allowed afterwards."""
    judge = feed(Judge(plan(ERROR)), 90)
    assert judge.may_promote
    for number in range(1000, 1150):
        judge.feed(next(arrivals(observation(number, Side.BASELINE))), 50)
    assert not judge.may_promote
    for number in range(2000, 2150):
        judge.feed(next(arrivals(observation(number, Side.CANDIDATE))), 50)
    assert judge.may_promote


def test_more_users_do_not_meet_a_candidate_that_leans_to_harm():
    """Evidence that leans to harm, though it is not yet harm, keeps the weight from growing."""
    judge = feed(Judge(plan()), 12, candidate_right=lambda number: number % 6 == 1)
    assert judge.harmed == []
    assert not judge.may_widen(to_last=False)
    assert not judge.may_widen(to_last=True)


def test_the_last_step_needs_evidence_that_leans_to_safety():
    """Evidence that leans neither to harm nor to safety opens every step but the last; leaning to safety opens it."""
    judge = feed(Judge(plan(EXACT)), 10, candidate_right=lambda number: number > 2)
    assert judge.state()[0].log10_e_harm < 0
    assert judge.state()[0].log10_e_safe < 0
    assert judge.may_widen(to_last=False) is True
    assert judge.may_widen(to_last=True) is False
    feed(judge, 20, start=20)
    assert judge.state()[0].log10_e_safe > 0
    assert judge.may_widen(to_last=True) is True


@pytest.mark.parametrize(
    ("metric", "limit"),
    [(ERROR, 0.05), (EXACT, 0.35), (TTFT, None), ({**ERROR, "margin": 0.0}, None), ({**ERROR, "margin": 1.0}, None)],
)
def test_a_first_release_is_held_to_absolute_limits(metric, limit):
    """A rate's limit comes from its margin and the quality gate; a metric without a usable limit has none."""
    gates = Gates(quality=QualityGate(min_exact_match=0.75))
    assert absolute_limit(CanaryMetric.model_validate(metric), gates) == (limit and pytest.approx(limit))
    assert absolute_limit(CanaryMetric.model_validate(EXACT), Gates()) is None


def test_a_first_release_is_judged_without_a_baseline():
    """A good first release is promoted on its rates alone, with latency left unjudged, and a bad one is not."""
    gates = Gates(quality=QualityGate(min_exact_match=0.75))
    good, bad = Judge(plan(), first_release=gates), Judge(plan(), first_release=gates)
    for number in range(100):
        request = observation(number)
        for arrival in arrivals(request, number, label(request)):
            good.feed(arrival, 100)
        for arrival in arrivals(request, number, label(request, exact_match=number % 2 == 0)):
            bad.feed(arrival, 100)
    assert good.may_promote
    assert {one.metric.name: one.judged for one in good.state()} == {
        "error": True,
        "exact_match": True,
        "ttft_ms": False,
    }
    assert not bad.may_promote


def test_the_trail_says_how_evidence_grew_and_stays_short():
    """Each trail holds 100 to 200 points in order, and its last one is the evidence that is reported."""
    judge = feed(Judge(plan()), 500)
    for one in judge.state():
        numbers = [point.candidate_requests for point in one.trail]
        assert 100 <= len(numbers) <= 200
        assert numbers == sorted(numbers)
        assert one.trail[-1].log10_e_safe == one.log10_e_safe


def test_only_a_candidates_answer_counts_for_a_step():
    """A step counts the first arrival of a candidate's answer, and no failure, label or baseline request."""
    failed = next(arrivals(observation(1, outcome=Outcome.UPSTREAM_ERROR)))
    request = observation(2)
    first, second = arrivals(request, 1, label(request))
    baseline = next(arrivals(observation(3, Side.BASELINE)))
    assert [answered(one) for one in (failed, first, second, baseline)] == [False, True, False, False]


def test_every_metric_of_the_contract_has_a_value():
    """The metrics that can be measured are exactly those that the contract lets a plan name."""
    names = CanaryMetric.model_fields["name"].annotation.__args__
    assert set(names) == METRIC_NAMES


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 1e6)), max_size=30), st.integers(0, 30))
def test_evidence_depends_on_the_sequence_alone(requests, cut):
    """Fed in two halves by two loops, or at once, the state is the same; it never claims harm and safety at once."""
    one, other = Judge(plan()), Judge(plan())
    made = [observation(n, SIDES[side], ttft_ms=latency) for n, (side, _, latency) in enumerate(requests)]
    labelled = [list(arrivals(r, 1, label(r, exact_match=ok))) for r, (_, ok, _) in zip(made, requests, strict=True)]
    for part in labelled:
        for arrival in part:
            one.feed(arrival, 5)
    for half in (labelled[:cut], labelled[cut:]):
        for part in half:
            for arrival in part:
                other.feed(arrival, 5)
    assert one.state() == other.state()
    for evidence in one.state():
        assert min(evidence.log10_e_harm, evidence.log10_e_safe) <= evidence.log10_safe_threshold


def test_a_judge_without_a_required_metric_never_promotes():
    """A plan whose only metric is optional never promotes, however good the data."""
    assert not feed(Judge(plan({**ERROR, "required": False})), 120).may_promote
