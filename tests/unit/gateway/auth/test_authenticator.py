from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.auth.key_format import new_key
from gateway.auth.principal import ANONYMOUS
from gateway.errors import ForbiddenError, NotReadyError, UnauthorizedError
from serving.contracts.admin_api import KeyScope
from serving.contracts.authentication import Priority
from tests.fakes.authentication import POLICY, Auth, policy


async def test_a_key_names_its_tenant(auth: Auth) -> None:
    """A key gives tenant, priority and models, and the same object every time."""
    credential, record = auth.key(models=("n", "o"))
    principal = auth.identify(credential)
    assert principal is not None
    assert (principal.tenant, principal.priority, principal.key_id) == ("acme", Priority.HIGH, record.key_id)
    assert principal.models == {"n"}
    assert auth.identify(credential) is principal
    assert auth.authenticator.identify(auth.policy, None, credential.encode()) is principal


@pytest.mark.parametrize(
    ("tenant", "models", "expected"),
    [
        ("acme", (), {"m", "n"}),
        ("acme", ("m",), {"m"}),
        ("acme", ("other",), set()),
        ("free", ("x",), {"x"}),
        ("free", (), None),
    ],
)
async def test_key_and_tenant_both_limit_models(
    auth: Auth, tenant: str, models: tuple[str, ...], expected: set[str] | None
) -> None:
    """A model has to be allowed by both; nothing in common allows nothing, not everything."""
    credential, _ = auth.key(tenant=tenant, models=models)
    principal = auth.identify(credential)
    assert principal is not None
    assert principal.models == expected


async def test_rotations_are_counted_as_one_key(auth: Auth) -> None:
    """A key that replaces another has the first one's id for limits and spend."""
    _, first = auth.key()
    credential, _ = auth.key(family=first.key_id, rotated_from=first.key_id)
    principal = auth.identify(credential)
    assert principal is not None
    assert principal.key_id == first.key_id


async def test_nobody_is_anonymous_only_where_the_policy_lets_him(auth: Auth) -> None:
    """Without a credential the policy decides; a tenant that is called so gives priority and models."""
    with pytest.raises(UnauthorizedError, match="got none"):
        auth.identify(None)
    auth.policy = policy(authentication={"required": False})
    assert auth.identify(None) is ANONYMOUS
    tenants = [{"name": "anonymous", "priority": "low", "models": ["m"]}]
    auth.policy = policy(authentication={"required": False}, tenants=tenants)
    nobody = auth.identify(None)
    assert nobody is not None
    assert (nobody.priority, nobody.models) == (Priority.LOW, {"m"})


async def test_a_wrong_credential_is_refused_where_none_is_needed(auth: Auth) -> None:
    """A wrong credential is never taken for none."""
    auth.policy = policy(authentication={"required": False})
    for wrong in (new_key().credential, "EMPTY", "sk-anything", "nx_", "a.b.c"):
        with pytest.raises(UnauthorizedError):
            auth.identify(wrong)


@pytest.mark.parametrize("changes", [{"expires": 1.0}, {"revoked": 1.0}, {"overlap_ends": 1.0}, {"digest": "00" * 32}])
async def test_ended_and_wrong_keys_get_the_same_answer(auth: Auth, changes: dict[str, object]) -> None:
    """Expired, revoked, replaced, wrong and unknown keys cannot be told from one another."""
    credential, _ = auth.key(**changes)
    with pytest.raises(UnauthorizedError) as refused:
        auth.identify(credential)
    with pytest.raises(UnauthorizedError) as unknown:
        auth.identify(new_key().credential)
    assert refused.value.message == unknown.value.message
    assert credential not in refused.value.message


async def test_a_change_of_keys_counts_at_the_next_request(auth: Auth) -> None:
    """A key that was verified is refused as soon as it is revoked."""
    credential, record = auth.key()
    auth.identify(credential)
    auth.keys.ring.put([replace(record, revoked=auth.now)])
    with pytest.raises(UnauthorizedError):
        auth.identify(credential)


async def test_a_remembered_key_ends_on_time(auth: Auth) -> None:
    """A key that was verified before its end is refused at its end."""
    credential, _ = auth.key(expires=auth.now + 10)
    auth.identify(credential)
    auth.now += 9.9
    auth.identify(credential)
    auth.now += 0.1
    with pytest.raises(UnauthorizedError):
        auth.identify(credential)


