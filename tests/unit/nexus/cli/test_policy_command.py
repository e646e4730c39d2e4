from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nexus.cli.main import app

POLICY = """kind: GatewayPolicy
metadata: {name: gateway}
spec:
  authentication:
    required: true
  tenants:
    - {name: acme, models: [m, gone]}
  limits:
    rules:
      - {name: daily, scope: tenant, usd_per_day: 5}
  routing:
    - name: all
      match: {}
      to: [{model: absent}]
    - name: never
      match: {}
      to: [{model: m}]
"""
ROUTE = """kind: Route
metadata: {name: m}
spec:
  model: m
  fallbacks: [nowhere]
  endpoints:
    - {service: m-1, side: stable, weight_percent: 100}
"""
SHIPPED = Path(__file__).resolve().parents[4] / "manifests/apps/gateway/envs/local/policy.yaml"
CLEAN = "kind: GatewayPolicy\nmetadata: {name: gateway}\nspec: {}\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEXUS_PROFILE", "cluster")
    monkeypatch.delenv("NEXUS_GATEWAY_REDIS_URL", raising=False)


def folder(tmp_path: Path, policy: str = POLICY, route: str | None = ROUTE) -> Path:
    (tmp_path / "routes").mkdir()
    (tmp_path / "policy.yaml").write_text(policy)
    if route is not None:
        (tmp_path / "routes/m.yaml").write_text(route)
    return tmp_path


def check(path: Path, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["policy", "check", str(path), *options])
    return result.exit_code, result.stdout, result.stderr


def test_a_clean_policy_can_be_used(tmp_path: Path) -> None:
    """A policy with nothing wrong says so and exits with 0."""
    code, out, err = check(folder(tmp_path, CLEAN, ROUTE.replace("  fallbacks: [nowhere]\n", "")))
    assert (code, err) == (0, "")
    assert "can be used" in out


@pytest.mark.parametrize("with_route", [False, True])
def test_the_shipped_policy_raises_no_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_route: bool) -> None:
    """Neither as it is shipped nor beside a route is there anything to say about the policy that a home starts with."""
    monkeypatch.setenv("NEXUS_PROFILE", "local")
    route = ROUTE.replace("  fallbacks: [nowhere]\n", "") if with_route else None
    code, out, err = check(folder(tmp_path, SHIPPED.read_text(), route))
    assert (code, err) == (0, "")
    assert out.strip().endswith("can be used")


def test_every_doubt_is_named_with_file_line_and_path(tmp_path: Path) -> None:
    """What would load and not do what was meant is a warning with its place, and the exit code stays 0."""
    code, out, _ = check(folder(tmp_path), "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["problems"]) == (0, True, [])
    found = [(Path(w["file"]).name, w["line"], w["path"], w["message"]) for w in document["warnings"]]
    assert found == [
        ("policy.yaml", 14, "spec.routing[0].to", "rule all is passed over: no route for absent"),
        ("policy.yaml", 13, "spec.routing[0].match", "rule all matches every request: no rule behind it is ever tried"),
        ("policy.yaml", 7, "spec.tenants[0].models", "no route and no rule for gone"),
        ("policy.yaml", 10, "spec.limits.rules[0]", "limit daily is in USD; routes without a price count as free: m"),
        (
            "policy.yaml", 8, "spec.limits",
            "1 limits need Redis: a gateway without NEXUS_GATEWAY_REDIS_URL refuses this policy",
        ),
        (
            "policy.yaml", 5, "spec.authentication.required",
            "API keys need Redis: a gateway without NEXUS_GATEWAY_REDIS_URL can let nobody in",
        ),
        ("m.yaml", 5, "spec.fallbacks[0]", "no route for the fallback nowhere: it is passed over"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [("NEXUS_GATEWAY_REDIS_URL", "redis://:secret@127.0.0.1/0"), ("NEXUS_PROFILE", "local")]
)
def test_with_redis_nothing_is_said_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Where Redis is set, or the local node starts one, limits and keys are no reason for a warning."""
    monkeypatch.setenv(name, value)
    _, out, err = check(folder(tmp_path))
    assert "Redis" not in err
    assert "secret" not in out + err


def test_every_problem_of_every_document_is_listed(tmp_path: Path) -> None:
    """Problems in several documents come at once with file, line and path, and exit code 2."""
    broken = ROUTE.replace("side: stable", "side: main")
    code, out, err = check(folder(tmp_path, POLICY.replace("required: true", "required: maybe\n    jtw: []"), broken))
    assert (code, out) == (2, "")
    assert "policy.yaml:5: spec.authentication.required" in err
    assert "policy.yaml:6: spec.authentication.jtw: unknown key" in err
    assert "m.yaml:7: spec.endpoints[0].side" in err
    code, out, _ = check(tmp_path, "--json")
    document = json.loads(out)
    assert (code, document["ok"]) == (2, False)
    assert {problem["path"] for problem in document["problems"]} >= {
        "spec.authentication.required", "spec.authentication.jtw", "spec.endpoints[0].side",
    }  # fmt: skip
    assert set(document["problems"][0]) == {"file", "line", "path", "message"}


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (CLEAN, 0, ""),
        (ROUTE, 0, ""),
        (ROUTE.replace("model: m", "modle: m"), 2, "spec.modle: unknown key"),
        (CLEAN.replace("{}", "{limitz: 1}"), 2, "spec.limitz: unknown key"),
        ("kind: [", 2, "file.yaml:1"),
        ("", 2, "empty file"),
        ("[]", 2, "file.yaml:1"),
        ("kind: Release", 2, "kind"),
    ],
)
def test_one_document_is_read_as_what_it_says_it_is(tmp_path: Path, text: str, code: int, said: str) -> None:
    """A policy and a route can be checked alone; anything else is told what was expected."""
    (tmp_path / "file.yaml").write_text(text)
    got, _, err = check(tmp_path / "file.yaml")
    assert got == code
    assert said in err


def test_clear_text_keys_and_tokens_without_tenants_are_doubted(tmp_path: Path) -> None:
    """An issuer whose keys come by plain HTTP from elsewhere is named, one on loopback is not."""
    issuer = '{{issuer: "{0}", audience: a, algorithms: [RS256], jwks_url: "{1}"}}'
    jwt = ", ".join(
        [
            issuer.format("a", "http://idp/jwks"),
            issuer.format("b", "http://127.0.0.1/jwks"),
            issuer.format("c", "https://idp"),
        ]
    )
    _, _, err = check(folder(tmp_path, CLEAN.replace("{}", f"{{authentication: {{jwt: [{jwt}]}}}}"), None))
    lines = err.splitlines()
    assert len(lines) == 2
    assert "spec.authentication.jwt[0].jwks_url: keys come in clear text" in lines[0]
    assert "no tenants are listed, so every token is refused" in lines[1]
