"""Command that installs the environments of further tools."""

from __future__ import annotations

from typing import Annotated

import typer

from nexus.cli.output import EXIT_FAILURE, JsonOption, print_json, reported_errors
from nexus.environments.install import InstallError, install_all, plan
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
    with reported_errors():
        settings = NexusSettings.load()
        try:
            install_all(names, settings.home)
        except InstallError as exc:
            typer.echo(f"error: {exc}", err=True)
            raise typer.Exit(EXIT_FAILURE) from exc
    if json:
        print_json({"installed": names})
