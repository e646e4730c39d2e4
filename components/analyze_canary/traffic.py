"""Starts and stops the process of simulated users, and reads what it counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from components.analyze_canary.simulated_users import TrafficCounts, TrafficPlan
from components.analyze_canary.users import TrafficError
from serving.contracts.release_spec import ResolvedRelease, SimulatedTraffic
from serving.settings import NexusSettings, inherited_environment

_STOP_SECONDS: Final = 5.0
_LOG_TAIL_CHARACTERS: Final = 1000


def observations_dir(settings: NexusSettings) -> Path:
    """Folder of the gateway's observations."""
    return settings.spool_dir / "observations"


def labels_path(settings: NexusSettings, release_id: str) -> Path:
    """File of a release's labels."""
    return settings.spool_dir / "labels" / f"{release_id}.jsonl"


@dataclass(frozen=True)
class Traffic:
    """A running process of simulated users."""

    process: subprocess.Popen[bytes]
    counts_file: Path
    log: Path

    def check(self) -> None:
        """Make sure that it is running.

        Raises:
            TrafficError: It ended; the message holds its last words.
        """
        code = self.process.poll()
        if code is not None:
            words = self.log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:].strip() or "it said nothing"
            raise TrafficError(
                f"expected the simulated users to keep running; got exit {code}: {words} (see {self.log})"
            )

    def counts(self) -> TrafficCounts:
        """Read what became of its requests; zeros before it wrote its first counts."""
        try:
            return TrafficCounts.model_validate_json(self.counts_file.read_bytes())
        except FileNotFoundError:
            return TrafficCounts()

    def stop(self) -> None:
        """End the process; kill it when it does not listen."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def simulated_users(
    release: ResolvedRelease, traffic: SimulatedTraffic, data: Path, *, settings: NexusSettings, gateway_url: str
) -> Iterator[Traffic]:
    """Run simulated users against the gateway while the body runs.

    A resumed canary goes on in the seeded sequence after as many requests as there are labels already.

    Args:
        release: Names the model and the labels file.
        traffic: Rate, population and shares.
        data: Folder that holds `live.jsonl`.
        settings: Where spools and logs lie.
        gateway_url: Address of the gateway, on the loopback.
    """
    labels = labels_path(settings, release.release_id)
    counts = settings.run_dir / f"simulated-users-{release.release_id}.json"
    log = settings.log_dir / f"simulated-users-{release.release_id}.log"
    for folder in (labels.parent, counts.parent, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    counts.unlink(missing_ok=True)
    plan = TrafficPlan(
        gateway_url=gateway_url,
        model=release.spec.model,
        data=data / "live.jsonl",
        labels=labels,
        counts=counts,
        traffic=traffic,
        seconds=release.spec.canary.max_seconds + 60,  # outlives the analysis, which ends it
        start=labels.read_bytes().count(b"\n") if labels.exists() else 0,
        parent_pid=os.getpid(),
    )
    environment = {**inherited_environment(), "NEXUS_HOME": str(settings.home)}  # marks the child as ours
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "components.analyze_canary.simulated_users", plan.model_dump_json()],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment,
        )
    running = Traffic(process, counts, log)
    try:
        yield running
    finally:
        running.stop()
        counts.unlink(missing_ok=True)
