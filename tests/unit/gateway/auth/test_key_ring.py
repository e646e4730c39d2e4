from __future__ import annotations

import hmac
from dataclasses import replace

import orjson
import pytest
from pydantic import SecretStr

from gateway.auth.key_format import NewKey, new_key
from gateway.auth.key_record import BrokenRecordError, KeyRecord
from gateway.auth.key_ring import KeyRing
from serving.contracts.admin_api import KeyScope, KeyState

PEPPER = SecretStr("p" * 32)


def make(ring: KeyRing, **changes: object) -> tuple[NewKey, KeyRecord]:
    key = new_key()
    record = KeyRecord(key.key_id, "acme", "n", ring.digest(key.credential), 1.0, (KeyScope.INFERENCE,), key.key_id)
    return key, replace(record, **changes)  # type: ignore[arg-type]


def test_the_right_key_is_found_and_the_wrong_secret_is_not() -> None:
    """A key is known by its whole credential: not by its id with another's secret, nor under another pepper."""
    ring, other = KeyRing(PEPPER), KeyRing(SecretStr("q" * 32))
    key, record = make(ring)
    ring.put([record])
    other.put([record])
    assert ring.verify(key.credential.encode(), 2.0) == record
    assert other.verify(key.credential.encode(), 2.0) is None
    forged = replace(record, digest="00" * 32)
    stranger = KeyRing(PEPPER)
    stranger.put([forged])
    assert stranger.verify(key.credential.encode(), 2.0) is None


def test_secrets_are_compared_in_constant_time_and_for_unknown_ids_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known and unknown ids both cost one constant-time comparison of 32 bytes."""
    ring = KeyRing(PEPPER)
    key, record = make(ring)
    ring.put([record])
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr("gateway.auth.key_ring.hmac.compare_digest", spy)
    ring.verify(key.credential.encode(), 2.0)
    ring.verify(new_key().credential.encode(), 2.0)
    assert compared == [(32, 32), (32, 32)]


NEW, OLD = SecretStr("new" * 11), SecretStr("old" * 11)


def old_and_new() -> tuple[KeyRing, NewKey, NewKey]:
    """Return a ring of two peppers with a key of each, the first one's being the older."""
    ring, before = KeyRing(NEW, OLD), KeyRing(OLD)
    old, old_record = make(before, pepper=before.fingerprints[0])
    new, new_record = make(ring, pepper=ring.fingerprints[0])
    ring.put([old_record, new_record])
    return ring, old, new


def test_keys_of_every_pepper_are_right() -> None:
    """New keys are made with the first pepper; those of the others are accepted, and each with its own secret only."""
    ring, old, new = old_and_new()
    for key in (old, new):
        assert ring.verify(key.credential.encode(), 2.0) is not None
    alone = KeyRing(NEW)
    alone.put(ring)
    assert alone.verify(new.credential.encode(), 2.0) is not None
    assert alone.verify(old.credential.encode(), 2.0) is None
    forged = KeyRing(NEW, OLD)
    forged.put([replace(record, digest="00" * 32) for record in ring])
    assert forged.verify(new.credential.encode(), 2.0) is None


