"""Which model answers a request: aliases, switches and experiments, as ordered rules over a snapshot's routes.

Rules that name models are looked up by model, so that a thousand rules cost the requests of other models nothing. The
first rule that matches and has a target with a route decides; its answer is not looked up in the rules again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from gateway.auth.principal import Principal
from gateway.errors import ForbiddenError, ModelNotFoundError
from gateway.routing.request import STICKY_HEADERS, RouteRequest
from gateway.routing.snapshot import ModelRoute
from gateway.routing.split import pick, seed_of
from serving.contracts.routing_rules import MODEL_PLACEHOLDER, Match, RoutingRule, RuleTarget, StickyBy, rule_problems

_USER: Final = StickyBy.USER


class Decision:
    """Where a request goes.

    Attributes:
        route: The model that answers.
        rule: Name of the rule that decided; None when the model was taken as asked.
        arm: Model that an experiment's split chose; None where the rule has one target only.
        sticky: What keeps the request on its side of the route.
        models: Models that the caller may use; None for all. Fallbacks outside are not used.
        routes: All routes of the same snapshot, where fallbacks are looked up.
    """

    __slots__ = ("arm", "models", "route", "routes", "rule", "sticky")

    def __init__(
        self,
        route: ModelRoute,
        rule: str | None,
        arm: str | None,
        sticky: bytes,
        models: frozenset[str] | None,
        routes: Mapping[str, ModelRoute],
    ) -> None:
        self.route = route
        self.rule = rule
        self.arm = arm
        self.sticky = sticky
        self.models = models
        self.routes = routes


class Matcher:
    """A `Match` made ready: every condition that is given must hold. Rules, and shadows, use it."""

    __slots__ = ("_claims", "_headers", "_min_bytes", "_models", "_structured", "_tenants", "_tools")

    def __init__(self, match: Match) -> None:
        self._models = frozenset(match.models) or None
        self._tenants = frozenset(match.tenants) or None
        self._headers = tuple((name.encode(), value.encode()) for name, value in match.headers.items())
        self._claims = tuple(match.claims.items())
        self._tools = match.tools
        self._structured = match.structured_output
        self._min_bytes = match.min_prompt_bytes or 0

    def __call__(self, request: RouteRequest) -> bool:
        """Tell whether a request matches; what costs least is looked at first."""
        for name, value in self._headers:
            if request.headers.get(name) != value:
                return False
        principal = request.principal
        for claim, text in self._claims:
            if principal.claims.get(claim) != text:
                return False
        return (
            (self._models is None or request.model in self._models)
            and (self._tenants is None or principal.tenant in self._tenants)
            and request.body_bytes >= self._min_bytes
            and (self._tools is None or request.has_tools is self._tools)
            and (self._structured is None or request.wants_structure is self._structured)
        )

    def lets(self, principal: Principal) -> bool:
        """Tell whether some request of a caller could match."""
        claims = principal.claims
        return (self._tenants is None or principal.tenant in self._tenants) and all(
            claims.get(claim) == text for claim, text in self._claims
        )


class _Arm:
    """One target of a rule, in the form that `pick` splits over."""

    __slots__ = ("before", "behind", "model", "placeholder", "seed", "weight")

    def __init__(self, rule: str, target: RuleTarget) -> None:
        self.model = target.model
        self.before, self.placeholder, self.behind = target.model.partition(MODEL_PLACEHOLDER)
        self.weight = float(target.weight_percent)
        self.seed = seed_of("rule", rule, target.model)

    def resolve(self, asked: str) -> str:
        return f"{self.before}{asked}{self.behind}" if self.placeholder else self.model


class _Rule:
    __slots__ = ("arms", "matches", "name", "split", "sticky_by")

    def __init__(self, rule: RoutingRule) -> None:
        self.name = rule.name
        self.matches = Matcher(rule.match)
        self.arms = tuple(_Arm(rule.name, target) for target in rule.to if target.weight_percent > 0)
        self.split = len(self.arms) > 1
        self.sticky_by = rule.sticky_by

    def choose(self, request: RouteRequest, routes: Mapping[str, ModelRoute]) -> ModelRoute | None:
        """Return the route of the target that a request gets; None when no target has one."""
        if not self.split:
            return routes.get(self.arms[0].resolve(request.model))
        arms = [arm for arm in self.arms if arm.resolve(request.model) in routes]
        return routes[pick(request.sticky_id(self.sticky_by), arms).resolve(request.model)] if arms else None

    def answers(self, model: str, routes: Mapping[str, ModelRoute]) -> set[str]:
        """Return the models with a route that may answer for one."""
        return {arm.resolve(model) for arm in self.arms} & routes.keys()


class RuleBook:
    """Rules made ready; shared by all snapshots of the same documents.

    Args:
        rules: In order.
        models: Models that have a route.
        headers: Names of further headers that are looked at once a route is chosen.

    Attributes:
        headers: Names of all headers that routing looks at.
        unapplied: One sentence for each rule that cannot take effect, or not with all its targets.
    """

    __slots__ = ("everywhere", "headers", "of_model", "unapplied")

    def __init__(
        self, rules: Sequence[RoutingRule], models: Collection[str], headers: frozenset[bytes] = frozenset()
    ) -> None:
        self.headers = STICKY_HEADERS | headers | {name.encode() for rule in rules for name in rule.match.headers}
        self.unapplied = rule_problems(rules, models)
        ready = [(rule.match.models, _Rule(rule)) for rule in rules]
        self.everywhere = tuple(rule for named, rule in ready if not named)
        by_model: dict[str, list[_Rule]] = {model: [] for named, _ in ready for model in named}
        for named, rule in ready:
            for model in named or by_model:
                by_model[model].append(rule)
        self.of_model = {model: tuple(found) for model, found in by_model.items()}


class Router:
    """Decides over one snapshot's routes.

    Args:
        book: The policy's rules.
        routes: By model.
    """

    __slots__ = ("_everywhere", "_of_model", "_routes", "headers", "unapplied")

    def __init__(self, book: RuleBook, routes: Mapping[str, ModelRoute]) -> None:
        self._everywhere = book.everywhere
        self._of_model = book.of_model
        self._routes = routes
        self.headers = book.headers
        self.unapplied = book.unapplied

    def names(self, principal: Principal) -> set[str]:
        """Return the models that a caller may ask for: those with a route, and aliases that answer for one.

        What rules ask of a request itself (headers, tools, size) is the caller's to choose, and not looked at.
        """
        routes, models = self._routes, principal.models
        names = set(routes) if models is None else set(routes) & models
        for alias, rules in self._of_model.items():
            found = (rule.answers(alias, routes) for rule in rules if rule.matches.lets(principal))
            if any(answers and (models is None or alias in models or answers <= models) for answers in found):
                names.add(alias)
        return names

    def decide(self, request: RouteRequest) -> Decision:
        """Return where a request goes.

        Raises:
            ModelNotFoundError: Neither a rule nor a route knows the model.
            ForbiddenError: The credential allows neither the model that was asked for nor the one that would answer.
        """
        routes = self._routes
        model = request.model
        route: ModelRoute | None = None
        name: str | None = None
        arm: str | None = None
        for rule in self._of_model.get(model, self._everywhere):
            if rule.matches(request):
                route = rule.choose(request, routes)
                if route is not None:
                    name = rule.name
                    arm = route.model if rule.split else None
                    break
        else:
            route = routes.get(model)
        if route is None:
            raise ModelNotFoundError(
                f"expected a model that is served, see /v1/models; got {model[:100]!r}", param="model"
            )
        models = request.principal.models
        if models is not None and model not in models and route.model not in models:
            raise ForbiddenError(
                f"expected a model that this credential may use; got {model[:100]!r}: ask its owner", param="model"
            )
        by = route.sticky_by
        return Decision(route, name, arm, request.user if by is _USER else request.sticky_id(by), models, routes)
