"""Rows of the candidates' table: what each recipe made, what it measured, and why it was not chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.build_report.documents import Documents
from serving.contracts.benchmark_report import CandidateResult, GateResult, SpeedLevel
from serving.contracts.quantization_report import Candidate, CandidateStatus

COLOURS = 8
"""Series colours of the page's CSS: classes c1 to c8."""


@dataclass(frozen=True)
class Row:
    """One candidate, or the stable model it is compared with. `style` is its colour in every chart."""

    name: str
    style: str
    built: Candidate | None
    result: CandidateResult | None
    outcome: str
    tone: str
    why: str

    @property
    def speed(self) -> SpeedLevel | None:
        """Speed at the highest concurrency measured."""
        return (
            max(self.result.speed, key=lambda level: level.concurrency) if self.result and self.result.speed else None
        )

    def gate(self, name: str) -> GateResult | None:
        """Find one gate's result."""
        return next((gate for gate in self.result.gates if gate.gate == name), None) if self.result else None


def candidate_rows(documents: Documents) -> list[Row]:
    """Join what was built with what was measured; the stable model comes first, then the spec's order."""
    built = {one.name: one for one in documents.quantization.candidates} if documents.quantization else {}
    benchmark = documents.benchmark
    results = {one.name: one for one in benchmark.candidates} if benchmark else {}
    rows = []
    if benchmark is not None and benchmark.stable is not None:
        rows.append(
            Row(
                benchmark.stable.name,
                "c0",
                None,
                benchmark.stable,
                "stable",
                "idle",
                "serves now; the others are compared with it",
            )
        )
    winner = benchmark.winner if benchmark else None
    for index, name in enumerate(dict.fromkeys([*built, *results])):
        style = f"c{index % COLOURS + 1}"
        rows.append(_row(name, style, built.get(name), results.get(name), winner))
    return rows


def gate_names(rows: Sequence[Row]) -> list[str]:
    """List all gates that any candidate was put to, in their order."""
    return list(dict.fromkeys(gate.gate for row in rows if row.result for gate in row.result.gates))


def _row(name: str, style: str, built: Candidate | None, result: CandidateResult | None, winner: str | None) -> Row:
    if built is not None and built.status is CandidateStatus.FAILED:
        return Row(name, style, built, result, "not built", "bad", built.reason or "")
    if result is None:
        return Row(name, style, built, None, "not measured", "idle", "")
    if name == winner:
        return Row(name, style, built, result, "chosen", "good", "")
    why = result.why_not_chosen or result.reason or ""
    if not result.served:
        return Row(name, style, built, result, "not served", "bad", why)
    return Row(
        name,
        style,
        built,
        result,
        "passed" if result.passed else "failed a gate",
        "idle" if result.passed else "bad",
        why,
    )
