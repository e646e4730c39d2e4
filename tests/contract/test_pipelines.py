import tomllib
from pathlib import Path

import pytest
import yaml

from components import images
from pipelines.compile import FOLDER, compile_all, main, stale
from pipelines.release_model.pipeline import release_model

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def compiled() -> dict[str, str]:
    return compile_all()


def test_committed_yaml_is_what_the_code_compiles_to(compiled: dict[str, str]) -> None:
    """The golden files are up to date: `python -m pipelines.compile` writes them."""
    assert {path.name: path.read_text() for path in FOLDER.glob("*.yaml")} == compiled


def test_compiling_is_byte_stable(compiled: dict[str, str]) -> None:
    """Twice the same bytes."""
    assert compile_all() == compiled


def test_check_names_stale_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A changed file and one that belongs to no pipeline are found, and nothing is written."""
    for path in FOLDER.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "release-model.yaml").write_text("changed")
    (tmp_path / "gone.yaml").write_text("")
    assert stale(tmp_path) == ["gone.yaml", "release-model.yaml"]
    monkeypatch.setattr("pipelines.compile.stale", lambda: ["release-model.yaml"])
    assert main(["--check"]) == 1
    assert "python -m pipelines.compile" in capsys.readouterr().err


def test_every_step_runs_in_our_image_and_installs_nothing(compiled: dict[str, str]) -> None:
    """Pinned image, no pip at run time, no path of the machine that compiled."""
    text = compiled["release-model.yaml"]
    spec = yaml.safe_load(text.split("\n---\n")[0])
    executors = spec["deploymentSpec"]["executors"]
    assert len(executors) == 11
    assert {executor["container"]["image"] for executor in executors.values()} == {images.COMPONENTS}
    assert "pip install" not in text
    assert str(ROOT) not in text


def test_every_step_is_told_that_it_runs_in_a_cluster(compiled: dict[str, str]) -> None:
    """In both forms; the pipeline that the local runner runs is left as it is."""
    plain = yaml.safe_load(compiled["release-model.yaml"].split("\n---\n")[0])
    _, version = yaml.safe_load_all(compiled["release-model.kubernetes.yaml"])
    wanted = [{"name": "NEXUS_PROFILE", "value": "cluster"}]
    for spec in (plain, version["spec"]["pipelineSpec"]):
        executors = spec["deploymentSpec"]["executors"].values()
        assert all(executor["container"]["env"] == wanted for executor in executors)
    local = release_model.pipeline_spec.deployment_spec["executors"]
    assert not any("env" in local[name]["container"] for name in local)


def test_kubernetes_form_is_a_pipeline_and_its_version(compiled: dict[str, str]) -> None:
    """Argo CD syncs two objects; the version belongs to the pipeline."""
    pipeline, version = yaml.safe_load_all(compiled["release-model.kubernetes.yaml"])
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]


def test_image_has_the_version_of_the_project() -> None:
    """A release of the wheel is a new image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == images.VERSION
    assert images.COMPONENTS.endswith(f":{project['version']}")
