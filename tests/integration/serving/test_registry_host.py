import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serving.files import digest_folder
from serving.registry import Registry, RegistryError, VersionContent
from serving.registry_host import open_registry, registry_host
from serving.settings import NexusSettings
from tests.fakes.releases import MODEL, write_weights

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow 3.17's own
]
PARENT = """
import sys, time
from pathlib import Path
from serving.registry_host import registry_host
from serving.settings import NexusSettings
settings = NexusSettings.load()
with registry_host(settings, Path(sys.argv[1])):
    time.sleep(100)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NexusSettings:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    return NexusSettings.load()


def place(settings: NexusSettings) -> Path:
    return settings.run_dir / "registry-host.json"


def wait_for(path: Path) -> dict:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return json.loads(path.read_text())


def test_calls_go_to_the_host_and_back(settings: NexusSettings, tmp_path: Path, monkeypatch) -> None:
    """Results, errors and files are those of a registry of one's own, which is not opened here."""
    monkeypatch.setattr(Registry, "_client", property(lambda _: pytest.fail("MLflow was opened in this process")))
    folder = tmp_path / "weights"
    content = VersionContent(MODEL, folder, write_weights(folder), "sha256:" + "c" * 64)
    with registry_host(settings, tmp_path / "log"):
        wait_for(place(settings))
        registry = open_registry(settings)
        assert registry.register(content).already_registered is False
        assert registry.register(content).already_registered is True
        registry.fetch(f"models:/{MODEL}@candidate", tmp_path / "copy")
        with pytest.raises(RegistryError, match="models:/none/1"):
            registry.resolve("models:/none/1")
    assert digest_folder(tmp_path / "copy") == content.weights_digest
    assert not place(settings).exists()


@pytest.mark.parametrize("state", ["absent", "half a file", "nobody there", "wrong key", "killed"])
def test_without_a_host_the_call_is_done_here(settings: NexusSettings, tmp_path: Path, state: str) -> None:
    """A host that never was, is gone, or dies under a call costs time and nothing else."""
    place(settings).parent.mkdir(parents=True, exist_ok=True)
    if state == "half a file":
        place(settings).write_text('{"na')
    elif state == "nobody there":
        place(settings).write_text(json.dumps({"name": "nexus-registry-nobody", "key": "00", "pid": 1}))
    with registry_host(settings, tmp_path / "log"):
        if state in ("wrong key", "killed"):
            found = wait_for(place(settings))
            if state == "killed":
                os.kill(found["pid"], signal.SIGKILL)
            else:
                place(settings).write_text(json.dumps({**found, "key": "00"}))
        with pytest.raises(RegistryError, match="models:/none/1"):
            open_registry(settings).resolve("models:/none/1")


def test_host_ends_with_a_parent_that_is_killed(settings: NexusSettings, tmp_path: Path) -> None:
    """kill -9 of the run leaves no process and no address behind."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")])
    found = wait_for(place(settings))
    host = psutil.Process(found["pid"])
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([host], timeout=30)[1] == []
    assert not place(settings).exists()
