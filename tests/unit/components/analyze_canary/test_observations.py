import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.analyze_canary.judge import Judge
from components.analyze_canary.observations import HOLD_SECONDS, LABEL_WAIT_SECONDS, ObservationReader
from serving.contracts.observation import Outcome, Side
from serving.contracts.release_spec import CanaryPlan
from tests.fakes.canary_traffic import RELEASE_ID, START, FakeSpool, label, observation

LATER = START + 10_000


@pytest.fixture
def spool(tmp_path):
    return FakeSpool(tmp_path)


def reader(spool: FakeSpool) -> ObservationReader:
    return ObservationReader(spool.observations, spool.labels, RELEASE_ID)


def ids(arrivals) -> list[str]:
    return [f"{one.observation.request_id}{'+label' if one.label else ''}" for one in arrivals]


def test_nothing_written_yet_is_no_arrival(tmp_path):
    """A spool folder and a label file that do not exist yet give no arrivals and no error."""
    empty = ObservationReader(tmp_path / "none", tmp_path / "none" / "labels.jsonl", RELEASE_ID)
    assert empty.poll(LATER) == []


def test_requests_arrive_in_the_order_in_which_they_ended(spool):
    """A long request that was written first arrives after a shorter one that ended before it."""
    spool.write(observation(1, total_ms=9000.0))
    spool.write(observation(2))
    assert ids(reader(spool).poll(LATER)) == ["request-2", "request-1"]


def test_a_request_is_held_back_until_earlier_ones_must_have_been_written(spool):
    """A request arrives once, and only when the hold time has passed since its end."""
    following = reader(spool)
    request = observation(1, total_ms=500.0)
    spool.write(request)
    assert following.poll(request.ts + 0.5 + HOLD_SECONDS - 0.01) == []
    assert ids(following.poll(request.ts + 0.5 + HOLD_SECONDS)) == ["request-1"]
    assert following.poll(LATER) == []


def test_a_label_follows_its_request_whichever_was_written_first(spool):
    """Labels arrive after their requests with the same numbers, even when a label was written first."""
    first, second = observation(1), observation(2)
    spool.raw(spool.labels, label(first).model_dump_json() + "\n")
    following = reader(spool)
    following.poll(first.ts)
    spool.write(first)
    spool.write(second, label(second))
    found = following.poll(LATER)
    assert ids(found) == ["request-1", "request-2", "request-1+label", "request-2+label"]
    assert [one.number for one in found] == [1, 2, 1, 2]


def test_an_answer_without_a_label_holds_later_labels_back_for_a_bounded_time(spool):
    """A missing label delays later ones until the waiting time is over, and is then counted as unlabelled."""
    silent, loud = observation(1), observation(2)
    spool.write(silent)
    spool.write(loud, label(loud))
    following = reader(spool)
    soon = loud.ts + HOLD_SECONDS + 1
    assert ids(following.poll(soon)) == ["request-1", "request-2"]
    assert following.tally.unlabelled == 0
    assert ids(following.poll(soon + LABEL_WAIT_SECONDS)) == ["request-2+label"]
    assert following.tally.unlabelled == 1


def test_a_label_that_came_too_late_never_counts_so_that_a_rerun_sees_the_same(spool):
    """A label dated after the waiting time is ignored, though it is there when the file is read."""
    request = observation(1)
    spool.write(request, label(request, ts=request.ts + 0.05 + LABEL_WAIT_SECONDS + 1))
    assert ids(reader(spool).poll(LATER)) == ["request-1"]


def test_a_request_written_twice_counts_once(spool):
    """A repeated line brings neither a second arrival nor a second count."""
    spool.write(observation(1), label(observation(1)))
    spool.write(observation(1), label(observation(1)))
    following = reader(spool)
    assert ids(following.poll(LATER)) == ["request-1", "request-1+label"]
    assert following.tally.total == 1


def test_other_releases_are_left_out_and_the_stable_side_is_only_counted(spool):
    """Other releases' requests are ignored, and the stable side's count towards totals and users alone."""
    spool.write(observation(1, release_id="support-assistant-other"))
    spool.write(observation(2, release_id=None, user_hash=RELEASE_ID))
    spool.write(observation(3, Side.STABLE))
    spool.write(observation(4, Side.BASELINE))
    following = reader(spool)
    assert ids(following.poll(LATER)) == ["request-4"]
    tally = following.tally
    assert (tally.total, tally.baseline, tally.candidate) == (2, 1, 0)
    assert tally.users == {"user-3", "user-4"}
    assert tally.users_on_candidate == set()


