"""Materialise a data contract's source as `<split>.jsonl` files.

Files of a path are copied byte by byte: whether they hold rows is for validate_data to say, which lists all faults.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from components.prepare_data.support_questions import generate
from serving.contracts.data_contract import DataContract, Generator, Split
from serving.contracts.release_spec import ResolvedRelease
from serving.data_rows import split_file, write_rows
from serving.files import atomic_folder, digest_folder
from serving.record import Progress, ReleaseRecord
from serving.settings import NexusSettings
from serving.source_content import require_unchanged
from serving.step_cache import StepCache

STEP = "prepare_data"
_CODE = (
    "components/prepare_data",
    "serving/data_rows.py",
    "serving/contracts/data_contract.py",
)


class DataSourceError(Exception):
    """The data source cannot give the splits that the contract has rules for."""


def prepare(release: ResolvedRelease, output: Path, *, settings: NexusSettings, record: ReleaseRecord) -> None:
    """Write the contract's splits into a folder.

    Args:
        release: Release whose contract names the source.
        output: Folder to fill with `<split>.jsonl`; replaced when it exists.
        settings: Names the cache.
        record: Receives progress.

    Raises:
        DataSourceError: The source lacks a split, or files cannot be read.
        ChangedSourceError: The files are not those that the release was resolved with.
    """
    with record.step(STEP) as progress:
        contract = release.contract
        source = contract.spec.source
        if source.path is not None:
            _copy(release, _source_folder(release, source.path), output, progress)
        else:
            assert source.generator is not None, "the contract sets exactly one source"
            _generate(contract, source.generator, output, settings, progress)
        counts = ", ".join(f"{split} {_count(split_file(output, split))}" for split in contract.spec.splits)
        progress.summary = f"rows: {counts}"


def _generate(
    contract: DataContract, generator: Generator, output: Path, settings: NexusSettings, progress: Progress
) -> None:
    """Generate every split, or take what the same arguments and code gave before."""

    def build(work: Path) -> None:
        for index, split in enumerate(contract.spec.splits):
            progress.say(f"{split} rows", index / len(contract.spec.splits))
            write_rows(split_file(work, split), generate(split, generator.rows[split], generator.seed))

    inputs = _generator_inputs(contract, generator)
    if StepCache(settings.home / "cache").run(STEP, inputs, _CODE, output, build):
        progress.cached("the same source was prepared before")


def _copy(release: ResolvedRelease, folder: Path, output: Path, progress: Progress) -> None:
    """Copy the files of a path and hold them against the release; a copy in the cache would save nothing."""
    splits = release.contract.spec.splits
    if problems := list(_unreadable(folder, splits)):
        raise DataSourceError("\n".join(problems))
    progress.say(f"copying {folder}")
    shutil.rmtree(output, ignore_errors=True)
    with atomic_folder(output) as work:
        for split in splits:
            shutil.copyfile(split_file(folder, split), split_file(work, split))
        require_unchanged(folder, got=digest_folder(work), expected=release.data_digest)


def _generator_inputs(contract: DataContract, generator: Generator) -> Mapping[str, object]:
    missing = [split for split in contract.spec.splits if split not in generator.rows]
    if missing:
        raise DataSourceError(
            f"expected `source.generator.rows` of contract {contract.metadata.name!r} to name every split with rules; "
            f"got none for {', '.join(missing)}: add them, or remove their rules"
        )
    return {"generator": generator.model_dump(mode="json"), "splits": sorted(contract.spec.splits)}


def _source_folder(release: ResolvedRelease, path: str) -> Path:
    """Resolve the source's path; a relative one starts at the contract file."""
    folder = (Path(release.base_path) / release.spec.data_contract).parent / path
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise DataSourceError(f"expected a folder of <split>.jsonl files at {folder}; got {got}: correct `source.path`")
    return folder


def _unreadable(folder: Path, splits: Iterable[Split]) -> Iterator[str]:
    for split in splits:
        path = split_file(folder, split)
        try:
            path.open("rb").close()
        except OSError as exc:
            yield f"{path}: expected the rows of split {split}; {exc.strerror}: add the file or correct it"


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
