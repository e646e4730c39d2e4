"""The main job in one command: a first stable version, a quantized successor, and a bad candidate that is stopped."""

from __future__ import annotations

import json as json_module
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
from rich.table import Table

from nexus.cli.output import EXIT_FAILURE, JsonOption, err, out, print_json
from nexus.cli.release import run_with_view, show_outcome
from nexus.cli.waiting_view import waiting_view
from nexus.client import NexusClient
from nexus.outcome import ReleaseOutcome, ReleaseResult
from serving.local.errors import NodeError

MODEL: Final = "support-assistant"
QUESTION: Final = "What does a foreign transfer cost?"
_MANIFESTS: Final = Path(__file__).resolve().parents[2] / "manifests" / "models" / MODEL


@dataclass(frozen=True)
class Act:
    """One release of the demo and the verdict it must get."""

    title: str
    spec: str
    expected: ReleaseResult


ACTS: Final = (
    Act("Act 1a: the base weights become the first stable version", "base.yaml", ReleaseResult.PROMOTED),
    Act("Act 1b: a quantized candidate replaces them through the canary", "release.yaml", ReleaseResult.PROMOTED),
    Act("Act 2: a candidate that hurts users is rolled back", "regression.yaml", ReleaseResult.ROLLED_BACK),
)


def demo(json: JsonOption = False) -> None:
    """Run the main job on this machine. Exit code 0 when every act gets the verdict it must get."""
    started = time.monotonic()
    client = NexusClient()
    outcomes: list[ReleaseOutcome] = []
    for act in ACTS:
        (err if json else out).rule(f"[bold]{act.title}")
        outcome = run_with_view(client, _MANIFESTS / act.spec, json=json)
        outcomes.append(outcome)
        if not json:
            show_outcome(outcome)
        if outcome.result is not act.expected:
            break
    right = [outcome.result for outcome in outcomes] == [act.expected for act in ACTS]
    if right:
        try:
            with waiting_view(err) as say:
                client.up(say)
        except NodeError as exc:  # it may be another model's engine; the verdicts are what they are
            err.print(f"warning: {exc}", markup=False, soft_wrap=True)
    seconds = round(time.monotonic() - started, 1)
    if json:
        print_json(
            {"right": right, "seconds": seconds, "acts": [outcome.model_dump(mode="json") for outcome in outcomes]}
        )
    else:
        _summary(outcomes, seconds, port=client.settings.gateway_port, right=right)
    raise typer.Exit(0 if right else EXIT_FAILURE)


def _summary(outcomes: list[ReleaseOutcome], seconds: float, *, port: int, right: bool) -> None:
    out.rule("[bold]Verdicts")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("spec", "verdict", "expected", "seconds"):
        table.add_column(column)
    for act, outcome in zip(ACTS, outcomes, strict=False):
        mark = "[green]✔[/]" if outcome.result is act.expected else "[red]✘[/]"
        table.add_row(act.spec, f"{mark} {outcome.result}", act.expected, f"{outcome.seconds:.0f}")
    out.print(table)
    out.print("\nreports, to open in a browser:")
    for outcome in outcomes:
        out.print(f"  {outcome.report or 'none'}", markup=False, soft_wrap=True)
    if not right:
        out.print("[bold red]not every verdict is the expected one[/]; the reports say why")
        return
    out.print(f"\nall verdicts are right, in {seconds:.0f} s. The gateway serves the promoted version; ask it:")
    body = json_module.dumps({"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]})
    out.print(
        f"curl -s http://127.0.0.1:{port}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
        markup=False,
        soft_wrap=True,
    )
    out.print("\n`make down` stops everything.")
