"""Commands about the local node: up, down, status."""

from __future__ import annotations

import time

import typer
from rich.markup import escape
from rich.table import Table

from nexus.cli.output import EXIT_FAILURE, JsonOption, err, out, print_home, print_json
from nexus.cli.waiting_view import waiting_view
from nexus.client import NexusClient
from serving.contracts.node_status import NodeStatus, Phase
from serving.settings import NexusSettings

_STYLES = {Phase.READY: "green", Phase.FAILED: "red"}


def up(json: JsonOption = False) -> None:
    """Start the local node, and wait until the gateway and every engine that git wants answer.

    Does nothing to what runs. Exit code 1 when something does not come up in time; the rest keeps running.
    """
    client = NexusClient()
    with waiting_view(err) as say:
        status = client.up(say)
    _show(status, client.settings, json=json)


def down(json: JsonOption = False) -> None:
    """Stop every process of this installation. State stays: the next `nexus up` carries on."""
    started = time.monotonic()
    client = NexusClient()
    count = client.down(lambda message: err.print(message, markup=False))
    seconds = round(time.monotonic() - started, 1)
    home = client.settings.home
    if json:
        print_json({"home": str(home), "stopped": count > 0, "processes": count, "seconds": seconds})
    elif count == 0:
        out.print(f"nothing ran in {home}", markup=False, soft_wrap=True)
    else:
        said = f"stopped {count} processes of {home} in {seconds} s; the state stays, `nexus up` carries on"
        out.print(said, markup=False, soft_wrap=True)


def status(json: JsonOption = False) -> None:
    """Show what runs here: engines, gateway, and the commit they answer by. Exit code 1 when nothing runs."""
    client = NexusClient()
    current = client.status()
    if current is not None:
        _show(current, client.settings, json=json)
        return
    if json:
        print_json({"home": str(client.settings.home), "running": False})
    else:
        print_home(client.settings)
        out.print("the node does not run: `nexus up` starts it")
    raise typer.Exit(EXIT_FAILURE)


def _show(current: NodeStatus, settings: NexusSettings, *, json: bool) -> None:
    if json:
        print_json({"home": str(settings.home), "running": True, **current.model_dump(mode="json")})
        return
    print_home(settings)
    out.print(f"gateway   {current.gateway_url or 'not running'}   at commit {(current.gateway_revision or '-')[:12]}")
    if current.redis is not None:
        found = f"process {current.redis.pid or '-'}   {'ready' if current.redis.ready else 'not ready'}"
        out.print(f"redis     {found}", markup=False)
    if current.adapter is not None:
        found = f"process {current.adapter.pid or '-'}   {'ready' if current.adapter.ready else 'not ready'}"
        out.print(f"adapter   {found}", markup=False)
    out.print(f"git head  {(current.commit or '-')[:12]}   synced {time.time() - current.synced_at:.1f} s ago")
    if current.services:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("service", "phase", "address", "message"):
            table.add_column(column)
        for service in current.services:
            phase = f"[{_STYLES.get(service.phase, 'yellow')}]{service.phase}[/]"
            table.add_row(service.name, phase, service.url or "-", escape(service.message))
        out.print(table)
    if ignored := sorted({what for service in current.services for what in service.not_applied}):
        out.print(f"[dim]this machine cannot give, and serves without: {escape('; '.join(ignored))}[/]", soft_wrap=True)
    for problem in current.problems:
        out.print(f"[bold red]problem:[/] {escape(problem)}", soft_wrap=True)
