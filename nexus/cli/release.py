"""Commands about releases: release, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexus.cli.output import JsonOption, err, out, print_json
from nexus.cli.progress_view import progress_view
from nexus.client import NexusClient
from nexus.outcome import EXIT_CODES, ReleaseOutcome, ReleaseResult

SpecArgument = Annotated[Path, typer.Argument(help="Release spec, such as manifests/models/<model>/release.yaml.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Judge the same content once more, as a new attempt.")]
AbandonOption = Annotated[bool, typer.Option("--abandon", help="Take an unfinished release of this spec out again.")]
ReleaseArgument = Annotated[str | None, typer.Argument(help="Release id; by default the newest.")]

_COLOURS = {
    ReleaseResult.PROMOTED: "green",
    ReleaseResult.FAILED: "red",
    ReleaseResult.ROLLED_BACK: "yellow",
    ReleaseResult.REJECTED: "yellow",
    ReleaseResult.INCONCLUSIVE: "yellow",
}


def release(
    spec: SpecArgument, again: AgainOption = False, abandon: AbandonOption = False, json: JsonOption = False
) -> None:
    """Release what a spec says, up to the verdict; killed, the same command carries on where it stopped.

    Exit codes: 0 promoted, 1 a step failed, 2 a document, setting or argument is wrong, 3 rejected or rolled back,
    4 inconclusive, 5 another release of this model is running or unjudged.
    """
    if again and abandon:
        raise typer.BadParameter("expected --again or --abandon; got both")
    client = NexusClient()
    if abandon:
        conclusion = client.abandon(spec)
        print_json(conclusion) if json else out.print(f"{conclusion.release_id} taken out by {conclusion.commit[:12]}")
        return
    outcome = run_with_view(client, spec, again=again, json=json)
    if json:
        print_json(outcome)
    else:
        show_outcome(outcome)
    raise typer.Exit(EXIT_CODES[outcome.result])


def run_with_view(client: NexusClient, spec: Path, *, again: bool = False, json: bool = False) -> ReleaseOutcome:
    """Run a release under the progress view; with `json` the progress goes to stderr."""
    with progress_view(err if json else out) as view:
        return client.release(spec, again=again, on_event=view.event)


def show_outcome(outcome: ReleaseOutcome) -> None:
    """Print how a release ended, for people."""
    before = (
        " earlier; nothing to do (`--again` judges it once more)" if outcome.resumed else f" in {outcome.seconds:.0f} s"
    )
    out.print(f"[bold {_COLOURS[outcome.result]}]{outcome.result}[/] {outcome.release_id}{before}")
    out.print(outcome.reason, markup=False, soft_wrap=True)
    if outcome.report:
        out.print(f"report: {outcome.report}", markup=False, soft_wrap=True)


def report(release_id: ReleaseArgument = None, json: JsonOption = False) -> None:
    """Make a release's HTML report anew from its record and print where it is."""
    path = NexusClient().report(release_id)
    print_json({"report": str(path)}) if json else out.print(str(path), soft_wrap=True, markup=False)
