"""The gateway guide says what is so: documents load, tables are whole, commands and settings exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gateway.adapter.providers import ProviderDocument
from gateway.adapter.settings import AdapterSettings
from gateway.admin import key_routes, node_routes
from gateway.api.errors import STATUS
from gateway.api.formats import FORMATS
from gateway.settings import GatewaySettings
from serving.contracts import metric_names
from serving.contracts.load import DocumentError, parse_document
from serving.contracts.policy_folder import ParseCache, read_folder
from serving.settings import NexusSettings
from tests.fakes.gateway_guide import GUIDE, POLICY_HEAD, Example, examples, table, unknown_commands

EXAMPLES = examples()


def write(folder: Path, example: Example) -> Path:
    (folder / "routes").mkdir()
    (folder / "policy.yaml").write_text(example.policy or f"{POLICY_HEAD}  {{}}\n")
    for model, text in example.routes.items():
        (folder / f"routes/{model}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("section", [name for name, found in EXAMPLES.items() if found.policy or found.routes])
def test_every_example_can_be_used(tmp_path: Path, section: str) -> None:
    """The strict loader takes it as the gateway would, under its route's own name."""
    documents = read_folder(write(tmp_path, EXAMPLES[section]), ParseCache())
    assert {route.spec.model for route in documents.routes} == set(EXAMPLES[section].routes)


def test_a_misspelt_example_would_be_found(tmp_path: Path) -> None:
    """The check above sees a key that does not exist."""
    example = EXAMPLES["Limits"]
    assert example.policy is not None
    broken = Example(example.policy.replace("requests_per_minute", "requests_a_minute"))
    with pytest.raises(DocumentError, match="requests_a_minute"):
        read_folder(write(tmp_path, broken), ParseCache())


def test_other_documents_can_be_used() -> None:
    """The adapter takes the providers, and the collector's document is YAML."""
    providers = parse_document(EXAMPLES["External providers"].others["Providers"], ProviderDocument, source="guide")
    assert [provider.name for provider in providers.spec.providers] == ["anthropic", "openai", "bedrock"]
    assert yaml.safe_load(EXAMPLES["Tracing"].others["Collector"])["receivers"].keys() == {"otlpjsonfile"}


def test_the_error_table_is_whole() -> None:
    """Each code stands once, with its status, and none is missing."""
    rows = [(row[0], int(row[1])) for row in table("errors")]
    assert sorted(rows) == sorted((str(code), status) for code, status in STATUS.items())
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    assert all(all(row) for row in table("errors"))


def test_the_metrics_list_is_whole() -> None:
    """Each of the gateway's metrics stands once, and none is missing."""
    names = [value for name, value in vars(metric_names).items() if name.startswith("GATEWAY_")]
    assert sorted(row[0] for row in table("metrics")) == sorted(names)
    assert all(row[1] for row in table("metrics"))


def test_every_command_exists() -> None:
    """`nexus …` lines name commands, and options, that there are."""
    assert unknown_commands(GUIDE) == []


def test_every_setting_exists() -> None:
    """Variables that the guide names are settings of the gateway, the adapter or the others."""
    known = {
        f"{model.model_config.get('env_prefix')}{name.upper()}"
        for model in (GatewaySettings, AdapterSettings, NexusSettings)
        for name in model.model_fields
    }
    assert set(re.findall(r"NEXUS_[A-Z_]+", GUIDE.read_text())) <= known


def test_paths_are_those_that_are_served() -> None:
    """Every path of the hot routes is named, and the table of the admin API has each of its paths."""
    text = GUIDE.read_text()
    assert all(path in text for path in FORMATS)
    routes = [*key_routes.router.routes, *node_routes.router.routes]
    paths = {str(getattr(route, "path", "")).removeprefix("/admin/v1") for route in routes}
    shown = text.replace("{id}", "{key_id}").replace("…/undrain", "/endpoints/{service}/undrain")
    assert {path for path in paths if path not in shown} == set()
