from components.analyze_canary.step_log import Clock, StepLog
from serving.record import ReleaseRecord

RELEASE = "support-assistant-1"


def make(tmp_path, release_id=RELEASE):
    return StepLog(ReleaseRecord(tmp_path), release_id)


def test_steps_outlive_the_process_and_entering_again_keeps_the_start(tmp_path):
    """A successor reads the same steps, and entering the current one again changes neither its commit nor its start."""
    log = make(tmp_path)
    log.enter(5, lambda weight: f"commit-{weight}", Clock(now=lambda: 100.0))
    log.enter(25, lambda weight: f"commit-{weight}", Clock(now=lambda: 200.0))
    again = make(tmp_path)
    assert again.steps == log.steps
    again.enter(25, lambda weight: "other", Clock(now=lambda: 300.0))
    assert (again.current.commit, again.current.started_at) == ("commit-25", 200.0)


def test_the_weight_of_a_moment_is_that_of_the_newest_step_before_it(tmp_path):
    """A moment has the weight of the last step begun by then, and of the first step when it is earlier still."""
    log = make(tmp_path)
    for weight, moment in ((5, 100.0), (25, 200.0), (50, 300.0)):
        log.enter(weight, str, Clock(now=lambda moment=moment: moment))
    assert [log.weight_at(moment) for moment in (0, 100, 199.9, 200, 250, 1e9)] == [5, 5, 5, 25, 25, 50]


def test_another_releases_steps_are_not_taken_over(tmp_path):
    """A release that finds another release's steps in the record starts with none."""
    make(tmp_path).enter(5, str, Clock())
    assert make(tmp_path, "support-assistant-2").steps == ()
