"""Resolve `*.in` into hash-pinned locks that name no package host: `python nexus/environments/lock.py [name ...]`.

Locks are for Linux on x86-64 and Python 3.11. `<name>-overrides.txt` beside a wish list replaces what packages ask for.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CONSTRAINTS = {"dev": "core.txt"}
"""Lock -> the lock whose versions it must repeat; that one is resolved first."""

_OPTIONS = ("--python-version=3.11", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header")
_HOST = re.compile(r"https?://|--(extra-)?index-url|--find-links")


def compile_command(name: str, *, upgrade: bool) -> list[str]:
    """Return uv's arguments for one lock; without `upgrade` versions that still fit stay."""
    arguments = ["pip", "compile", f"{name}.in", *_OPTIONS, "--quiet", "--output-file", f"{name}.txt"]
    if (FOLDER / f"{name}-overrides.txt").exists():
        arguments += ["--overrides", f"{name}-overrides.txt"]
    if name in CONSTRAINTS:
        arguments += ["--constraints", CONSTRAINTS[name]]
    return [*arguments, "--upgrade"] if upgrade else arguments


def host_lines(text: str) -> list[str]:
    """List lines of a lock that name a package host; a lock must have none."""
    return [line for line in text.splitlines() if _HOST.search(line)]


def main(arguments: Sequence[str]) -> int:
    """Resolve the named locks, all of them without names; 0 when each was written."""
    parser = argparse.ArgumentParser(prog="lock.py", description="Resolve the wish lists into locks.")
    parser.add_argument("name", nargs="*", help="lock to resolve, such as core; all by default")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    parser.add_argument("--uv", type=Path, default=FOLDER.parents[1] / ".nexus/bootstrap/bin/uv", help="uv to run")
    options = parser.parse_args(arguments)
    names = options.name or sorted(
        (path.stem for path in FOLDER.glob("*.in")), key=lambda name: (name in CONSTRAINTS, name)
    )
    for name in names:
        done = subprocess.run(
            [str(options.uv.resolve()), *compile_command(name, upgrade=options.upgrade)], cwd=FOLDER, check=False
        )
        if done.returncode != 0:
            print(f"lock  error: {name}.in cannot be resolved: see the lines above", file=sys.stderr)
            return done.returncode
        if lines := host_lines((FOLDER / f"{name}.txt").read_text()):
            print(f"lock  error: expected no host name in {name}.txt; got {lines[0]!r}", file=sys.stderr)
            return 1
        print(f"lock  {name}.txt", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