async def test_a_new_policy_counts_at_the_next_request(auth: Auth) -> None:
    """Priority and models follow the policy, and a tenant that it no longer lists may not ask."""
    credential, _ = auth.key()
    auth.identify(credential)
    auth.policy = policy(tenants=[{"name": "acme", "priority": "low"}])
    principal = auth.identify(credential)
    assert principal is not None
    assert (principal.priority, principal.models) == (Priority.LOW, None)
    auth.policy = policy(tenants=[{"name": "free"}])
    with pytest.raises(ForbiddenError, match="tenant that the policy lists"):
        auth.identify(credential)


async def test_a_key_needs_the_scope(auth: Auth) -> None:
    """A key for the admin API alone cannot ask models."""
    credential, _ = auth.key(scopes=(KeyScope.ADMIN,))
    with pytest.raises(ForbiddenError, match="scope inference"):
        auth.identify(credential)


async def test_keys_that_were_never_loaded_cannot_be_judged(auth: Auth) -> None:
    """Before keys were loaded a key gets 503 and the gateway is not ready; a token is judged all the same."""
    credential, _ = auth.key()
    auth.keys.loaded = False
    assert not auth.authenticator.ready
    with pytest.raises(NotReadyError):
        auth.identify(credential)
    assert (await auth.identify_slowly(auth.issuer.mint())).tenant == "acme"
    auth.keys.loaded = True
    assert auth.identify(credential) is not None


async def test_without_redis_every_key_is_wrong_and_the_reason_is_shown() -> None:
    """A gateway without keys refuses them, and says so when nothing else could let anybody in."""
    async with asyncio.TaskGroup() as tasks:
        auth = Auth(tasks, with_keys=False)
        with pytest.raises(UnauthorizedError):
            auth.identify(new_key().credential)
        assert auth.authenticator.ready
        assert auth.authenticator.reasons == ()
        auth.policy = policy(authentication={"required": True})
        with pytest.raises(UnauthorizedError):
            auth.identify(None)
        assert "NEXUS_GATEWAY_REDIS_URL" in auth.authenticator.reasons[0]


async def test_a_token_names_tenant_user_and_claims(auth: Auth) -> None:
    """A token gives tenant, user and its text claims, and is verified once."""
    token = auth.issuer.mint(team="blue", level=3, groups=["a"])
    assert auth.identify(token) is None
    principal = await auth.identify_slowly(token)
    assert (principal.tenant, principal.user, principal.key_id) == ("acme", b"ann", None)
    assert principal.models == {"m", "n"}
    assert principal.claims["team"] == "blue"
    assert "level" not in principal.claims
    assert "groups" not in principal.claims
    assert auth.identify(token) is principal
    assert auth.issuer.fetches == 1


async def test_a_remembered_token_ends_on_time(auth: Auth) -> None:
    """A verified token is refused once its time and the leeway are over."""
    token = auth.issuer.mint(exp=auth.now + 10)
    await auth.identify_slowly(token)
    auth.now += 39
    assert auth.identify(token) is not None
    auth.now += 2
    with pytest.raises(UnauthorizedError):
        auth.identify(token)


async def test_nobody_makes_the_gateway_ask_with_an_algorithm_that_is_not_allowed(auth: Auth) -> None:
    """A token whose algorithm the issuer may not use is refused before its issuer is asked for any key."""
    for algorithm in ("none", "HS256", "RS512"):
        with pytest.raises(UnauthorizedError):
            auth.identify(auth.issuer.mint(header={"alg": algorithm, "kid": "unknown"}))
    assert auth.issuer.fetches == 0


async def test_what_is_remembered_is_bounded_and_holds_no_credential(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of verified credentials has a limit, and neither they nor parts of them stand in it."""
    monkeypatch.setattr("gateway.auth.authenticator._MAX_REMEMBERED", 3)
    credentials = [auth.key()[0] for _ in range(5)]
    for credential in credentials:
        auth.identify(credential)
    seen = auth.authenticator._seen
    assert len(seen) == 3
    assert all(credential not in repr(seen) for credential in credentials)
    assert all(len(key) == 16 for key in seen)
    assert auth.identify(credentials[0]) is not None


async def test_refusals_are_counted_by_reason(auth: Auth) -> None:
    """Each refusal is counted under its reason; the client's answer does not say which it was."""
    admin, _ = auth.key(scopes=(KeyScope.ADMIN,))
    stranger, _ = auth.key(tenant="gone")
    for wrong in (None, "EMPTY", new_key().credential, admin, stranger):
        with pytest.raises((UnauthorizedError, ForbiddenError)):
            auth.identify(wrong)
    assert auth.refusals() == {"missing": 1, "token_form": 1, "key": 1, "scope": 1, "tenant": 1}


def test_the_policy_of_these_tests_has_one_issuer() -> None:
    """The fixture is a valid policy: a changed contract fails here and not in every test."""
    assert policy(**POLICY).authentication.jwt[0].leeway_seconds == 30
