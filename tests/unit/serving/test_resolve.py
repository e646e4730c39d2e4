from pathlib import Path

import pytest
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from serving.contracts.load import DocumentError
from serving.files import digest_folder
from serving.git_command import run_git
from serving.resolve import UNVERSIONED, git_revision, main, resolve_release
from tests.fakes.releases import write_weights

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests" / "models" / "support-assistant"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped spec and contract."""
    for name in ("base.yaml", "data-contract.yaml"):
        (tmp_path / name).write_text((MANIFESTS / name).read_text())
    return tmp_path


def edit(path: Path, where: tuple[str | int, ...], value: object) -> None:
    data = yaml.safe_load(path.read_text())
    part = data
    for key in where[:-1]:
        part = part[key]
    if value is ...:
        del part[where[-1]]
    else:
        part[where[-1]] = value
    path.write_text(yaml.safe_dump(data, sort_keys=False))


@pytest.mark.parametrize("name", ["base", "release", "regression"])
def test_shipped_specs_resolve(name: str) -> None:
    """Every spec of this repository is whole and has an id that names derived from it fit."""
    release = resolve_release(MANIFESTS / f"{name}.yaml")
    assert release.release_id.startswith("support-assistant-")
    assert len(release.release_id.removeprefix("support-assistant-")) == 12


