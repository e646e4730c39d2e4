"""How a release ended, read from the documents its steps left behind, and the exit code that says it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import Field

from serving.contracts.base import Name, StrictModel
from serving.contracts.conclusion import Conclusion
from serving.contracts.conclusion import ReleaseOutcome as Ending
from serving.contracts.data_contract import DataReport
from serving.contracts.progress import EventKind
from serving.record import ReleaseRecord


class ReleaseResult(StrEnum):
    """The ways a release can end."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"


EXIT_CODES: Final = {
    ReleaseResult.PROMOTED: 0,
    ReleaseResult.FAILED: 1,
    ReleaseResult.ROLLED_BACK: 3,
    ReleaseResult.REJECTED: 3,
    ReleaseResult.INCONCLUSIVE: 4,
}


class ReleaseOutcome(StrictModel):
    """What `nexus release` prints at the end; `--json` prints just this."""

    release_id: Name
    name: str
    result: ReleaseResult
    reason: str
    report: str | None = Field(description="Path of the HTML report, None when none was written.")
    seconds: float = Field(ge=0, description="Wall time of this run; a finished release takes next to none.")
    resumed: bool = Field(default=False, description="The release had already ended; nothing was done.")


def read_outcome(
    record: ReleaseRecord, *, release_id: str, name: str, seconds: float, exit_code: int, since: int = 0
) -> ReleaseOutcome:
    """Tell how a release ended.

    Args:
        record: Its record.
        release_id: Its id.
        name: Name of its spec.
        seconds: Wall time of this run.
        exit_code: Exit code of the pipeline's process; anything but 0 is a failure, unless a verdict says otherwise.
        since: Number of events that earlier runs left; their failures are not this run's.
    """
    result, reason = _judge(record, exit_code, since)
    report = record.folder / "report.html"
    return ReleaseOutcome(
        release_id=release_id,
        name=name,
        result=result,
        reason=reason,
        report=str(report) if report.exists() else None,
        seconds=round(seconds, 1),
    )


def _judge(record: ReleaseRecord, exit_code: int, since: int) -> tuple[ReleaseResult, str]:
    data = record.read("data", DataReport)
    if data is not None and data.broken:
        rules = "".join(f"\n  {rule}" for rule in data.broken)
        return ReleaseResult.REJECTED, f"the data breaks {len(data.broken)} rule(s) of its contract:{rules}"
    conclusion = record.read("conclusion", Conclusion)
    if exit_code != 0 or conclusion is None:
        return ReleaseResult.FAILED, _last_failure(record, since)
    return _ENDINGS[conclusion.outcome], conclusion.reason


_ENDINGS: Final = {
    Ending.PROMOTED: ReleaseResult.PROMOTED,
    Ending.ROLLED_BACK: ReleaseResult.ROLLED_BACK,
    Ending.REJECTED: ReleaseResult.REJECTED,
    Ending.HELD: ReleaseResult.INCONCLUSIVE,
}


def _last_failure(record: ReleaseRecord, since: int) -> str:
    failed = [event for event in record.events()[since:] if event.kind is EventKind.FAILED]
    log = record.folder / "pipeline.log"
    if failed:
        return f"step {failed[-1].step} failed: {failed[-1].message}; the whole log is {log}"
    return f"the pipeline ended without a conclusion; its log is {log}"
