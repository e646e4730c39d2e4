from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.auth.principal import ANONYMOUS, Principal
from gateway.errors import ForbiddenError, ModelNotFoundError
from gateway.routing.builder import SnapshotBuilder
from gateway.routing.request import RouteRequest
from gateway.routing.rules import Router
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.policy_folder import PolicyDocuments
from serving.contracts.route import Route
from serving.contracts.routing_rules import Match, RoutingRule


def router(rules: Sequence[dict[str, Any]], *models: str, **specs: Any) -> Router:
    routes = tuple(
        Route.model_validate(
            {
                "kind": "Route",
                "metadata": {"name": model},
                "spec": {"model": model, "endpoints": [{"service": model, "side": "stable", "weight_percent": 100}]}
                | specs.get(model, {}),
            }
        )
        for model in models
    )
    body = {"kind": "GatewayPolicy", "metadata": {"name": "g"}, "spec": {"routing": rules, "tenants": [{"name": "t"}]}}
    return SnapshotBuilder().build(PolicyDocuments("r", GatewayPolicy.model_validate(body), routes), None).router


def asked(model: str = "m", user: str = "u", principal: Principal = ANONYMOUS, **more: Any) -> RouteRequest:
    headers = {name.encode(): value.encode() for name, value in more.get("headers", {}).items()}
    return RouteRequest(model, principal, user.encode(), headers, more.get("document", {}), more.get("body_bytes", 10))


def to(*targets: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"model": model, "weight_percent": weight} for model, weight in targets]


def rule(name: str, match: dict[str, Any], *targets: tuple[str, int], **more: Any) -> dict[str, Any]:
    return {"name": name, "match": match, "to": to(*targets)} | more


SGLANG = rule("complex", {"headers": {"x-nexus-workflow": "multi-step"}}, ("{model}-sglang", 100))
MULTI_STEP = {"x-nexus-workflow": "multi-step"}


def test_complex_workflows_go_to_sglang_and_all_else_to_vllm() -> None:
    """With the header a model's sglang twin answers; without it, or for a model without a twin, the model itself."""
    chosen = router([SGLANG], "m", "m-sglang", "n")
    decision = chosen.decide(asked(headers=MULTI_STEP))
    assert (decision.route.model, decision.rule, decision.arm) == ("m-sglang", "complex", None)
    assert chosen.decide(asked()).route.model == "m"
    assert chosen.decide(asked(headers={"x-nexus-workflow": "single"})).route.model == "m"
    assert chosen.decide(asked("n", headers=MULTI_STEP)).route.model == "n"
    assert b"x-nexus-workflow" in chosen.headers


def test_the_first_rule_that_matches_and_has_a_route_decides() -> None:
    """Order holds between rules that name the model and rules that do not; a rule without a route is passed over."""
    rules = [
        rule("gone", {"models": ["m"]}, ("absent", 100)),
        rule("all", {"tenants": ["t"]}, ("a", 100)),
        rule("named", {"models": ["m"]}, ("b", 100)),
    ]
    chosen = router(rules, "m", "a", "b")
    assert chosen.decide(asked(principal=Principal("t"))).rule == "all"
    assert chosen.decide(asked()).rule == "named"
    assert chosen.decide(asked("a")).rule is None


def test_rules_that_cannot_take_effect_are_named() -> None:
    """A rule without any route, and a target without one, each give a sentence; others, `{model}` too, give none."""
    rules = [
        SGLANG,
        rule("alias", {"models": ["x"]}, ("absent", 100)),
        rule("ab", {}, ("m", 50), ("gone", 50)),
        rule("ok", {}, ("m", 100)),
        rule("id", {}, ("{model}", 100)),
    ]
    assert router(rules, "m").unapplied == (
        "rule alias is passed over: no route for absent",
        "rule ab leaves out gone: no route; its users go to the others",
    )
    assert router(rules, "m", "absent", "gone").unapplied == ()


def test_an_alias_answers_for_a_name_without_a_route() -> None:
    """A name that only a rule knows is served by the rule's model."""
    decision = router([rule("alias", {"models": ["default"]}, ("m", 100))], "m").decide(asked("default"))
    assert (decision.route.model, decision.rule) == ("m", "alias")


ALIASES = [
    rule("open", {"models": ["default"]}, ("n", 100)),
    rule("split", {"models": ["either"]}, ("m", 50), ("n", 50)),
    rule("passed-over", {"models": ["gone"]}, ("absent", 100)),
    rule("of-t", {"models": ["house"], "tenants": ["t"]}, ("n", 100)),
    rule("of-gold", {"models": ["gold"], "claims": {"plan": "gold"}}, ("n", 100)),
    rule("by-header", {"models": ["beta"], "headers": {"x-beta": "1"}}, ("n", 100)),
    rule("twin", {"models": ["m"], "tools": True}, ("{model}-sglang", 100)),
]


@pytest.mark.parametrize(
    ("principal", "names"),
    [
        (ANONYMOUS, "beta default either m n"),
        (Principal("t"), "beta default either house m n"),
        (Principal("u", claims={"plan": "gold"}), "beta default either gold m n"),
        (Principal("t", models=frozenset({"m"})), "m"),
        (Principal("t", models=frozenset({"n"})), "beta default house n"),
        (Principal("t", models=frozenset({"beta"})), "beta"),
        (Principal("t", models=frozenset({"gone"})), ""),
    ],
)
def test_the_names_that_a_caller_may_use(principal: Principal, names: str) -> None:
    """Models and aliases that answer; none of another tenant's or plan's, none without a route, none not allowed.

    What is listed is answered whoever the user is, and what is not is refused at least to some.
    """
    chosen = router(ALIASES, "m", "n")
    assert sorted(chosen.names(principal)) == names.split()
    for model in ("default", "either", "gone", "house", "gold", "beta", "m", "n", "absent"):
        answered = [_answers(chosen, model, principal, f"user-{number}") for number in range(20)]
        assert all(answered) if model in names.split() else not all(answered), model


