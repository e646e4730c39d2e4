"""Command that installs the environments of further tools."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from nexus.cli.output import JsonOption, print_json
from nexus.environments.install import install_all, plan
from serving.settings import NexusSettings

NAMES = list(plan(gpu=False))


def _known(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise typer.BadParameter(f"expected {', '.join(NAMES)}; got {', '.join(unknown)}")
    return names


NamesArgument = Annotated[list[str], typer.Argument(help=f"Environments: {', '.join(NAMES)}.", callback=_known)]


def install(names: NamesArgument, json: JsonOption = False) -> None:
    """Install locked environments; what is installed already is left alone."""
    settings = NexusSettings.load()
    with redirect_stdout(sys.stderr if json else sys.stdout):
        install_all(names, settings.home)
    if json:
        print_json({"home": str(settings.home), "installed": names})
