"""The README's settings table is what the settings classes say."""

import pytest

from gateway.settings import GatewaySettings
from nexus.settings_table import README, settings_table, with_table
from serving.contracts.gateway_variables import GATEWAY_VARIABLES


def test_the_readme_holds_the_generated_table() -> None:
    """A setting that changed without `make fmt` is a stale README."""
    assert with_table(README.read_text()) == README.read_text()


def test_every_setting_stands_once_with_a_meaning() -> None:
    """No setting is missing, doubled, or without an explanation."""
    rows = [line.split("|") for line in settings_table().splitlines()[2:]]
    names = [row[1].strip() for row in rows]
    assert "`NEXUS_HOME`" in names
    assert len(set(names)) == len(names)
    assert all(row[4].strip() for row in rows)


def test_every_setting_names_its_readers() -> None:
    """What only the gateway reads is told from what the others read, and from what both do."""
    readers = {row[1].strip(" `"): row[2].strip() for row in (r.split("|") for r in settings_table().splitlines()[2:])}
    assert readers["NEXUS_GATEWAY_HOST"] == "gateway"
    assert readers["NEXUS_GATEWAY_PORT"] == "gateway, others"
    assert readers["NEXUS_ENGINE_THREADS"] == "others"


def test_a_readme_without_marks_is_refused() -> None:
    """The table never lands at a place nobody chose."""
    with pytest.raises(ValueError, match="settings"):
        with_table("# Nexus\n")


def test_programs_that_hand_settings_on_know_the_gateways_names() -> None:
    """The list that the command checks variables against is exactly the gateway's settings."""
    assert {name.upper() for name in GatewaySettings.model_fields} == GATEWAY_VARIABLES