def test_every_pepper_is_tried_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a verification takes does not tell by which pepper a key was made, nor whether there is one."""
    ring, old, new = old_and_new()
    compared: list[bytes] = []
    real = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return real(one, other)

    monkeypatch.setattr("gateway.auth.key_ring.hmac.compare_digest", spy)
    for credential in (old.credential, new.credential, new_key().credential):
        compared.clear()
        ring.verify(credential.encode(), 2.0)
        assert len(set(compared)) == 2


def test_an_older_peppers_key_is_hashed_anew_when_it_is_right() -> None:
    """Its next right use gives the digest under the first pepper; taken in, the key needs the old pepper no more."""
    ring, old, new = old_and_new()
    for key in (new, old):
        ring.verify(key.credential.encode(), 2.0)
    assert ring.renewals.keys() == {old.key_id}
    assert [record.key_id for record in ring.outdated(2.0)] == [old.key_id]
    record = ring.get(old.key_id)
    assert record is not None
    renewed = replace(record, digest=ring.renewals[old.key_id], pepper=ring.fingerprints[0])
    ring.put([renewed])
    assert (ring.renewals, ring.outdated(2.0)) == ({}, [])
    alone = KeyRing(NEW)
    alone.put([renewed])
    assert alone.verify(old.credential.encode(), 2.0) == renewed


def test_a_key_of_an_unknown_pepper_is_outdated_only_where_there_are_several() -> None:
    """Records from before peppers were noted may be of any; a gateway that has one pepper has no doubt."""
    key, record = make(KeyRing(OLD))
    for ring, outdated in ((KeyRing(OLD), False), (KeyRing(OLD, NEW), True), (KeyRing(NEW, OLD), True)):
        ring.put([record])
        assert ring.is_outdated(record) is outdated
        assert ring.verify(key.credential.encode(), 2.0) == record
    assert KeyRing(NEW).is_outdated(replace(record, pepper=KeyRing(OLD).fingerprints[0]))


def test_all_follow_the_newest_pepper() -> None:
    """A ring whose first pepper is an older one makes and renews keys with the newest, as all others do."""
    ring, old, new = old_and_new()
    late = KeyRing(OLD, NEW)
    late.put(ring)
    late.follow(late.fingerprints)
    assert late.pepper == ring.pepper
    assert late.digest("x") == ring.digest("x")
    for key in (new, old):
        late.verify(key.credential.encode(), 2.0)
        ring.verify(key.credential.encode(), 2.0)
    assert late.renewals == ring.renewals
    assert late.renewals.keys() == {old.key_id}
    ring.follow([late.fingerprints[0]])  # the new one has not been anybody's first yet, and so is the newest
    assert ring.pepper == ring.fingerprints[0]


def test_ended_keys_hold_no_pepper_back() -> None:
    """A key that has ended is not counted among those that need an older pepper."""
    ring, old, _ = old_and_new()
    record = ring.get(old.key_id)
    assert record is not None
    ring.put([replace(record, expires=5.0)])
    assert len(ring.outdated(4.0)) == 1
    assert ring.outdated(5.0) == []


@pytest.mark.parametrize(
    ("changes", "now", "state"),
    [
        ({}, 1e12, KeyState.ACTIVE),
        ({"expires": 10.0}, 9.9, KeyState.ACTIVE),
        ({"expires": 10.0}, 10.0, KeyState.EXPIRED),
        ({"overlap_ends": 10.0}, 9.9, KeyState.REPLACED),
        ({"overlap_ends": 10.0}, 10.0, KeyState.EXPIRED),
        ({"overlap_ends": 10.0, "expires": 5.0}, 6.0, KeyState.EXPIRED),
        ({"revoked": 3.0}, 4.0, KeyState.REVOKED),
        ({"revoked": 3.0, "expires": 10.0}, 11.0, KeyState.REVOKED),
    ],
)
def test_a_key_ends_at_its_time(changes: dict[str, float], now: float, state: KeyState) -> None:
    """A key is accepted exactly while it is active or replaced."""
    ring = KeyRing(PEPPER)
    key, record = make(ring, **changes)
    ring.put([record])
    assert record.state(now) is state
    accepted = ring.verify(key.credential.encode(), now) is not None
    assert accepted == (state in {KeyState.ACTIVE, KeyState.REPLACED})


def test_a_revoked_key_has_ended_whatever_the_clock_says() -> None:
    """The clock of whoever revoked it may be ahead, or ours may have gone back since."""
    ring = KeyRing(PEPPER)
    key, record = make(ring)
    ring.put([replace(record, revoked=1e12)])
    assert ring.verify(key.credential.encode(), 6.0) is None


def test_an_older_record_never_brings_a_key_back() -> None:
    """Whatever order records come in, what has ended a key on one of them stays."""
    ring = KeyRing(PEPPER)
    key, record = make(ring)
    ring.put([replace(record, revoked=5.0)])
    ring.put([record])
    assert ring.verify(key.credential.encode(), 6.0) is None
    ring.put([replace(record, expires=3.0, overlap_ends=2.0)])
    known = ring.get(key.key_id)
    assert known is not None
    assert (known.revoked, known.expires, known.overlap_ends) == (5.0, 3.0, 2.0)


def test_listeners_hear_of_changes_only() -> None:
    """Whoever remembers credentials is told when keys change, and not when the same record comes again."""
    ring = KeyRing(PEPPER)
    heard: list[int] = []
    ring.listen(lambda: heard.append(len(ring)))
    _, record = make(ring)
    ring.put([record])
    ring.put([record])
    assert heard == [1]


def test_a_record_survives_being_written_and_read() -> None:
    """A record is the same after a round trip, byte for byte; a field of a newer gateway is ignored."""
    ring = KeyRing(PEPPER)
    _, record = make(ring, expires=9.5, models=("m", "n"), rotated_from="x", revoked=1.5)
    raw = record.dump()
    assert KeyRecord.parse(raw) == record
    assert KeyRecord.parse(raw).dump() == raw
    assert KeyRecord.parse(raw[:-1] + b',"later":1}') == record


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{}", b"[]", b"null", b"1",
        b'{"key_id":"a"}',
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    """Anything else that Redis may hold is told to be broken, never half believed."""
    with pytest.raises(BrokenRecordError, match="API key's record"):
        KeyRecord.parse(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "00"}, {"digest": "zz" * 32}, {"tenant": 1}, {"tenant": None}, {"models": [1]}, {"models": 5},
        {"scopes": ["root"]}, {"expires": "soon"}, {"revoked": [1]}, {"family": {}}, {"pepper": None},
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_type_is_refused(change: dict[str, object]) -> None:
    """A record with a field of the wrong type is broken."""
    ring = KeyRing(PEPPER)
    _, record = make(ring)
    fields = {name: getattr(record, name) for name in KeyRecord.__slots__}
    with pytest.raises(BrokenRecordError):
        KeyRecord.parse(orjson.dumps(fields | change))
