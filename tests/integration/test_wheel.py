"""The wheel holds everything that programs import, and nobody else uses our names."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("nexus", "components", "pipelines", "serving", "gateway")
ENGINE_ONLY: frozenset[str] = frozenset()
"""Modules that import vLLM at their top; they belong to the engine environment."""

IMPORT_ALL = """
import importlib, json, pkgutil, sys, warnings
site, libraries, packages = sys.argv[1], sys.argv[2], sys.argv[3:]
sys.path[:0] = [site]
sys.path.append(libraries)
failed, outside, count = {}, [], 0
for package in packages:
    found = importlib.import_module(package)
    walk = pkgutil.walk_packages(found.__path__, package + ".", onerror=lambda name: None)
    names = [package, *(module.name for module in walk)]
    for name in names:
        if name.endswith("__main__"):
            continue
        count += 1
        try:
            module = importlib.import_module(name)
        except Exception as exc:
            failed[name] = f"{type(exc).__name__}: {exc}"
        else:
            if not module.__file__.startswith(site):
                outside.append(module.__file__)
print(json.dumps({"failed": failed, "outside": outside, "count": count}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it into an empty folder, which is what installing a pure wheel does."""
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.mark.integration
@pytest.mark.timeout(240)
def test_every_module_of_the_wheel_can_be_imported(site: Path) -> None:
    """Outside the repository, with the locked libraries beside it, each module is there and comes from the wheel."""
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    argv = [str(base), "-I", "-S", "-B", "-c", IMPORT_ALL, str(site), libraries, *PACKAGES]
    done = subprocess.run(argv, cwd=site.parent, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name: why for name, why in found["failed"].items() if name not in ENGINE_ONLY} == {}
    assert found["outside"] == []
    assert found["count"] > 50


def test_wheel_holds_the_files_that_code_reads(site: Path) -> None:
    """Templates, schemas and locks travel with the code; tests and caches do not."""
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    packed = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert {name for name in packed if "dist-info/" not in name} == sources
    assert {"components/build_report/templates/report.css", "serving/contracts/schemas/release.json"} <= packed


def test_nobody_else_provides_our_names() -> None:
    """Our top-level names are generic; no installed distribution may bring one of them, too."""
    owners = importlib.metadata.packages_distributions()
    files = {name: set(owners.get(name, [])) - {"nexus-llm"} for name in PACKAGES}
    assert files == {name: set() for name in PACKAGES}
