"""The whole step with real vLLM engines, forked from the real warm parent, on tiny random weights."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.benchmark_model.logic import benchmark
from serving.contracts.base import Metadata
from serving.contracts.model_version import ModelVersion, ModelVersionBody
from serving.contracts.quantization_report import Candidate, CandidateStatus, QuantizationReport
from serving.contracts.release_spec import EngineSettings, QuantizeMethod, ResolvedRelease
from serving.files import digest_folder
from serving.local.processes import processes_of_home
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.releases import make_release
from tests.fakes.tiny_llama import write_tiny_llama

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ENGINE = EngineSettings(
    arguments={"max-model-len": 256, "kv-cache-memory-bytes": "64M", "enforce-eager": True, "max-num-seqs": 8}
)
DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[NexusSettings]:
    """A home of its own with the installed environments; everything that runs in it is ended."""
    installed = NexusSettings.load().home / "envs"
    if not (installed / "engine" / "bin" / "python").exists():
        pytest.skip(f"the engine environment is missing at {installed}: run `make install`")
    home = tmp_path / "home"
    home.mkdir()
    (home / "envs").symlink_to(installed)
    yield NexusSettings(home=home.resolve())
    for process in processes_of_home(home.resolve()):
        process.send(signal.SIGTERM)
        if not process.wait(10):
            process.send(signal.SIGKILL)
            process.wait(10)
    assert processes_of_home(home.resolve()) == []


def release() -> ResolvedRelease:
    made = make_release()
    spec = made.spec.model_dump(mode="json")
    spec["engine"] = ENGINE.model_dump(mode="json")
    spec["benchmark"] = {"quality_rows": 24, "concurrency": [1, 4], "requests_per_level": 8, "rounds": 2}
    spec["gates"] = {"quality": {"max_exact_match_loss": 0.2, "max_perplexity_ratio": 1.05}}
    return made.model_copy(update={"spec": type(made.spec).model_validate(spec)})


def write_data(folder: Path) -> Path:
    folder.mkdir()
    rows = [
        {
            "id": f"r{n}",
            "intent": "ask",
            "messages": [{"role": "user", "content": f"Question {n}?"}],
            "answer": f"No {n}.",
        }
        for n in range(30)
    ]
    (folder / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe(name: str, folder: Path) -> Candidate:
    return Candidate(
        name=name,
        method=QuantizeMethod.RTN_DENSE,
        required=False,
        status=CandidateStatus.BUILT,
        weights_digest=digest_folder(folder),
        seconds=1,
        tool="none",
    )


def test_candidates_are_measured_beside_the_stable_model(tmp_path: Path, settings: NexusSettings) -> None:
    """The same weights pass with a perplexity ratio of one; other and damaged ones lose, each with its reason."""
    candidates = tmp_path / "candidates"
    stable = write_tiny_llama(tmp_path / "stable")
    shutil.copytree(stable, candidates / "same")
    write_tiny_llama(candidates / "other", seed=2)
    write_tiny_llama(candidates / "damaged")
    (candidates / "damaged" / "config.json").write_text(
        (stable / "config.json").read_text().replace('"hidden_size": 64', '"hidden_size": 32')
    )
    names = ("same", "other", "damaged")
    built = QuantizationReport(
        base_weights_digest=DIGEST,
        base_size_bytes=1,
        calibration_rows=0,
        candidates=tuple(recipe(name, candidates / name) for name in names),
    )
    body = ModelVersionBody(
        model="support-assistant",
        release_id="r-1",
        service="s",
        registry_version="1",
        storage_uri=stable.as_uri(),
        weights_digest=digest_folder(stable),
        engine=ENGINE,
    )
    report = benchmark(
        release(),
        write_data(tmp_path / "data"),
        candidates,
        built,
        ModelVersion(metadata=Metadata(name="support-assistant"), spec=body),
        settings=settings,
        record=ReleaseRecord(tmp_path / "record"),
    )
    same, other, damaged = report.candidates
    assert (report.passed, report.winner) == (True, "same"), report.reason
    assert same.quality is not None
    assert same.quality.perplexity_ratio is not None
    assert same.quality.perplexity_ratio.value == pytest.approx(1.0, abs=1e-4)
    assert [(level.concurrency, level.errors) for level in same.speed] == [(1, 0), (4, 0)]
    assert all(level.ttft_p50_ms > 0 and level.itl_p50_ms > 0 for level in same.speed)
    assert other.served
    assert "max_perplexity_ratio" in str(other.why_not_chosen)
    assert not damaged.served
    assert "died while starting" in str(damaged.reason)
    assert report.stable is not None
    assert report.stable.quality is not None
