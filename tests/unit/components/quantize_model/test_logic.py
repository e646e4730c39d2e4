"""Recipes are tried side by side: none harms another, required ones decide, the report comes first."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.quantize_model.errors import BrokenWeightsError, QuantizationError, StorageFullError
from components.quantize_model.logic import quantize
from components.quantize_model.methods import Method
from serving.contracts.progress import EventKind
from serving.contracts.quantization_report import CandidateStatus, QuantizationReport
from serving.contracts.release_spec import QuantizeMethod, QuantizeRecipe
from serving.data_rows import DataRowsError
from serving.files import digest_folder
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.quantizers import write_program
from tests.fakes.releases import make_release
from tests.fakes.weights_folders import CONFIG, make_base, make_calibration

COPY, OTHER, GROUPED = QuantizeMethod.NONE, QuantizeMethod.FP8_DYNAMIC, QuantizeMethod.GPTQ_W4A16
ABSENT = QuantizeMethod.AUTO_GPTQ_W4A16


@dataclass
class Step:
    """One step's folders; `programs` maps methods to stand-ins."""

    folder: Path
    programs: dict[QuantizeMethod, str]

    @property
    def output(self) -> Path:
        return self.folder / "candidates"

    @property
    def record(self) -> ReleaseRecord:
        return ReleaseRecord(self.folder / "record")

    def run(self, *recipes: QuantizeRecipe) -> QuantizationReport:
        release = make_release()
        spec = release.spec.model_copy(update={"recipes": recipes})
        methods = {
            method: Method(str(write_program(self.folder, kind)), ("nexus-llm",), reads=("group_size",))
            for method, kind in self.programs.items()
        }
        methods[ABSENT] = Method("none.py", ("auto-gptq",), environment="autogptq")
        return quantize(
            release.model_copy(update={"spec": spec}),
            self.folder / "data",
            self.folder / "base",
            self.output,
            settings=NexusSettings(home=self.folder / "home"),
            record=self.record,
            methods=methods,
        )

    def published(self) -> QuantizationReport | None:
        return self.record.read("quantization", QuantizationReport)


@pytest.fixture
def step(tmp_path: Path) -> Step:
    make_base(tmp_path / "base")
    make_calibration(tmp_path / "data")
    return Step(tmp_path, {COPY: "copy"})


def recipe(
    name: str, method: QuantizeMethod = COPY, *, required: bool = False, group_size: int = -1, seconds: float = 15
) -> QuantizeRecipe:
    return QuantizeRecipe(name=name, method=method, required=required, group_size=group_size, max_seconds=seconds)


def test_copy_is_the_base_itself(step: Step) -> None:
    """A plain copy has the base's digest, size, and no error in any layer."""
    report = step.run(recipe("bf16", required=True))
    built = report.candidates[0]
    assert built.status is CandidateStatus.BUILT
    assert built.weights_digest == digest_folder(step.output / "bf16") == digest_folder(step.folder / "base")
    assert built.size_bytes == report.base_size_bytes
    assert set(built.layer_errors.values()) == {0.0}
    assert report.calibration_rows == 3
    assert step.published() == report


def test_candidate_keeps_the_lock_that_its_tool_ran_under(step: Step) -> None:
    """Also when it comes from the cache and the environment was installed anew since."""
    stamp = step.folder / "home" / "envs" / "core" / "nexus-environment.json"
    stamp.parent.mkdir(parents=True)
    for lock in ("c1", "c2"):
        stamp.write_text(json.dumps({"python": "3", "locks": {"core.txt": lock}, "project": ""}))
        assert step.run(recipe("bf16")).candidates[0].lock == "core.txt c1"


@pytest.mark.parametrize("kind", ["fail", "crash", "leave", "truncate"])
def test_one_recipe_fails_and_the_others_go_on(step: Step, kind: str) -> None:
    """A failure is reported with its reason, in its place; those before and after are built."""
    step.programs[OTHER] = kind
    report = step.run(recipe("first"), recipe("broken", OTHER), recipe("last", required=True))
    assert [c.name for c in report.candidates] == ["first", "broken", "last"]
    assert [c.status for c in report.candidates] == ["built", "failed", "built"]
    assert report.candidates[1].reason
    assert sorted(p.name for p in step.output.iterdir()) == ["first", "last"]
    assert not list(step.folder.glob(".candidates*"))


def test_hang_of_one_recipe_is_bounded(step: Step) -> None:
    """A recipe's own time limit stops it and nothing else."""
    step.programs[OTHER] = "hang"
    report = step.run(recipe("slow", OTHER, seconds=0.05), recipe("good"))
    assert "max_seconds" in (report.candidates[0].reason or "")
    assert report.candidates[1].status is CandidateStatus.BUILT


