"""Commands about the local node: up, down, status."""

from __future__ import annotations

import time

from rich.markup import escape
from rich.table import Table

from nexus.cli.output import EXIT_FAILURE, JsonOption, err, out, print_json, reported_errors
from nexus.client import NexusClient
from serving.contracts.node_status import NodeStatus, Phase

_STYLES = {Phase.READY: "green", Phase.FAILED: "red"}


def up(json: JsonOption = False) -> None:
    """Start the local node: warm engine parent, reconciler and gateway. Does nothing where they run."""
    with reported_errors():
        status = NexusClient().up(lambda message: err.print(message, markup=False))
    _show(status, json=json)


def down(json: JsonOption = False) -> None:
    """Stop every process of this installation. State stays: the next `nexus up` carries on."""
    started = time.monotonic()
    with reported_errors():
        NexusClient().down(lambda message: err.print(message, markup=False))
    seconds = round(time.monotonic() - started, 1)
    if json:
        print_json({"stopped": True, "seconds": seconds})
    else:
        out.print(f"stopped in {seconds} s; the state stays, `nexus up` carries on")


def status(json: JsonOption = False) -> None:
    """Show what runs here: engines, gateway, and the commit they answer by. Exit code 1 when nothing runs."""
    with reported_errors():
        current = NexusClient().status()
    if current is None:
        if json:
            print_json({"running": False})
        else:
            out.print("the node does not run: `nexus up` starts it")
        raise SystemExit(EXIT_FAILURE)
    _show(current, json=json)


def _show(current: NodeStatus, *, json: bool) -> None:
    if json:
        print_json(current)
        return
    out.print(f"gateway   {current.gateway_url or 'not running'}   at commit {(current.gateway_revision or '-')[:12]}")
    out.print(f"git head  {(current.commit or '-')[:12]}   synced {time.time() - current.synced_at:.1f} s ago")
    if current.services:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("service", "phase", "address", "message"):
            table.add_column(column)
        for service in current.services:
            phase = f"[{_STYLES.get(service.phase, 'yellow')}]{service.phase}[/]"
            said = service.message or ", ".join(service.not_applied)
            table.add_row(service.name, phase, service.url or "-", escape(said))
        out.print(table)
    for problem in current.problems:
        out.print("problem:", problem, markup=False)
