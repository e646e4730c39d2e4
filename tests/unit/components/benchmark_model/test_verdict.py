"""The winner rule, and the sentence that tells each other candidate why it lost."""

from __future__ import annotations

import pytest

from components.benchmark_model.measurements import Measurements, ModelMeasurement, RowOutcome
from components.benchmark_model.verdict import judge
from serving.contracts.benchmark_report import BenchmarkReport, SpeedLevel
from serving.contracts.quantization_report import Candidate, CandidateStatus
from serving.contracts.release_spec import Gates, QualityGate, QuantizeMethod, SpeedGate

GATES = Gates(
    quality=QualityGate(min_exact_match=0.5, max_exact_match_loss=0.05, max_perplexity_ratio=1.2),
    speed=SpeedGate(min_throughput_ratio=0.5),
)


def level(rate: float) -> SpeedLevel:
    times = dict.fromkeys(("ttft_p50_ms", "ttft_p90_ms", "itl_p50_ms", "itl_p90_ms", "e2e_p50_ms", "e2e_p90_ms"), 1.0)
    return SpeedLevel(concurrency=16, requests=32, errors=0, output_tokens_per_second=rate, **times)


def model(name: str, rate: float = 1000, *, wrong: int = 10, logprob: float = -1.0) -> ModelMeasurement:
    rows = tuple(RowOutcome(exact=row >= wrong, answer_logprob=logprob, answer_tokens=5) for row in range(200))
    return ModelMeasurement(name=name, ready_seconds=1.0, rows=rows, speed=(level(rate),))


def unserved(name: str) -> ModelMeasurement:
    return ModelMeasurement(name=name, unserved="the engine died\n  log line\nRuntimeError: no kernel")


def recipe(name: str, *, required: bool = False, built: bool = True, size: int = 100) -> Candidate:
    return Candidate(
        name=name,
        method=QuantizeMethod.NONE,
        required=required,
        status=CandidateStatus.BUILT if built else CandidateStatus.FAILED,
        reason=None if built else "out of memory",
        seconds=1,
        size_bytes=size if built else None,
        tool="none",
    )


def report(
    *models: ModelMeasurement,
    stable: ModelMeasurement | None = None,
    recipes: tuple[Candidate, ...] = (),
    unquantized: str | None = None,
    gates: Gates = GATES,
) -> BenchmarkReport:
    measured = Measurements(
        candidates=models, stable=stable, unquantized=unquantized, machine="test", measured_at=1.0, seconds=2.0
    )
    return judge(measured, gates, recipes or tuple(recipe(one.name) for one in models))


def reasons(found: BenchmarkReport) -> dict[str, str | None]:
    return {one.name: one.why_not_chosen for one in found.candidates}


def test_fastest_passing_candidate_wins() -> None:
    """The most tokens/s win, whatever the order of the spec; the others are told by how much."""
    found = report(model("slow", 500), model("fast", 1000), stable=model("stable", 800))
    assert (found.passed, found.winner) == (True, "fast")
    assert reasons(found) == {
        "fast": None,
        "slow": "passes, but fast is faster: 1,000 tokens/s at 16 concurrent, 100 B "
        "against 500 tokens/s at 16 concurrent, 100 B",
    }


@pytest.mark.parametrize(("rate", "winner"), [(1000, "small"), (901, "small"), (899, "big")])
def test_equal_speed_is_decided_by_size(rate: float, winner: str) -> None:
    """Within ten percent of the fastest, the smaller weights win."""
    recipes = (recipe("big", size=200), recipe("small", size=100))
    found = report(model("big", 1000), model("small", rate), stable=model("stable"), recipes=recipes)
    assert found.winner == winner


def test_same_speed_and_size_are_decided_by_speed() -> None:
    """The last tie goes to the faster one."""
    assert report(model("a", 990), model("b", 1000), stable=model("stable")).winner == "b"


def test_a_fast_candidate_that_fails_a_gate_does_not_win() -> None:
    """Quality lost beyond the margin names its gate."""
    found = report(model("good", 900), model("broken", 5000, wrong=60), stable=model("stable"))
    assert found.winner == "good"
    assert str(reasons(found)["broken"]).startswith("max_exact_match_loss: -25.0 points against stable")


def test_verdict_changes_when_candidate_and_stable_are_swapped() -> None:
    """The worse model cannot replace the better one; the better one can replace the worse."""
    assert not report(model("new", wrong=60), stable=model("stable", wrong=10)).passed
    assert report(model("new", wrong=10), stable=model("stable", wrong=60)).passed


def test_no_candidate_passes() -> None:
    """A release without a winner has failed, and every candidate is told why."""
    found = report(model("a", wrong=190), model("b", wrong=180), stable=model("stable"))
    assert (found.passed, found.winner) == (False, None)
    assert found.reason == "none of 2 candidates passes every gate"
    assert all(reasons(found).values())


def test_first_release_is_judged_by_absolute_gates() -> None:
    """Without a stable model nothing is compared with it, and perplexity with the unquantized weights."""
    found = report(model("bf16"), model("small", logprob=-1.5), unquantized="bf16")
    by_name = {one.name: one for one in found.candidates}
    assert found.stable is None
    assert [gate.gate for gate in by_name["bf16"].gates] == ["min_exact_match", "max_request_errors"]
    assert [gate.gate for gate in by_name["small"].gates if not gate.passed] == []
    quality = by_name["small"].quality
    assert quality is not None
    assert quality.exact_match_loss is None
    assert quality.perplexity_ratio is not None
    assert quality.perplexity_ratio.value == pytest.approx(2.718281828**0.1, rel=1e-6)


def test_an_unserved_candidate_loses_with_the_logs_last_line() -> None:
    """An optional recipe that this machine cannot serve leaves the others their chance."""
    found = report(unserved("w4a16"), model("w8a8"), stable=model("stable"))
    assert found.winner == "w8a8"
    assert reasons(found)["w4a16"] == "cannot be served: the engine died [RuntimeError: no kernel]"


def test_an_unserved_required_candidate_fails_the_release() -> None:
    """Although another one passes."""
    recipes = (recipe("w8a8", required=True), recipe("fp8"))
    found = report(unserved("w8a8"), model("fp8"), stable=model("stable"), recipes=recipes)
    assert (found.passed, found.winner) == (False, None)
    assert found.reason.startswith("the spec requires w8a8, which cannot be served: the engine died")
    assert reasons(found)["fp8"] == "passes, but the release needs w8a8 as well"


def test_a_recipe_that_was_not_built_is_in_the_table() -> None:
    """Its reason is the quantizer's."""
    found = report(
        model("fp8"), stable=model("stable"), recipes=(recipe("awq", built=False), recipe("fp8")), unquantized=None
    )
    assert found.winner == "fp8"
    assert reasons(found)["awq"] == "cannot be served: was not built: out of memory"


def test_nothing_was_built() -> None:
    """A release without any weights has failed; nothing is divided by nothing."""
    found = report(recipes=(recipe("awq", built=False),))
    assert (found.passed, found.winner) == (False, None)


def test_rows_that_do_not_fit_are_wrong_and_left_out_of_perplexity() -> None:
    """Both sides of the ratio use the rows that both have."""
    unfit = RowOutcome(exact=False, answer_logprob=None, answer_tokens=900)
    candidate = model("new").model_copy(update={"rows": (unfit, *model("new").rows[1:])})
    quality = report(candidate, stable=model("stable")).candidates[0].quality
    assert quality is not None
    assert (quality.exact_match.n, quality.perplexity.n) == (200, 199)
    assert quality.perplexity_ratio is not None
    assert quality.perplexity_ratio.n == 199
