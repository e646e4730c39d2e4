from components.analyze_canary.balance import Balance


def feed(pattern: list[bool]) -> Balance:
    balance = Balance(0.05)
    for candidate in pattern:
        balance.add(candidate=candidate)
    return balance


def test_no_requests_and_equal_shares_are_no_loss():
    assert not feed([]).lost
    assert not feed([True, False] * 300).lost


def test_more_candidate_requests_are_no_loss():
    assert not feed([True, True, False] * 100).lost


def test_a_candidate_that_answers_half_of_its_requests_is_noticed():
    assert feed([True, False, False] * 100).lost


def test_requests_that_turn_up_late_settle_it():
    assert not feed([True, False, False] * 100 + [True] * 100).lost
