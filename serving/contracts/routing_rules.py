"""Which model answers: aliases, matches on who asks and what is asked, experiments. One mechanism: ordered rules."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from serving.contracts.base import ModelName, Name, StrictModel

HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
"""A header in lower case."""

MODEL_PLACEHOLDER: Final = "{model}"

TargetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/{}-]{1,128}$")]
"""A model that has a route; `{model}` stands for the one that was asked for."""


class StickyBy(StrEnum):
    """What keeps its side while weights stay."""

    USER = "user"
    SESSION = "session"
    """Header `x-nexus-session`, else the user."""
    CONVERSATION = "conversation"
    """Header `x-nexus-conversation`, else the conversation's first messages, else the user."""


class Match(StrictModel):
    """What a request must be like; everything given must hold, nothing given matches all."""

    models: tuple[ModelName, ...] = Field(default=(), description="The model asked for is one of these.")
    tenants: tuple[Name, ...] = ()
    headers: dict[HeaderName, str] = Field(default_factory=dict, description="Exact values.")
    claims: dict[str, str] = Field(default_factory=dict, description="Exact values of the token's claims.")
    tools: bool | None = Field(default=None, description="Whether it brings tools.")
    structured_output: bool | None = Field(default=None, description="Whether it asks for a JSON schema or grammar.")
    min_prompt_bytes: int | None = Field(default=None, ge=1, description="Length of the body.")

    @property
    def is_empty(self) -> bool:
        """Whether it matches every request."""
        return self == Match()


class RuleTarget(StrictModel):
    """A model and its share of the users."""

    model: TargetName
    weight_percent: int = Field(default=100, ge=0, le=100)


class RoutingRule(StrictModel):
    """An alias (match on the model), a switch (match on anything), or an experiment (several targets).

    A rule none of whose targets has a route is passed over, and `nexus policy check` and `/health/ready` say so, unless
    a target has `{model}` in it: that is for whichever models have such a route.
    """

    name: Name
    match: Match
    to: tuple[RuleTarget, ...] = Field(min_length=1)
    sticky_by: StickyBy = StickyBy.USER

    @model_validator(mode="after")
    def _weights(self) -> Self:
        total = sum(target.weight_percent for target in self.to)
        if total != 100:
            raise ValueError(f"weights must sum to 100; got {total}")
        names = [target.model for target in self.to]
        if len(set(names)) != len(names):
            raise ValueError("a model stands at most once among the targets")
        return self


def rule_problems(rules: Sequence[RoutingRule], models: Collection[str]) -> tuple[str, ...]:
    """Say which rules, and which targets of others, cannot take effect because they have no route.

    Args:
        rules: All rules, in order.
        models: Models that have a route.
    """
    problems: list[str] = []
    for rule in rules:
        named = [target.model for target in rule.to if MODEL_PLACEHOLDER not in target.model]
        absent = [model for model in named if model not in models]
        if len(absent) == len(rule.to):
            problems.append(f"rule {rule.name} is passed over: no route for {', '.join(absent)}")
        elif absent:
            problems.append(f"rule {rule.name} leaves out {', '.join(absent)}: no route; its users go to the others")
    return tuple(problems)
