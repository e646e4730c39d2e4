from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.routing.snapshot import HOT_PATHS
from serving.contracts.admin_api import KeyScope
from tests.fakes.key_gateway import ADMIN_TOKEN, PEPPER, KeyGateway, gateways
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with RedisProcess() as process:
        yield process


@pytest.fixture
async def gateway(redis: RedisProcess, tmp_path: Path) -> AsyncIterator[KeyGateway]:
    redis.client.flushall()
    async with gateways(redis.url, tmp_path, 1) as (one,):
        one.serve()
        yield one


def audit_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.name == "gateway.audit"]  # type: ignore[attr-defined]


async def test_a_key_lives_its_life_over_the_admin_api(gateway: KeyGateway, caplog: pytest.LogCaptureFixture) -> None:
    """Issue, show, list, rotate and revoke work; the secret is shown once; each change is a line of the audit log."""
    order = {"tenant": "acme", "name": "ci", "models": ["m"], "lasts_seconds": 3600}
    status, headers, issued = await gateway.call("POST", "/admin/v1/keys", order)
    assert (status, headers["cache-control"]) == (201, "no-store")
    key, credential = issued["key"], issued["credential"]
    assert gateway.accepts(credential)
    assert key["state"] == "active"
    assert key["expires"] - key["created"] == pytest.approx(3600)
    assert (await gateway.call("GET", f"/admin/v1/keys/{key['id']}"))[2] == key

    status, _, rotated = await gateway.call("POST", f"/admin/v1/keys/{key['id']}/rotate", {"overlap_seconds": 60})
    assert status == 201
    assert gateway.accepts(credential)
    assert gateway.accepts(rotated["credential"])
    status, _, revoked = await gateway.call("POST", f"/admin/v1/keys/{key['id']}/revoke")
    assert (status, revoked["state"]) == (200, "revoked")
    assert not gateway.accepts(credential)
    assert gateway.accepts(rotated["credential"])
    listed = (await gateway.call("GET", "/admin/v1/keys"))[2]
    assert [(each["id"], each["state"]) for each in listed["keys"]] == [
        (rotated["key"]["id"], "active"), (key["id"], "revoked"),
    ]  # fmt: skip

    lines = audit_lines(caplog)
    assert [(line["action"], line["subject"], line["outcome"]) for line in lines] == [
        ("key.issue", key["id"], "ok"), ("key.rotate", key["id"], "ok"), ("key.revoke", key["id"], "ok"),
    ]  # fmt: skip
    assert {line["actor"] for line in lines} == {"admin-token"}
    text = json.dumps([lines, listed, revoked]) + caplog.text
    for secret in (credential, rotated["credential"], ADMIN_TOKEN, PEPPER):
        assert secret not in text
        assert secret[17:40] not in text


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"tenant": "nobody", "name": "n"}, 400, "expected a tenant that the policy lists (acme, free)"),
        ({"tenant": "acme"}, 400, "name"),
        ({"tenant": "acme", "name": ""}, 400, "name"),
        ({"tenant": "acme", "name": "a\nb"}, 400, "name"),
        ({"tenant": "acme", "name": "n", "scopes": []}, 400, "scopes"),
        ({"tenant": "acme", "name": "n", "scopes": ["root"]}, 400, "scopes"),
        ({"tenant": "acme", "name": "n", "lasts_seconds": 0}, 400, "lasts_seconds"),
        ({"tenant": "acme", "name": "n", "lasts_seconds": 1e12}, 400, "lasts_seconds"),
        ({"tenant": "acme", "name": "n", "digest": "00"}, 400, "digest"),
        ([], 400, "body"),
        (b"{", 400, "JSON"),
        (b"x" * 70_000, 413, "at most 65536 bytes"),
    ],
)
async def test_a_wrong_order_is_refused_with_its_reason(
    gateway: KeyGateway, body: Any, status: int, reason: str
) -> None:
    """A key that cannot be made is refused in OpenAI's shape, and none is made."""
    got, headers, document = await gateway.call("POST", "/admin/v1/keys", body)
    assert got == status
    assert reason in document["error"]["message"]
    assert headers["x-request-id"]
    assert len(gateway.keys.ring) == 0


