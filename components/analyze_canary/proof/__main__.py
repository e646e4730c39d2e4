"""Write the proof: `python -m components.analyze_canary.proof --plan SPEC --output FOLDER`.

Everything follows from the seed; the numbers are the same on every machine with the locked environment.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from components.analyze_canary.proof import alarms, releases, tables
from serving.contracts.load import load_document
from serving.contracts.release_spec import ReleaseSpec
from serving.files import write_atomic

_TEXT = """# Proof of the canary judge

Written by `python -m components.analyze_canary.proof --plan {plan} --runs {runs} --plays {plays} --seed {seed}`.
The method is ADR 0004; `docs/guides/canary-judge.md` explains it.

All methods see the same traffic, at alpha {alpha}: latencies are log-normal with stalls, and each of {horizon} judged
requests goes to either side. "Peeking" looks after each of them, "one look" after the last. Mann-Whitney knows no
margin: it asks whether the candidate is worse at all, so it also stops candidates that are worse by an allowed amount;
"with margin" is the same test on the candidate's latencies divided by the allowed ratio (for rates, the test of a
difference of two means beyond the margin). "Threshold" compares medians (means) of each side's last 50 values.

## False alarms

Share of {runs} harmless canaries that each method stops.

{false_alarms}

## False safety

Share of {runs} harmful canaries that our test ever calls safe on the metric, looking after each of {horizon} requests.
The tests in common use make no such claim; they promote what they did not stop.

{false_safety}

## Detection delay

Judged requests of both sides until the alarm, median / 90th percentile, and the share of {runs} harmful canaries found
within {horizon} requests. A delay means little for a method that shows false alarms above.

{delays}

![Detection delay](canary-judge.png)

## Whole canaries by the plan

{plays} canaries a row, played by the judge and the steps of `{plan}`.

{acts}
"""


def main(arguments: list[str]) -> int:
    """Run the simulations and write `canary-judge.md` and `canary-judge.png`."""
    parser = argparse.ArgumentParser(description="Prove the canary judge by simulation.")
    parser.add_argument("--plan", type=Path, required=True, help="release spec whose canary plan is played")
    parser.add_argument("--output", type=Path, required=True, help="folder for the table and the plot")
    parser.add_argument("--runs", type=int, default=500, help="simulated canaries of each single-metric figure")
    parser.add_argument("--plays", type=int, default=200, help="whole canaries of each act")
    parser.add_argument("--seed", type=int, default=20260301)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    plan = load_document(options.plan, ReleaseSpec).spec.canary
    alarm_rows = tables.false_alarms(runs=options.runs, seed=options.seed)
    curves = tables.curves(runs=options.runs, seed=options.seed)
    act_rows = releases.table(plan, runs=options.plays, seed=options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    tables.plot(curves, options.output / "canary-judge.png")
    text = _TEXT.format(
        **vars(options),
        horizon=alarms.HORIZON,
        alpha=alarms.ALPHA,
        false_alarms="\n".join(alarm_rows),
        false_safety="\n".join(tables.false_safety(runs=options.runs, seed=options.seed)),
        delays="\n\n".join("\n".join([f"### {curve.title}", "", *tables.delays(curve)]) for curve in curves),
        acts="\n".join(act_rows),
    )
    write_atomic(options.output / "canary-judge.md", text)
    sys.stdout.write(f"{options.output / 'canary-judge.md'} written in {time.monotonic() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
