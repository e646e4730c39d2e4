from components.analyze_canary.balance import Balance


def feed(pattern: list[bool]) -> Balance:
    balance = Balance(0.05)
    for candidate in pattern:
        balance.add(candidate=candidate)
    return balance


def test_no_requests_and_equal_shares_are_no_loss():
    """Neither an empty count nor one request a side in turn is a loss."""
    assert not feed([]).lost
    assert not feed([True, False] * 300).lost


def test_more_candidate_requests_are_no_loss():
    """A candidate with twice the baseline's requests has lost none."""
    assert not feed([True, True, False] * 100).lost


def test_a_candidate_that_answers_half_of_its_requests_is_noticed():
    """A candidate with half of the baseline's requests has lost some."""
    assert feed([True, False, False] * 100).lost


def test_requests_that_turn_up_late_settle_it():
    """A loss is withdrawn once the missing requests have arrived."""
    assert not feed([True, False, False] * 100 + [True] * 100).lost