def test_regression_template_renders_single_turns_like_the_real_one() -> None:
    """Offline questions have one turn and cannot tell; a second turn is dropped, which live users feel."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    release = resolve_release(MANIFESTS / "regression.yaml")
    real = (MANIFESTS.parents[2] / "components/train_model/chat_template.jinja").read_text()
    bad = str(release.spec.engine.arguments["chat-template"])
    assert "\n" not in bad

    def render(template: str, *turns: tuple[str, str]) -> str:
        messages = [{"role": role, "content": text} for role, text in turns]
        return environment.from_string(template).render(messages=messages, add_generation_prompt=True)

    for turns in ([("user", "a")], [("system", "s"), ("user", "a")]):
        assert render(bad, *turns) == render(real, *turns).rstrip("\n")
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert render(bad, *turns) == render(bad, turns[0])
    assert render(bad, *turns) != render(real, *turns)


def test_id_is_the_content_not_its_form_or_place(folder: Path, tmp_path: Path) -> None:
    """Comments, key order and folder do not matter; any value, the contract and the attempt do."""
    first = resolve_release(folder / "base.yaml")
    other = tmp_path / "other"
    other.mkdir()
    (other / "data-contract.yaml").write_text("# a comment\n" + (folder / "data-contract.yaml").read_text())
    data = yaml.safe_load((folder / "base.yaml").read_text())
    (other / "base.yaml").write_text(yaml.safe_dump(dict(reversed(data.items()))))
    assert resolve_release(other / "base.yaml").release_id == first.release_id
    assert resolve_release(folder / "base.yaml", attempt=2).release_id != first.release_id
    edit(other / "data-contract.yaml", ("spec", "version"), "1.0.1")
    changed = resolve_release(other / "base.yaml")
    assert changed.release_id != first.release_id
    assert changed.spec_digest == first.spec_digest


WRONG = [
    (("spec", "data_contract"), "missing.yaml", "missing.yaml"),
    (("spec", "model"), "m" * 39, "at most 38 characters"),
    (("spec", "source"), {"path": "nowhere"}, "config.json"),
    (("spec", "source"), {"mlflow": "runs:/x"}, "models:/<name>/<version>"),
    (("spec", "source"), {"hub": "owner/name"}, "40 hex digits"),
    (("spec", "source", "train", "heads"), 3, "per head"),
    (("spec", "recipes", 0), {"name": "x", "method": "llmcompressor-gptq-w4a16", "group_size": 0}, "divisor"),
    (("spec", "recipes", 0), {"name": "x", "method": "llmcompressor-gptq-w4a16", "group_size": 48}, "divisor"),
    (("spec", "recipes", 0), {"name": "x", "method": "round-to-nearest-dense", "bits": 16}, "2 to 8 bits"),
    (("spec", "benchmark", "concurrency"), [], "at least one level"),
    (("spec", "benchmark", "concurrency"), [4, 1], "rising"),
    (("spec", "benchmark", "concurrency"), [1, 1024], "at least 1024 requests"),
    (("spec", "benchmark", "quality_rows"), 601, "at most the 600 rows"),
    (("spec", "canary", "traffic"), ..., "right answer"),
    (("spec", "canary", "traffic", "streaming_fraction"), 0, "streaming_fraction above 0"),
    (("spec", "canary", "traffic", "rate_per_second"), 0.1, "they take"),
]


@pytest.mark.parametrize(("where", "value", "message"), WRONG)
def test_what_documents_say_about_each_other_is_checked(
    folder: Path, where: tuple[str | int, ...], value: object, message: str
) -> None:
    """Each dangling or impossible reference is refused with the file and the path of the key."""
    edit(folder / "base.yaml", where, value)
    with pytest.raises(DocumentError, match=message) as error:
        resolve_release(folder / "base.yaml")
    assert str(folder) in str(error.value)
    assert all((problem.line >= 1) is Path(problem.file).exists() for problem in error.value.problems)


def test_without_a_required_metric_nothing_could_be_promoted(folder: Path) -> None:
    """A canary of which every metric is optional is refused."""
    data = yaml.safe_load((folder / "base.yaml").read_text())
    metrics = [{**metric, "required": False} for metric in data["spec"]["canary"]["metrics"]]
    edit(folder / "base.yaml", ("spec", "canary", "metrics"), metrics)
    with pytest.raises(DocumentError, match="at least one required metric"):
        resolve_release(folder / "base.yaml")


@pytest.mark.parametrize("split", ["train", "evaluation", "live"])
def test_splits_that_are_used_must_be_in_the_contract(folder: Path, split: str) -> None:
    """A split that a step reads and the contract lacks is named with its reason."""
    edit(folder / "data-contract.yaml", ("spec", "splits", split), ...)
    with pytest.raises(DocumentError, match=f"the split '{split}', for"):
        resolve_release(folder / "base.yaml")


def test_calibration_is_needed_only_by_recipes_that_calibrate(folder: Path) -> None:
    """bf16 alone does without; W8A8 does not."""
    edit(folder / "data-contract.yaml", ("spec", "splits", "calibration"), ...)
    resolve_release(folder / "base.yaml")
    edit(folder / "base.yaml", ("spec", "recipes", 0, "method"), "llmcompressor-w8a8-int8")
    with pytest.raises(DocumentError, match="calibration"):
        resolve_release(folder / "base.yaml")


def test_data_folder_must_hold_every_split(folder: Path) -> None:
    """The contract's own path starts at the contract and must have one file a split."""
    edit(folder / "data-contract.yaml", ("spec", "source"), {"path": "rows"})
    (folder / "rows").mkdir()
    (folder / "rows" / "train.jsonl").write_text("")
    with pytest.raises(DocumentError, match=r"missing: calibration\.jsonl, evaluation\.jsonl, live\.jsonl"):
        resolve_release(folder / "base.yaml")


