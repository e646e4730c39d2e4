"""Who takes part, found on disk and named by content."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.benchmark_model.subjects import STABLE, Contest, StableNotServedError, gather_contest, stable_weights
from serving.contracts.base import Metadata
from serving.contracts.model_version import ModelVersion, ModelVersionBody
from serving.contracts.quantization_report import Candidate, CandidateStatus, QuantizationReport
from serving.contracts.release_spec import EngineSettings, QuantizeMethod
from tests.fakes.releases import make_release

DIGEST = "sha256:" + "1" * 64


def version(uri: str) -> ModelVersion:
    engine = EngineSettings(arguments={"max-num-seqs": 99})
    body = ModelVersionBody(
        model="support-assistant",
        release_id="r-1",
        service="s",
        registry_version="1",
        storage_uri=uri,
        weights_digest=DIGEST,
        engine=engine,
    )
    return ModelVersion(metadata=Metadata(name="support-assistant"), spec=body)


def recipe(name: str, method: QuantizeMethod, *, built: bool = True) -> Candidate:
    status = CandidateStatus.BUILT if built else CandidateStatus.FAILED
    digest = DIGEST if built else None
    return Candidate(
        name=name, method=method, required=False, status=status, weights_digest=digest, seconds=1, tool="none"
    )


def gather(folder: Path, stable: ModelVersion | None = None) -> Contest:
    recipes = (
        recipe("fp8", QuantizeMethod.FP8_DYNAMIC),
        recipe("awq", QuantizeMethod.GPTQ_W4A16, built=False),
        recipe("bf16", QuantizeMethod.NONE),
    )
    report = QuantizationReport(base_weights_digest=DIGEST, base_size_bytes=1, calibration_rows=0, candidates=recipes)
    for name in ("fp8", "bf16"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text("{}")
    return gather_contest(make_release(), folder, report, stable, logs=folder / "logs")


def test_built_candidates_and_stable_take_part(tmp_path: Path) -> None:
    """Each is served as it would be in production: candidates by the spec, the stable model as it is."""
    (tmp_path / "old").mkdir()
    contest = gather(tmp_path, version(f"file://{tmp_path}/old"))
    assert [subject.name for subject in contest.subjects] == ["fp8", "bf16", STABLE]
    assert contest.unquantized == "bf16"
    assert contest.candidates[0].engine == make_release().spec.engine
    assert contest.stable is not None
    assert contest.stable.engine.arguments == {"max-num-seqs": 99}


def test_first_release_has_no_stable(tmp_path: Path) -> None:
    """Only candidates take part."""
    contest = gather(tmp_path)
    assert contest.stable is None
    assert len(contest.subjects) == 2


def test_identity_follows_the_files_beside_the_weights(tmp_path: Path) -> None:
    """A changed tokenizer or template is another candidate, although its weights are the same."""
    before = gather(tmp_path).identity()
    assert gather(tmp_path).identity() == before
    (tmp_path / "fp8" / "chat_template.jinja").write_text("{{ messages }}")
    after = gather(tmp_path).identity()
    assert {name for name, digest in before["digests"].items() if after["digests"][name] != digest} == {"fp8"}


@pytest.mark.parametrize("form", ["file://{}", "{}", "file://{}/"])
def test_stable_weights_are_found(tmp_path: Path, form: str) -> None:
    """By URI or path, with blanks in it."""
    folder = tmp_path / "my model"
    folder.mkdir()
    assert stable_weights(version(form.format(str(folder).replace(" ", "%20") if "file" in form else folder))) == folder


@pytest.mark.parametrize("uri", ["file:///nowhere", "s3://bucket/model", "/nowhere"])
def test_missing_stable_weights_stop_the_step(uri: str) -> None:
    """Nothing can be said of a candidate without what it is compared with."""
    with pytest.raises(StableNotServedError, match="expected the stable model's weights"):
        stable_weights(version(uri))
