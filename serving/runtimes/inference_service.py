"""KServe InferenceService: built from what is to be served, and read back on a machine without KServe.

Standard mode (`RawDeployment` in older releases): a Deployment, no Knative. The engine's arguments stand in `args` as
in every KServe manifest, so that the cluster and the local node serve by the same lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from serving.contracts.load import parse_document
from serving.contracts.release_spec import EngineName, EngineSettings
from serving.engines.base import DRAIN_SECONDS, ArgumentValue
from serving.engines.registry import ENGINES
from serving.files import digest_bytes, local_path
from serving.runtimes.inference_schema import (
    ANNOTATION_DIGEST,
    ANNOTATION_MODE,
    ANNOTATION_READY_SECONDS,
    API_VERSION,
    GPU_RESOURCE,
    LABEL_MODEL,
    LABEL_RELEASE,
    MODEL_NOT_APPLIED,
    PREDICTOR_NOT_APPLIED,
    SERVED_NAME,
    InferenceServiceDocument,
    parse_args,
)

RUNTIMES: Final[Mapping[EngineName, str]] = {
    EngineName.VLLM: "kserve-vllmserver",
    EngineName.SGLANG: "kserve-llm-sglang",
}
"""ClusterServingRuntime of each engine; the format's name in a manifest is the engine's name."""

_PRE_STOP_SECONDS = 15  # until every proxy has heard that the pod is leaving, as KServe's own runtimes wait
_GRACE_SECONDS = 60  # preStop 15 s, then SIGTERM and 45 s for requests in flight
assert _PRE_STOP_SECONDS + DRAIN_SECONDS < _GRACE_SECONDS
_PROBE_PERIOD_SECONDS = 10


@dataclass(frozen=True)
class ServedService:
    """One InferenceService as an engine sees it.

    Attributes:
        name: Name of the InferenceService.
        model: Model name that clients ask for.
        release_id: Release that brought it.
        storage_uri: Where the weights are.
        weights_digest: Digest that the weights must have.
        engine: Engine, arguments (as text) and variables.
        not_applied: What the document asks for that one machine cannot give, a line each.
    """

    name: str
    model: str
    release_id: str
    storage_uri: str
    weights_digest: str
    engine: EngineSettings
    not_applied: tuple[str, ...] = ()

    @property
    def spec_digest(self) -> str:
        """Digest of what matters to a running engine; equal digests need no restart."""
        engine = self.engine.model_dump(mode="json", exclude={"ready_timeout_seconds"})
        parts = [self.model, self.storage_uri, self.weights_digest, engine]
        return digest_bytes(json.dumps(parts, sort_keys=True).encode())

    @property
    def folder(self) -> Path | None:
        """Weights folder on this machine: a `file://` URI or an absolute path; None for any other place."""
        return local_path(self.storage_uri)


def build_inference_service(
    *,
    service: str,
    model: str,
    release_id: str,
    storage_uri: str,
    weights_digest: str,
    engine: EngineSettings,
) -> dict[str, Any]:
    """Build the document that makes a cluster, or the local node, serve one revision of a model.

    Args:
        service: Name of the InferenceService, unique for the revision.
        model: Model name that clients ask for.
        release_id: Release that brought it.
        storage_uri: Where the weights are; `file://` on one machine.
        weights_digest: Digest of the weights folder; the local node checks it before the first start.
        engine: Engine, its arguments and variables.

    Returns:
        The InferenceService, keys in the order in which they are written.
    """
    served = ENGINES[engine.name]
    container: dict[str, Any] = {
        "modelFormat": {"name": str(engine.name)},
        "runtime": RUNTIMES[engine.name],
        "storageUri": storage_uri,
        "args": [f"--{SERVED_NAME}={model}", *served.options(_with_drain(engine))],
        "env": [{"name": name, "value": value} for name, value in sorted(engine.env.items())],
        "resources": {"requests": {GPU_RESOURCE: "1"}, "limits": {GPU_RESOURCE: "1"}},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_PRE_STOP_SECONDS)]}}},
        **_probes(engine),
    }
    annotations = {
        ANNOTATION_MODE: "Standard",
        ANNOTATION_DIGEST: weights_digest,
        ANNOTATION_READY_SECONDS: f"{engine.ready_timeout_seconds:g}",
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": {
            "name": service,
            "labels": {LABEL_MODEL: model, LABEL_RELEASE: release_id},
            "annotations": annotations,
        },
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "maxReplicas": 1,
                "terminationGracePeriodSeconds": _GRACE_SECONDS,
                "model": {key: value for key, value in container.items() if value not in ({}, [])},
            }
        },
    }


def load_inference_service(text: str, *, source: str) -> ServedService:
    """Read a document from YAML; `source` stands in error messages, with the line.

    Raises:
        DocumentError: It does not fit; all problems are listed.
    """
    document = parse_document(text, InferenceServiceDocument, source=source)
    model = document.spec.predictor.model
    arguments = parse_args(model.args)
    metadata = document.metadata
    engine = EngineSettings(
        name=model.modelFormat.name,
        arguments={name: value for name, value in arguments.items() if name != SERVED_NAME},
        env={variable.name: variable.value for variable in model.env if variable.value is not None},
        ready_timeout_seconds=float(metadata.annotations[ANNOTATION_READY_SECONDS]),
    )
    return ServedService(
        name=metadata.name,
        model=str(arguments[SERVED_NAME]),
        release_id=metadata.labels[LABEL_RELEASE],
        storage_uri=model.storageUri,
        weights_digest=metadata.annotations[ANNOTATION_DIGEST],
        engine=engine,
        not_applied=tuple(_not_applied(document)),
    )


def _not_applied(document: InferenceServiceDocument) -> Iterator[str]:
    predictor = document.spec.predictor
    if predictor.minReplicas != 1:
        yield f"minReplicas {predictor.minReplicas}: one engine runs here"
    if predictor.maxReplicas > max(1, predictor.minReplicas):
        yield f"autoscaling up to {predictor.maxReplicas} replicas: one engine runs here"
    resources = predictor.model.resources
    for name, quantity in sorted({**resources.requests, **resources.limits}.items()):
        yield f"{name} {quantity}: {_resource_reason(name)}"
    for variable in predictor.model.env:
        if variable.valueFrom is not None:
            yield f"variable {variable.name}: its value is in a cluster"
    for part, names in ((predictor, PREDICTOR_NOT_APPLIED), (predictor.model, MODEL_NOT_APPLIED)):
        for name in names:
            if getattr(part, name) is not None:
                yield f"{name}: means something to a cluster only"


def _resource_reason(name: str) -> str:
    return "this machine's pool has none" if name == GPU_RESOURCE else "processes are not limited here"


def _with_drain(engine: EngineSettings) -> dict[str, ArgumentValue]:
    given = {name.replace("_", "-"): value for name, value in engine.arguments.items()}
    return {"shutdown-timeout": DRAIN_SECONDS, **given} if engine.name is EngineName.VLLM else given


def _probes(engine: EngineSettings) -> dict[str, Any]:
    """Health for liveness; start-up and readiness as long as the release allows.

    Health alone can lie (an engine that cannot compute is green), so the release asks for a completion itself.
    """
    tries = max(1, round(engine.ready_timeout_seconds / _PROBE_PERIOD_SECONDS))
    return {"startupProbe": _probe(tries), "readinessProbe": _probe(2), "livenessProbe": _probe(6)}


def _probe(failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/health", "port": 8000},
        "periodSeconds": _PROBE_PERIOD_SECONDS,
        "timeoutSeconds": 15,
        "failureThreshold": failures,
    }
