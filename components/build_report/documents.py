"""What a release left in its record, as far as it came; a document that cannot be read is named, never skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serving.contracts.benchmark_report import BenchmarkReport
from serving.contracts.canary_verdict import CanaryVerdict
from serving.contracts.conclusion import Conclusion
from serving.contracts.data_contract import DataReport
from serving.contracts.progress import ProgressEvent
from serving.contracts.quantization_report import QuantizationReport
from serving.contracts.registration import Deployment, Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.contracts.training import TrainingReport
from serving.record import ReleaseRecord

DocumentT = TypeVar("DocumentT", bound=BaseModel)


@dataclass(frozen=True)
class Documents:
    """Documents of one release; None where it did not come that far. `unreadable` maps a name to what is wrong."""

    release_id: str
    release: ResolvedRelease | None
    data: DataReport | None
    training: TrainingReport | None
    quantization: QuantizationReport | None
    benchmark: BenchmarkReport | None
    registration: Registration | None
    deployment: Deployment | None
    verdict: CanaryVerdict | None
    conclusion: Conclusion | None
    events: tuple[ProgressEvent, ...]
    unreadable: Mapping[str, str]


def read_documents(record: ReleaseRecord) -> Documents:
    """Read all documents of a record; its folder's name is the release's id."""
    unreadable: dict[str, str] = {}

    def read(name: str, model: type[DocumentT]) -> DocumentT | None:
        try:
            return record.read(name, model)
        except (ValidationError, OSError) as exc:
            unreadable[name] = " ".join(str(exc).split())[:500]
            return None

    try:
        events = tuple(record.events())
    except (ValidationError, OSError) as exc:
        events = ()
        unreadable["events"] = " ".join(str(exc).split())[:500]
    return Documents(
        release_id=record.folder.name,
        release=read("release", ResolvedRelease),
        data=read("data", DataReport),
        training=read("training", TrainingReport),
        quantization=read("quantization", QuantizationReport),
        benchmark=read("benchmark", BenchmarkReport),
        registration=read("registration", Registration),
        deployment=read("deployment", Deployment),
        verdict=read("verdict", CanaryVerdict),
        conclusion=read("conclusion", Conclusion),
        events=events,
        unreadable=unreadable,
    )
