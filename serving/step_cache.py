"""Step cache: the output folder of a step, found again by the content of its inputs and of our own code.

KFP's own cache does not see a change of our code; this one does. Entries are whole folders, made by one rename.
"""

from __future__ import annotations

import hashlib
import json
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
        text = json.dumps({"inputs": inputs, "code": code_digest(*code)}, sort_keys=True, default=str)
        entry = self.folder / step / hashlib.sha256(text.encode()).hexdigest()[:32]
        hit = entry.is_dir()
        if not hit:
            with atomic_folder(entry) as work:
                build(work)
        if output.exists():
            shutil.rmtree(output)
        with atomic_folder(output) as work:
            shutil.copytree(entry, work, dirs_exist_ok=True)
        return hit
