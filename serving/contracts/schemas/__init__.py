"""JSON schemas of every document, generated from its model: `python -m serving.contracts.schemas [--check]`.

Editors and other languages read the `.json` files beside this module; Nexus itself reads the models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from serving.contracts.benchmark_report import BenchmarkReport
from serving.contracts.canary_verdict import CanaryVerdict
from serving.contracts.conclusion import Conclusion
from serving.contracts.data_contract import DataContract, DataReport, DataRow
from serving.contracts.endpoints import EndpointDirectory
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.model_version import ModelVersion
from serving.contracts.node_status import NodeStatus
from serving.contracts.observation import Label, Observation
from serving.contracts.progress import ProgressEvent
from serving.contracts.quantization_report import QuantizationReport
from serving.contracts.registration import Deployment, Registration
from serving.contracts.release_spec import ReleaseSpec, ResolvedRelease
from serving.contracts.route import Route
from serving.contracts.training import TrainingReport

FOLDER: Final = Path(__file__).resolve().parent

DOCUMENTS: Final[Mapping[str, type[BaseModel]]] = {
    "benchmark-report": BenchmarkReport,
    "canary-verdict": CanaryVerdict,
    "conclusion": Conclusion,
    "data-contract": DataContract,
    "data-report": DataReport,
    "data-row": DataRow,
    "deployment": Deployment,
    "endpoint-directory": EndpointDirectory,
    "gateway-policy": GatewayPolicy,
    "label": Label,
    "model-version": ModelVersion,
    "node-status": NodeStatus,
    "observation": Observation,
    "progress-event": ProgressEvent,
    "quantization-report": QuantizationReport,
    "registration": Registration,
    "release": ReleaseSpec,
    "resolved-release": ResolvedRelease,
    "route": Route,
    "training-report": TrainingReport,
}
"""File name without its ending -> model. Every document that a file or a line holds stands here."""


def render(name: str) -> str:
    """Return one schema as stable text: sorted keys, two spaces, a line end."""
    schema = DOCUMENTS[name].model_json_schema(mode="validation")
    head = {"$schema": GenerateJsonSchema.schema_dialect, "$id": f"urn:nexus:v1alpha1:{name}"}
    return json.dumps({**head, **schema}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def stale(folder: Path = FOLDER) -> list[str]:
    """List files of the folder that are missing, differ from their model, or belong to no document."""
    names = {f"{name}.json": name for name in DOCUMENTS}
    found = {path.name for path in folder.glob("*.json")}
    differing = [file for file, name in names.items() if file in found and (folder / file).read_text() != render(name)]
    return sorted({*differing, *(names.keys() ^ found)})


def write(folder: Path = FOLDER) -> list[str]:
    """Bring the folder up to date; returns the files it changed or removed."""
    changed = stale(folder)
    for file in changed:
        name = file.removesuffix(".json")
        if name in DOCUMENTS:
            (folder / file).write_text(render(name))
        else:
            (folder / file).unlink()
    return changed