def _answers(chosen: Router, model: str, principal: Principal, user: str) -> bool:
    try:
        chosen.decide(asked(model, user, principal, headers={"x-beta": "1"}, document={"tools": [{}]}))
    except (ForbiddenError, ModelNotFoundError):
        return False
    return True


@pytest.mark.parametrize(
    ("match", "hit", "miss"),
    [
        ({"tenants": ["t"]}, {"principal": Principal("t")}, {}),
        ({"headers": {"x-a": "1", "x-b": "2"}}, {"headers": {"x-a": "1", "x-b": "2"}}, {"headers": {"x-a": "1"}}),
        ({"claims": {"plan": "gold"}}, {"principal": Principal("t", claims={"plan": "gold"})}, {}),
        ({"tools": True}, {"document": {"tools": [{}]}}, {"document": {"tools": []}}),
        ({"tools": False}, {}, {"document": {"functions": [{}]}}),
        (
            {"structured_output": True},
            {"document": {"response_format": {"type": "json_schema"}}},
            {"document": {"response_format": {"type": "text"}}},
        ),
        ({"structured_output": True}, {"document": {"text": {"format": {"type": "json_schema"}}}}, {}),
        ({"structured_output": True}, {"document": {"guided_choice": ["a"]}}, {"document": {"text": "x"}}),
        ({"min_prompt_bytes": 100}, {"body_bytes": 100}, {"body_bytes": 99}),
    ],
)
def test_every_condition(match: dict[str, Any], hit: dict[str, Any], miss: dict[str, Any]) -> None:
    """Each condition lets exactly the requests through that it describes."""
    chosen = router([rule("r", match, ("n", 100))], "m", "n")
    assert chosen.decide(asked(**hit)).rule == "r"
    assert chosen.decide(asked(**miss)).rule is None


def test_an_experiment_splits_by_weight_and_keeps_each_user() -> None:
    """A quarter of the users gets the second arm, always the same one, whatever their route's own split is."""
    chosen = router([rule("ab", {"models": ["m"]}, ("a", 75), ("b", 25))], "a", "b")
    arms = {f"u{i}": chosen.decide(asked(user=f"u{i}")).arm for i in range(2000)}
    assert 0.2 < Counter(arms.values())["b"] / 2000 < 0.3
    assert all(chosen.decide(asked(user=user)).arm == arm for user, arm in arms.items())


def test_an_arm_without_a_route_leaves_its_users_to_the_others() -> None:
    """Of three arms the users of the one that is gone are split, and nobody else moves."""
    rules = [rule("ab", {"models": ["m"]}, ("a", 50), ("b", 30), ("c", 20))]
    whole, less = router(rules, "a", "b", "c"), router(rules, "a", "b")
    users = [f"u{i}" for i in range(300)]
    before, after = ([one.decide(asked(user=user)).arm for user in users] for one in (whole, less))
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "c")
    assert {new for old, new in zip(before, after, strict=True) if old == "c"} == {"a", "b"}


def test_who_may_use_what() -> None:
    """Allowed are the model asked for and the one that answers; all else is forbidden, or not found."""
    chosen = router([SGLANG, rule("alias", {"models": ["default"]}, ("m", 100))], "m", "m-sglang", "n")
    principal = Principal("t", models=frozenset({"m"}))
    assert chosen.decide(asked(principal=principal)).models == {"m"}
    assert chosen.decide(asked(principal=principal, headers=MULTI_STEP)).route.model == "m-sglang"
    assert chosen.decide(asked("default", principal=principal)).route.model == "m"
    with pytest.raises(ForbiddenError):
        chosen.decide(asked("n", principal=principal))
    for who in (principal, ANONYMOUS):
        with pytest.raises(ModelNotFoundError):
            chosen.decide(asked("x", principal=who))


def test_a_thousand_rules_do_not_touch_other_models() -> None:
    """Rules that name models are looked up by model: of a thousand, another model meets none."""
    rules = [rule(f"r{i}", {"models": [f"alias{i}"]}, ("m", 100)) for i in range(1000)]
    chosen = router([*rules, SGLANG], "m")
    assert len(chosen._of_model.get("m", chosen._everywhere)) == 1
    assert len(chosen._of_model["alias7"]) == 2


def test_headers_of_rules_and_of_shadows_are_wanted() -> None:
    """The names that intake keeps are those of rules, of shadows, and of sessions and conversations."""
    shadow = {"shadow": {"model": "n", "fraction": 0.1, "match": {"headers": {"x-copy": "1"}}}}
    assert router([SGLANG], "m", "n", m=shadow).headers == {
        b"x-nexus-workflow", b"x-copy", b"x-nexus-session", b"x-nexus-conversation",
    }  # fmt: skip


def test_an_empty_match_matches_all() -> None:
    """A match without conditions is known as such."""
    assert Match().is_empty
    assert RoutingRule.model_validate(rule("r", {}, ("m", 100))).match.is_empty
