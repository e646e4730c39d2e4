"""Who may import whom: the contracts of pyproject.toml catch what they say, and rules they cannot state."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("nexus", "pipelines", "components", "serving", "gateway")

VIOLATIONS = {
    "serving/bad.py": "import components.one",
    "serving/worse.py": "import gateway",
    "gateway/bad.py": "import serving.settings",
    "serving/contracts/bad.py": "import serving.settings",
    "components/one/bad.py": "import components.two",
    "components/two/logic.py": "from components.two import deep",
    "components/two/deep.py": "import kfp",
}
CLEAN = {
    "nexus/a.py": "import pipelines.a",
    "pipelines/a.py": "import components.one.component",
    "components/one/component.py": "import kfp\nimport components.images\nimport components.one.logic",
    "components/one/logic.py": "import serving.settings\nimport yaml",
    "components/two/logic.py": "import serving.contracts.a",
    "components/images.py": "",
    "serving/settings.py": "import serving.contracts.a",
    "serving/contracts/a.py": "import pydantic\nimport yaml",
    "gateway/a.py": "import serving.contracts.a",
}


def _lint(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        for parent in [path.parent, *path.parent.parents]:
            if parent == folder:
                break
            (parent / "__init__.py").touch()
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    argv = [sys.executable, "-S", "-c", program]
    env = {"PYTHONPATH": _site_packages(), "COLUMNS": "200", "PATH": ""}
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def _site_packages() -> str:
    """Folder of installed libraries; given without `site`, so this repository is not importable, too."""
    return next(path for path in sys.path if path.endswith("site-packages"))


@pytest.mark.timeout(90)
def test_every_contract_is_broken_by_its_violation(tmp_path: Path) -> None:
    """A tree with one violation of each rule breaks every contract; the same tree without them breaks none."""
    assert (clean := _lint(tmp_path / "clean", CLEAN)).returncode == 0, clean.stdout + clean.stderr
    broken = _lint(tmp_path / "broken", CLEAN | VIOLATIONS)
    counts = re.search(r"Contracts: (\d+) kept, (\d+) broken", broken.stdout)
    assert counts, broken.stdout + broken.stderr
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert (int(counts[1]), int(counts[2])) == (0, len(contracts)), broken.stdout


def _imports(path: Path, *, top_level_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    found: list[str] = []
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or ".")
    return found


def test_contracts_import_only_the_standard_library_pydantic_and_yaml() -> None:
    """What every program shares pulls nothing else in."""
    allowed = {*sys.stdlib_module_names, "pydantic", "yaml"}
    bad = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "serving/contracts").rglob("*.py"))
        for name in _imports(path)
        if name.split(".")[0] not in allowed and not name.startswith("serving.contracts")
    ]
    assert bad == []


def test_components_declare_with_kfp_and_images_only() -> None:
    """`component.py` imports kfp and images at its top; everything else is imported where the step runs."""
    bad = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "components").glob("*/component.py"))
        for name in _imports(path, top_level_only=True)
        if name.split(".")[0] not in {"kfp", "typing"} and name not in {"components", "components.images"}
    ]
    assert bad == []


def test_component_signatures_are_not_strings() -> None:
    """kfp reads annotations at run time, so components and pipelines never postpone them."""
    paths = [*(ROOT / "components").glob("*/component.py"), *(ROOT / "pipelines").glob("*/pipeline.py")]
    assert [str(path) for path in paths if "from __future__ import annotations" in path.read_text()] == []


def test_no_file_edits_the_import_path() -> None:
    """Programs run from an installed environment."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert files
    assert [str(path) for path in files if "sys.path." in path.read_text()] == []