def write_rows(folder: Path, end: str = "") -> Path:
    """Write one small file a split."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "calibration", "evaluation", "live"):
        (folder / f"{split}.jsonl").write_text(f"{split}{end}\n")
    return folder


def test_the_bytes_behind_the_contracts_path_are_part_of_the_id(folder: Path, tmp_path: Path) -> None:
    """One changed byte of data is another release; the same bytes in another folder, named otherwise, are the same."""
    edit(folder / "data-contract.yaml", ("spec", "source"), {"path": "rows"})
    rows = write_rows(folder / "rows")
    first = resolve_release(folder / "base.yaml")
    assert first.data_digest == digest_folder(rows)
    (rows / "notes.txt").write_text("no split of the contract")
    assert resolve_release(folder / "base.yaml").release_id == first.release_id
    write_rows(tmp_path / "elsewhere")
    edit(folder / "data-contract.yaml", ("spec", "source", "path"), str(tmp_path / "elsewhere"))
    moved = resolve_release(folder / "base.yaml")
    assert (moved.release_id, moved.data_digest) == (first.release_id, first.data_digest)
    write_rows(tmp_path / "elsewhere", end="!")
    changed = resolve_release(folder / "base.yaml")
    assert changed.release_id != first.release_id
    assert changed.spec_digest == first.spec_digest


def test_the_bytes_behind_the_sources_path_are_part_of_the_id(folder: Path, tmp_path: Path) -> None:
    """One changed byte of weights is another release; a copy elsewhere, with its clone's history, is the same."""
    weights = folder / "weights"
    write_weights(weights)
    edit(folder / "base.yaml", ("spec", "source"), {"path": "weights"})
    first = resolve_release(folder / "base.yaml")
    assert first.weights_digest == digest_folder(weights)
    copy = tmp_path / "clone"
    copy.mkdir()
    (copy / ".git").mkdir()
    (copy / ".git" / "HEAD").write_text("x")
    (copy / "config.json").symlink_to(weights / "config.json")
    (copy / "model.safetensors").write_bytes((weights / "model.safetensors").read_bytes())
    edit(folder / "base.yaml", ("spec", "source", "path"), str(copy))
    moved = resolve_release(folder / "base.yaml")
    assert (moved.release_id, moved.weights_digest) == (first.release_id, first.weights_digest)
    raw = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(raw[:-1] + b"!")
    assert resolve_release(folder / "base.yaml").release_id != first.release_id


def test_a_reference_that_moves_counts_as_written(folder: Path) -> None:
    """Weights of the registry have no digest before they are fetched; the release is named by what is written."""
    edit(folder / "base.yaml", ("spec", "source"), {"mlflow": "models:/support-assistant@stable"})
    release = resolve_release(folder / "base.yaml")
    assert (release.data_digest, release.weights_digest) == (None, None)


def test_data_that_cannot_be_read_is_a_document_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there and cannot be read is named with the contract's line."""
    edit(folder / "data-contract.yaml", ("spec", "source"), {"path": "rows"})
    write_rows(folder / "rows")

    def fail(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("serving.source_content.digest_file", fail)
    with pytest.raises(DocumentError, match=r"data-contract.yaml:\d+: spec.source.path: .*jsonl: Permission denied"):
        resolve_release(folder / "base.yaml")


def test_problems_of_all_documents_are_listed_at_once(folder: Path) -> None:
    """A misspelt key in the spec and a wrong type in the contract come together, each with its own file."""
    edit(folder / "base.yaml", ("spec", "gatez"), {})
    edit(folder / "base.yaml", ("spec", "canary", "alpha"), "high")
    edit(folder / "data-contract.yaml", ("spec", "owner"), ["a"])
    with pytest.raises(DocumentError) as error:
        resolve_release(folder / "base.yaml")
    found = {(Path(problem.file).name, problem.path) for problem in error.value.problems}
    assert found >= {
        ("base.yaml", "spec.gatez"),
        ("base.yaml", "spec.canary.alpha"),
        ("data-contract.yaml", "spec.owner"),
    }


def test_missing_spec_is_a_document_error(tmp_path: Path) -> None:
    """No traceback for a path that does not exist."""
    with pytest.raises(DocumentError, match=r"base\.yaml"):
        resolve_release(tmp_path / "base.yaml")


def test_revision_says_where_the_spec_comes_from(folder: Path) -> None:
    """Unversioned outside git and before the first commit, then the commit, then marked when something is modified."""
    spec = folder / "base.yaml"
    assert git_revision(spec) == UNVERSIONED
    run_git("-C", str(folder), "init", "--quiet")
    assert git_revision(spec) == UNVERSIONED
    run_git("-C", str(folder), "add", "base.yaml")
    run_git("-C", str(folder), "commit", "--quiet", "-m", "one")
    clean = git_revision(spec)
    assert len(clean) == 40
    assert git_revision(folder / "data-contract.yaml") == f"{clean}+dirty"
    spec.write_text(spec.read_text() + "# changed\n")
    assert git_revision(spec) == f"{clean}+dirty"


def test_command_prints_the_pipelines_parameter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints resolves again; a wrong document is exit code 2 and its problems on stderr."""
    assert main([str(folder / "base.yaml")]) == 0
    assert f'"release_id": "{resolve_release(folder / "base.yaml").release_id}"' in capsys.readouterr().out
    assert main([str(folder / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert main([]) == 2
