"""Model registry: MLflow runs, model versions, aliases; the only module that talks to MLflow.

The same content is one version: it is searched by a tag first, and what a killed attempt left is finished, never
doubled. MLflow is imported by the first call (4 s), so `warm` can do that beside other work.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from serving.files import atomic_folder, local_path
from serving.registry_content import (
    CANDIDATE_ALIAS,
    COMPLETE_TAG,
    CONTENT_TAG,
    STABLE_ALIAS,
    WEIGHTS_TAG,
    RegisteredVersion,
    VersionContent,
)
from serving.registry_runs import find_run, log_run
from serving.registry_storage import (
    RegistryError,
    check_digest,
    create_database,
    is_stored,
    store_folder,
)
from serving.settings import NexusSettings

__all__ = [
    "CANDIDATE_ALIAS",
    "STABLE_ALIAS",
    "RegisteredVersion",
    "Registry",
    "RegistryError",
    "VersionContent",
]

_ARTIFACT = "model"


class Registry:
    """The registry of one installation."""

    def __init__(self, settings: NexusSettings) -> None:
        self._settings = settings

    @cached_property
    def _client(self) -> Any:
        # MLflow reads it while it is imported; without it, it writes a file below the user's home and calls home.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # noqa: TID251 - MLflow has no other switch
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - 4 s, paid only where the registry is used

        uri = self._settings.mlflow
        if uri == self._default_uri:
            create_database(self._home / "mlflow.db", MlflowClient)
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

        Every call to MLflow may be the last one before a kill: what exists is found by its tag and completed. A version
        whose weights were lost or damaged since gets them back.

        Raises:
            RegistryError: The folder has not the digest it should have.
        """
        found = self._find_version(content)
        whole = (
            found is not None
            and found.tags.get(COMPLETE_TAG) == "true"
            and is_stored(found.source, content.weights_digest)
        )
        if not whole:
            run = find_run(self._client, content, self._artifacts(content.model))
            log_run(self._client, run, content)
            storage_uri = found.source if found else f"{run.info.artifact_uri}/{_ARTIFACT}"
            self._store(run, content, storage_uri)
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
        name, version, alias = _parse(uri)
        client = self._client
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see _client

        try:
            if alias is not None:
                found = client.get_model_version_by_alias(name, alias)
            else:
                found = client.get_model_version(name, version)
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
            local = local_path(found.storage_uri)
            if local is not None and not local.is_dir():
                raise RegistryError(
                    f"expected the weights of {uri!r} at {local}; they are gone: restore them or release again"
                )
            if local is None:
                from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - see _client

                download_artifacts(artifact_uri=found.storage_uri, dst_path=str(work))
            else:
                shutil.copytree(local, work, dirs_exist_ok=True)
            check_digest(work, found.weights_digest, f"weights of {uri!r}")
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

    def _artifacts(self, model: str) -> Path | None:
        """Folder of a model's artifacts; None where an MLflow server chooses the place."""
        return self._home / "artifacts" / "nexus" / model if self._settings.mlflow == self._default_uri else None

    def _aliases(self, model: str) -> dict[str, str]:
        return {alias: str(version) for alias, version in self._client.get_registered_model(model).aliases.items()}

    def _find_version(self, content: VersionContent) -> Any:
        wanted = f"name = '{content.model}' and tag.`{CONTENT_TAG}` = '{content.content_digest}'"
        found = self._client.search_model_versions(wanted, order_by=["version_number ASC"])
        return found[0] if found else None

    def _store(self, run: Any, content: VersionContent, uri: str) -> None:
        """Put the weights where the version says, whole or not at all."""
        check_digest(content.folder, content.weights_digest, f"weights at {content.folder}")
        target = local_path(uri)
        if target is None:
            self._client.log_artifacts(run.info.run_id, str(content.folder), _ARTIFACT)
        elif not is_stored(uri, content.weights_digest):
            store_folder(content.folder, target, content.weights_digest)

    def _create_version(self, content: VersionContent, run_id: str, storage_uri: str) -> Any:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see _client

        try:
            self._client.create_registered_model(content.model)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {**content.tags, CONTENT_TAG: content.content_digest, WEIGHTS_TAG: content.weights_digest}
        return self._client.create_model_version(content.model, storage_uri, run_id, tags=tags)


def _parse(uri: str) -> tuple[str, str | None, str | None]:
    name, _, rest = uri.removeprefix("models:/").partition("@")
    if uri.startswith("models:/") and rest and name:
        return name, None, rest
    name, _, version = uri.removeprefix("models:/").partition("/")
    if uri.startswith("models:/") and version.isdigit() and name:
        return name, version, None
    raise RegistryError(f"expected models:/<name>/<version> or models:/<name>@<alias>; got {uri!r}: correct the spec")
