"""The first commit of an environment: its gateway policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from serving import layout
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.load import parse_document
from serving.gitops import GitOps, Snapshot
from serving.release_history import ENVIRONMENT_TRAILER, STEP_TRAILER
from serving.settings import SettingsError

_REPOSITORY = Path(__file__).resolve().parent.parent


def seed_environment(gitops: GitOps, environment: str, policy_text: str | None = None) -> str | None:
    """Write the gateway policy into an environment that has none.

    Args:
        gitops: Repository; must exist (`ensure`).
        environment: Folder under `envs/`.
        policy_text: Policy document; by default the one this installation ships for the environment.

    Returns:
        The commit, or None when there was a policy.

    Raises:
        DocumentError: The policy is wrong.
        SettingsError: This installation ships none for the environment.
    """
    path = layout.policy_path(environment)
    if gitops.head().read(path) is not None:
        return None
    text = _shipped(path, environment) if policy_text is None else policy_text
    parse_document(text, GatewayPolicy, source=path)

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        return {path: text} if head.read(path) is None else None

    trailers = {ENVIRONMENT_TRAILER: environment, STEP_TRAILER: "seeded"}
    return gitops.commit(change, f"Seed environment {environment}", trailers)


def _shipped(path: str, environment: str) -> str:
    try:
        return (_REPOSITORY / path).read_text()
    except FileNotFoundError as exc:
        raise SettingsError(
            f"NEXUS_ENVIRONMENT: expected an environment with a gateway policy, in git or shipped; got "
            f"{environment!r}: correct or unset it, or commit {path}"
        ) from exc