def test_required_recipe_fails_the_step_after_the_report(step: Step) -> None:
    """The report is there to be read, and the error names recipe and reason."""
    step.programs[OTHER] = "fail"
    with pytest.raises(QuantizationError, match=r"(?s)needed \(llmcompressor-fp8-dynamic\): .*cannot round this"):
        step.run(recipe("good"), recipe("needed", OTHER, required=True))
    published = step.published()
    assert published is not None
    assert [c.status for c in published.candidates] == ["built", "failed"]


def test_nothing_built_fails_the_step(step: Step) -> None:
    """Without one candidate there is nothing to release, required or not."""
    step.programs[OTHER] = "fail"
    with pytest.raises(QuantizationError, match="at least one recipe"):
        step.run(recipe("only", OTHER))


def test_missing_environment_is_reported_with_its_command(step: Step) -> None:
    """A tool that is not installed is a failed recipe, never a skipped one."""
    report = step.run(recipe("autogptq", ABSENT), recipe("good"))
    assert report.candidates[0].status is CandidateStatus.FAILED
    assert "nexus install autogptq" in (report.candidates[0].reason or "")


def test_group_size_must_divide_every_layer(step: Step) -> None:
    """A group that does not fit is refused before the tool runs, with the layer and what would fit."""
    step.programs[GROUPED] = "hang"
    report = step.run(recipe("odd", GROUPED, group_size=4), recipe("good"))
    reason = report.candidates[0].reason or ""
    assert "group_size 4; got 6 in model.layers.0.mlp.down_proj" in reason
    assert "-1 (a whole row)" in reason


def test_second_run_is_found_in_the_cache(step: Step) -> None:
    """The tool runs once for the same content; the second run says so and gives the same report."""
    step.programs[COPY] = "count"
    assert step.run(recipe("one")) == step.run(recipe("one"))
    assert (step.folder / "runs").read_text() == "x"
    assert [e.kind for e in step.record.events()].count(EventKind.CACHED) == 1


@pytest.mark.parametrize("change", ["base", "group_size", "name"])
def test_cache_sees_what_the_result_depends_on(step: Step, change: str) -> None:
    """Other weights or another setting run the tool again; another name does not."""
    step.programs[COPY] = "count"
    step.run(recipe("one"))
    if change == "base":
        (step.folder / "base" / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": 9}))
    step.run(recipe("two" if change == "name" else "one", group_size=2 if change == "group_size" else -1))
    assert (step.folder / "runs").read_text() == ("x" if change == "name" else "xx")


@pytest.mark.parametrize("kind", ["full", "full-inside"])
def test_full_disk_ends_the_step_and_leaves_nothing_half_written(step: Step, kind: str) -> None:
    """A full disk is an infrastructure error with its next action; no candidate, cache entry or report is left."""
    step.programs[OTHER] = kind
    with pytest.raises(StorageFullError, match="free some"):
        step.run(recipe("good"), recipe("broken", OTHER))
    assert not step.output.exists()
    assert len(list((step.folder / "home" / "cache").rglob("*.safetensors"))) == 1  # the whole one
    assert not list((step.folder / "home" / "cache").rglob(".*"))
    assert not list(step.folder.glob(".candidates*"))
    assert step.published() is None


def test_broken_base_ends_the_step(step: Step) -> None:
    """Truncated weights stop the step before any tool, and the record says why."""
    file = step.folder / "base" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(BrokenWeightsError, match="truncated"):
        step.run(recipe("bf16"))
    assert step.record.events()[-1].kind is EventKind.FAILED


def test_calibration_must_be_readable(step: Step) -> None:
    """A damaged calibration line is named by file and line."""
    with (step.folder / "data" / "calibration.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(DataRowsError, match=r"calibration\.jsonl:4"):
        step.run(recipe("bf16"))


def test_old_candidates_do_not_stay(step: Step) -> None:
    """What an earlier run left in the output, whole or half, is gone."""
    (step.output / "stale").mkdir(parents=True)
    (step.folder / ".candidates.scratch" / "entry-old").mkdir(parents=True)
    step.run(recipe("bf16"))
    assert [p.name for p in step.output.iterdir()] == ["bf16"]
    assert not list(step.folder.glob(".candidates*"))


def test_progress_tells_what_and_how_long(step: Step) -> None:
    """Each recipe has a line when it starts and one with time, size and error when it ends."""
    step.run(recipe("bf16"))
    messages = [event.message for event in step.record.events()]
    assert "bf16: none, 1 of 1" in messages
    assert any(re.search(r"bf16: built by nexus-llm \S+ in \d+\.\d s, \d+ B \(100% of the base\)", m) for m in messages)
    assert messages[-1] == "built bf16"
