"""Model registry: MLflow runs, model versions, aliases; the only module that talks to MLflow.

The same content is one version: it is searched by a tag first, and what a killed attempt left is finished, never
doubled. MLflow is imported by the first call (4 s), so `warm` can do that beside other work.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from serving.files import atomic_folder, digest_folder
from serving.settings import NexusSettings

CONTENT_TAG = "nexus.content"
WEIGHTS_TAG = "nexus.weights_digest"
COMPLETE_TAG = "nexus.complete"
CANDIDATE_ALIAS = "candidate"
STABLE_ALIAS = "stable"
_ARTIFACT = "model"


class RegistryError(Exception):
    """The registry cannot do what was asked; the message says what it holds instead."""


@dataclass(frozen=True)
class VersionContent:
    """What one model version is made of.

    Args:
        model: Registered model name.
        folder: Weights in Hugging Face format.
        weights_digest: Digest that `folder` must have.
        content_digest: Identity; versions with the same one are the same version.
        params: Written to the run.
        metrics: Written to the run; every one a finite number.
        tags: Written to the run and to the version.
        documents: File name to text, kept beside the weights.
    """

    model: str
    folder: Path
    weights_digest: str
    content_digest: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RegisteredVersion:
    """A whole version; `storage_uri` is where its weights lie."""

    version: str
    run_id: str
    storage_uri: str
    weights_digest: str
    already_registered: bool


class Registry:
    """The registry of one installation."""

    def __init__(self, settings: NexusSettings) -> None:
        self._settings = settings

    @cached_property
    def _client(self) -> Any:
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - 4 s, paid only where the registry is used

        uri = self._settings.mlflow
        if uri == self._default_uri:
            _create_database(self._home / "mlflow.db", MlflowClient)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)

    @property
    def _home(self) -> Path:
        return self._settings.home / "mlflow"

    @property
    def _default_uri(self) -> str:
        return f"sqlite:///{self._home / 'mlflow.db'}"

    def warm(self) -> threading.Thread:
        """Import MLflow and open the registry beside other work; join the thread before the first call."""
        thread = threading.Thread(target=lambda: self._client, daemon=True)
        thread.start()
        return thread

    def register(self, content: VersionContent) -> RegisteredVersion:
        """Register a version and point the alias `candidate` at it.

        Every call to MLflow may be the last one before a kill: what exists is found by its tag and completed.

        Raises:
            RegistryError: The folder has not the digest it should have.
        """
        found = self._find_version(content)
        whole = found is not None and found.tags.get(COMPLETE_TAG) == "true"
        if not whole:
            run = self._run(content)
            self._log(run, content)
            storage_uri = self._store(run, content)
            found = found or self._create_version(content, run.info.run_id, storage_uri)
            self._client.set_terminated(run.info.run_id)
            self._client.set_model_version_tag(content.model, found.version, COMPLETE_TAG, "true")
        assert found is not None
        self.set_alias(content.model, CANDIDATE_ALIAS, str(found.version))
        return RegisteredVersion(
            version=str(found.version),
            run_id=found.run_id,
            storage_uri=found.source,
            weights_digest=content.weights_digest,
            already_registered=whole,
        )

    def resolve(self, uri: str) -> RegisteredVersion:
        """Find the version that `models:/<name>/<version>` or `models:/<name>@<alias>` names.

        Raises:
            RegistryError: There is none, or the URI is of another form.
        """
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see _client

        name, version, alias = _parse(uri)
        try:
            if alias is not None:
                found = self._client.get_model_version_by_alias(name, alias)
            else:
                found = self._client.get_model_version(name, version)
        except MlflowException as exc:
            raise RegistryError(
                f"expected {uri!r} to name a registered model version; MLflow says: {exc.message}: release one first"
            ) from exc
        if found.tags.get(COMPLETE_TAG) != "true":
            raise RegistryError(f"expected {uri!r} to be whole; its registration was cut short: run its release again")
        return RegisteredVersion(str(found.version), found.run_id, found.source, found.tags[WEIGHTS_TAG], True)

    def fetch(self, uri: str, output: Path) -> RegisteredVersion:
        """Copy a version's weights into the folder `output`, which must not exist, and check their digest.

        Raises:
            RegistryError: No such version, or its weights are not the ones that were registered.
        """
        found = self.resolve(uri)
        with atomic_folder(output) as work:
            local = _local_path(found.storage_uri)
            if local is not None and not local.is_dir():
                raise RegistryError(f"expected the weights of {uri!r} at {local}; the folder is gone: restore it")
            if local is None:
                from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - see _client

                download_artifacts(artifact_uri=found.storage_uri, dst_path=str(work))
            else:
                shutil.copytree(local, work, dirs_exist_ok=True)
            _check_digest(work, found.weights_digest, f"weights of {uri!r}")
        return found

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point an alias at a version; nothing happens when it already does."""
        if self._aliases(model).get(alias) != version:
            self._client.set_registered_model_alias(model, alias, version)

    def drop_alias(self, model: str, alias: str, version: str) -> None:
        """Take an alias away from a version; one that points elsewhere stays."""
        if self._aliases(model).get(alias) == version:
            self._client.delete_registered_model_alias(model, alias)

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Write tags on a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(model, version, key, value)

    def log_document(self, run_id: str, name: str, text: str) -> None:
        """Keep a document beside a run's weights, replacing an earlier one of that name."""
        self._client.log_text(run_id, text, name)

    def _aliases(self, model: str) -> dict[str, str]:
        return {alias: str(version) for alias, version in self._client.get_registered_model(model).aliases.items()}

    def _find_version(self, content: VersionContent) -> Any:
        wanted = f"name = '{content.model}' and tag.`{CONTENT_TAG}` = '{content.content_digest}'"
        found = self._client.search_model_versions(wanted, order_by=["version_number ASC"])
        return found[0] if found else None

    def _run(self, content: VersionContent) -> Any:
        experiment = self._experiment(f"nexus/{content.model}")
        wanted = f"tags.`{CONTENT_TAG}` = '{content.content_digest}'"
        found = self._client.search_runs([experiment], wanted, order_by=["attributes.start_time ASC"], max_results=1)
        if found:
            return found[0]
        tags = {**content.tags, CONTENT_TAG: content.content_digest, WEIGHTS_TAG: content.weights_digest}
        return self._client.create_run(experiment, tags=tags)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see _client

        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        ours = self._settings.mlflow == self._default_uri
        location = (self._home / "artifacts" / name).as_uri() if ours else None
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self._client.get_experiment_by_name(name).experiment_id)

    def _log(self, run: Any, content: VersionContent) -> None:
        from mlflow.entities import Metric, Param  # noqa: PLC0415 - see _client

        new = {key: value for key, value in content.metrics.items() if key not in run.data.metrics}
        params = [Param(key, value) for key, value in content.params.items() if key not in run.data.params]
        self._client.log_batch(
            run.info.run_id,
            metrics=[Metric(key, value, run.info.start_time, 0) for key, value in new.items()],
            params=params,
        )
        for name, text in content.documents.items():
            self._client.log_text(run.info.run_id, text, name)

    def _store(self, run: Any, content: VersionContent) -> str:
        """Put the weights under the run, whole or not at all, and return their URI."""
        uri = f"{run.info.artifact_uri}/{_ARTIFACT}"
        _check_digest(content.folder, content.weights_digest, f"weights at {content.folder}")
        target = _local_path(uri)
        if target is None:
            self._client.log_artifacts(run.info.run_id, str(content.folder), _ARTIFACT)
        elif not target.is_dir():
            for left in target.parent.glob(f".{target.name}.*"):
                shutil.rmtree(left, ignore_errors=True)
            with atomic_folder(target) as work:
                shutil.copytree(content.folder, work, dirs_exist_ok=True)
                _check_digest(work, content.weights_digest, f"copy of {content.folder}")
        return uri

    def _create_version(self, content: VersionContent, run_id: str, storage_uri: str) -> Any:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see _client

        try:
            self._client.create_registered_model(content.model)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {**content.tags, CONTENT_TAG: content.content_digest, WEIGHTS_TAG: content.weights_digest}
        return self._client.create_model_version(content.model, storage_uri, run_id, tags=tags)


