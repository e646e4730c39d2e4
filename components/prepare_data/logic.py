"""Materialise a data contract's source as `<split>.jsonl` files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components.prepare_data.support_questions import generate
from serving.contracts.data_contract import DataContract, DataRow, Generator, Split
from serving.contracts.release_spec import ResolvedRelease
from serving.data_rows import DataRowsError, read_rows, split_file, write_rows
from serving.files import digest_file
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from serving.step_cache import StepCache

STEP = "prepare_data"
_CODE = ("components/prepare_data", "serving/data_rows.py", "serving/contracts/data_contract.py")


class DataSourceError(Exception):
    """The data source cannot give the splits that the contract has rules for."""


def prepare(release: ResolvedRelease, output: Path, *, settings: NexusSettings, record: ReleaseRecord) -> None:
    """Write the contract's splits into a folder, from the cache when their source has not changed.

    Args:
        release: Release whose contract names the source.
        output: Folder to fill with `<split>.jsonl`; replaced when it exists.
        settings: Names the cache.
        record: Receives progress.

    Raises:
        DataSourceError: The source lacks a split, or files cannot be read or hold lines that are no rows.
    """
    with record.step(STEP) as progress:
        contract = release.contract
        source = contract.spec.source
        folder = None if source.path is None else _source_folder(release, source.path)
        inputs = _generator_inputs(contract, source.generator) if folder is None else _file_digests(contract, folder)

        def build(work: Path) -> None:
            for index, split in enumerate(contract.spec.splits):
                progress.say(f"{split} rows", index / len(contract.spec.splits))
                rows = _generated(source.generator, split) if folder is None else _copied(folder, split)
                write_rows(split_file(work, split), rows)

        if StepCache(settings.home / "cache").run(STEP, inputs, _CODE, output, build):
            progress.cached("the same source was prepared before")
        counts = ", ".join(f"{split} {_count(split_file(output, split))}" for split in contract.spec.splits)
        progress.summary = f"rows: {counts}"


def _generator_inputs(contract: DataContract, generator: Generator | None) -> Mapping[str, object]:
    assert generator is not None
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


def _file_digests(contract: DataContract, folder: Path) -> Mapping[str, object]:
    digests: dict[str, object] = {}
    problems: list[str] = []
    for split in contract.spec.splits:
        path = split_file(folder, split)
        try:
            digests[split] = digest_file(path)
        except OSError as exc:
            problems.append(f"{path}: expected the rows of split {split}; {exc.strerror}: add the file or correct it")
    if problems:
        raise DataSourceError("\n".join(problems))
    return {"files": digests}


def _generated(generator: Generator | None, split: Split) -> list[DataRow]:
    assert generator is not None
    return generate(split, generator.rows[split], generator.seed)


def _copied(folder: Path, split: Split) -> list[DataRow]:
    try:
        return read_rows(split_file(folder, split))
    except DataRowsError as exc:
        raise DataSourceError(str(exc)) from exc


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
