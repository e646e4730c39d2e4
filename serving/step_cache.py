"""Step cache: the output folder of a step, found again by the content of its inputs and of our own code.

KFP's own cache does not see a change of our code; this one does. Entries are whole folders, made by one rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.files import atomic_folder

_REPOSITORY = Path(__file__).resolve().parent.parent
_CODE_SUFFIXES = frozenset({".py", ".txt", ".jinja", ".css"})


def code_digest(*packages: str) -> str:
    """Digest the code of some packages, given as paths below the repository such as `components/train_model`."""
    state = hashlib.sha256()
    for package in sorted(packages):
        root = _REPOSITORY / package
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix in _CODE_SUFFIXES)
        if not files:
            raise FileNotFoundError(f"expected code at {package!r} below {_REPOSITORY}; got nothing")
        for file in files:
            state.update(f"{file.relative_to(_REPOSITORY)}\0".encode())
            state.update(hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()


@dataclass(frozen=True)
class StepCache:
    """Cache at `folder`; one sub-folder a step, one folder a key."""

    folder: Path

    def run(
        self,
        step: str,
        inputs: Mapping[str, object],
        code: tuple[str, ...],
        output: Path,
        build: Callable[[Path], None],
    ) -> bool:
        """Fill `output` with the step's result, from the cache or by calling `build` with an empty folder.

        Args:
            step: Step name.
            inputs: JSON-serialisable description of everything the result depends on; digests for files.
            code: Packages whose code the result depends on.
            output: Folder to fill; replaced when it exists.
            build: Writes the result into the folder it is given; its errors propagate and nothing is cached.

        Returns:
            True when the cache had it.
        """
        hit = self._entry(step, inputs, code).is_dir()
        if not hit:
            self.store(step, inputs, code, build)
        _copy(self._entry(step, inputs, code), output)
        return hit

    def fetch(self, step: str, inputs: Mapping[str, object], code: tuple[str, ...], output: Path) -> bool:
        """Replace `output` by a copy of what the cache has; False, and nothing done, when it has nothing."""
        entry = self._entry(step, inputs, code)
        hit = entry.is_dir()
        if hit:
            _copy(entry, output)
        return hit

    def store(
        self, step: str, inputs: Mapping[str, object], code: tuple[str, ...], build: Callable[[Path], None]
    ) -> None:
        """Make an entry by calling `build` with an empty folder; one that came to exist meanwhile stays."""
        with atomic_folder(self._entry(step, inputs, code)) as work:
            build(work)

    def _entry(self, step: str, inputs: Mapping[str, object], code: tuple[str, ...]) -> Path:
        text = json.dumps({"inputs": inputs, "code": code_digest(*code)}, sort_keys=True, default=str)
        return self.folder / step / hashlib.sha256(text.encode()).hexdigest()[:32]


def _copy(entry: Path, output: Path) -> None:
    os.utime(entry)  # `nexus clean` removes what no kept release has used
    if output.exists():
        shutil.rmtree(output)
    with atomic_folder(output) as work:
        shutil.copytree(entry, work, dirs_exist_ok=True)
