"""Repeat the canary step of both acts and count right verdicts: `python tests/load/repeat_canary.py --runs 10`.

Needs a home in which the demo has run: weights, registered versions and data are taken from its records, so that one
run is deploy, canary and conclusion alone. Before each run the environment is put back, by a commit, to the version
that was stable when the demo judged that act. Appends one JSON line a run to `--out` and prints a table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.analyze_canary.gitops_canary import analyze_in_git
from components.conclude_release.logic import conclude
from components.deploy_kserve.logic import deploy
from nexus.client import NexusClient
from serving import layout
from serving import release_history as history
from serving.contracts.canary_verdict import CanaryVerdict, Decision
from serving.contracts.model_version import ModelVersion
from serving.contracts.registration import Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import Snapshot
from serving.record import ReleaseRecord
from serving.release_changes import keep_one
from serving.release_documents import to_yaml
from serving.resolve import resolve_release
from serving.step_context import StepContext

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests/models/support-assistant"


@dataclass(frozen=True)
class Act:
    """One act's release as the demo ran it."""

    spec: Path
    expected: Decision


ACTS = {
    "1": Act(MANIFESTS / "release.yaml", Decision.PROMOTE),
    "2": Act(MANIFESTS / "regression.yaml", Decision.ROLL_BACK),
}


class MissingDemoError(Exception):
    """The home has no finished demo."""


def run_once(client: NexusClient, act: Act) -> dict[str, object]:
    """Put the stable version back, run deploy, canary and conclusion as a new attempt, and tell the verdict."""
    first = resolve_release(act.spec)
    registration, stable = _demo_run(client, first)
    restore(client, first.spec.model, stable)
    release = _next_attempt(client, act.spec)
    step = StepContext(release, client.settings, ReleaseRecord(client.settings.release_dir(release.release_id)))
    started = time.monotonic()
    deployment = deploy(release, registration, settings=step.settings, record=step.record)
    verdict = analyze_in_git(step, deployment, _data(client, first))
    conclude(release, registration, verdict, settings=step.settings, record=step.record)
    return _row(act, release, verdict, time.monotonic() - started)


def restore(client: NexusClient, model: str, stable: ModelVersion) -> None:
    """Make a version the stable one again by a commit."""
    environment = client.settings.environment

    def change(head: Snapshot) -> Mapping[str, str | None] | None:
        if history.version_at(head, model, environment) == stable:
            return None
        files = keep_one(head, model, environment, stable)
        return {**files, layout.version_path(model, environment): to_yaml(stable)}

    client.gitops.commit(change, f"Restore {stable.spec.service} as stable", {history.STEP_TRAILER: "restored"})


def _demo_run(client: NexusClient, release: ResolvedRelease) -> tuple[Registration, ModelVersion]:
    record = ReleaseRecord(client.settings.release_dir(release.release_id))
    registration = record.read("registration", Registration)
    deployed = history.read_release(client.gitops, release.release_id, client.settings.environment).commit(
        history.Step.DEPLOYED
    )
    if registration is None or deployed is None:
        raise MissingDemoError(
            f"expected the demo's release {release.release_id} in {record.folder}; run `make demo` first"
        )
    parent = client.gitops.git("rev-parse", f"{deployed}^").strip()
    stable = history.version_at(Snapshot(client.gitops, parent), release.spec.model, client.settings.environment)
    if stable is None:
        raise MissingDemoError(f"expected a stable version before {deployed}; {release.release_id} was a first release")
    return registration, stable


def _next_attempt(client: NexusClient, spec: Path) -> ResolvedRelease:
    attempt = 2
    while history.read_release(
        client.gitops, resolve_release(spec, attempt=attempt).release_id, client.settings.environment
    ).transitions:
        attempt += 1
    return resolve_release(spec, attempt=attempt)


def _data(client: NexusClient, release: ResolvedRelease) -> Path:
    found = sorted(client.settings.release_dir(release.release_id).glob("pipeline/**/live.jsonl"))
    if not found:
        raise MissingDemoError(f"expected live.jsonl below the record of {release.release_id}; run `make demo` first")
    return found[0].parent


def _row(act: Act, release: ResolvedRelease, verdict: CanaryVerdict, seconds: float) -> dict[str, object]:
    return {
        "spec": act.spec.name,
        "release": release.release_id,
        "expected": act.expected.value,
        "decision": verdict.decision.value,
        "right": verdict.decision is act.expected,
        "reason": verdict.reason,
        "candidate_requests": verdict.candidate_requests,
        "total_requests": verdict.total_requests,
        "users_total": verdict.users_total,
        "users_on_candidate": verdict.users_on_candidate,
        "max_weight_percent": verdict.max_weight_percent,
        "canary_seconds": round(verdict.seconds, 1),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    """Run the acts and print what came of them; exit code 0 when every verdict was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--acts", default="1,2", help="acts to repeat, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("repeat-canary.jsonl"))
    arguments = parser.parse_args()
    client = NexusClient()
    client.up()
    rows = []
    for name in arguments.acts.split(","):
        for number in range(arguments.runs):
            row = run_once(client, ACTS[name])
            rows.append(row)
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"act {name} run {number + 1}/{arguments.runs}: {row['decision']} after {row['candidate_requests']} "
                f"candidate requests, {row['canary_seconds']} s",
                flush=True,
            )
    right = sum(bool(row["right"]) for row in rows)
    print(f"{right} of {len(rows)} verdicts right")
    return 0 if right == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
