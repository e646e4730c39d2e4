"""The installer for real: pip, uv and the package index, with a lock of one small package."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nexus.environments import install

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

PACKAGE = "typing-extensions"


def _tiny_lock() -> str:
    """Cut one package out of the real lock."""
    text = (install.LOCKS / "core.txt").read_text()
    found = re.search(rf"(?m)^{PACKAGE}==.*\n(?:    --hash=.*\n)+", text)
    assert found
    return found[0].rstrip().removesuffix("\\").rstrip() + "\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy what the installer needs of this repository, with a small core lock."""
    root = tmp_path / "tree"
    locks = root / "nexus" / "environments"
    locks.mkdir(parents=True)
    for name in ("install.py", "bootstrap.txt", install.BUILD):
        shutil.copy(install.LOCKS / name, locks / name)
    shutil.copy(install.ROOT / "pyproject.toml", root)
    (root / "README.md").write_text("# x\n")
    for package in ("nexus", "components", "pipelines", "serving", "gateway"):
        (root / package).mkdir(exist_ok=True)
        (root / package / "__init__.py").touch()
    (locks / "core.txt").write_text(_tiny_lock())
    return root


def _command(tree: Path, *names: str) -> list[str]:
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    return [str(base), str(tree / "nexus/environments/install.py"), *(names or ("core",))]


def _environment(tree: Path, **extra: str) -> dict[str, str]:
    drop = ("NEXUS_", "VIRTUAL_ENV", "PYTHON")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(drop)}  # noqa: TID251 - proxies, certificates
    return inherited | {"NEXUS_HOME": str(tree / ".nexus")} | extra


def _install(tree: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    env = _environment(tree, **extra)
    return subprocess.run(_command(tree), cwd=tree, env=env, capture_output=True, text=True, timeout=200, check=False)


def _python(tree: Path, program: str) -> str:
    argv = [str(tree / ".nexus/envs/core/bin/python"), "-c", program]
    return subprocess.run(argv, cwd="/", capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_installs_once_then_skips_and_follows_its_lock(tree: Path) -> None:
    """A first run installs, a second does nothing, a changed lock or project is followed, damage is repaired."""
    first = _install(tree)
    assert first.returncode == 0, first.stderr
    assert "core: 1 packages: done in" in first.stdout
    assert _python(tree, "import typing_extensions, serving; print(serving.__file__)") == str(
        tree / "serving/__init__.py"
    )
    assert (tree / ".nexus/envs/core/bin/nexus").exists()

    assert _install(tree).stdout == "install  core: up to date\n"

    (tree / "pyproject.toml").write_text((tree / "pyproject.toml").read_text().replace('"0.1.0"', '"0.2.0"'))
    again = _install(tree)
    assert "packages" not in again.stdout
    assert _python(tree, "from importlib.metadata import version; print(version('nexus-llm'))") == "0.2.0"

    (tree / "nexus/environments/core.txt").write_text(_tiny_lock() + "# changed\n")
    assert "core: 1 packages" in _install(tree).stdout

    (tree / ".nexus/envs/core/nexus-environment.json").unlink()
    (tree / ".nexus/envs/core/lib/python3.11/site-packages/typing_extensions.py").unlink()
    repaired = _install(tree)
    assert "core: virtual environment" in repaired.stdout
    assert _python(tree, "import typing_extensions, nexus; print('ok')") == "ok"


@pytest.mark.parametrize("moment", ["bootstrap: virtual environment", "core: virtual environment", "core: 1 packages"])
def test_killed_installation_is_redone(tree: Path, moment: str) -> None:
    """SIGKILL right after any step leaves nothing that the next run believes; its children are waited for."""
    with subprocess.Popen(_command(tree), cwd=tree, env=_environment(tree), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        for line in child.stdout:
            if moment in line:
                break
        time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    assert not (tree / ".nexus/envs/core/nexus-environment.json").exists() or moment == "core: 1 packages"
    done = _install(tree)
    assert done.returncode == 0, done.stderr
    assert json.loads((tree / ".nexus/envs/core/nexus-environment.json").read_text())["project"]
    assert _python(tree, "import typing_extensions, nexus; print('ok')") == "ok"


def test_two_installations_at_once_end_in_one(tree: Path) -> None:
    """The second waits for the first and finds everything in place."""
    children = [
        subprocess.Popen(_command(tree), cwd=tree, env=_environment(tree), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [child.communicate(timeout=200)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted("core: 1 packages" in output for output in outputs) == [False, True]
    assert any("waiting for another installation" in output and "core: up to date" in output for output in outputs)


def test_unreachable_index_is_said_plainly(tree: Path, tmp_path: Path) -> None:
    """After the bootstrap the index goes away: the message names the variables to look at, and a later run goes on."""
    assert _install(tree).returncode == 0
    (tree / ".nexus/envs/core/nexus-environment.json").unlink()
    closed = {
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_HTTP_RETRIES": "0",
    }
    refused = _install(tree, **closed)
    assert refused.returncode == 1
    assert "the package index cannot be reached" in refused.stderr
    assert "UV_DEFAULT_INDEX" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert _install(tree).returncode == 0


def test_changed_package_is_refused(tree: Path, tmp_path: Path) -> None:
    """A file that differs from its lock is never installed."""
    lock = tree / "nexus/environments/core.txt"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock.read_text()))
    refused = _install(tree, UV_CACHE_DIR=str(tmp_path / "cache"))
    assert refused.returncode == 1
    assert "differs from its lock" in refused.stderr
    assert not (tree / ".nexus/envs/core/nexus-environment.json").exists()
