"""MLflow's runs: one for each content, with everything that was measured; found again by its tag after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.registry_content import CONTENT_TAG, WEIGHTS_TAG, VersionContent


def find_run(client: Any, content: VersionContent, artifacts: Path | None) -> Any:
    """Return the content's run, made where there is none.

    Args:
        client: MLflow's client.
        content: What the run is about.
        artifacts: Folder for the artifacts of a new experiment; None leaves the place to the server.
    """
    experiment = _experiment(client, f"nexus/{content.model}", artifacts)
    wanted = f"tags.`{CONTENT_TAG}` = '{content.content_digest}'"
    found = client.search_runs([experiment], wanted, order_by=["attributes.start_time ASC"], max_results=1)
    if found:
        return found[0]
    tags = {**content.tags, CONTENT_TAG: content.content_digest, WEIGHTS_TAG: content.weights_digest}
    return client.create_run(experiment, tags=tags)


def log_run(client: Any, run: Any, content: VersionContent) -> None:
    """Write to a run what it lacks of the content's figures, and its documents."""
    from mlflow.entities import Metric, Param  # noqa: PLC0415 - slow, see serving.registry

    new = {key: value for key, value in content.metrics.items() if key not in run.data.metrics}
    params = [Param(key, value) for key, value in content.params.items() if key not in run.data.params]
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(key, value, run.info.start_time, 0) for key, value in new.items()],
        params=params,
    )
    for name, text in content.documents.items():
        client.log_text(run.info.run_id, text, name)


def _experiment(client: Any, name: str, artifacts: Path | None) -> str:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow, see serving.registry

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=artifacts.as_uri() if artifacts else None))
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)
