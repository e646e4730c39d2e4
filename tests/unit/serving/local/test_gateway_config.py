"""The gateway's files: swapped whole, old ones kept for a while, endpoints written when they change."""

from __future__ import annotations

import json
from pathlib import Path

from serving.local.gateway_config import GatewayConfig


def test_documents_are_swapped_whole(tmp_path: Path) -> None:
    """A reader that holds the old folder still reads all of it; the link shows the new one."""
    config = GatewayConfig(tmp_path)
    assert config.revision() is None
    config.publish("one", {"policy.yaml": "a", "routes/m.yaml": "b"})
    held = config.current.resolve()
    config.publish("two", {"policy.yaml": "c"})
    assert config.current.is_symlink()
    assert config.revision() == "two"
    assert not (config.current / "routes").exists()
    assert {path.name for path in held.rglob("*") if path.is_file()} == {"policy.yaml", "m.yaml", "REVISION"}


def test_what_was_refused_goes_with_the_documents(tmp_path: Path) -> None:
    """Each reason is one line of REFUSED, beside the documents of the same revision."""
    config = GatewayConfig(tmp_path)
    config.publish("one", {"policy.yaml": "a"}, ["policy.yaml:1: broken\nin two lines", "routes/m.yaml:2: x"])
    lines = (config.current / "REFUSED").read_text().splitlines()
    assert lines == ["policy.yaml:1: broken in two lines", "routes/m.yaml:2: x"]


def test_same_revision_again(tmp_path: Path) -> None:
    """A successor that publishes what is there changes nothing."""
    config = GatewayConfig(tmp_path)
    config.publish("one", {"policy.yaml": "a"})
    before = config.current.resolve().stat().st_ino
    config.publish("one", {"policy.yaml": "a"})
    assert config.current.resolve().stat().st_ino == before


def test_old_folders_go(tmp_path: Path) -> None:
    """A thousand commits do not make a thousand folders; the current one never goes."""
    config = GatewayConfig(tmp_path)
    for number in range(10):
        config.publish(f"r{number}", {"policy.yaml": "a"})
    folders = [path for path in config.current.parent.iterdir() if not path.is_symlink()]
    assert len(folders) <= 4
    config.publish("r9", {})
    assert config.revision() == "r9"


def test_endpoints_are_written_when_they_change(tmp_path: Path) -> None:
    """An unchanged list leaves the file alone, so that the gateway has nothing to read."""
    config = GatewayConfig(tmp_path)
    config.publish_endpoints({"b": ("http://127.0.0.1:2", True), "a": ("http://127.0.0.1:1", True)})
    first = config.endpoints_file.stat().st_ino
    assert json.loads(config.endpoints_file.read_text()) == {
        "a": {"url": "http://127.0.0.1:1", "ready": True},
        "b": {"url": "http://127.0.0.1:2", "ready": True},
    }
    config.publish_endpoints({"a": ("http://127.0.0.1:1", True), "b": ("http://127.0.0.1:2", True)})
    assert config.endpoints_file.stat().st_ino == first
    config.publish_endpoints({})
    assert json.loads(config.endpoints_file.read_text()) == {}
