"""Write the JSON schemas, or with `--check` say which are stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from serving.contracts import schemas


def main(arguments: Sequence[str]) -> int:
    """Run the command; 1 when `--check` finds a stale file."""
    parser = argparse.ArgumentParser(prog="python -m serving.contracts.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a schema is stale")
    if parser.parse_args(arguments).check:
        if stale := schemas.stale():
            print(f"expected current JSON schemas; got stale {', '.join(stale)}: run `make fmt`", file=sys.stderr)
        return 1 if stale else 0
    for name in schemas.write():
        print(f"schema  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
