"""Check a data set against its contract before anything uses it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from components.validate_data.columns import Seen, SplitColumns, compute_columns
from components.validate_data.data_docs import make_offline
from components.validate_data.rules import rules_of
from serving.contracts.data_contract import BrokenRule, DataContract, DataReport, Split
from serving.contracts.release_spec import ResolvedRelease
from serving.files import atomic_folder, digest_folder, write_atomic
from serving.record import Progress, ReleaseRecord
from serving.settings import NexusSettings
from serving.step_cache import StepCache

STEP = "validate_data"
DOCUMENT = "data"
DOCS_FOLDER = "data-docs"
_REPORT_FILE = "report.json"
_CODE = ("components/validate_data", "serving/data_rows.py", "serving/contracts/data_contract.py")


class BrokenDataError(Exception):
    """The data set breaks its contract; `broken` holds every rule that does not hold."""

    def __init__(self, contract: str, broken: tuple[BrokenRule, ...]) -> None:
        self.broken = broken
        lines = [f"expected data that keeps contract {contract!r}; {len(broken)} rules are broken:"]
        lines += [f"  {rule}" for rule in broken]
        lines.append("correct the rows, or change the contract, then release again")
        super().__init__("\n".join(lines))


def validate(
    release: ResolvedRelease, data: Path, output: Path, *, settings: NexusSettings, record: ReleaseRecord
) -> DataReport:
    """Check every split that has rules, publish the report and keep the Data Docs in the release record.

    Args:
        release: Release whose contract is checked.
        data: Folder of `<split>.jsonl` files.
        output: Folder that receives the same files, and only when every rule holds; replaced when it exists.
        settings: Names the cache.
        record: Receives progress, the document `data` and the folder `data-docs`.

    Raises:
        BrokenDataError: Rules are broken; the report is published first.
        DataRowsError: A split's file cannot be read.
    """
    with record.step(STEP) as progress:
        report = _cached_report(release.contract, data, settings, record, progress)
        record.publish(DOCUMENT, report)
        if report.broken:
            raise BrokenDataError(release.contract.metadata.name, report.broken)
        _copy_folder(data, output)
        progress.summary = f"{report.rules_checked} rules hold on {sum(report.rows.values())} rows"
        return report


def _cached_report(
    contract: DataContract, data: Path, settings: NexusSettings, record: ReleaseRecord, progress: Progress
) -> DataReport:
    """Return the report of this data and contract, and put its Data Docs into the record."""
    digest = digest_folder(data)

    def build(work: Path) -> None:
        report = _check(contract, data, digest, work, progress)
        write_atomic(work / _REPORT_FILE, report.model_dump_json(indent=2) + "\n")

    inputs = {"data": digest, "contract": contract.model_dump(mode="json", exclude={"spec": {"source"}})}
    record.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=record.folder, prefix=".validate-") as folder:
        result = Path(folder) / "result"
        if StepCache(settings.home / "cache").run(STEP, inputs, _CODE, result, build):
            progress.cached("the same data was checked against the same contract before")
        _copy_folder(result / DOCS_FOLDER, record.folder / DOCS_FOLDER)
        return DataReport.model_validate_json((result / _REPORT_FILE).read_bytes())


def _check(contract: DataContract, data: Path, digest: str, work: Path, progress: Progress) -> DataReport:
    started = time.monotonic()
    seen = Seen()
    checked: list[SplitColumns] = []
    order = [split for split in Split if split in contract.spec.splits]
    for index, split in enumerate(order):
        progress.say(f"reading {split}", index / (len(order) + 2))
        checked.append(compute_columns(data, split, seen))
    progress.say("Great Expectations", len(order) / (len(order) + 2))
    from components.validate_data.suite import SplitToCheck, run_suites  # noqa: PLC0415 - its import takes 7 to 17 s

    suites = [SplitToCheck(columns, rules_of(contract.spec, columns.split, columns.rows)) for columns in checked]
    docs = work / DOCS_FOLDER
    broken = run_suites(suites, docs)
    failed = {rule.split for rule in broken}
    make_offline(docs, {columns.split.value: columns.split not in failed for columns in checked})
    return DataReport(
        contract=contract.metadata.name,
        contract_version=contract.spec.version,
        data_digest=digest,
        rows={columns.split: columns.rows for columns in checked},
        rules_checked=sum(len(suite.rules) for suite in suites),
        broken=tuple(broken),
        data_docs=f"{DOCS_FOLDER}/index.html",
        seconds=time.monotonic() - started,
    )


def _copy_folder(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    with atomic_folder(target) as work:
        shutil.copytree(source, work, dirs_exist_ok=True)
