"""Command that bounds what a home keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from nexus.cli.output import JsonOption, out, print_json
from nexus.client import NexusClient
from serving.wording import size

KeepOption = Annotated[int, typer.Option(min=1, help="How many of the newest releases to keep.")]


def clean(keep: KeepOption = 10, json: JsonOption = False) -> None:
    """Remove old releases' records, and step results and observations from before the kept ones.

    What has not ended stays, and so do git, the registry and its weights.
    """
    cleaned = NexusClient().clean(keep)
    if json:
        print_json(cleaned)
        return
    out.print(
        f"removed {cleaned.releases} releases, {cleaned.cache_entries} step results and {cleaned.spool_files} files "
        f"of observations, {size(cleaned.size_bytes)}"
    )
