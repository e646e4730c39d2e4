"""The committed JSON schemas say what the models say."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

import serving.contracts
from serving.contracts import schemas
from serving.contracts.schemas.__main__ import main

ROOT = Path(__file__).resolve().parents[4]


def test_committed_schemas_are_current() -> None:
    """A changed contract changes its schema in the same commit; `make fmt` does it."""
    assert schemas.stale() == []


@pytest.mark.parametrize("name", schemas.DOCUMENTS)
def test_schema_is_valid_and_strict(name: str) -> None:
    """Every schema is itself valid and refuses unknown keys at the top, as the models do."""
    schema = json.loads((schemas.FOLDER / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:nexus:v1alpha1:{name}"
    if schemas.DOCUMENTS[name].model_fields.keys() != {"root"}:
        assert schema["additionalProperties"] is False


def test_every_kind_of_document_has_a_schema() -> None:
    """A model with `apiVersion` is a document that people write or read, so it stands in the table."""
    kinds = set()
    for module in pkgutil.iter_modules(serving.contracts.__path__, "serving.contracts."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, BaseModel) and "apiVersion" in value.model_fields:
                kinds.add(value)
    assert {kind.__name__ for kind in kinds} - {model.__name__ for model in schemas.DOCUMENTS.values()} == set()


def test_schema_and_model_agree_on_our_release() -> None:
    """A spec of this repository fits the schema, and with an unknown key it does not."""
    document = yaml.safe_load((ROOT / "manifests/models/support-assistant/base.yaml").read_text())
    validator = jsonschema.Draft202012Validator(json.loads((schemas.FOLDER / "release.json").read_text()))
    assert [error.message for error in validator.iter_errors(document)] == []
    document["spec"]["gates"]["speed"] = {"max_speed": 1}
    assert not validator.is_valid(document)


def test_write_repairs_a_folder(tmp_path: Path) -> None:
    """Missing, changed and left-over files are put right, and a second run changes nothing."""
    (tmp_path / "route.json").write_text("{}")
    (tmp_path / "gone.json").write_text("{}")
    assert set(schemas.write(tmp_path)) == {"gone.json", *(f"{name}.json" for name in schemas.DOCUMENTS)}
    assert schemas.write(tmp_path) == []
    assert schemas.stale(tmp_path) == []


def test_check_fails_when_a_schema_is_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gate's message names the file and what to run."""
    assert main(["--check"]) == 0
    monkeypatch.setattr(schemas, "stale", lambda: ["route.json"])
    assert main(["--check"]) == 1
    assert "route.json: run `make fmt`" in capsys.readouterr().err