def _create_database(path: Path, client: Any) -> None:
    """Create the sqlite database under another name and rename it: a kill leaves no half-migrated one."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(path.parent / "new-database") as work:
        uri = f"sqlite:///{work / path.name}"
        client(tracking_uri=uri, registry_uri=uri).search_registered_models(max_results=1)
        if not path.exists():
            (work / path.name).rename(path)
    shutil.rmtree(path.parent / "new-database", ignore_errors=True)


def _parse(uri: str) -> tuple[str, str | None, str | None]:
    name, _, rest = uri.removeprefix("models:/").partition("@")
    if uri.startswith("models:/") and rest and name:
        return name, None, rest
    name, _, version = uri.removeprefix("models:/").partition("/")
    if uri.startswith("models:/") and version.isdigit() and name:
        return name, version, None
    raise RegistryError(f"expected models:/<name>/<version> or models:/<name>@<alias>; got {uri!r}: correct the spec")


def _local_path(uri: str) -> Path | None:
    parts = urlparse(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _check_digest(folder: Path, expected: str, what: str) -> None:
    if not folder.is_dir():
        raise RegistryError(f"expected {what}; the folder is missing: run the release again to build it anew")
    found = digest_folder(folder)
    if found != expected:
        raise RegistryError(
            f"expected {what} with digest {expected}; got {found}: a file is truncated or changed: release again"
        )
