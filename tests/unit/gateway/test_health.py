from __future__ import annotations

from gateway.health import dump_health, whole_health
from gateway.policy_store import Readiness

GOOD = Readiness(True, (), "c1", ("rule x waits",))


def test_one_process_speaks_for_itself() -> None:
    """What the only process says is what the gateway says, ready or not."""
    for health in (GOOD, Readiness(False, ("no policy has been read yet",), None)):
        assert whole_health([dump_health(health)]) == health


def test_all_are_well() -> None:
    """What all workers say is said once."""
    bad_key = Readiness(True, ("Redis does not answer",), "c1", ("rule x waits",))
    assert whole_health([dump_health(bad_key)] * 2) == bad_key


def test_a_worker_that_is_not_ready_makes_the_gateway_unready() -> None:
    """Connections go to that worker, too; its reason has its number."""
    health = whole_health([dump_health(GOOD), dump_health(Readiness(False, ("keys were never loaded",), "c1"))])
    assert not health.ready
    assert health.reasons == ("worker 1: keys were never loaded",)


def test_a_worker_that_is_away_is_named() -> None:
    """The others go on, so the gateway is ready, and says which is missing."""
    health = whole_health([dump_health(GOOD), None])
    assert (health.ready, health.revision) == (True, "c1")
    assert [reason.startswith("worker 1 does not answer") for reason in health.reasons] == [True]


def test_nobody_answers() -> None:
    """No worker is no gateway."""
    assert not whole_health([None, None]).ready


def test_a_revision_is_what_all_answer_by() -> None:
    """While workers answer by different commits none is named: whoever waits for one has to wait for all."""
    health = whole_health([dump_health(GOOD), dump_health(Readiness(True, (), "c2"))])
    assert (health.ready, health.revision) == (True, None)
    assert health.reasons == ("the workers answer by different revisions: worker 0 by c1, worker 1 by c2",)
    assert health.unapplied == ("rule x waits",)