async def test_what_does_not_exist_is_404(gateway: KeyGateway) -> None:
    """Unknown keys, services, paths and methods have the error of their kind."""
    for method, path, status in (
        ("GET", "/admin/v1/keys/000000000000", 404),
        ("POST", "/admin/v1/keys/000000000000/revoke", 404),
        ("POST", "/admin/v1/endpoints/nothing/drain", 404),
        ("GET", "/admin/v1/nothing", 404),
        ("DELETE", "/admin/v1/keys", 405),
        ("GET", "/docs", 404),
        ("GET", "/metrics", 404),
    ):
        got, _, document = await gateway.call(method, path)
        assert (got, bool(document["error"]["message"])) == (status, True), path


async def test_nobody_enters_without_the_credential(gateway: KeyGateway, caplog: pytest.LogCaptureFixture) -> None:
    """Every path, the unknown and the data plane's among them, needs the token or a key of scope admin."""
    inference, admin = [
        (await gateway.call("POST", "/admin/v1/keys", {"tenant": "acme", "name": "n", "scopes": [scope]}))[2][
            "credential"
        ]
        for scope in KeyScope
    ]
    paths = ["/admin/v1/keys", "/admin/v1/snapshot", "/openapi.json", "/nothing", "/", "/health/live"]
    attempts = [("GET", path) for path in paths] + [("POST", path) for path in ("/admin/v1/keys", *HOT_PATHS)]
    mistyped = inference[:-1] + ("a" if inference[-1] != "a" else "b")
    for token in (None, "", "x", ADMIN_TOKEN[:-1], ADMIN_TOKEN + "x", ADMIN_TOKEN.upper(), mistyped):
        for method, path in attempts:
            status, _, document = await gateway.call(method, path, {} if method == "POST" else None, token)
            assert (status, document["error"]["code"]) == (401, "invalid_api_key"), (token, path)
    assert (await gateway.call("GET", "/admin/v1/keys", None, inference))[0] == 403
    assert (await gateway.call("GET", "/admin/v1/keys", None, admin))[0] == 200
    assert (await gateway.call("GET", "/admin/v1/keys", None, None, x_api_key=admin))[0] == 200
    assert (await gateway.call("GET", "/admin/v1/keys", None, ADMIN_TOKEN, x_api_key=admin))[0] == 401
    for path in HOT_PATHS:
        assert (await gateway.call("POST", path, {"model": "m"}))[0] == 404
    key_id = admin.split("_")[1]
    await gateway.call("POST", f"/admin/v1/keys/{key_id}/revoke", None, admin)
    assert audit_lines(caplog)[-1]["actor"] == f"key:{key_id}"
    assert (await gateway.call("GET", "/admin/v1/keys", None, admin))[0] == 401
    for secret in (ADMIN_TOKEN[:-1], inference[:-1], admin):
        assert secret not in caplog.text + json.dumps([r.__dict__ for r in caplog.records], default=str)


async def test_keys_are_listed_in_pages(gateway: KeyGateway) -> None:
    """Pages hold every key once, and can be of one tenant."""
    for number in range(7):
        tenant = "acme" if number % 2 else "free"
        await gateway.call("POST", "/admin/v1/keys", {"tenant": tenant, "name": f"n{number}"})
    seen: list[str] = []
    after = ""
    while True:
        page = (await gateway.call("GET", f"/admin/v1/keys?limit=3{after}"))[2]
        seen += [key["name"] for key in page["keys"]]
        if page["after"] is None:
            break
        after = f"&after={page['after']}"
    assert sorted(seen) == [f"n{number}" for number in range(7)]
    assert len((await gateway.call("GET", "/admin/v1/keys?tenant=acme"))[2]["keys"]) == 3
    assert (await gateway.call("GET", "/admin/v1/keys?after=nothing"))[0] == 400
    assert (await gateway.call("GET", "/admin/v1/keys?limit=100000"))[0] == 400


