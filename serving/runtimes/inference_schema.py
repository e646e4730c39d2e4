"""Shape of a KServe InferenceService as this repository accepts it: what is read, and what is known but not read.

Known keys come from KServe 0.21 (`V1beta1PredictorSpec`, `V1beta1ModelSpec`); any other key is a spelling mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, create_model, field_validator

from serving.contracts.base import Digest, Name, StrictModel
from serving.contracts.release_spec import EngineName

API_VERSION: Final = "serving.kserve.io/v1beta1"
LABEL_MODEL: Final = "nexus/model"
LABEL_RELEASE: Final = "nexus/release"
ANNOTATION_DIGEST: Final = "nexus/weights-digest"
ANNOTATION_READY_SECONDS: Final = "nexus/ready-timeout-seconds"
ANNOTATION_MODE: Final = "serving.kserve.io/deploymentMode"
GPU_RESOURCE: Final = "nvidia.com/gpu"
SERVED_NAME: Final = "served-model-name"

PREDICTOR_NOT_APPLIED: Final = (
    "activeDeadlineSeconds",
    "affinity",
    "annotations",
    "autoScaling",
    "automountServiceAccountToken",
    "batcher",
    "canaryTrafficPercent",
    "containerConcurrency",
    "deploymentStrategy",
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "imagePullSecrets",
    "initContainers",
    "labels",
    "logger",
    "nodeName",
    "nodeSelector",
    "priorityClassName",
    "restartPolicy",
    "runtimeClassName",
    "scaleMetric",
    "scaleMetricType",
    "scaleTarget",
    "schedulerName",
    "securityContext",
    "serviceAccountName",
    "timeout",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "workerSpec",
)
"""Keys of `spec.predictor` that mean something to a cluster only."""

MODEL_NOT_APPLIED: Final = (
    "envFrom",
    "image",
    "imagePullPolicy",
    "ports",
    "protocolVersion",
    "runtimeVersion",
    "securityContext",
    "storage",
    "volumeMounts",
    "workingDir",
)
"""Keys of `spec.predictor.model` that mean something to a cluster only."""

_HAS_LOCAL_TWIN: Final = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
"""Keys that the local node honours in its own way: it probes by completions and drains before it stops."""


class _KubernetesMetadata(StrictModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    namespace: str | None = None
    labels: dict[str, str]
    annotations: dict[str, str]

    @field_validator("labels")
    @classmethod
    def _labels(cls, labels: dict[str, str]) -> dict[str, str]:
        _require(labels, (LABEL_MODEL, LABEL_RELEASE))
        return labels

    @field_validator("annotations")
    @classmethod
    def _annotations(cls, annotations: dict[str, str]) -> dict[str, str]:
        _require(annotations, (ANNOTATION_DIGEST, ANNOTATION_READY_SECONDS))
        if not 0 < float(annotations[ANNOTATION_READY_SECONDS]) <= 3600:
            raise ValueError(f"{ANNOTATION_READY_SECONDS} must be above 0 and at most 3600")
        _Digested(value=annotations[ANNOTATION_DIGEST])
        return annotations


class _Digested(StrictModel):
    value: Digest


class _Format(StrictModel):
    name: EngineName
    version: str | None = None


class EnvironmentVariable(StrictModel):
    """One variable; `valueFrom` points into a cluster."""

    name: str
    value: str | None = None
    valueFrom: dict[str, Any] | None = None  # noqa: N815 - Kubernetes spelling


class Resources(StrictModel):
    """Requests and limits; quantities are text or numbers."""

    requests: dict[str, str | int | float] = Field(default_factory=dict)
    limits: dict[str, str | int | float] = Field(default_factory=dict)


class _ModelBase(StrictModel):
    name: str | None = None
    modelFormat: _Format  # noqa: N815 - Kubernetes spelling
    runtime: str | None = None
    storageUri: str = Field(min_length=1)  # noqa: N815 - Kubernetes spelling
    args: tuple[str, ...]
    env: tuple[EnvironmentVariable, ...] = ()
    resources: Resources = Resources()

    @field_validator("args")
    @classmethod
    def _args(cls, args: tuple[str, ...]) -> tuple[str, ...]:
        if not parse_args(args).get(SERVED_NAME):
            raise ValueError(f"expected --{SERVED_NAME}=<name>; it is missing")
        return args


class _PredictorBase(StrictModel):
    minReplicas: int = Field(default=1, ge=0)  # noqa: N815 - Kubernetes spelling
    maxReplicas: int = Field(default=1, ge=0)  # noqa: N815 - Kubernetes spelling
    terminationGracePeriodSeconds: int = Field(default=30, ge=0)  # noqa: N815 - Kubernetes spelling


def _known(names: Iterable[str]) -> dict[str, Any]:
    return {name: (Any, None) for name in names}


_Model: Any = create_model("Model", __base__=_ModelBase, **_known([*MODEL_NOT_APPLIED, *_HAS_LOCAL_TWIN]))
_Predictor: Any = create_model(
    "Predictor", __base__=_PredictorBase, model=(_Model, ...), **_known(PREDICTOR_NOT_APPLIED)
)


class _Spec(StrictModel):
    predictor: _Predictor
    transformer: None = None
    explainer: None = None


class InferenceServiceDocument(StrictModel):
    """`kind: InferenceService`."""

    apiVersion: Literal["serving.kserve.io/v1beta1"]  # noqa: N815 - Kubernetes spelling
    kind: Literal["InferenceService"]
    metadata: _KubernetesMetadata
    spec: _Spec


def parse_args(args: Iterable[str]) -> dict[str, str | bool]:
    """Read a command line back into options: `--name=value`, `--name value`, `--flag`.

    Raises:
        ValueError: A word is no long option, or an option stands twice.
    """
    out: dict[str, str | bool] = {}
    waiting: str | None = None
    for word in args:
        if not word.startswith("--"):
            if waiting is None:
                raise ValueError(f"expected a long option such as --max-model-len=256; got {word[:40]!r}")
            out[waiting], waiting = word, None
            continue
        name, equals, value = word[2:].partition("=")
        if not name or name in out:
            raise ValueError(f"expected each option once; got {word[:40]!r} again" if name else "got a bare --")
        out[name] = value if equals else True
        waiting = None if equals else name
    return out


def _require(mapping: dict[str, str], keys: Iterable[str]) -> None:
    missing = [key for key in keys if not mapping.get(key)]
    if missing:
        raise ValueError(f"expected {', '.join(missing)}; missing")
