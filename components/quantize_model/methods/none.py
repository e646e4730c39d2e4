"""Plain copy: the base weights themselves as a candidate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def run(arguments: dict[str, Any]) -> None:
    """Copy config and weights; the tokenizer follows with every method."""
    base, output = Path(arguments["base"]), Path(arguments["output"])
    for file in sorted(base.iterdir()):
        if file.name.startswith("config.") or ".safetensors" in file.name:
            shutil.copyfile(file, output / file.name)