async def test_the_snapshot_shows_what_is_answered_by(gateway: KeyGateway) -> None:
    """The snapshot names routes, sides and endpoints with their state, a page at a time, and no secret."""
    status, _, first = await gateway.call("GET", "/admin/v1/snapshot?limit=2")
    assert status == 200
    assert ([route["model"] for route in first["routes"]], first["after"]) == (["m", "n"], "n")
    second = (await gateway.call("GET", "/admin/v1/snapshot?limit=2&after=n"))[2]
    assert ([route["model"] for route in second["routes"]], second["after"]) == (["o"], None)
    (side,) = first["routes"][0]["sides"]
    assert (side["service"], side["weight_percent"], side["ready"]) == ("m-1", 100.0, True)
    (endpoint,) = side["endpoints"]
    assert endpoint["address"].startswith("m-1-predictor")
    assert (endpoint["drained"], endpoint["breaker_closed"], endpoint["running"]) == (False, True, 0)
    assert (first["tenants"], first["authentication_required"]) == (["acme", "free"], True)
    assert PEPPER not in json.dumps([first, second])


async def test_a_service_is_drained_and_taken_back(gateway: KeyGateway, caplog: pytest.LogCaptureFixture) -> None:
    """Draining shows in the snapshot and in the audit log, and can be undone."""
    for action, drained in (("drain", True), ("undrain", False)):
        answer = (await gateway.call("POST", f"/admin/v1/endpoints/m-1/{action}"))[2]
        assert answer == {"service": "m-1", "drained": drained, "shared": True}
        routes = (await gateway.call("GET", "/admin/v1/snapshot?limit=1"))[2]["routes"]
        assert routes[0]["sides"][0]["endpoints"][0]["drained"] is drained
        assert audit_lines(caplog)[-1]["action"] == f"endpoint.{action}"


async def test_spend_is_shown_by_day_and_tenant(gateway: KeyGateway) -> None:
    """Spend of some days comes with its sum; days that make no sense are refused."""
    both = (await gateway.call("GET", "/admin/v1/spend?first=2026-08-01&last=2026-08-02"))[2]
    assert (len(both["rows"]), both["usd"]) == (2, 1.0)
    one = (await gateway.call("GET", "/admin/v1/spend?tenant=acme"))[2]
    assert ([row["tenant"] for row in one["rows"]], one["usd"]) == (["acme"], 0.5)
    for query in ("first=2026-08-02&last=2026-08-01", "first=2020-01-01&last=2026-01-01", "first=yesterday"):
        assert (await gateway.call("GET", f"/admin/v1/spend?{query}"))[0] == 400


async def test_keys_are_restored_over_the_admin_api(gateway: KeyGateway, redis: RedisProcess) -> None:
    """After Redis lost them keys can be written back, and until then nothing else can be changed."""
    issued = (await gateway.call("POST", "/admin/v1/keys", {"tenant": "acme", "name": "n"}))[2]
    redis.client.flushall()
    await until(lambda: gateway.keys.reasons)
    assert "write them back" in (await gateway.call("GET", "/admin/v1/snapshot"))[2]["reasons"][0]
    status, _, document = await gateway.call("POST", "/admin/v1/keys", {"tenant": "acme", "name": "n"})
    assert (status, document["error"]["code"]) == (503, "not_ready")
    assert gateway.accepts(issued["credential"])
    assert (await gateway.call("POST", "/admin/v1/keys/restore"))[2] == {"restored": 1}
    assert gateway.keys.reasons == ()


