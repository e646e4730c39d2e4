"""Whether requests can be answered: by this process, and by the whole gateway of several."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from gateway.auth.authenticator import Authenticator
from gateway.policy_store import PolicyStore, Readiness


def own_health(store: PolicyStore, authenticator: Authenticator) -> Readiness:
    """Say how this process is."""
    policy = store.readiness
    ready = policy.ready and authenticator.ready
    return Readiness(ready, policy.reasons + authenticator.reasons, policy.revision, policy.unapplied)


def dump_health(health: Readiness) -> bytes:
    """Return what `whole_health` reads."""
    return orjson.dumps(health)


def whole_health(answers: Sequence[bytes | None]) -> Readiness:
    """Say how a gateway is whose workers answer so.

    It is ready when each that answers is: the kernel gives connections to all of them. One that does not answer is
    named, and the gateway stays ready: connections to it wait for its successor, and the others go on. The revision is
    the one that all answer by; while they differ there is none.

    Args:
        answers: Of each worker, in their order, what `dump_health` made; None of one that did not answer.
    """
    healths = {index: Readiness(**orjson.loads(answer)) for index, answer in enumerate(answers) if answer is not None}
    revisions = {health.revision for health in healths.values()}
    reasons = [
        f"worker {index} does not answer the others: it is starting, hung or busy"
        for index, answer in enumerate(answers)
        if answer is None
    ]
    if len(revisions) > 1:
        said = ", ".join(f"worker {index} by {health.revision or 'none'}" for index, health in healths.items())
        reasons.append(f"the workers answer by different revisions: {said}")
    for reason in _united(healths, "reasons"):
        those = [index for index, health in healths.items() if reason in health.reasons]
        reasons.append(reason if len(those) == len(answers) else f"worker {', '.join(map(str, those))}: {reason}")
    return Readiness(
        ready=bool(healths) and all(health.ready for health in healths.values()),
        reasons=tuple(reasons),
        revision=revisions.pop() if len(revisions) == 1 else None,
        unapplied=_united(healths, "unapplied"),
    )


def _united(healths: dict[int, Readiness], field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for health in healths.values() for text in getattr(health, field)))
