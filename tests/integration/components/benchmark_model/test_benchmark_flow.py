"""The whole step over real HTTP and the real evaluation harness, with engines that follow a script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from components.benchmark_model import logic
from serving import step_cache
from serving.contracts.benchmark_report import BenchmarkReport
from serving.contracts.progress import EventKind
from serving.contracts.quantization_report import Candidate, CandidateStatus, QuantizationReport
from serving.contracts.release_spec import QuantizeMethod, ResolvedRelease
from serving.local.errors import EngineError
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.releases import make_release
from tests.fakes.scripted_engine import RunningEngine, Script, run_engine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ROWS = 60
ANSWERS = {f"What is question {n}?": f"It is answer {n}." for n in range(ROWS)}
DIGEST = "sha256:" + "1" * 64


class Node:
    """Stands in for the local node: serves scripts in place of weights, and counts the starts."""

    def __init__(self, scripts: Mapping[str, Script | Exception]) -> None:
        self.scripts = scripts
        self.starts = 0

    @contextmanager
    def lease(self, _: NexusSettings, *, model_path: Path, **__: Any) -> Iterator[RunningEngine]:
        self.starts += 1
        script = self.scripts[model_path.name]
        if isinstance(script, Exception):
            raise script
        with run_engine(script) as engine:
            yield engine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Held-out rows of one turn each."""
    rows = [
        {"id": f"r{n}", "intent": "ask", "messages": [{"role": "user", "content": question}], "answer": answer}
        for n, (question, answer) in enumerate(ANSWERS.items())
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def release(**gates: Any) -> ResolvedRelease:
    made = make_release()
    spec = made.spec.model_dump(mode="json")
    spec["benchmark"] = {"quality_rows": 40, "concurrency": [1, 4], "requests_per_level": 8, "rounds": 2}
    spec["gates"] = gates or {"quality": {"min_exact_match": 0.9}}
    return made.model_copy(update={"spec": type(made.spec).model_validate(spec)})


class Bench:
    """Runs the step in a home of its own."""

    def __init__(self, folder: Path, data: Path, patch: pytest.MonkeyPatch) -> None:
        self.settings = NexusSettings(home=folder / "home")
        self.record = ReleaseRecord(folder / "record")
        self.folder, self.data, self.patch = folder, data, patch

    def run(self, node: Node, asked: ResolvedRelease | None = None, *, required: str = "") -> BenchmarkReport:
        self.patch.setattr(logic, "leased_engine", node.lease)
        self.patch.setattr(logic, "ensure_parent", lambda *_: None)
        for name in node.scripts:
            (self.folder / "candidates" / name).mkdir(parents=True, exist_ok=True)
        recipes = tuple(
            Candidate(
                name=name,
                method=QuantizeMethod.FP8_DYNAMIC,
                required=name == required,
                status=CandidateStatus.BUILT,
                weights_digest=DIGEST,
                seconds=1,
                tool="none",
            )
            for name in node.scripts
        )
        report = QuantizationReport(
            base_weights_digest=DIGEST, base_size_bytes=1, calibration_rows=0, candidates=recipes
        )
        return logic.benchmark(
            asked or release(),
            self.data,
            self.folder / "candidates",
            report,
            None,
            settings=self.settings,
            record=self.record,
        )

    def said(self) -> list[str]:
        return [event.message for event in self.record.events()]


@pytest.fixture
def bench(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench with an empty cache."""
    return Bench(tmp_path, data, monkeypatch)


def wrong(share: float) -> dict[str, str]:
    """Answers of which the first share is wrong."""
    return {
        question: "No idea." if n < share * ROWS else f" {answer}\n"
        for n, (question, answer) in enumerate(ANSWERS.items())
    }


def test_the_best_candidate_wins_and_figures_are_used_again(bench: Bench) -> None:
    """Right answers and likelihoods are measured row by row; the second run asks nobody, however its gates differ."""
    node = Node({"good": Script(answers=wrong(0)), "bad": Script(answers=wrong(0.5), word_logprob=-0.7)})
    report = bench.run(node)
    by_name = {one.name: one for one in report.candidates}
    assert (report.passed, report.winner) == (True, "good")
    assert by_name["good"].quality is not None
    assert by_name["bad"].quality is not None
    assert by_name["good"].quality.exact_match.value == 1.0
    assert by_name["good"].quality.perplexity.value == pytest.approx(2.718281828**0.1)
    assert by_name["bad"].quality.exact_match.value == pytest.approx(0.25)
    assert by_name["bad"].quality.perplexity.value == pytest.approx(2.718281828**0.7)
    assert [(level.concurrency, level.requests, level.errors) for level in by_name["good"].speed] == [
        (1, 16, 0),
        (4, 16, 0),
    ]
    assert bench.record.read("benchmark", BenchmarkReport) == report
    assert {"good: quality 40/40", "bad: quality 40/40"} <= set(bench.said())

    again = bench.run(node, release(quality={"min_exact_match": 0.2}))
    assert node.starts == 2
    assert again.measured_at == report.measured_at
    assert [gate.passed for one in again.candidates for gate in one.gates] == [True] * 4
    cached = [event.message for event in bench.record.events() if event.kind is EventKind.CACHED]
    assert len(cached) == 1
    assert cached[0].startswith("figures measured ")


def test_other_engines_are_measured_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of one lock, or of one way to start engines, say nothing of another one."""
    node = Node({"good": Script(answers=wrong(0)), "bad": Script(answers=wrong(0.5), word_logprob=-0.7)})
    bench.run(node)
    folder = bench.settings.environment_dir("engine")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nexus-environment.json").write_text('{"python": "3", "locks": {"engine-cuda.txt": "e1"}}')
    bench.run(node)
    assert node.starts == 4
    bench.run(node)
    assert node.starts == 4
    digests = {"serving/local": "changed"}
    monkeypatch.setattr(step_cache, "code_digest", lambda *packages: str([digests.get(one, one) for one in packages]))
    bench.run(node)
    assert node.starts == 6
    digests.clear()
    bench.run(node)
    assert node.starts == 8


def test_an_engine_that_dies_under_way_is_unserved_and_measured_again(bench: Bench) -> None:
    """The others go on; figures with such a gap are not used again."""
    node = Node({"good": Script(answers=wrong(0)), "dying": Script(answers=wrong(0), dies_after=20)})
    report = bench.run(node)
    dying = report.candidates[1]
    assert (report.winner, dying.served, dying.quality) == ("good", False, None)
    assert str(dying.why_not_chosen).startswith("cannot be served: stopped answering during the quality run")
    bench.run(node)
    assert node.starts == 4


def test_a_required_candidate_that_cannot_be_served_fails_the_release(bench: Bench) -> None:
    """With the engine's reason, without an exception, and without being remembered."""
    node = Node({"good": Script(answers=wrong(0)), "needed": EngineError("died: no kernel")})
    report = bench.run(node, required="needed")
    assert (report.passed, report.winner) == (False, None)
    assert report.reason == "the spec requires needed, which cannot be served: died: no kernel"
    assert not bench.run(Node(node.scripts), required="needed").passed
    assert node.starts == 2


def test_questions_beyond_the_window_are_wrong_and_said(bench: Bench) -> None:
    """An engine with too short a window fails the quality gate; it is not excused from the rows."""
    report = bench.run(Node({"short": Script(answers=wrong(0), window_tokens=8)}))
    assert not report.passed
    assert any("do not fit the window of 8 tokens" in line for line in bench.said())


def test_what_breaks_the_node_propagates(bench: Bench) -> None:
    """The orchestrator retries it; the record tells."""
    with pytest.raises(OSError, match="no space left"):
        bench.run(Node({"good": OSError("no space left on device")}))
    assert bench.record.events()[-1].kind is EventKind.FAILED
