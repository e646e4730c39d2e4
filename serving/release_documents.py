"""Documents a release writes into the GitOps repository: pure functions from what is known to what is desired.

Names, routes, `version.yaml`, `kustomization.yaml`. When they are committed stands in `release_state`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml
from pydantic import BaseModel

from serving.contracts.base import Metadata
from serving.contracts.model_version import ModelVersion, ModelVersionBody
from serving.contracts.observation import Side
from serving.contracts.registration import Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.contracts.route import Route, RouteBody, RouteEndpoint
from serving.files import digest_bytes
from serving.runtimes.inference_service import build_inference_service

_LINE_WIDTH = 120

MAX_MODEL_NAME: Final = 38
"""`<model>-<8 hex>-b<4 hex>` plus KServe's `-predictor` must stay a DNS label of 63 characters."""


def service_name(release: ResolvedRelease, weights_digest: str) -> str:
    """Name the candidate's InferenceService: `<model>-<8 hex>` of its release, weights and engine settings."""
    text = json.dumps([release.release_id, weights_digest, release.spec.engine.model_dump(mode="json")], sort_keys=True)
    return f"{release.spec.model}-{_hex(text)[:8]}"


def baseline_name(stable_service: str, release_id: str) -> str:
    """Name the clone of the stable service that a release is compared with."""
    return f"{stable_service}-b{_hex(release_id)[:4]}"


def serves(model: str, service: str) -> bool:
    """Tell whether a service has a name that a release of the model gave it."""
    return re.fullmatch(rf"{re.escape(model)}-[0-9a-f]{{8}}(-b[0-9a-f]{{4}})?", service) is not None


def to_yaml(document: BaseModel | Mapping[str, Any]) -> str:
    """Write a document as YAML; the same document always gives the same bytes."""
    data = document.model_dump(mode="json", exclude_none=True) if isinstance(document, BaseModel) else dict(document)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)


def single_route(model: str, service: str) -> Route:
    """Build the route between releases: one service answers everything."""
    return _route(model, None, [(service, Side.STABLE, 100)])


def canary_route(model: str, release_id: str, *, stable: str, baseline: str, candidate: str, weight: int) -> Route:
    """Build the route of a canary step: candidate and baseline get `weight` percent each, stable the rest.

    Raises:
        ValueError: `weight` is outside 0 to 50.
    """
    if not 0 <= weight <= 50:
        raise ValueError(f"expected a canary weight from 0 to 50 percent; got {weight}: 100 is the promotion itself")
    sides = [(stable, Side.STABLE, 100 - 2 * weight), (baseline, Side.BASELINE, weight)]
    return _route(model, release_id, [*sides, (candidate, Side.CANDIDATE, weight)])


def first_route(model: str, release_id: str, candidate: str) -> Route:
    """Build the route of a first release under judgement: there is nobody else to answer."""
    return _route(model, release_id, [(candidate, Side.CANDIDATE, 100)])


def version_document(release: ResolvedRelease, registration: Registration) -> ModelVersion:
    """Build `version.yaml` of a promoted candidate."""
    body = ModelVersionBody(
        model=release.spec.model,
        release_id=release.release_id,
        service=service_name(release, registration.weights_digest),
        registry_version=registration.version,
        storage_uri=registration.storage_uri,
        weights_digest=registration.weights_digest,
        engine=release.spec.engine,
    )
    return ModelVersion(metadata=Metadata(name=release.spec.model), spec=body)


def service_document(version: ModelVersion, *, service: str, release_id: str) -> dict[str, Any]:
    """Build the InferenceService that serves a version under a name of its own."""
    body = version.spec
    return build_inference_service(
        service=service,
        model=body.model,
        release_id=release_id,
        storage_uri=body.storage_uri,
        weights_digest=body.weights_digest,
        engine=body.engine,
    )


def kustomization(services: Iterable[str]) -> str | None:
    """Write `kustomization.yaml` for the services; None without any, for kustomize refuses an empty one."""
    resources = [f"services/{service}.yaml" for service in sorted(services)]
    if not resources:
        return None
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    return to_yaml({**head, "resources": resources})


def _route(model: str, release_id: str | None, sides: Iterable[tuple[str, Side, int]]) -> Route:
    endpoints = tuple(RouteEndpoint(service=name, side=side, weight_percent=weight) for name, side, weight in sides)
    body = RouteBody(model=model, release_id=release_id, endpoints=endpoints)
    return Route(kind="Route", metadata=Metadata(name=model), spec=body)


def _hex(text: str) -> str:
    return digest_bytes(text.encode()).removeprefix("sha256:")
