"""The registry on real MLflow: lost weights come back, two first releases share one database, nothing calls home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.files import digest_folder
from serving.registry import Registry, RegistryError, VersionContent
from serving.settings import NexusSettings
from tests.fakes.releases import write_weights

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow 3.17's own
]
REGISTER = """
import sys
from pathlib import Path
from serving.files import digest_folder
from serving.registry import Registry, VersionContent
from serving.settings import NexusSettings
name, folder = sys.argv[1], Path(sys.argv[2])
content = VersionContent(model=name, folder=folder, weights_digest=digest_folder(folder), content_digest=name)
print(Registry(NexusSettings.load()).register(content).version)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    assert Registry(NexusSettings(home=home))._client is not None
    return home


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> NexusSettings:
    return NexusSettings(home=shutil.copytree(template, tmp_path / "home"))


def content(folder: Path) -> VersionContent:
    digest = write_weights(folder)
    return VersionContent("m", folder, digest, "sha256:content", documents={"data.json": "{}"})


@pytest.mark.parametrize("damage", ["gone", "truncated", "everything"])
def test_weights_that_were_lost_are_registered_again(settings: NexusSettings, tmp_path: Path, damage: str) -> None:
    """The same version gets its weights and documents back; until then nobody is handed a folder that is not whole."""
    registry, made = Registry(settings), content(tmp_path / "weights")
    first = registry.register(made)
    stored = Path(first.storage_uri.removeprefix("file://"))
    if damage == "truncated":
        (stored / "model.safetensors").write_bytes(b"w")
    else:
        shutil.rmtree(stored if damage == "gone" else stored.parent)
    with pytest.raises(RegistryError, match="release again"):
        registry.fetch("models:/m/1", tmp_path / "fetched")
    again = registry.register(made)
    assert (again.version, again.storage_uri, again.already_registered) == ("1", first.storage_uri, False)
    assert digest_folder(stored) == made.weights_digest
    assert (stored.parent / "data.json").exists()
    assert registry.register(made).already_registered
    assert registry.fetch("models:/m@candidate", tmp_path / "fetched").version == "1"


def start(home: Path, name: str, weights: Path, **environment: str) -> subprocess.Popen[str]:
    kept = {"PATH": os.environ["PATH"], "NEXUS_HOME": str(home)}  # noqa: TID251 - all that the process may know
    return subprocess.Popen(
        [sys.executable, "-c", REGISTER, name, str(weights)],
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_first_releases_share_one_database_and_call_nobody(tmp_path: Path) -> None:
    """Both models are registered, whoever made the database; an empty home folder of the user stays empty."""
    user, home = tmp_path / "user", tmp_path / "home"
    user.mkdir()
    write_weights(tmp_path / "weights")
    processes = [start(home, name, tmp_path / "weights", HOME=str(user)) for name in ("a", "b")]
    for process in processes:
        output, error = process.communicate(timeout=100)
        assert (process.returncode, output.strip()) == (0, "1"), error
    models = Registry(NexusSettings(home=home))._client.search_registered_models()
    assert {model.name for model in models} == {"a", "b"}
    assert list(user.rglob("*")) == []
