import pytest

from components.analyze_canary.logic import CanaryPlanError, analyze
from components.analyze_canary.step_log import Clock
from serving.contracts.canary_verdict import CanaryVerdict, Decision, MetricState
from serving.contracts.observation import Outcome, Side
from serving.contracts.registration import Deployment
from serving.contracts.release_spec import ReleaseBody
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from serving.wording import REASON_CHARACTERS
from tests.fakes.canary_traffic import RELEASE_ID, START, FakeSpool, label, observation
from tests.fakes.releases import make_release

STEPS = ((5, 3), (25, 10), (50, 20))
METRICS = (
    {"name": "error", "kind": "rate", "margin": 0.1},
    {"name": "exact_match", "kind": "rate", "margin": 0.2},
)


class Killed(BaseException):
    """Stands for `kill -9`: no handler of ours may catch it."""


class World:
    """Time that passes only while the analysis sleeps, and traffic that comes meanwhile."""

    def __init__(self, tmp_path, *, right=lambda number: True, outcome=Outcome.OK, first=False, silent=False):
        self.settings = NexusSettings(home=tmp_path)
        self.record = ReleaseRecord(tmp_path / "record")
        self.spool = FakeSpool(self.settings.spool_dir)
        self.now = START
        self.weight = 0
        self.shifts = []
        self.numbers = 0
        self.right, self.outcome, self.first, self.silent = right, outcome, first, silent
        self.kill_at = None

    def shift(self, weight: int) -> str:
        self.weight = weight
        self.shifts.append(weight)
        return f"commit-{weight}"

    def sleep(self, seconds: float) -> None:
        """Write 4 requests a side, whatever the weight; the candidate's are the judged ones."""
        if self.kill_at is not None and self.numbers >= self.kill_at:
            raise Killed
        for _ in range(8):
            if not self.silent:
                self.request(Side.CANDIDATE if self.first or self.numbers % 2 else Side.BASELINE)
            self.numbers += 1
        self.now += seconds

    def request(self, side: Side) -> None:
        candidate = side is Side.CANDIDATE
        outcome = self.outcome if candidate else Outcome.OK
        one = observation(self.numbers, side, ts=self.now, outcome=outcome)
        right = self.right(self.numbers) if candidate else True
        self.spool.write(one, label(one, exact_match=right) if outcome is Outcome.OK else None)

    def deployment(self) -> Deployment:
        return Deployment(
            model="support-assistant",
            release_id=RELEASE_ID,
            candidate_service="candidate",
            stable_service=None if self.first else "stable",
            baseline_service=None if self.first else "baseline",
            commit="c" * 40,
            ready_seconds=1,
        )

    def release(self, metrics=METRICS, steps=STEPS, max_seconds=60.0):
        made = make_release(1)
        body = made.spec.model_dump(mode="json")
        body["gates"]["quality"]["min_exact_match"] = 0.75
        body["canary"] = {
            "steps": [{"weight_percent": weight, "min_candidate_requests": count} for weight, count in steps],
            "metrics": list(metrics),
            "max_seconds": max_seconds,
        }
        return made.model_copy(update={"spec": ReleaseBody.model_validate(body), "release_id": RELEASE_ID})

    def analyze(self, **changes) -> CanaryVerdict:
        arguments = {
            "settings": self.settings,
            "record": self.record,
            "shift": self.shift,
            "data": self.settings.home,
            "gateway_url": "http://127.0.0.1:1",
            "clock": Clock(now=lambda: self.now, sleep=self.sleep),
        }
        deployment = changes.pop("deployment", self.deployment())
        release = changes.pop("release", None) or self.release()
        return analyze(release, deployment, **{**arguments, **changes})


def test_a_good_candidate_takes_every_step_and_is_promoted(tmp_path):
    """A good candidate goes through 5, 25 and 50 % with a commit each, and its recorded verdict says why."""
    world = World(tmp_path)
    verdict = world.analyze()
    assert verdict.decision is Decision.PROMOTE
    assert world.shifts == [5, 25, 50]
    assert [step.commit for step in verdict.steps] == ["commit-5", "commit-25", "commit-50"]
    assert verdict.max_weight_percent == 50
    assert verdict.users_on_candidate == verdict.candidate_requests
    assert "error" in verdict.reason
    assert "exact_match" in verdict.reason
    assert world.record.read("verdict", CanaryVerdict) == verdict


def test_a_harmful_candidate_is_rolled_back_before_the_last_step(tmp_path):
    """A candidate with wrong answers is rolled back below 50 %, on the one metric that shows harm."""
    verdict = World(tmp_path, right=lambda number: number % 4 == 1).analyze()
    assert verdict.decision is Decision.ROLL_BACK
    assert verdict.max_weight_percent < 50
    assert [one.metric.name for one in verdict.metrics if one.state is MetricState.HARM] == ["exact_match"]
    assert verdict.reason.startswith("harm at ")


def test_a_candidate_that_only_fails_is_rolled_back_without_one_answer(tmp_path):
    """A candidate whose every request fails is rolled back at the first step."""
    verdict = World(tmp_path, outcome=Outcome.UPSTREAM_ERROR).analyze()
    assert verdict.decision is Decision.ROLL_BACK
    assert verdict.max_weight_percent == 5


