"""Small data sets and releases that use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.contracts.data_contract import DataContract, DataRow, Message, Split
from serving.contracts.release_spec import ReleaseBody, ResolvedRelease
from serving.data_rows import split_file, write_rows
from tests.fakes.releases import make_release


def make_row(number: int, question: str | None = None, *, intent: str = "card-fee", answer: str = "Yes.") -> DataRow:
    """A single question."""
    text = question or f"What about topic number {number}?"
    return DataRow(id=f"row-{number}", intent=intent, messages=(Message(role="user", content=text),), answer=answer)


def write_splits(folder: Path, splits: Mapping[Split, Sequence[DataRow]]) -> Path:
    """Write `<split>.jsonl` files."""
    for split, rows in splits.items():
        write_rows(split_file(folder, split), rows)
    return folder


def make_contract(**body: Any) -> DataContract:
    """A contract over `source: {path: data}`; keyword arguments replace parts of its body."""
    spec = {
        "version": "1.0.0",
        "owner": "team",
        "description": "questions",
        "source": {"path": "data"},
        "splits": {"train": {"min_rows": 1, "max_rows": 100}, "evaluation": {"min_rows": 1, "max_rows": 100}},
        **body,
    }
    return DataContract.model_validate({"kind": "DataContract", "metadata": {"name": "questions"}, "spec": spec})


def release_with(contract: DataContract, base_path: Path, source: Mapping[str, Any] | None = None) -> ResolvedRelease:
    """A release of that contract; `source` replaces where weights come from."""
    release = make_release()
    body = release.spec.model_dump(mode="json")
    if source is not None:
        body["source"] = dict(source)
    return release.model_copy(
        update={"contract": contract, "base_path": str(base_path), "spec": ReleaseBody.model_validate(body)}
    )