async def test_the_admin_server_stops_cleanly(gateway: KeyGateway) -> None:
    """Cancelling the server lets a request in flight finish, closes the port, and leaves nothing running."""
    assert gateway.serving is not None
    pending = asyncio.ensure_future(gateway.call("GET", "/admin/v1/snapshot"))
    await asyncio.sleep(0.05)
    gateway.serving.cancel()
    assert (await pending)[0] == 200
    with pytest.raises(asyncio.CancelledError):
        await gateway.serving
    with pytest.raises(OSError, match="refused"):
        await gateway.call("GET", "/admin/v1/snapshot")


async def nexus(gateway: KeyGateway, home: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command as a user does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}  # noqa: TID251
    environment |= {
        "NEXUS_HOME": str(home),
        "NEXUS_GATEWAY_ADMIN_PORT": str(gateway.port),
        "NEXUS_GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN,
    }
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "nexus"),
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_key_for_a_model_that_nothing_names_comes_with_a_warning(gateway: KeyGateway) -> None:
    """The key is issued, for routes come and go; a model with a route, or of a rule, is none to warn of."""
    order = {"tenant": "acme", "name": "ci", "models": ["m", "alias", "tpyo"]}
    status, _, issued = await gateway.call("POST", "/admin/v1/keys", order)
    assert status == 201
    assert [warning.split("'")[1] for warning in issued["warnings"]] == ["tpyo"]
    assert gateway.accepts(issued["credential"])


@pytest.mark.timeout(180)  # eight starts of the command, which imports the whole SDK
async def test_the_command_does_what_the_admin_api_does(gateway: KeyGateway, tmp_path: Path) -> None:
    """`nexus keys` does all that there is; with --json stdout is one object; errors have their exit code."""
    ask = ("keys", "issue", "acme", "ci", "--model", "m", "--model", "tpyo", "--days", "1")
    code, out, err = await nexus(gateway, tmp_path, *ask)
    assert code == 0, err
    assert "warning: no route and no routing rule names model 'tpyo'" in err
    assert gateway.accepts(out.strip())
    assert "shown this once" in err
    key_id = out.split("_")[1]
    code, out, _ = await nexus(gateway, tmp_path, "keys", "rotate", key_id, "--overlap-hours", "0", "--json")
    rotated = json.loads(out)
    assert (code, rotated["key"]["rotated_from"]) == (0, key_id)
    assert gateway.accepts(rotated["credential"])
    code, out, _ = await nexus(gateway, tmp_path, "keys", "revoke", rotated["key"]["id"], "--json")
    assert (code, json.loads(out)["state"]) == (0, "revoked")
    assert not gateway.accepts(rotated["credential"])
    code, out, _ = await nexus(gateway, tmp_path, "keys", "list", "--json")
    assert [key["state"] for key in json.loads(out)["keys"]] == ["revoked", "expired"]
    code, out, _ = await nexus(gateway, tmp_path, "keys", "list")
    assert code == 0
    assert key_id in out
    assert rotated["credential"] not in out
    code, out, err = await nexus(gateway, tmp_path, "keys", "restore")
    assert (code, out) == (0, "0 keys are written back\n"), err
    code, _, err = await nexus(gateway, tmp_path, "keys", "revoke", "../../x")
    assert (code, "nothing at this path" in err) == (2, True)
    code, out, _ = await nexus(gateway, tmp_path, "keys", "list", "--url", "http://127.0.0.1:1", "--json")
    assert code == 1
    assert ADMIN_TOKEN not in out


async def test_refused_and_failed_attempts_are_in_the_audit_log(
    gateway: KeyGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A change that is refused leaves its line as well."""
    caplog.set_level(logging.INFO)
    await gateway.call("POST", "/admin/v1/keys", {"tenant": "nobody", "name": "n"})
    await gateway.call("POST", "/admin/v1/keys/000000000000/revoke")
    assert [(line["action"], line["outcome"]) for line in audit_lines(caplog)] == [
        ("key.issue", "invalid_request"), ("key.revoke", "not_found"),
    ]  # fmt: skip