@pytest.mark.parametrize("outcome", [Outcome.CLIENT_DISCONNECT, Outcome.REJECTED])
def test_what_clients_gave_up_or_the_gateway_refused_is_counted_and_not_judged(spool, outcome):
    """A disconnected or rejected request never arrives, but is counted, and its user has met the candidate."""
    spool.write(observation(1, outcome=outcome))
    following = reader(spool)
    assert following.poll(LATER) == []
    assert following.tally.disconnected + following.tally.rejected == 1
    assert following.tally.candidate == 0
    assert len(following.tally.users_on_candidate) == 1


@pytest.mark.parametrize("outcome", [Outcome.UPSTREAM_TIMEOUT, Outcome.ENGINE_REFUSED])
def test_errors_are_judged_and_wait_for_no_label(spool, outcome):
    """A request that failed, or that the engine refused, arrives without a label and holds back none after it."""
    failed, answered = observation(1, outcome=outcome), observation(2)
    spool.write(failed)
    spool.write(answered, label(answered))
    assert ids(reader(spool).poll(answered.ts + 2)) == ["request-1", "request-2", "request-2+label"]


def test_broken_lines_are_counted_and_do_no_harm(spool):
    """Unreadable lines among the observations and labels are counted, and the good ones around them arrive."""
    spool.write(observation(1))
    spool.raw(spool.file, "no json\n")
    spool.raw(spool.file, '{"release_id": "' + RELEASE_ID + '"}\n')
    spool.raw(spool.file, '{"release_id": "' + RELEASE_ID + '", }\n')
    spool.raw(spool.labels, '{"half": \n')
    spool.write(observation(2))
    following = reader(spool)
    assert ids(following.poll(LATER)) == ["request-1", "request-2"]
    assert following.broken_lines == 4


def test_half_a_line_waits_for_its_other_half(spool):
    """A line that is still being written is neither an arrival nor broken until it is whole."""
    line = observation(1).model_dump_json() + "\n"
    following = reader(spool)
    spool.raw(spool.file, line[:40])
    assert following.poll(LATER) == []
    spool.raw(spool.file, line[40:])
    assert ids(following.poll(LATER)) == ["request-1"]
    assert following.broken_lines == 0


def traffic(seed: int, count: int):
    """Requests as a gateway would write them: in the order in which they ended, some failed, some without a label."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        outcome = chance.choices([Outcome.OK, Outcome.UPSTREAM_ERROR], [0.9, 0.1])[0]
        side = chance.choice([Side.BASELINE, Side.CANDIDATE])
        made.append(observation(number, side, outcome=outcome, total_ms=chance.choice([50.0, 300.0, 3000.0])))
    return sorted(made, key=lambda one: (one.ts + one.total_ms / 1000, one.request_id)), chance


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 9))
def test_read_in_many_parts_or_at_once_the_judge_ends_in_the_same_state(tmp_path_factory, seed, count, every):
    """A killed analysis that reads the same files again must not change its mind."""
    spool = FakeSpool(tmp_path_factory.mktemp("spool"))
    plan = CanaryPlan.model_validate(
        {
            "steps": [{"weight_percent": 50, "min_candidate_requests": 1}],
            "metrics": [
                {"name": "error", "kind": "rate", "margin": 0.05},
                {"name": "exact_match", "kind": "rate", "margin": 0.1},
            ],
        }
    )
    made, chance = traffic(seed, count)
    live, at_once = Judge(plan), Judge(plan)
    following = reader(spool)
    for position, request in enumerate(made):
        ended = request.ts + request.total_ms / 1000
        labelled = request.outcome is Outcome.OK and chance.random() < 0.9
        spool.write(request, label(request, exact_match=chance.random() < 0.5) if labelled else None)
        if position % every == 0:
            for arrival in following.poll(ended):
                live.feed(arrival, 50)
    for arrival in following.poll(LATER):
        live.feed(arrival, 50)
    for arrival in reader(spool).poll(LATER):
        at_once.feed(arrival, 50)
    assert live.state() == at_once.state()