def test_no_traffic_is_never_a_pass_and_holds_the_weight(tmp_path):
    """Without traffic the verdict is inconclusive, the weight stays at the first step and the reason says so."""
    world = World(tmp_path, silent=True)
    verdict = world.analyze()
    assert verdict.decision is Decision.INCONCLUSIVE
    assert world.shifts == [5]
    assert "no candidate answer" in verdict.reason
    assert "weight holds" in verdict.reason


def test_missing_labels_are_never_a_pass(tmp_path):
    """With the labels lost, the verdict is inconclusive and names the metric that they were for."""
    world = World(tmp_path)
    world.spool.labels = tmp_path / "lost.jsonl"
    verdict = world.analyze(release=world.release(max_seconds=15.0))
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "exact_match" in verdict.reason
    assert any("no label" in note for note in verdict.notes)


@pytest.mark.parametrize("kill_at", [8, 40, 120, 160])
def test_a_killed_analysis_goes_on_at_its_step_and_decides_the_same(tmp_path, kill_at):
    """A killed analysis resumes at the weight that Git holds and comes to the same decision, with no evidence lost."""
    whole = World(tmp_path / "whole")
    expected = whole.analyze()
    world = World(tmp_path / "killed")
    world.kill_at = kill_at
    with pytest.raises(Killed):
        world.analyze()
    at = world.weight
    world.kill_at = None
    world.shifts.clear()
    verdict = world.analyze(resume_weight=at)
    assert world.shifts[0] == at
    assert verdict.decision is expected.decision
    assert [step.weight_percent for step in verdict.steps] == [5, 25, 50]
    assert verdict.candidate_requests >= expected.candidate_requests


def test_the_record_knows_the_step_where_git_was_not_asked(tmp_path):
    """Without a weight from Git, a killed analysis resumes at the last step in its record."""
    world = World(tmp_path)
    world.kill_at = 120
    with pytest.raises(Killed):
        world.analyze()
    at = world.weight
    assert at > 5
    world.kill_at = None
    world.shifts.clear()
    world.analyze()
    assert world.shifts[0] == at


def test_all_evidence_of_a_killed_analysis_is_kept(tmp_path):
    """Harm that was in the spool when the process died is found again at the first look."""
    world = World(tmp_path, right=lambda number: False)
    for _ in range(40):
        world.sleep(0.25)
    world.now += 100
    verdict = world.analyze()
    assert verdict.decision is Decision.ROLL_BACK
    assert world.shifts == [5]


def test_a_verdict_is_given_once_and_an_undecided_one_is_taken_up_again(tmp_path):
    """An inconclusive analysis may run again to a promotion; a decided one returns its verdict and shifts nothing."""
    world = World(tmp_path, silent=True)
    assert world.analyze().decision is Decision.INCONCLUSIVE
    world.silent = False
    verdict = world.analyze()
    assert verdict.decision is Decision.PROMOTE
    world.shifts.clear()
    assert world.analyze() == verdict
    assert world.shifts == []


def test_a_first_release_is_judged_by_absolute_gates_and_says_so(tmp_path):
    """A first release takes all the traffic at once, is judged without a baseline, and states its absolute limit."""
    world = World(tmp_path, first=True)
    verdict = world.analyze()
    assert verdict.decision is Decision.PROMOTE
    assert verdict.first_release
    assert world.shifts == [100]
    assert verdict.candidate_requests >= 60
    assert verdict.baseline_requests == 0
    assert "first release" in verdict.reason
    assert "exact_match above 0.55" in verdict.notes[0]
    assert len(verdict.reason) <= REASON_CHARACTERS


def test_a_bad_first_release_is_rolled_back(tmp_path):
    """A first release whose every answer is wrong is rolled back."""
    assert World(tmp_path, first=True, right=lambda number: False).analyze().decision is Decision.ROLL_BACK


def test_a_plan_that_could_never_promote_is_refused_before_any_shift(tmp_path):
    """A plan without a required metric, or without one that a first release has a limit for, shifts nothing."""
    world = World(tmp_path)
    with pytest.raises(CanaryPlanError, match="at least one required metric"):
        world.analyze(release=world.release([{**METRICS[0], "required": False}]))
    world.first = True
    latency = {"name": "ttft_ms", "kind": "quantile", "quantile": 0.5, "max_ratio": 1.5}
    with pytest.raises(CanaryPlanError, match="absolute limit"):
        world.analyze(release=world.release([latency]))
    assert world.shifts == []


def test_a_comparison_without_a_baseline_is_refused(tmp_path):
    """A deployment with a stable service and no baseline is refused, and the message asks for the clone."""
    world = World(tmp_path)
    lacking = world.deployment().model_copy(update={"baseline_service": None})
    with pytest.raises(CanaryPlanError, match="same-age clone"):
        world.analyze(deployment=lacking)


def test_progress_is_said_at_most_once_a_second(tmp_path):
    """Progress events come at most once a second, and their fractions lie within 0 and 1 and never fall."""
    world = World(tmp_path)
    verdict = world.analyze()
    said = [event for event in world.record.events() if event.kind == "progress"]
    assert 1 <= len(said) <= verdict.seconds + 1
    assert "candidate answers" in said[0].message
    assert all(0 <= event.fraction <= 1 for event in said)
    assert [event.fraction for event in said] == sorted(event.fraction for event in said)
