"""The installer decides well before it touches anything, and its errors say what to do."""

from __future__ import annotations

import ast
import fcntl
import os
import sys
from pathlib import Path

import pytest

from nexus.environments import install
from nexus.environments.install import InstallError, Stamp


def test_it_needs_the_standard_library_only() -> None:
    """It runs before anything is installed."""
    for name in ("install.py", "lock.py"):
        tree = ast.parse((install.LOCKS / name).read_text())
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'", True),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the driver.'; exit 9", False),
        ("echo 'No devices were found'", False),
        ("exit 0", False),
        (None, False),
    ],
)
def test_gpu_is_what_the_driver_answers(
    script: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver's tool without a GPU, a broken one and none at all mean the CPU build."""
    if script is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.has_gpu() is expected


def test_gpu_chooses_the_cuda_build() -> None:
    """Only the engine differs."""
    cpu, cuda = install.plan(gpu=False), install.plan(gpu=True)
    assert {name for name in cpu if cpu[name] != cuda[name]} == {"engine"}
    assert (cpu["engine"].lock, cuda["engine"].lock) == ("engine.txt", "engine-cuda.txt")


@pytest.mark.parametrize(("version", "fine"), [((3, 10), False), ((3, 11), True), ((3, 12), False), ((2, 7), False)])
def test_only_python_3_11_is_taken(version: tuple[int, int], fine: bool) -> None:
    """Locks are made for one version; the message names it, the one found, and what to run."""
    if fine:
        install.check_python(version)
        return
    with pytest.raises(InstallError, match=rf"expected Python 3\.11.*got {version[0]}\.{version[1]}.*make PYTHON="):
        install.check_python(version)


def test_too_little_space_is_refused(tmp_path: Path) -> None:
    """The message says how much is needed, how much is free and where."""
    with pytest.raises(InstallError, match=rf"expected 10000000 GB free for {tmp_path}; got [\d.]+ GB.*NEXUS_HOME"):
        install.check_space(tmp_path, 1e7, tmp_path / "no-cache")


def test_a_filled_cache_on_the_same_disk_needs_no_second_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv links files from its cache, so a warm machine is not turned away."""
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: _Usage(free=2_000_000_000))
    cache = tmp_path / "cache"
    cache.mkdir()
    with (cache / "wheel").open("wb") as file:
        file.truncate(6_000_000_000)
    install.check_space(tmp_path, 8.0, cache)
    with pytest.raises(InstallError, match="expected 3 GB"):
        install.check_space(tmp_path, 9.0, cache)


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


HINTS = {
    "error: Failed to fetch: `https://x/simple/torch/`\n  Caused by: dns error": "index cannot be reached",
    "ERROR: Could not find a version\nERROR: No matching distribution found for uv==0.13.9": "index cannot be reached",
    "error: failed to write: No space left on device (os error 28)": "the disk is full",
    "error: Hash mismatch for `torch==2.13.0`": "differs from its lock",
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE": "differs from its lock",
    "Segmentation fault": "see the lines above",
}


@pytest.mark.parametrize("output", HINTS)
def test_failure_says_what_to_do(output: str, tmp_path: Path) -> None:
    """The tool's last words, a hint and the log's place are in the message."""
    installer = install.Installer(tmp_path, os.open(tmp_path, os.O_RDONLY))
    program = f"import sys; print({output!r}); sys.exit(3)"
    with pytest.raises(InstallError) as caught:
        installer.run("core: 3 packages", [sys.executable, "-I", "-S", "-c", program], tmp_path / "logs" / "x.log")
    message = str(caught.value)
    assert message.startswith("core: 3 packages: failed with exit code 3\n")
    assert output.splitlines()[-1] in message
    assert HINTS[output] in message
    assert str(tmp_path / "logs" / "x.log") in message


def test_stamp_is_believed_only_when_whole(tmp_path: Path) -> None:
    """No stamp, half a stamp, another program's stamp, or a lost interpreter mean that the environment is redone."""
    assert Stamp.read(tmp_path) is None
    stamp = Stamp("3.11", {"core.txt": "abc"}, "p")
    stamp.write(tmp_path)
    assert Stamp.read(tmp_path) is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert Stamp.read(tmp_path) == stamp
    for text in ("", '{"python": "3.11"', "[]", '{"python": "3.11", "colour": 1}'):
        (tmp_path / install.STAMP).write_text(text)
        assert Stamp.read(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_missing_lock_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without a lock cannot be installed; the message says how to make one."""
    monkeypatch.setattr(install, "LOCKS", tmp_path)
    with pytest.raises(InstallError, match=r"core\.txt; it does not exist: run `make lock`"):
        install.lock_digests(install.plan(gpu=False)["core"])


def test_second_installation_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever comes second says that it waits, then goes on."""
    waited = []

    def flock(fd: int, how: int) -> None:
        if how & fcntl.LOCK_NB:
            raise BlockingIOError
        waited.append(fd)

    monkeypatch.setattr(install.fcntl, "flock", flock)
    with install.exclusive(tmp_path) as fd:
        assert waited == [fd]
    assert "waiting for another installation" in capsys.readouterr().out


def test_pip_settings_reach_uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that only tells pip of its mirror and certificate is told nothing twice; uv's own settings win."""
    for name in (*install._INDEX_VARIABLES, "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "mirror")
    monkeypatch.setenv("PIP_CERT", "bundle.pem")
    env = install.Installer(tmp_path, 0)._environment()
    assert (env["UV_DEFAULT_INDEX"], env["SSL_CERT_FILE"]) == ("mirror", "bundle.pem")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "own")
    assert install.Installer(tmp_path, 0)._environment()["UV_DEFAULT_INDEX"] == "own"


def test_builds_of_packages_are_not_told_the_callers_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The key in NEXUS_API_KEY is for the gateway alone."""
    monkeypatch.setenv("NEXUS_API_KEY", "nx_mine")
    assert "nx_mine" not in install.Installer(tmp_path, 0)._environment().values()


@pytest.mark.parametrize(
    ("has", "expected"), [({"pip", "ensurepip"}, "own"), ({"pip"}, "own"), ({"ensurepip"}, "unpacked"), (set(), None)]
)
def test_bootstrap_uses_what_the_machine_has(
    has: set[str], expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip where there is one, else ensurepip, else a message that names the package to install."""
    ran: list[list[str]] = []
    monkeypatch.setattr(install, "_runs", lambda program: ("ensurepip" if "ensurepip" in program else "pip") in has)
    monkeypatch.setattr(install.Installer, "run", lambda self, what, argv, log: ran.append(list(argv)))
    installer = install.Installer(tmp_path, 0)
    if expected is None:
        with pytest.raises(InstallError, match=r"install Debian's package python3\.11-venv"):
            installer._pip("python-of-the-bootstrap", tmp_path / "log")
        return
    pip = installer._pip("python-of-the-bootstrap", tmp_path / "log")
    own = [sys.executable, "-m", "pip", "--python", "python-of-the-bootstrap"]
    assert pip == (own if expected == "own" else ["python-of-the-bootstrap", "-m", "pip"])
    assert ran == ([] if expected == "own" else [["python-of-the-bootstrap", "-m", "ensurepip"]])
