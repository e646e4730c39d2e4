import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import create_autospec

import pytest
from kfp.client import Client

DAG = Path(__file__).resolve().parents[3] / "dags" / "release_model_daily.py"


def load(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]):
    airflow = ModuleType("airflow")
    sdk = ModuleType("airflow.sdk")
    tasks, arguments = {}, {}

    def task(function):
        tasks[function.__name__] = function
        return lambda *_: None

    task.sensor = lambda **_: task
    sdk.task = task
    sdk.dag = lambda **given: arguments.update(given) or (lambda function: function)
    sdk.Variable = SimpleNamespace(get=variables.__getitem__)
    monkeypatch.setitem(sys.modules, "airflow", airflow)
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    spec = importlib.util.spec_from_file_location("release_model_daily", DAG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, tasks, arguments


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch):
    """A KFP client with the real one's signatures: a call that the real client would refuse fails here, too."""
    module = ModuleType("kfp")
    client = create_autospec(Client, instance=True)
    module.Client = lambda host: client
    client.get_pipeline_id.return_value = "p"
    client.list_pipeline_versions.return_value = SimpleNamespace(
        pipeline_versions=[SimpleNamespace(pipeline_version_id="v")]
    )
    client.run_pipeline.return_value = SimpleNamespace(run_id="new")
    monkeypatch.setitem(sys.modules, "kfp", module)
    return client


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    release = tmp_path / "release.json"
    release.write_text('{"release_id": "x"}')
    return {"nexus_kfp_host": "h", "nexus_kfp_namespace": "ns", "nexus_resolved_release": str(release)}


def test_top_level_imports_nothing_heavy_and_nothing_of_ours() -> None:
    """Airflow runs the file on every parse: only Airflow's SDK and the standard library stand at its top."""
    roots = set()
    for node in ast.parse(DAG.read_text()).body:
        if isinstance(node, ast.Import):
            roots |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots <= {"airflow", *sys.stdlib_module_names}


def test_dag_says_who_owns_it_and_what_to_do_when_it_fails(monkeypatch, variables) -> None:
    """Owner, retries, catchup, tags and triage notes are set."""
    module, _, arguments = load(monkeypatch, variables)
    assert arguments["default_args"]["owner"]
    assert arguments["default_args"]["retries"] >= 1
    assert arguments["catchup"] is False
    assert arguments["tags"]
    assert arguments["doc_md"] == module.__doc__
    assert "## Triage notes" in module.__doc__


@pytest.mark.parametrize(
    ("state", "expected"),
    [(None, "new"), ("FAILED", "new"), ("CANCELED", "new"), ("RUNNING", "old"), ("SUCCEEDED", "old")],
)
def test_submitting_twice_is_one_run(monkeypatch, variables, kfp, state: str | None, expected: str) -> None:
    """A retry takes up the run of its DAG run unless that one failed."""
    _, tasks, _ = load(monkeypatch, variables)
    kfp.list_runs.return_value = SimpleNamespace(runs=[SimpleNamespace(run_id="old", state=state)] if state else None)
    assert tasks["submit"]("scheduled__2026-11-22T02:00:00+00:00") == expected
    assert kfp.run_pipeline.called == (expected == "new")
    predicate = json.loads(kfp.list_runs.call_args.kwargs["filter"])["predicates"][0]
    assert predicate["stringValue"] == "release-model scheduled__2026-11-22T02:00:00+00:00"
    if expected == "new":
        assert kfp.run_pipeline.call_args.kwargs["params"] == {"release": '{"release_id": "x"}'}
        assert kfp.run_pipeline.call_args.kwargs["job_name"] == predicate["stringValue"]


def test_two_manual_runs_are_two_jobs(monkeypatch, variables, kfp) -> None:
    """A manual run has no logical date, and must not find the one before it."""
    _, tasks, _ = load(monkeypatch, variables)
    submitted: dict[str, str] = {}

    def list_runs(**asked):
        name = json.loads(asked["filter"])["predicates"][0]["stringValue"]
        known = submitted.get(name)
        return SimpleNamespace(runs=[SimpleNamespace(run_id=known, state="SUCCEEDED")] if known else None)

    def run_pipeline(**asked):
        submitted[asked["job_name"]] = f"run-{len(submitted)}"
        return SimpleNamespace(run_id=submitted[asked["job_name"]])

    kfp.list_runs.side_effect, kfp.run_pipeline.side_effect = list_runs, run_pipeline
    assert [tasks["submit"](f"manual__{name}") for name in ("a", "b", "a")] == ["run-0", "run-1", "run-0"]


def test_no_dag_run_is_refused(monkeypatch, variables, kfp) -> None:
    """A job without a name of its own would find another one's run."""
    _, tasks, _ = load(monkeypatch, variables)
    with pytest.raises(RuntimeError, match="DAG run"):
        tasks["submit"]()
    assert not kfp.run_pipeline.called


@pytest.mark.parametrize("versions", [None, []])
def test_pipeline_without_a_version_is_named(monkeypatch, variables, kfp, versions: list[object] | None) -> None:
    """A pipeline that was created and never filled is told apart from a missing one; nothing is submitted."""
    _, tasks, _ = load(monkeypatch, variables)
    kfp.list_runs.return_value = SimpleNamespace(runs=None)
    kfp.list_pipeline_versions.return_value = SimpleNamespace(pipeline_versions=versions)
    with pytest.raises(LookupError, match="a version of the pipeline"):
        tasks["submit"]("manual__a")
    assert not kfp.run_pipeline.called


def test_missing_pipeline_is_named(monkeypatch, variables, kfp) -> None:
    """Nothing is submitted when Kubeflow has no such pipeline."""
    _, tasks, _ = load(monkeypatch, variables)
    kfp.list_runs.return_value = SimpleNamespace(runs=None)
    kfp.get_pipeline_id.return_value = None
    with pytest.raises(LookupError, match="release-model"):
        tasks["submit"]("manual__a")


@pytest.mark.parametrize(("state", "expected"), [("RUNNING", False), ("SUCCEEDED", True)])
def test_waiting_ends_with_the_run(monkeypatch, variables, kfp, state: str, expected: bool) -> None:
    """A running run is looked at again, a finished one ends the wait."""
    _, tasks, _ = load(monkeypatch, variables)
    kfp.get_run.return_value = SimpleNamespace(state=state)
    assert tasks["wait"]("run") is expected


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_failed_run_fails_the_task(monkeypatch, variables, kfp, state: str) -> None:
    """The message names the run and its state."""
    _, tasks, _ = load(monkeypatch, variables)
    kfp.get_run.return_value = SimpleNamespace(state=state)
    with pytest.raises(RuntimeError, match=state):
        tasks["wait"]("run")
