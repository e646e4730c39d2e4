"""Wherever a credential or pepper could come out: texts of objects, errors, logs, metrics."""

from __future__ import annotations

import copy
import logging
import traceback

import pytest
import redis.asyncio  # noqa: F401 - paid while collecting, not in the first test
from pydantic import SecretStr

from gateway.admin.audit import AuditLog
from gateway.admin.gate import AdminGate
from gateway.auth.key_format import new_key
from gateway.auth.key_ring import KeyRing
from gateway.auth.token import read_token
from gateway.errors import ForbiddenError, GatewayError, UnauthorizedError
from gateway.redis_connection import RedisConnection, RedisUnavailableError
from nexus.admin import AdminClient, AdminError
from serving.contracts.admin_api import IssuedKey, KeyScope, KeyState, KeyView
from tests.fakes.authentication import Auth
from tests.fakes.token_issuer import TokenIssuer

PEPPER = "pepper-that-nobody-may-see-4711-x"


def test_objects_that_hold_secrets_do_not_print_them() -> None:
    """The text of a new key, ring, gate, client, connection and answer shows no secret."""
    key = new_key()
    ring = KeyRing(SecretStr(PEPPER))
    view = KeyView(
        id=key.key_id, tenant="t", name="n", state=KeyState.ACTIVE, scopes=(KeyScope.INFERENCE,), models=(), created=1,
        expires=None, rotated_from=None, overlap_ends=None, revoked=None, old_pepper=False,
    )  # fmt: skip
    held = [
        key,
        ring,
        AdminGate(SecretStr(PEPPER), None),
        AdminClient("http://127.0.0.1:1", SecretStr(PEPPER)),
        RedisConnection(SecretStr(f"redis://user:{PEPPER}@127.0.0.1:1/0"), 0.1),
        IssuedKey(key=view, credential=key.credential),
    ]
    for value in held:
        for text in (repr(value), str(value), f"{value}"):
            assert PEPPER not in text
            assert key.credential not in text
    assert copy.copy(key) == key


async def test_refusals_hold_no_credential(auth: Auth, caplog: pytest.LogCaptureFixture) -> None:
    """No refusal, nor the trace behind it, nor a log line, nor a metric holds a part of the credential."""
    caplog.set_level(logging.DEBUG)
    key, _ = auth.key(revoked=1.0)
    admin, _ = auth.key(scopes=(KeyScope.ADMIN,))
    tokens = [
        auth.issuer.mint(sub=1),
        auth.issuer.mint(tenant="evil"),
        auth.issuer.mint()[:-5],
        "nx_secret-secret-secret",
    ]
    for credential in (key, admin, *tokens):
        with pytest.raises((UnauthorizedError, ForbiddenError)) as refused:
            await auth.identify_slowly(credential)
        shown = "".join(traceback.format_exception_only(refused.value)) + repr(refused.value) + caplog.text
        shown += auth.metrics.render().decode()
        assert credential[-20:] not in shown
        assert credential[4:30] not in shown


def test_a_token_prints_without_itself() -> None:
    """A token that has been read prints neither its text nor its claims."""
    raw = TokenIssuer().mint(sub="somebody")
    assert raw not in repr(read_token(raw.encode()))
    assert "somebody" not in repr(read_token(raw.encode()))


async def test_an_unreachable_redis_does_not_tell_its_password() -> None:
    """The error of a connection that fails names no password."""
    redis = RedisConnection(SecretStr(f"redis://user:{PEPPER}@127.0.0.1:1/0"), 0.1)
    with pytest.raises(RedisUnavailableError) as failed:
        await redis.command("GET", "x")
    assert PEPPER not in str(failed.value)
    await redis.close()


def test_an_unreachable_admin_api_does_not_tell_the_token() -> None:
    """The command's error names the address and not the token."""
    with pytest.raises(AdminError) as failed:
        AdminClient("http://127.0.0.1:1", SecretStr(PEPPER)).revoke("x")
    assert PEPPER not in str(failed.value)
    assert "127.0.0.1:1" in str(failed.value)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "ok"), (ForbiddenError("no"), "permission_denied"), (RuntimeError("x"), "RuntimeError")],
)
def test_each_change_is_a_line_with_its_outcome(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception | None, outcome: str
) -> None:
    """A change is recorded with who, what, which and how it ended, at every log level of the gateway."""
    audit = AuditLog()
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    try:
        with audit.change("admin-token", "key.issue", None, tenant="t") as fields:
            fields["subject"] = "id1"
            if error is not None:
                raise error
    except (GatewayError, RuntimeError):
        pass
    (record,) = [record for record in caplog.records if record.name == "gateway.audit"]
    assert record.fields == {  # type: ignore[attr-defined]
        "actor": "admin-token", "action": "key.issue", "subject": "id1", "tenant": "t", "outcome": outcome,
    }  # fmt: skip
