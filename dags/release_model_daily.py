"""Release a model every night: submit the pipeline `release-model` to Kubeflow Pipelines and wait for its end.

The release spec lies in the release repository that the schedulers mount; the pipeline was uploaded under the name
`release-model` (`tests/contract/pipelines/release-model.kubernetes.yaml`, synced by Argo CD). A spec whose content was
released already ends in seconds and changes nothing, so a nightly run costs nothing when nothing is new.

Variables: `nexus_kfp_host` (address of the KFP API), `nexus_kfp_namespace` (of the runs), `nexus_resolved_release`
(path of the JSON that `python -m serving.resolve SPEC` printed).

## Triage notes

- The task is red: the KFP run failed, which is infrastructure, not a verdict. Open the run whose id the log names; the
  failed step says what it expected and what to do. Clear the task to run it again: a release resumes where it stopped.
- The run is green and the model did not change: read the run's conclusion. `rejected` and `rolled-back` are verdicts;
  the model's owner decides, nobody is paged.
- "another release is deployed and not judged yet": the log names it. Finish or abandon that one first.
- Nothing for two days: see whether the scheduler parsed the file (`airflow dags list-import-errors`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

PIPELINE = "release-model"
TIMEOUT = timedelta(hours=6)


@dag(
    dag_id="release_model_daily",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nexus", "release", "tier-2"],
    default_args={"owner": "ml-platform", "retries": 2, "retry_delay": timedelta(minutes=10)},
)
def release_model_daily() -> None:
    """Submit the pipeline, then wait for it."""

    @task
    def submit(run_id: str | None = None) -> str:
        """Submit one run and return its id; a retry finds what this DAG run submitted instead of starting another.

        The job is named after the DAG run, scheduled or manual: a logical date is not what every DAG run has.
        """
        import json
        from pathlib import Path

        from airflow.sdk import Variable
        from kfp import Client

        if run_id is None:
            raise RuntimeError("expected the DAG run's id from Airflow; got none: run the task in a DAG run")
        client, namespace = Client(host=Variable.get("nexus_kfp_host")), Variable.get("nexus_kfp_namespace")
        job = f"{PIPELINE} {run_id}"
        wanted = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": job}]}
        found = client.list_runs(
            page_size=1, sort_by="created_at desc", namespace=namespace, filter=json.dumps(wanted)
        ).runs
        if found and found[0].state not in ("FAILED", "CANCELED", "CANCELING"):
            return str(found[0].run_id)
        pipeline_id = client.get_pipeline_id(PIPELINE)
        if pipeline_id is None:
            raise LookupError(f"expected the pipeline {PIPELINE!r} in Kubeflow; there is none: sync it first")
        versions = client.list_pipeline_versions(pipeline_id, page_size=1, sort_by="created_at desc").pipeline_versions
        if not versions:
            raise LookupError(f"expected a version of the pipeline {PIPELINE!r} in Kubeflow; got none: sync one first")
        experiment = client.create_experiment(PIPELINE, namespace=namespace)
        run = client.run_pipeline(
            experiment_id=experiment.experiment_id,
            job_name=job,
            pipeline_id=pipeline_id,
            version_id=versions[0].pipeline_version_id,
            params={"release": Path(Variable.get("nexus_resolved_release")).read_text()},
            enable_caching=False,
        )
        return str(run.run_id)

    @task.sensor(poke_interval=60, timeout=TIMEOUT.total_seconds(), mode="reschedule")
    def wait(run_id: str) -> bool:
        """Free the worker between looks; a failed run fails this task, a verdict does not."""
        from airflow.sdk import Variable
        from kfp import Client

        client = Client(host=Variable.get("nexus_kfp_host"))
        state = client.get_run(run_id).state
        if state in ("FAILED", "CANCELED"):
            raise RuntimeError(f"expected run {run_id} to succeed; it is {state}: open it in Kubeflow")
        return state == "SUCCEEDED"

    wait(submit())


release_model_daily()
